// Reads zip archives strictly: the directory and the members' own headers must agree in all they
// say, and members must not overlap. SPDX-License-Identifier: MIT
#include "formats/containers/zip-read.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "formats/containers/zip-format.h"
#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

#define MEMBERS_MAX ((uint64_t)1 << 18)

struct archive {
    const uint8_t *bytes;
    size_t size;
    uint64_t n, start, end; // of the directory: entries, first byte, byte after it
    struct member_extent *extents;
    bool deflated; // members may be
};

// The bytes that a member occupies in the archive, header and data.
struct member_extent {
    uint64_t start, end;
};

// A member's description, from its directory entry or its own header.
struct zip_header {
    size_t at; // offset of the entry or header
    uint64_t flags, method, crc, packed, size, offset;
    const uint8_t *name, *extra;
    size_t name_size, extra_size;
};

// Where a 32-bit field is all ones, takes its 64-bit value from the zip64 field. False if that has
// no value left.
static bool take_wide(const uint8_t **wide, size_t *left, uint64_t *value)
{
    if (*value != UINT32_MAX)
        return true;
    if (*left < 8)
        return false;
    *value = get_le(*wide, 8);
    *wide += 8;
    *left -= 8;
    return true;
}

static int read_zip64(struct zip_header *header, bool entry)
{
    const uint8_t *at = header->extra, *wide = NULL;
    size_t left = header->extra_size, n = 0;
    while (left >= 4) {
        size_t id = get_le(at, 2), size = get_le(at + 2, 2);
        if (size > left - 4)
            break;
        if (id == ZIP_EXTRA_ZIP64 && wide)
            return error_set(STATUS_DATA, "byte %zu: a member with two zip64 fields", header->at);
        if (id == ZIP_EXTRA_ZIP64) {
            wide = at + 4;
            n = size;
        }
        at += 4 + size;
        left -= 4 + size;
    }
    if (left)
        return error_set(STATUS_DATA, "byte %zu: a member's extra fields don't fill their space",
                         header->at);
    if (!take_wide(&wide, &n, &header->size) || !take_wide(&wide, &n, &header->packed) ||
        (entry && !take_wide(&wide, &n, &header->offset)))
        return error_set(STATUS_DATA, "byte %zu: expected sizes in a zip64 field, found none",
                         header->at);
    return 0;
}

// Reads a directory entry or a member's header at `at`. All of it must lie before `end`. *next: the
// offset after it.
static int read_header(const struct archive *archive, uint64_t at, uint64_t end, bool entry,
                       struct zip_header *header, uint64_t *next)
{
    const size_t fixed = entry ? ZIP_ENTRY_SIZE : ZIP_LOCAL_SIZE;
    const char *what = entry ? "an entry of the directory" : "the header of a member";
    if (at > end || end - at < fixed ||
        get_le(archive->bytes + at, 4) != (entry ? ZIP_SIG_ENTRY : ZIP_SIG_LOCAL))
        return error_set(STATUS_DATA, "byte %" PRIu64 ": expected %s", at, what);
    const uint8_t *bytes = archive->bytes + at;
    const uint8_t *common = bytes + (entry ? 6 : 4);
    *header = (struct zip_header){
        .at = (size_t)at,
        .flags = get_le(common + 2, 2),
        .method = get_le(common + 4, 2),
        .crc = get_le(common + 10, 4),
        .packed = get_le(common + 14, 4),
        .size = get_le(common + 18, 4),
        .name = bytes + fixed,
        .name_size = get_le(common + 22, 2),
        .extra_size = get_le(common + 24, 2),
    };
    size_t comment = entry ? get_le(bytes + 32, 2) : 0;
    if (end - at - fixed < header->name_size + header->extra_size + comment)
        return error_set(STATUS_DATA, "byte %" PRIu64 ": %s goes beyond byte %" PRIu64, at, what,
                         end);
    header->extra = header->name + header->name_size;
    *next = at + fixed + header->name_size + header->extra_size + comment;
    if (entry && get_le(bytes + 34, 2))
        return error_set(STATUS_DATA, "byte %" PRIu64 ": a member on another disk", at);
    header->offset = entry ? get_le(bytes + 42, 4) : 0;
    return read_zip64(header, entry);
}

// A member whose sizes and checksum follow its data may have zeros in their place in its header.
static bool field_agrees(const struct zip_header *local, uint64_t said, uint64_t expected)
{
    return said == expected || (local->flags & ZIP_FLAG_DESCRIPTOR && said == 0);
}

