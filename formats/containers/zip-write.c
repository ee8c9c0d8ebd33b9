// Writes zip archives of stored members, the same bytes for the same input.
// SPDX-License-Identifier: MIT
#include "formats/containers/zip-write.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "formats/containers/zip-format.h"
#include "lib/base/bytes.h"
#include "lib/base/mem.h"

#define MEMBER_NAME_MAX 64
#define ALIGN_MAX       64
#define VERSION         45 // zip64
#define MADE_BY_UNIX    (3 << 8)
#define DATE            0x0021 // 1980-01-01, always: output bytes must not depend on the time
#define MODE            0100644
#define EXTRA_PADDING   0x4246 // the id that PyTorch uses; the content has no meaning

struct member {
    char name[MEMBER_NAME_MAX];
    uint64_t offset; // of the local header
    uint64_t start;  // of the data
    uint64_t size;
    uint32_t crc;
};

struct zip_writer {
    struct output *output;
    size_t align; // of the members' data
    size_t n;
    struct member *members;
};

// A record while it is put together.
struct record {
    size_t size;
    uint8_t bytes[128 + MEMBER_NAME_MAX + ALIGN_MAX];
};

static void record_put(struct record *record, size_t bytes, uint64_t value)
{
    put_le(record->bytes + record->size, bytes, value);
    record->size += bytes;
}

static void record_put_text(struct record *record, const char *text)
{
    size_t length = strlen(text);
    memcpy(record->bytes + record->size, text, length);
    record->size += length;
}

static int record_write(struct zip_writer *zip, const struct record *record)
{
    return output_write(zip->output, record->bytes, record->size);
}

struct zip_writer *zip_new(struct output *output)
{
    struct zip_writer *zip = mem_new(1, sizeof *zip);
    if (!zip)
        return NULL;
    zip->output = output;
    zip->align = 1;
    return zip;
}

void zip_align(struct zip_writer *zip, size_t align)
{
    assert(align > 0 && align <= ALIGN_MAX && (align & (align - 1)) == 0);
    zip->align = align;
}

void zip_free(struct zip_writer *zip)
{
    if (!zip)
        return;
    free(zip->members);
    free(zip);
}

static bool sizes_follow(const struct zip_writer *zip)
{
    return !output_can_rewrite(zip->output);
}

// The fields that the local header and the directory entry have in common.
static void record_put_common(struct record *record, const struct zip_writer *zip,
                              const struct member *member, size_t extra)
{
    record_put(record, 2, VERSION);
    record_put(record, 2, sizes_follow(zip) ? ZIP_FLAG_DESCRIPTOR : 0);
    record_put(record, 2, 0); // stored
    record_put(record, 2, 0); // time
    record_put(record, 2, DATE);
    record_put(record, 4, member->crc);
    record_put(record, 4, UINT32_MAX); // the sizes are in the zip64 field
    record_put(record, 4, UINT32_MAX);
    record_put(record, 2, strlen(member->name));
    record_put(record, 2, extra);
}

static struct record local_header(const struct zip_writer *zip, const struct member *member)
{
    const size_t zip64 = 20, field = 4; // bytes of the zip64 field; of a field's id and size
    struct record record = {0};
    size_t start = (size_t)member->offset + ZIP_LOCAL_SIZE + strlen(member->name) + zip64;
    size_t padding = -start & (zip->align - 1);
    if (padding > 0 && padding < field)
        padding += zip->align;
    record_put(&record, 4, ZIP_SIG_LOCAL);
    record_put_common(&record, zip, member, zip64 + padding);
    record_put_text(&record, member->name);
    record_put(&record, 2, ZIP_EXTRA_ZIP64);
    record_put(&record, 2, 16);
    record_put(&record, 8, member->size);
    record_put(&record, 8, member->size);
    if (padding > 0) {
        record_put(&record, 2, EXTRA_PADDING);
        record_put(&record, 2, padding - field);
        record.size += padding - field;
    }
    return record;
}

int zip_start(struct zip_writer *zip, const char *name)
{
    assert(strlen(name) < MEMBER_NAME_MAX);
    if (mem_grow(&zip->members, zip->n, 1, sizeof *zip->members) < 0)
        return -1;
    struct member *member = &zip->members[zip->n++];
    *member = (struct member){0};
    strcpy(member->name, name);
    member->offset = output_offset(zip->output);
    struct record header = local_header(zip, member);
    if (record_write(zip, &header) < 0)
        return -1;
    member->start = output_offset(zip->output);
    return 0;
}

