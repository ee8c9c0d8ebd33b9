// Leaves the formats to libarchive, and adds archives in archives and bounds. Data that are not
// compressed are not copied either: an archive in a mapped tar is a part of the mapping, whose
// files are passed over without reading them. SPDX-License-Identifier: MIT
#include "formats/containers/archive.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "lib/base/error.h"

size_t archive_name_stem(const char *name)
{
    static const char *const endings[] = {".tar",    ".zip",     ".tgz",    ".tar.gz",
                                          ".tar.xz", ".tar.bz2", ".tar.zst"};
    const size_t length = strlen(name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        const size_t ending = strlen(endings[i]);
        if (length > ending && strcasecmp(name + length - ending, endings[i]) == 0)
            return name[length - ending - 1] == '/' ? 0 : length - ending;
    }
    return 0;
}

// Whether the first block is the header of a file in a tar, by the sum of its bytes.
static bool is_tar(const uint8_t *head)
{
    enum { SUM = 148, SUM_SIZE = 8 };
    char digits[SUM_SIZE + 1] = "";
    unsigned long sum = 0;
    for (size_t i = 0; i < ARCHIVE_HEAD; i++)
        sum += i >= SUM && i < SUM + SUM_SIZE ? ' ' : head[i];
    memcpy(digits, head + SUM, SUM_SIZE);
    char *end;
    return head[0] && strtoul(digits, &end, 8) == sum && end > digits;
}

bool archive_is_known(const uint8_t *head, size_t size)
{
    static const char *const heads[] = {"\x28\xB5\x2F\xFD", "\x1F\x8B\x08", "\xFD\x37zXZ",
                                        "PK\x03\x04", "PK\x05\x06"};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (size >= strlen(heads[i]) && memcmp(head, heads[i], strlen(heads[i])) == 0)
            return true;
    return size >= ARCHIVE_HEAD && is_tar(head);
}

#ifndef HAVE_archive
static struct archive_walk *lacks_libarchive(const char *name)
{
    error_set(STATUS_DATA,
              "%s: an archive, which this build cannot read: rebuild dit-tools with libarchive "
              "installed, or unpack it",
              name);
    return NULL;
}

struct archive_walk *archive_walk_open(const char *path, size_t depth)
{
    (void)depth;
    return lacks_libarchive(path);
}

struct archive_walk *archive_walk_open_input(const uint8_t *head, size_t size, size_t depth)
{
    (void)head, (void)size, (void)depth;
    return lacks_libarchive("standard input");
}

int archive_walk_next(struct archive_walk *walk, struct archive_file *file)
{
    (void)walk, (void)file;
    return 0;
}

ssize_t archive_walk_read(struct archive_walk *walk, void *to, size_t size, bool *broken)
{
    (void)walk, (void)to, (void)size, (void)broken;
    return 0;
}

void archive_walk_close(struct archive_walk *walk)
{
    (void)walk;
}
#else

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>

#include "lib/base/io.h"
#include "lib/base/mapping.h"
#include "lib/base/mem.h"

#define BLOCK ((size_t)256 << 10) // bytes read of standard input at a time

// An archive that is open: the outer one, or one within it.
struct archive_level {
    struct archive_walk *walk;
    struct archive *archive;
    char *stem;          // its name without folders and ending
    size_t path_length;  // of walk->path up to its name
    uint64_t inner_read; // bytes that an archive in it has read of its current file
    bool started, dear;  // it has had a file; files must be unpacked to be passed over
};

struct archive_walk {
    struct archive_level levels[ARCHIVE_DEPTH];
    size_t open, depth; // levels that are open, and that may be
    bool ended;
    struct archive_entry *entry;
    char *path;
    locale_t locale; // in it, names are UTF-8 or any bytes, as they are stored
    uint64_t expanded;

    struct mapping file;        // the outer archive; or else standard input, of which there are:
    uint8_t *block;             // (BLOCK): the last bytes that were read
    size_t head;                // bytes of it that were read before the walk
    uint64_t taken;             // bytes in all
    uint8_t tail[ARCHIVE_HEAD]; // the last of them
};

