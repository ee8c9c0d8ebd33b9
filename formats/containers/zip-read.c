// The .ZIP File Format Specification 6.3 (APPNOTE.TXT). SPDX-License-Identifier: MIT
#include "formats/containers/zip-read.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

#define MEMBERS_MAX    ((uint64_t)1 << 18)
#define LOCAL_SIZE     30 // the fixed parts of the records
#define ENTRY_SIZE     46
#define END64_SIZE     56
#define LOCATOR_SIZE   20
#define END_SIZE       22
#define EXTRA_ZIP64    1
#define FLAG_LATER     8 // sizes and checksum follow the data
#define FLAG_UTF8      0x800
#define FLAG_ENCRYPTED 1

enum signature {
    SIG_LOCAL = 0x04034b50,
    SIG_ENTRY = 0x02014b50,
    SIG_END64 = 0x06064b50,
    SIG_LOCATOR = 0x07064b50,
    SIG_END = 0x06054b50,
};

struct archive {
    const uint8_t *bytes;
    size_t size;
    uint64_t n, start, end; // of the directory
    struct place *places;
};

// What a member takes in the archive, its header and data.
struct place {
    uint64_t start, end;
};

// What the directory and a member's own header say of it.
struct header {
    size_t at; // of the header
    uint64_t flags, method, crc, packed, size, offset;
    const uint8_t *name, *extra;
    size_t name_size, extra_size;
};

// A field of 32 bits that says all ones stands in the extra field instead.
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

static int read_zip64(struct header *header, bool entry)
{
    const uint8_t *at = header->extra, *wide = NULL;
    size_t left = header->extra_size, n = 0;
    while (left >= 4) {
        size_t id = get_le(at, 2), size = get_le(at + 2, 2);
        if (size > left - 4)
            break;
        if (id == EXTRA_ZIP64 && wide)
            return error_set(STATUS_DATA, "byte %zu: a member with two zip64 fields", header->at);
        if (id == EXTRA_ZIP64) {
            wide = at + 4;
            n = size;
        }
        at += 4 + size;
        left -= 4 + size;
    }
    if (left)
        return error_set(STATUS_DATA, "byte %zu: the extra fields of a member don't fill theirs",
                         header->at);
    if (!take_wide(&wide, &n, &header->size) || !take_wide(&wide, &n, &header->packed) ||
        (entry && !take_wide(&wide, &n, &header->offset)))
        return error_set(STATUS_DATA, "byte %zu: expected sizes in a zip64 field, found none",
                         header->at);
    return 0;
}