int zip_write(struct zip_writer *zip, const void *data, size_t size)
{
    struct member *member = &zip->members[zip->n - 1];
    if (size == 0)
        return 0; // data may be NULL, for which zlib would reset the checksum
    member->crc = (uint32_t)crc32_z(member->crc, data, size);
    member->size += size;
    return output_write(zip->output, data, size);
}

int zip_replace_start(struct zip_writer *zip, const void *old, const void *data, size_t size)
{
    struct member *member = &zip->members[zip->n - 1];
    assert(!sizes_follow(zip) && member->size >= size);
    // CRC is linear: the CRC of (old XOR new), shifted past the unchanged rest, is the difference.
    uLong change = crc32_z(0, old, size) ^ crc32_z(0, data, size);
    member->crc ^= (uint32_t)crc32_combine(change, 0, (z_off_t)(member->size - size));
    return output_write_at(zip->output, data, size, member->start);
}

int zip_end(struct zip_writer *zip)
{
    const struct member *member = &zip->members[zip->n - 1];
    if (!sizes_follow(zip)) {
        struct record header = local_header(zip, member);
        return output_write_at(zip->output, header.bytes, header.size, member->offset);
    }
    struct record descriptor = {0};
    record_put(&descriptor, 4, ZIP_SIG_DESCRIPTOR);
    record_put(&descriptor, 4, member->crc);
    record_put(&descriptor, 8, member->size);
    record_put(&descriptor, 8, member->size);
    return record_write(zip, &descriptor);
}

static int write_directory_entry(struct zip_writer *zip, const struct member *member)
{
    struct record record = {0};
    record_put(&record, 4, ZIP_SIG_ENTRY);
    record_put(&record, 2, MADE_BY_UNIX | VERSION);
    record_put_common(&record, zip, member, 28);
    record_put(&record, 2, 0); // comment
    record_put(&record, 2, 0); // disk
    record_put(&record, 2, 0); // internal attributes
    record_put(&record, 4, (uint64_t)MODE << 16);
    record_put(&record, 4, UINT32_MAX); // the offset is in the zip64 field
    record_put_text(&record, member->name);
    record_put(&record, 2, ZIP_EXTRA_ZIP64);
    record_put(&record, 2, 24);
    record_put(&record, 8, member->size);
    record_put(&record, 8, member->size);
    record_put(&record, 8, member->offset);
    return record_write(zip, &record);
}

static uint32_t saturate(uint64_t value)
{
    return value < UINT32_MAX ? (uint32_t)value : UINT32_MAX;
}

int zip_finish(struct zip_writer *zip)
{
    uint64_t start = output_offset(zip->output);
    for (size_t i = 0; i < zip->n; i++)
        if (write_directory_entry(zip, &zip->members[i]) < 0)
            return -1;
    uint64_t end = output_offset(zip->output), size = end - start;
    struct record record = {0};
    record_put(&record, 4, ZIP_SIG_END64);
    record_put(&record, 8, ZIP_END64_SIZE - 12); // bytes after this field
    record_put(&record, 2, MADE_BY_UNIX | VERSION);
    record_put(&record, 2, VERSION);
    record_put(&record, 4, 0); // disk
    record_put(&record, 4, 0); // disk of the directory
    record_put(&record, 8, zip->n);
    record_put(&record, 8, zip->n);
    record_put(&record, 8, size);
    record_put(&record, 8, start);
    record_put(&record, 4, ZIP_SIG_LOCATOR);
    record_put(&record, 4, 0); // disk
    record_put(&record, 8, end);
    record_put(&record, 4, 1); // disks
    record_put(&record, 4, ZIP_SIG_END);
    record_put(&record, 2, 0); // disk
    record_put(&record, 2, 0); // disk of the directory
    record_put(&record, 2, zip->n);
    record_put(&record, 2, zip->n);
    record_put(&record, 4, saturate(size));
    record_put(&record, 4, saturate(start));
    record_put(&record, 2, 0); // comment
    return record_write(zip, &record);
}