static struct archive_level *innermost(struct archive_walk *walk)
{
    return &walk->levels[walk->open - 1];
}

// The error of libarchive, for the archive whose name the walk's path holds.
static int walk_error(struct archive_level *level)
{
    level->walk->path[level->path_length] = 0;
    if (archive_errno(level->archive) == ENOMEM)
        return error_set(STATUS_INTERNAL, "%s: out of memory", level->walk->path);
    const char *reason = archive_error_string(level->archive);
    return error_set(STATUS_DATA, "%s: the archive cannot be read to its end: %s",
                     level->walk->path, reason ? reason : "no reason is known");
}

// Counts what came out of the archive. For libarchive: -1 with its error.
static int count_expanded(struct archive_level *level, uint64_t size)
{
    struct archive_walk *walk = level->walk;
    const uint64_t packed = walk->block ? walk->taken : walk->file.size;
    walk->expanded += size;
    if (walk->expanded <= ARCHIVE_EXPANSION_SPARE + ARCHIVE_EXPANSION * packed)
        return 0;
    archive_set_error(level->archive, EINVAL,
                      "its first %llu bytes expand to more than %llu, as pictures never do",
                      (unsigned long long)packed, (unsigned long long)walk->expanded);
    return -1;
}

// For libarchive: the next bytes of standard input.
static la_ssize_t read_input(struct archive *archive, void *user, const void **block)
{
    struct archive_walk *walk = user;
    size_t got = walk->head;
    walk->head = 0;
    if (got == 0 && fd_read_full(STDIN_FILENO, walk->block, BLOCK, &got) < 0) {
        archive_set_error(archive, errno, "%s", strerror(errno));
        return -1;
    }
    walk->taken += got;
    const size_t added = got < ARCHIVE_HEAD ? got : ARCHIVE_HEAD;
    memmove(walk->tail, walk->tail + added, ARCHIVE_HEAD - added);
    memcpy(walk->tail + ARCHIVE_HEAD - added, walk->block + got - added, added);
    *block = walk->block;
    return (la_ssize_t)got;
}

// For libarchive: the next bytes of an archive within another one.
static la_ssize_t read_within(struct archive *archive, void *user, const void **block)
{
    struct archive_level *outer = user;
    size_t size = 0;
    la_int64_t offset = 0;
    int rc;
    do
        rc = archive_read_data_block(outer->archive, block, &size, &offset);
    while (rc == ARCHIVE_OK && size == 0);
    if (rc == ARCHIVE_EOF)
        return 0;
    if (rc == ARCHIVE_OK && (uint64_t)offset != outer->inner_read)
        archive_set_error(archive, EINVAL, "it is stored with holes");
    else if (rc != ARCHIVE_OK || count_expanded(outer, size) < 0)
        archive_set_error(archive, archive_errno(outer->archive), "%s",
                          archive_error_string(outer->archive));
    else {
        outer->inner_read += size;
        return (la_ssize_t)size;
    }
    return -1;
}

static void level_close(struct archive_walk *walk)
{
    struct archive_level *level = innermost(walk);
    archive_read_free(level->archive);
    free(level->stem);
    *level = (struct archive_level){0};
    walk->open--;
}