// The header at `at`, of which all must be before `end`; *next is what follows it.
static int read_header(const struct archive *archive, uint64_t at, uint64_t end, bool entry,
                       struct header *header, uint64_t *next)
{
    const size_t fixed = entry ? ENTRY_SIZE : LOCAL_SIZE;
    const char *what = entry ? "an entry of the directory" : "the header of a member";
    if (at > end || end - at < fixed ||
        get_le(archive->bytes + at, 4) != (entry ? SIG_ENTRY : SIG_LOCAL))
        return error_set(STATUS_DATA, "byte %" PRIu64 ": expected %s", at, what);
    const uint8_t *bytes = archive->bytes + at;
    const uint8_t *common = bytes + (entry ? 6 : 4);
    *header = (struct header){
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

// Where sizes follow the data, the header before it may leave them out.
static bool agree(const struct header *local, uint64_t said, uint64_t expected)
{
    return said == expected || (local->flags & FLAG_LATER && said == 0);
}

static int read_member(const struct archive *archive, const struct header *entry,
                       struct zip_member *member, struct place *place)
{
    char name[ERROR_SHOWN_SIZE];
    struct header local;
    uint64_t data;
    error_shown((const char *)entry->name, entry->name_size, name);
    if (entry->flags & FLAG_ENCRYPTED)
        return error_set(STATUS_DATA, "byte %zu: \"%s\" is encrypted", entry->at, name);
    if (entry->flags & ~(uint64_t)(FLAG_LATER | FLAG_UTF8))
        return error_set(STATUS_DATA, "byte %zu: \"%s\" has unknown flags 0x%" PRIX64, entry->at,
                         name, entry->flags);
    if (entry->method)
        return error_set(STATUS_DATA,
                         "byte %zu: expected stored members, \"%s\" is compressed (method %" PRIu64
                         ")",
                         entry->at, name, entry->method);
    if (entry->packed != entry->size)
        return error_set(STATUS_DATA,
                         "byte %zu: \"%s\" is stored, but with two sizes, %" PRIu64 " and %" PRIu64,
                         entry->at, name, entry->packed, entry->size);
    if (read_header(archive, entry->offset, archive->start, false, &local, &data))
        return error_prefix("\"%s\"", name);
    if (local.flags != entry->flags || local.method || !agree(&local, local.crc, entry->crc) ||
        !agree(&local, local.packed, entry->size) || !agree(&local, local.size, entry->size) ||
        local.name_size != entry->name_size ||
        memcmp(local.name, entry->name, local.name_size) != 0)
        return error_set(STATUS_DATA,
                         "byte %zu: the header of \"%s\" differs from the directory's (byte %zu)",
                         local.at, name, entry->at);
    if (entry->size > archive->start - data)
        return error_set(STATUS_DATA,
                         "byte %zu: \"%s\" has %" PRIu64 " bytes, %" PRIu64
                         " are before the directory",
                         entry->at, name, entry->size, archive->start - data);
    *member = (struct zip_member){(const char *)entry->name, entry->name_size,
                                  archive->bytes + data, (size_t)entry->size};
    *place = (struct place){entry->offset, data + entry->size};
    return 0;
}

static int read_members(const struct archive *archive, struct zip_directory *zip)
{
    uint64_t at = archive->start;
    for (uint64_t i = 0; i < archive->n; i++, zip->n++) {
        struct header entry;
        if (read_header(archive, at, archive->end, true, &entry, &at) ||
            read_member(archive, &entry, &zip->members[i], &archive->places[i]))
            return -1;
    }
    return at == archive->end
               ? 0
               : error_set(STATUS_DATA,
                           "byte %" PRIu64 ": expected the end of the directory at %" PRIu64, at,
                           archive->end);
}

static int compare_places(const void *pa, const void *pb)
{
    const struct place *a = pa, *b = pb;
    return a->start < b->start ? -1 : a->start > b->start;
}

static int compare_names(const void *pa, const void *pb)
{
    const struct zip_member *a = pa, *b = pb;
    size_t size = a->name_size < b->name_size ? a->name_size : b->name_size;
    int order = memcmp(a->name, b->name, size);
    return order ? order : a->name_size < b->name_size ? -1 : a->name_size > b->name_size;
}

static int check_members(const struct archive *archive, const struct zip_directory *zip)
{
    char name[ERROR_SHOWN_SIZE];
    qsort(archive->places, zip->n, sizeof *archive->places, compare_places);
    for (size_t i = 1; i < zip->n; i++)
        if (archive->places[i].start < archive->places[i - 1].end)
            return error_set(STATUS_DATA, "byte %" PRIu64 ": two members overlap",
                             archive->places[i].start);
    qsort(zip->members, zip->n, sizeof *zip->members, compare_names);
    for (size_t i = 1; i < zip->n; i++)
        if (compare_names(&zip->members[i - 1], &zip->members[i]) == 0)
            return error_set(STATUS_DATA, "two members are named \"%s\"",
                             error_shown(zip->members[i].name, zip->members[i].name_size, name));
    return 0;
}

// The end record, a field of which may be saturated where there is a zip64 one.
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

// Finds the directory from the back of the file.
static int find_directory(struct archive *archive)
{
    if (archive->size < END_SIZE)
        return error_set(STATUS_DATA, "%zu bytes: too short for a zip archive", archive->size);
    size_t at = archive->size - END_SIZE;
    const uint8_t *bytes = archive->bytes + at;
    if (get_le(bytes, 4) != SIG_END || get_le(bytes + 20, 2))
        return error_set(STATUS_DATA,
                         "byte %zu: expected the end of a zip archive: the file was cut short", at);
    struct end end = {get_le(bytes + 4, 2),  get_le(bytes + 6, 2),  get_le(bytes + 8, 2),
                      get_le(bytes + 10, 2), get_le(bytes + 12, 4), get_le(bytes + 16, 4)};
    if (at >= LOCATOR_SIZE + END64_SIZE && get_le(bytes - LOCATOR_SIZE, 4) == SIG_LOCATOR) {
        const uint8_t *locator = bytes - LOCATOR_SIZE;
        at -= LOCATOR_SIZE + END64_SIZE;
        bytes = archive->bytes + at;
        if (get_le(locator + 4, 4) || get_le(locator + 8, 8) != at ||
            get_le(locator + 16, 4) != 1 || get_le(bytes, 4) != SIG_END64 ||
            get_le(bytes + 4, 8) != END64_SIZE - 12)
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
    if (end.n > MEMBERS_MAX || end.n > end.size / ENTRY_SIZE)
        return error_set(STATUS_DATA,
                         "byte %zu: %" PRIu64 " members in a directory of %" PRIu64
                         " bytes (at most %" PRIu64 ")",
                         at, end.n, end.size, MEMBERS_MAX);
    archive->n = end.n;
    archive->start = end.start;
    archive->end = at;
    return 0;
}

int zip_read_directory(struct zip_directory *zip, const uint8_t *bytes, size_t size)
{
    struct archive archive = {.bytes = bytes, .size = size};
    *zip = (struct zip_directory){0};
    if (find_directory(&archive))
        return -1;
    zip->members = mem_new(archive.n, sizeof *zip->members);
    archive.places = mem_new(archive.n, sizeof *archive.places);
    int rc = !zip->members || !archive.places || read_members(&archive, zip) ||
                     check_members(&archive, zip)
                 ? -1
                 : 0;
    free(archive.places);
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
    return bsearch(&key, zip->members, zip->n, sizeof key, compare_names);
}
