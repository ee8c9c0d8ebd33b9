// Random access to streams in regular files. SPDX-License-Identifier: MIT
//
// Segments are found from the end of the file by their seek tables. If the tables don't add up, the
// whole file is read in order by tstream-read.c, whose errors say what is wrong with it.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/tstream/tstream-format.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/mem.h"

struct tstream_file {
    char *name;
    int fd; // -1 at rest
    struct stat identity;
    uint64_t begin, end;
    struct schema *schema;
    struct frame_place *places; // of each data frame, and of the end of the records

    struct tstream_totals totals;
    struct contexts *contexts; // a pointer, as reading changes them while the file is const
};

// A segment's place in the file, according to its seek table.
struct segment_extent {
    uint64_t begin, table; // offsets of the begin frame and of the seek table
    size_t n;              // frames
};

static int add_place(struct tstream_file *file, const struct frame_place *place)
{
    if (mem_grow(&file->places, file->totals.frames, 2, sizeof *file->places) < 0)
        return -1;
    file->places[file->totals.frames++] = *place;
    return 0;
}

// The file's descriptor, which release_fd takes back. -1 with an error.
static int acquire_fd(const struct tstream_file *file)
{
    struct stat st;
    if (file->fd >= 0)
        return file->fd;
    int fd = open(file->name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(STATUS_NO_INPUT, "%s: cannot open", file->name);
    if (fstat(fd, &st) == 0 && st.st_dev == file->identity.st_dev &&
        st.st_ino == file->identity.st_ino)
        return fd;
    close(fd);
    return error_set(STATUS_NO_INPUT, "%s: the file has been replaced while it was used",
                     file->name);
}

static void release_fd(const struct tstream_file *file, int fd)
{
    if (fd != file->fd)
        close(fd);
}

// Reads and decodes the frame whose place and size a seek table states.
static int read_frame_from(int fd, const struct tstream_file *file, uint64_t offset,
                           struct seek_entry entry, struct frame *frame)
{
    struct byte_input input;
    if (byte_input_init(&input, file->name, fd) < 0)
        return -1;
    input.random = true;
    input.offset = offset;
    input.end = offset + entry.size;
    input.frame_size = entry.size < TSTREAM_LARGE ? entry.size : TSTREAM_LARGE;
    int rc = frame_read_header(&input, frame);
    if (rc == 0)
        rc = error_set(STATUS_DATA, "%s: byte %" PRIu64 ": the file has become shorter", file->name,
                       offset);
    else if (rc > 0)
        rc = frame_read_body(&input, frame, file->contexts);
    byte_input_free(&input);
    if (rc < 0)
        return -1;
    if (frame->size != entry.size || frame->content != entry.content)
        return error_set(STATUS_DATA,
                         "%s: byte %" PRIu64
                         ": the seek table states a frame of %u bytes with a content of %u, found "
                         "%zu and %zu",
                         file->name, offset, entry.size, entry.content, frame->size,
                         frame->content);
    if (frame_decode(frame, file->contexts) < 0)
        return error_prefix("%s: byte %" PRIu64, file->name, offset);
    return 0;
}

static int read_frame(const struct tstream_file *file, uint64_t offset, struct seek_entry entry,
                      struct frame *frame)
{
    *frame = (struct frame){0};
    int fd = acquire_fd(file);
    if (fd < 0)
        return -1;
    int rc = read_frame_from(fd, file, offset, entry, frame);
    release_fd(file, fd);
    return rc;
}

static int read_table(const struct tstream_file *file, const struct segment_extent *extent,
                      struct frame *table)
{
    uint32_t size = (uint32_t)seek_table_size(extent->n);
    struct seek_entry entry = {size, size - TSTREAM_TABLE_HEADER};
    return read_frame(file, extent->table, entry, table);
}

// Finds the segment whose seek table ends at `end`: -1 if the table is damaged, or if the frames
// that it lists don't fit into the file before it.
static int find_segment(const struct tstream_file *file, uint64_t end,
                        struct segment_extent *extent)
{
    uint8_t footer[TSTREAM_TABLE_FOOTER];
    size_t got;
    if (end - file->begin < TSTREAM_TABLE_HEADER + sizeof footer ||
        fd_pread_full(file->fd, footer, sizeof footer, end - sizeof footer, &got) < 0 ||
        got < sizeof footer || (uint32_t)get_le(footer + 5, 4) != TSTREAM_SEEKABLE_MAGIC)
        return -1;
    extent->n = (uint32_t)get_le(footer, 4);
    if (extent->n < 2 || extent->n > TSTREAM_FRAMES_MAX + 2 ||
        seek_table_size(extent->n) > end - file->begin)
        return -1;
    extent->table = end - seek_table_size(extent->n);
    uint64_t sum = 0;
    struct frame table;
    int rc = read_table(file, extent, &table);
    if (rc == 0)
        rc = seek_table_check(&table, NULL, extent->n);
    for (size_t i = 0; rc == 0 && i < extent->n; i++)
        sum += seek_table_entry(table.bytes, i).size;
    frame_free(&table);
    extent->begin = extent->table - sum;
    return rc < 0 || sum > extent->table - file->begin ? -1 : 0;
}

static int read_begin(struct tstream_file *file, uint64_t offset, struct seek_entry entry)
{
    struct frame frame;
    struct schema *schema = NULL;
    int rc = read_frame(file, offset, entry, &frame);
    if (rc == 0 && frame_kind(&frame) == FRAME_BEGIN)
        schema = frame_schema(&frame);
    frame_free(&frame);
    if (!schema)
        return -1;
    if (!file->schema) {
        file->schema = schema;
        return 0;
    }
    rc = schema_check_same(file->schema, schema);
    schema_free(schema);
    return rc;
}

// Adds the data frames of a segment, from its seek table and its end frame.
static int add_segment_places(struct tstream_file *file, const struct segment_extent *extent,
                              const struct frame *table, const struct frame *end)
{
    const uint8_t *rows = frame_end_rows(end, file->schema, extent->n - 2);
    uint64_t segment_first = file->totals.records, records;
    struct frame_place place = {.offset = extent->begin + seek_table_entry(table->bytes, 0).size,
                                .segment_first = segment_first};
    if (!rows)
        return -1;
    for (size_t i = 1; i < extent->n - 1; i++) {
        struct seek_entry entry = seek_table_entry(table->bytes, i);
        uint64_t n = get_le(rows + 8 * (i - 1), 8);
        place.first = file->totals.records;
        place.size = entry.size;
        place.content = entry.content;
        if (n == 0 || n > TSTREAM_CONTENT_MAX || add_place(file, &place) < 0)
            return -1;
        place.offset += entry.size;
        file->totals.records += n;
        file->totals.content += entry.content;
    }
    if (!text_to_u64(safetensors_get(&end->doc, "records"), &records) ||
        records != file->totals.records - segment_first)
        return -1;
    file->totals.segments++;
    return 0;
}

static int read_segment(struct tstream_file *file, const struct segment_extent *extent)
{
    struct frame table, end = {0};
    int rc = read_table(file, extent, &table);
    if (rc == 0) {
        struct seek_entry first = seek_table_entry(table.bytes, 0);
        struct seek_entry last = seek_table_entry(table.bytes, extent->n - 1);
        if (read_begin(file, extent->begin, first) < 0 ||
            read_frame(file, extent->table - last.size, last, &end) < 0 ||
            frame_kind(&end) != FRAME_END || add_segment_places(file, extent, &table, &end) < 0)
            rc = -1;
        file->totals.content += first.content + last.content;
    }
    frame_free(&table);
    frame_free(&end);
    return rc;
}

static int open_by_tables(struct tstream_file *file)
{
    struct segment_extent *extents = NULL; // from the last segment to the first
    size_t n = 0;
    int rc = file->end > file->begin ? 0 : -1;
    for (uint64_t end = file->end; rc == 0 && end > file->begin; end = extents[n++].begin)
        if (mem_grow(&extents, n, 1, sizeof *extents) < 0 ||
            find_segment(file, end, &extents[n]) < 0) {
            rc = -1;
            break;
        }
    while (rc == 0 && n)
        rc = read_segment(file, &extents[--n]);
    free(extents);
    return rc;
}

static int open_by_scan(struct tstream_file *file)
{
    struct byte_input input = {.name = file->name,
                               .fd = file->fd,
                               .random = true,
                               .offset = file->begin,
                               .end = file->end};
    struct tstream_reader *reader = tstream_open_input(&input, 2);
    struct batch *batch;
    int rc = reader ? 1 : -1;
    while (rc > 0 && (rc = tstream_read(reader, &batch)) > 0) {
        batch_free(batch);
        if (add_place(file, tstream_place(reader)) < 0)
            rc = -1;
    }
    if (rc == 0 && !(file->schema = schema_copy(tstream_schema(reader))))
        rc = -1;
    if (rc == 0)
        file->totals = *tstream_totals(reader);
    tstream_close(reader);
    return rc;
}

static int open_file(struct tstream_file *file, bool standard)
{
    file->fd = STDIN_FILENO;
    if (standard && fd_refuse_terminal(STDIN_FILENO, file->name) < 0)
        return -1;
    if (!standard && (file->fd = file_open_regular(file->name)) < 0)
        return -1;
    if (fstat(file->fd, &file->identity) < 0)
        return error_set_errno(STATUS_NO_INPUT, "%s: cannot read", file->name);
    const struct stat st = file->identity;
    off_t at = S_ISREG(st.st_mode) ? lseek(file->fd, 0, SEEK_CUR) : -1;
    if (at < 0)
        return error_set(STATUS_NO_INPUT, "%s: expected a regular file", file->name);
    file->begin = (uint64_t)at;
    file->end = st.st_size > at ? (uint64_t)st.st_size : file->begin;
    if (!(file->contexts = mem_new(1, sizeof *file->contexts)))
        return -1;
    contexts_init_decompress(file->contexts, 0); // files are many
    if (open_by_tables(file) < 0) {
        schema_free(file->schema);
        file->schema = NULL;
        file->totals = (struct tstream_totals){0};
        if (open_by_scan(file) < 0)
            return -1;
    }
    struct frame_place end = {.first = file->totals.records};
    if (add_place(file, &end) < 0)
        return -1;
    file->totals.frames--; // the end is no frame
    file->totals.size = file->end - file->begin;
    return 0;
}

struct tstream_file *tstream_file_open(const char *path)
{
    bool standard = !path || !strcmp(path, "-");
    struct tstream_file *file = mem_new(1, sizeof *file);
    if (!file)
        return NULL;
    file->fd = -1;
    file->name = mem_strdup(standard ? "standard input" : path);
    if (!file->name || open_file(file, standard) < 0) {
        tstream_file_close(file);
        return NULL;
    }
    return file;
}

const struct schema *tstream_file_schema(const struct tstream_file *file)
{
    return file->schema;
}

const char *tstream_file_name(const struct tstream_file *file)
{
    return file->name;
}

uint64_t tstream_file_records(const struct tstream_file *file)
{
    return file->totals.records;
}

size_t tstream_file_frames(const struct tstream_file *file)
{
    return (size_t)file->totals.frames;
}

uint64_t tstream_file_first(const struct tstream_file *file, size_t frame)
{
    return file->places[frame].first;
}

const struct tstream_totals *tstream_file_totals(const struct tstream_file *file)
{
    return &file->totals;
}

int tstream_file_read(const struct tstream_file *file, size_t i, struct batch **batch)
{
    const struct frame_place *place = &file->places[i];
    struct seek_entry entry = {place->size, place->content};
    size_t rows = (size_t)(place[1].first - place->first);
    struct frame frame;
    struct batch *found = NULL;
    *batch = NULL;
    if (read_frame(file, place->offset, entry, &frame) < 0) {
        frame_free(&frame);
        return -1;
    }
    if (frame_kind(&frame) == FRAME_DATA)
        found = frame_batch(&frame, file->schema, place->first - place->segment_first);
    else
        error_set(STATUS_DATA, "expected the data frame that the seek table lists, found %s",
                  frame_kind_name(frame_kind(&frame)));
    frame_free(&frame);
    if (found && found->rows != rows) {
        error_set(STATUS_DATA, "the end frame states %zu records in the frame, found %zu", rows,
                  found->rows);
        batch_free(found);
        found = NULL;
    }
    if (!found)
        return error_prefix("%s: byte %" PRIu64, file->name, place->offset);
    found->first = place->first;
    *batch = found;
    return 0;
}

static int hash_frames(const struct tstream_file *file, int fd, uint64_t *hash)
{
    *hash = HASH_START;
    for (size_t i = 0; i < file->totals.frames; i++) {
        const struct frame_place *place = &file->places[i];
        uint64_t end = place->offset + place->size;
        uint8_t checksum[4];
        size_t got;
        if (fd_pread_full(fd, checksum, sizeof checksum, end - sizeof checksum, &got) < 0)
            return error_set_errno(STATUS_NO_INPUT, "%s: byte %" PRIu64 ": cannot read", file->name,
                                   end - sizeof checksum);
        if (got < sizeof checksum)
            return error_set(STATUS_DATA, "%s: byte %" PRIu64 ": the file has become shorter",
                             file->name, end);
        *hash = hash_number(*hash, place[1].first - place->first);
        *hash = hash_number(*hash, (uint64_t)place->content << 32 | (uint32_t)get_le(checksum, 4));
    }
    return 0;
}

int tstream_file_hash(const struct tstream_file *file, uint64_t *hash)
{
    int fd = acquire_fd(file);
    if (fd < 0)
        return -1;
    int rc = hash_frames(file, fd, hash);
    release_fd(file, fd);
    return rc;
}

void tstream_file_rest(struct tstream_file *file)
{
    if (file->fd > STDIN_FILENO) {
        close(file->fd);
        file->fd = -1;
    }
}

void tstream_file_close(struct tstream_file *file)
{
    if (!file)
        return;
    if (file->contexts)
        contexts_free(file->contexts);
    if (file->fd > STDIN_FILENO)
        close(file->fd);
    free(file->contexts);
    schema_free(file->schema);
    free(file->places);
    free(file->name);
    free(file);
}