// Opens the outer archive, or the one that is the current file of the innermost. The walk's path
// ends with its name, which has this stem.
static int level_open(struct archive_walk *walk, const char *stem, size_t stem_length)
{
    struct archive_level *level = &walk->levels[walk->open];
    *level = (struct archive_level){.walk = walk,
                                    .archive = archive_read_new(),
                                    .stem = strndup(stem, stem_length),
                                    .path_length = strlen(walk->path)};
    walk->open++;
    // Memory for the callback's data, which archive_read_open uses without a check.
    if (!level->archive || !level->stem ||
        archive_read_set_callback_data(level->archive, NULL) != ARCHIVE_OK)
        return error_set(STATUS_INTERNAL, "out of memory");
    struct archive *archive = level->archive;
    archive_read_support_filter_gzip(archive);
    archive_read_support_filter_bzip2(archive);
    archive_read_support_filter_xz(archive);
    archive_read_support_filter_zstd(archive);
    archive_read_support_format_tar(archive);
    archive_read_support_format_zip(archive);
    archive_read_set_format_option(archive, "tar", "read_concatenated_archives", "1");
    int rc;
    if (walk->open > 1) {
        level[-1].inner_read = 0;
        rc = archive_read_open(archive, level - 1, NULL, read_within, NULL);
    } else if (walk->block) {
        rc = archive_read_open(archive, walk, NULL, read_input, NULL);
    } else {
        rc = archive_read_open_memory(archive, walk->file.data, walk->file.size);
    }
    return rc == ARCHIVE_OK ? 0 : walk_error(level);
}

static bool is_zip_archive(struct archive *archive)
{
    return (archive_format(archive) & ARCHIVE_FORMAT_BASE_MASK) == ARCHIVE_FORMAT_ZIP;
}

// A tar ends with zeros. Without them it was cut short where a file ended.
static int check_end(const struct archive_level *level)
{
    static const uint8_t zeros[ARCHIVE_HEAD];
    const struct archive_walk *walk = level->walk;
    const uint8_t *tail = walk->block ? walk->tail
                          : walk->file.size >= ARCHIVE_HEAD
                              ? walk->file.data + walk->file.size - ARCHIVE_HEAD
                              : zeros;
    if (is_zip_archive(level->archive) || archive_filter_count(level->archive) > 1 ||
        memcmp(tail, zeros, ARCHIVE_HEAD) == 0)
        return 0;
    return error_set(STATUS_DATA,
                     "%.*s: expected zeros at the end of the archive, found none: it was cut short",
                     (int)level->path_length, walk->path);
}

// What libarchive need not be asked for more than once.
static int level_start(struct archive_level *level)
{
    const int filters = archive_filter_count(level->archive);
    if (filters > 2) {
        archive_set_error(level->archive, EINVAL, "it is compressed more than once");
        return -1;
    }
    if (level->walk->block && is_zip_archive(level->archive) && level->walk->open == 1) {
        archive_set_error(level->archive, EINVAL, "a zip archive must be named as a file");
        return -1;
    }
    level->dear = filters > 1 || (is_zip_archive(level->archive) && level->walk->open > 1);
    level->started = true;
    return 0;
}

// Goes to the next header. 1, 0 at the end, -1 with an error.
static int level_next(struct archive_level *level)
{
    int rc = ARCHIVE_OK;
    while (level->dear && rc == ARCHIVE_OK) { // counted, unlike what libarchive passes over
        const void *block;
        size_t size = 0;
        la_int64_t offset;
        rc = archive_read_data_block(level->archive, &block, &size, &offset);
        if (count_expanded(level, size) < 0)
            return walk_error(level);
    }
    rc = archive_read_next_header2(level->archive, level->walk->entry);
    if (rc == ARCHIVE_EOF)
        return level->walk->open == 1 && check_end(level) < 0 ? -1 : 0;
    if ((rc != ARCHIVE_OK && rc != ARCHIVE_WARN) || (!level->started && level_start(level) < 0) ||
        count_expanded(level, ARCHIVE_HEAD) < 0)
        return walk_error(level);
    return 1;
}

static bool is_hidden(const char *name)
{
    for (const char *part = name; *part; part += strcspn(part, "/"), part += *part == '/')
        if (*part == '.' && !strchr("/", part[1]) && !(part[1] == '.' && strchr("/", part[2])))
            return true;
    return false;
}