static int read_member(const struct archive *archive, const struct zip_header *entry,
                       struct zip_member *member, struct member_extent *extent)
{
    char name[ERROR_SHOWN_SIZE];
    struct zip_header local;
    uint64_t data;
    error_shown((const char *)entry->name, entry->name_size, name);
    if (entry->flags & ZIP_FLAG_ENCRYPTED)
        return error_set(STATUS_DATA, "byte %zu: \"%s\" is encrypted", entry->at, name);
    if (entry->flags & ~(uint64_t)(ZIP_FLAG_DESCRIPTOR | ZIP_FLAG_UTF8))
        return error_set(STATUS_DATA, "byte %zu: \"%s\" has unknown flags 0x%" PRIX64, entry->at,
                         name, entry->flags);
    const bool deflated = entry->method == ZIP_METHOD_DEFLATED;
    if (entry->method != ZIP_METHOD_STORED && !(deflated && archive->deflated))
        return error_set(
            STATUS_DATA,
            "byte %zu: expected stored%s members, \"%s\" is compressed (method %" PRIu64 ")",
            entry->at, archive->deflated ? " or deflated" : "", name, entry->method);
    if (!deflated && entry->packed != entry->size)
        return error_set(STATUS_DATA,
                         "byte %zu: \"%s\" is stored, but with two sizes, %" PRIu64 " and %" PRIu64,
                         entry->at, name, entry->packed, entry->size);
    if (read_header(archive, entry->offset, archive->start, false, &local, &data) < 0)
        return error_prefix("\"%s\"", name);
    if (local.flags != entry->flags || local.method != entry->method ||
        !field_agrees(&local, local.crc, entry->crc) ||
        !field_agrees(&local, local.packed, entry->packed) ||
        !field_agrees(&local, local.size, entry->size) || local.name_size != entry->name_size ||
        memcmp(local.name, entry->name, local.name_size) != 0)
        return error_set(STATUS_DATA,
                         "byte %zu: the header of \"%s\" differs from the directory's (byte %zu)",
                         local.at, name, entry->at);
    if (entry->packed > archive->start - data)
        return error_set(STATUS_DATA,
                         "byte %zu: \"%s\" has %" PRIu64 " bytes, %" PRIu64
                         " are before the directory",
                         entry->at, name, entry->packed, archive->start - data);
    *member = (struct zip_member){.name = (const char *)entry->name,
                                  .name_size = entry->name_size,
                                  .data = archive->bytes + data,
                                  .size = (size_t)entry->size,
                                  .packed = (size_t)entry->packed,
                                  .deflated = deflated,
                                  .crc = (uint32_t)entry->crc};
    *extent = (struct member_extent){entry->offset, data + entry->packed};
    return 0;
}

static int read_members(const struct archive *archive, struct zip_directory *zip)
{
    uint64_t at = archive->start;
    for (uint64_t i = 0; i < archive->n; i++, zip->n++) {
        struct zip_header entry;
        if (read_header(archive, at, archive->end, true, &entry, &at) < 0 ||
            read_member(archive, &entry, &zip->members[i], &archive->extents[i]) < 0)
            return -1;
    }
    return at == archive->end
               ? 0
               : error_set(STATUS_DATA,
                           "byte %" PRIu64 ": expected the end of the directory at %" PRIu64, at,
                           archive->end);
}

static int compare_extents(const void *pa, const void *pb)
{
    const struct member_extent *a = pa, *b = pb;
    return a->start < b->start ? -1 : a->start > b->start;
}

static int compare_members(const void *pa, const void *pb)
{
    const struct zip_member *a = pa, *b = pb;
    size_t size = a->name_size < b->name_size ? a->name_size : b->name_size;
    int order = memcmp(a->name, b->name, size);
    return order ? order : a->name_size < b->name_size ? -1 : a->name_size > b->name_size;
}

static int check_members(const struct archive *archive, const struct zip_directory *zip)
{
    char name[ERROR_SHOWN_SIZE];
    qsort(archive->extents, zip->n, sizeof *archive->extents, compare_extents);
    for (size_t i = 1; i < zip->n; i++)
        if (archive->extents[i].start < archive->extents[i - 1].end)
            return error_set(STATUS_DATA, "byte %" PRIu64 ": two members overlap",
                             archive->extents[i].start);
    qsort(zip->members, zip->n, sizeof *zip->members, compare_members);
    for (size_t i = 1; i < zip->n; i++)
        if (compare_members(&zip->members[i - 1], &zip->members[i]) == 0)
            return error_set(STATUS_DATA, "two members are named \"%s\"",
                             error_shown(zip->members[i].name, zip->members[i].name_size, name));
    return 0;
}

