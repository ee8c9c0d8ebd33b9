// The .ZIP File Format Specification 6.3 (APPNOTE.TXT). SPDX-License-Identifier: MIT
#include "formats/containers/zip-write.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "lib/base/bytes.h"
#include "lib/base/mem.h"

#define MEMBER_NAME_MAX 64
#define ALIGN_MAX       64
#define VERSION         45 // zip64
#define MADE_BY_UNIX    (3 << 8)
#define FLAG_LATER      8      // sizes and checksum follow the data
#define DATE            0x0021 // 1980-01-01: the same input gives the same bytes
#define MODE            0100644

enum signature {
    SIG_LOCAL = 0x04034b50,
    SIG_DESCRIPTOR = 0x08074b50,
    SIG_DIRECTORY = 0x02014b50,
    SIG_END64 = 0x06064b50,
    SIG_LOCATOR64 = 0x07064b50,
    SIG_END = 0x06054b50,
};

enum extra {
    EXTRA_ZIP64 = 1,
    EXTRA_PADDING = 0x4246, // as PyTorch's own; its content has no meaning
};

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

// A record on its way out.
struct record {
    size_t size;
    uint8_t bytes[128 + MEMBER_NAME_MAX + ALIGN_MAX];
};

static void put(struct record *record, size_t bytes, uint64_t value)
{
    put_le(record->bytes + record->size, bytes, value);
    record->size += bytes;
}

static void put_text(struct record *record, const char *text)
{
    size_t length = strlen(text);
    memcpy(record->bytes + record->size, text, length);
    record->size += length;
}

static int flush(struct zip_writer *zip, const struct record *record)
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

// What the local header and the directory have in common.
static void put_common(struct record *record, const struct zip_writer *zip,
                       const struct member *member, size_t extra)
{
    put(record, 2, VERSION);
    put(record, 2, sizes_follow(zip) ? FLAG_LATER : 0);
    put(record, 2, 0); // stored
    put(record, 2, 0); // time
    put(record, 2, DATE);
    put(record, 4, member->crc);
    put(record, 4, UINT32_MAX); // the sizes are in the zip64 field
    put(record, 4, UINT32_MAX);
    put(record, 2, strlen(member->name));
    put(record, 2, extra);
}

static struct record local_header(const struct zip_writer *zip, const struct member *member)
{
    const size_t fixed = 30, zip64 = 20, field = 4; // of a header, of its fields
    struct record record = {0};
    size_t start = (size_t)member->offset + fixed + strlen(member->name) + zip64;
    size_t padding = -start & (zip->align - 1);
    if (padding > 0 && padding < field)
        padding += zip->align;
    put(&record, 4, SIG_LOCAL);
    put_common(&record, zip, member, zip64 + padding);
    put_text(&record, member->name);
    put(&record, 2, EXTRA_ZIP64);
    put(&record, 2, 16);
    put(&record, 8, member->size);
    put(&record, 8, member->size);
    if (padding > 0) {
        put(&record, 2, EXTRA_PADDING);
        put(&record, 2, padding - field);
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
    if (flush(zip, &header))
        return -1;
    member->start = output_offset(zip->output);
    return 0;
}

int zip_write(struct zip_writer *zip, const void *data, size_t size)
{
    struct member *member = &zip->members[zip->n - 1];
    if (size == 0)
        return 0; // data may be NULL, with which zlib starts anew
    member->crc = (uint32_t)crc32_z(member->crc, data, size);
    member->size += size;
    return output_write(zip->output, data, size);
}

int zip_replace_start(struct zip_writer *zip, const void *old, const void *data, size_t size)
{
    struct member *member = &zip->members[zip->n - 1];
    assert(!sizes_follow(zip) && member->size >= size);
    // The CRC is linear: a change at the start changes it by that change, moved on by the rest.
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
    put(&descriptor, 4, SIG_DESCRIPTOR);
    put(&descriptor, 4, member->crc);
    put(&descriptor, 8, member->size);
    put(&descriptor, 8, member->size);
    return flush(zip, &descriptor);
}

static int write_directory_entry(struct zip_writer *zip, const struct member *member)
{
    struct record record = {0};
    put(&record, 4, SIG_DIRECTORY);
    put(&record, 2, MADE_BY_UNIX | VERSION);
    put_common(&record, zip, member, 28);
    put(&record, 2, 0); // comment
    put(&record, 2, 0); // disk
    put(&record, 2, 0); // internal attributes
    put(&record, 4, (uint64_t)MODE << 16);
    put(&record, 4, UINT32_MAX); // the offset is in the zip64 field
    put_text(&record, member->name);
    put(&record, 2, EXTRA_ZIP64);
    put(&record, 2, 24);
    put(&record, 8, member->size);
    put(&record, 8, member->size);
    put(&record, 8, member->offset);
    return flush(zip, &record);
}

static uint32_t saturate(uint64_t value)
{
    return value < UINT32_MAX ? (uint32_t)value : UINT32_MAX;
}

int zip_finish(struct zip_writer *zip)
{
    uint64_t start = output_offset(zip->output);
    for (size_t i = 0; i < zip->n; i++)
        if (write_directory_entry(zip, &zip->members[i]))
            return -1;
    uint64_t end = output_offset(zip->output), size = end - start;
    struct record record = {0};
    put(&record, 4, SIG_END64);
    put(&record, 8, 44); // bytes that follow in this record
    put(&record, 2, MADE_BY_UNIX | VERSION);
    put(&record, 2, VERSION);
    put(&record, 4, 0); // disk
    put(&record, 4, 0); // disk of the directory
    put(&record, 8, zip->n);
    put(&record, 8, zip->n);
    put(&record, 8, size);
    put(&record, 8, start);
    put(&record, 4, SIG_LOCATOR64);
    put(&record, 4, 0); // disk
    put(&record, 8, end);
    put(&record, 4, 1); // disks
    put(&record, 4, SIG_END);
    put(&record, 2, 0); // disk
    put(&record, 2, 0); // disk of the directory
    put(&record, 2, zip->n);
    put(&record, 2, zip->n);
    put(&record, 4, saturate(size));
    put(&record, 4, saturate(start));
    put(&record, 2, 0); // comment
    return flush(zip, &record);
}