static int find_next_file(struct archive_walk *walk, struct archive_file *file)
{
    while (!walk->ended) {
        struct archive_level *level = innermost(walk);
        struct archive_entry *entry = walk->entry;
        int rc = level_next(level);
        if (rc < 0)
            return -1;
        if (rc == 0 && walk->open > 1)
            level_close(walk);
        else if (rc == 0)
            walk->ended = true;
        if (rc == 0 || archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry))
            continue;
        const char *name = archive_entry_pathname(entry);
        const size_t length = name ? strlen(name) : 0;
        if (length == 0 || length > ARCHIVE_NAME_MAX)
            return error_set(STATUS_DATA,
                             "%.*s: expected files with names of 1 to %d bytes, found one of %zu",
                             (int)level->path_length, walk->path, ARCHIVE_NAME_MAX, length);
        if (is_hidden(name))
            continue;
        char *path = walk->path + level->path_length;
        memcpy(path, ": ", 2);
        memcpy(path + 2, name, length + 1);
        const char *slash = strrchr(path + 2, '/'), *last = slash ? slash + 1 : path + 2;
        const size_t stem = archive_name_stem(last);
        if (stem && walk->open < walk->depth) {
            if (level_open(walk, last, stem) < 0)
                return -1;
            continue;
        }
        *file = (struct archive_file){.path = walk->path,
                                      .name = path + 2,
                                      .stem = level->stem,
                                      .sized = archive_entry_size_is_set(entry),
                                      .size = (uint64_t)archive_entry_size(entry)};
        return 1;
    }
    return 0;
}

// Libarchive takes names from the charset of the locale and to it, and each thread may have one.
int archive_walk_next(struct archive_walk *walk, struct archive_file *file)
{
    const locale_t old = uselocale(walk->locale);
    const int rc = find_next_file(walk, file);
    uselocale(old);
    return rc;
}

ssize_t archive_walk_read(struct archive_walk *walk, void *to, size_t size, bool *broken)
{
    struct archive_level *level = innermost(walk);
    const la_ssize_t got = archive_read_data(level->archive, to, size);
    *broken = got == ARCHIVE_FATAL || (got > 0 && count_expanded(level, (uint64_t)got) < 0);
    if (*broken)
        return walk_error(level);
    if (got >= 0)
        return got;
    const char *reason = archive_error_string(level->archive);
    return error_set(STATUS_DATA, "%s", reason ? reason : "the archive holds no data for it");
}

// Opens what `walk` has been given, and frees it on failure.
static struct archive_walk *walk_open(struct archive_walk *walk, const char *name, const char *stem,
                                      size_t stem_length, size_t depth)
{
    const size_t room = strlen(name) + ARCHIVE_DEPTH * (ARCHIVE_NAME_MAX + 2) + 1;
    walk->depth = depth;
    walk->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    walk->path = mem_resize(NULL, room, 1);
    walk->entry = archive_entry_new();
    if (!walk->entry)
        error_set(STATUS_INTERNAL, "out of memory");
    if (walk->path && walk->entry) {
        memcpy(walk->path, name, strlen(name) + 1);
        if (level_open(walk, stem, stem_length) == 0)
            return walk;
    }
    archive_walk_close(walk);
    return NULL;
}

struct archive_walk *archive_walk_open(const char *path, size_t depth)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const size_t stem = archive_name_stem(name);
    struct archive_walk *walk = mem_new(1, sizeof *walk);
    if (!walk || file_map(path, &walk->file) < 0) {
        free(walk);
        return NULL;
    }
    return walk_open(walk, path, name, stem ? stem : strlen(name), depth);
}

struct archive_walk *archive_walk_open_input(const uint8_t *head, size_t size, size_t depth)
{
    struct archive_walk *walk = mem_new(1, sizeof *walk);
    if (!walk || !(walk->block = mem_resize(NULL, BLOCK, 1))) {
        free(walk);
        return NULL;
    }
    memcpy(walk->block, head, size);
    walk->head = size;
    return walk_open(walk, "standard input", ".", 1, depth);
}

void archive_walk_close(struct archive_walk *walk)
{
    if (!walk)
        return;
    while (walk->open > 0)
        level_close(walk);
    archive_entry_free(walk->entry);
    if (walk->locale)
        freelocale(walk->locale);
    if (!walk->block)
        file_unmap(&walk->file);
    free(walk->block);
    free(walk->path);
    free(walk);
}
#endif