// An end record. With a zip64 end record, its fields may be saturated.
struct end {
    uint64_t disk, directory_disk, n_here, n, size, start;
};

static bool end_agrees(const struct end *end, const struct end *wide)
{
    return (end->n == wide->n || end->n == UINT16_MAX) &&
           (end->n_here == wide->n || end->n_here == UINT16_MAX) &&
           (end->size == wide->size || end->size == UINT32_MAX) &&
           (end->start == wide->start || end->start == UINT32_MAX);
}

// Finds the directory, starting from the end record at the end of the file.
static int find_directory(struct archive *archive)
{
    if (archive->size < ZIP_END_SIZE)
        return error_set(STATUS_DATA, "%zu bytes: too short for a zip archive", archive->size);
    size_t at = archive->size - ZIP_END_SIZE;
    const uint8_t *bytes = archive->bytes + at;
    if (get_le(bytes, 4) != ZIP_SIG_END || get_le(bytes + 20, 2))
        return error_set(STATUS_DATA,
                         "byte %zu: expected the end of a zip archive: the file was cut short", at);
    struct end end = {get_le(bytes + 4, 2),  get_le(bytes + 6, 2),  get_le(bytes + 8, 2),
                      get_le(bytes + 10, 2), get_le(bytes + 12, 4), get_le(bytes + 16, 4)};
    if (at >= ZIP_LOCATOR_SIZE + ZIP_END64_SIZE &&
        get_le(bytes - ZIP_LOCATOR_SIZE, 4) == ZIP_SIG_LOCATOR) {
        const uint8_t *locator = bytes - ZIP_LOCATOR_SIZE;
        at -= ZIP_LOCATOR_SIZE + ZIP_END64_SIZE;
        bytes = archive->bytes + at;
        if (get_le(locator + 4, 4) || get_le(locator + 8, 8) != at ||
            get_le(locator + 16, 4) != 1 || get_le(bytes, 4) != ZIP_SIG_END64 ||
            get_le(bytes + 4, 8) != ZIP_END64_SIZE - 12)
            return error_set(STATUS_DATA, "byte %zu: expected the zip64 end of a zip archive", at);
        struct end wide = {get_le(bytes + 16, 4), get_le(bytes + 20, 4), get_le(bytes + 24, 8),
                           get_le(bytes + 32, 8), get_le(bytes + 40, 8), get_le(bytes + 48, 8)};
        if (!end_agrees(&end, &wide) || end.disk || end.directory_disk)
            return error_set(STATUS_DATA, "byte %zu: the two ends of the zip archive differ", at);
        end = wide;
    }
    if (end.disk || end.directory_disk || end.n_here != end.n)
        return error_set(STATUS_DATA, "byte %zu: a zip archive of several files", at);
    if (end.start > at || end.size != at - end.start)
        return error_set(STATUS_DATA,
                         "byte %zu: expected the directory before it, found one of %" PRIu64
                         " bytes at byte %" PRIu64,
                         at, end.size, end.start);
    if (end.n > MEMBERS_MAX || end.n > end.size / ZIP_ENTRY_SIZE)
        return error_set(STATUS_DATA,
                         "byte %zu: %" PRIu64 " members in a directory of %" PRIu64
                         " bytes (at most %" PRIu64 ")",
                         at, end.n, end.size, MEMBERS_MAX);
    archive->n = end.n;
    archive->start = end.start;
    archive->end = at;
    return 0;
}

int zip_read_directory(struct zip_directory *zip, const uint8_t *bytes, size_t size, bool deflated)
{
    struct archive archive = {.bytes = bytes, .size = size, .deflated = deflated};
    *zip = (struct zip_directory){0};
    if (find_directory(&archive) < 0)
        return -1;
    zip->members = mem_new(archive.n, sizeof *zip->members);
    archive.extents = mem_new(archive.n, sizeof *archive.extents);
    int rc = !zip->members || !archive.extents || read_members(&archive, zip) < 0 ||
                     check_members(&archive, zip) < 0
                 ? -1
                 : 0;
    free(archive.extents);
    if (rc)
        zip_free_directory(zip);
    return rc;
}

void zip_free_directory(struct zip_directory *zip)
{
    free(zip->members);
    *zip = (struct zip_directory){0};
}

const struct zip_member *zip_find(const struct zip_directory *zip, const char *name, size_t size)
{
    struct zip_member key = {.name = name, .name_size = size};
    return bsearch(&key, zip->members, zip->n, sizeof key, compare_members);
}
