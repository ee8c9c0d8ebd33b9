// Random access to streams in regular files. SPDX-License-Identifier: MIT
//
// Segments are found from the back by their seek tables. Where that does not work out, the file is
// read in order by the rules of tstream-read.c, which then name what is wrong with it.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "formats/tstream/tstream-format.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/mem.h"

struct tstream_file {
    char *name;
    int fd;
    uint64_t begin, end;
    struct schema *schema;
    struct frame_place *places; // one more than there are data frames: the end
    struct tstream_totals totals;
    struct contexts *contexts;
};

// A segment's place, as its seek table gives it.
struct extent {
    uint64_t begin, table; // where the first frame and the seek table are
    size_t n;              // frames
};

static int add_place(struct tstream_file *file, const struct frame_place *place)
{
    if (mem_grow(&file->places, file->totals.frames, 2, sizeof *file->places) < 0)
        return -1;
    file->places[file->totals.frames++] = *place;
    return 0;
}

// A frame by the place and size that a seek table gives it; decoded and checked by itself.
static int read_frame(const struct tstream_file *file, uint64_t offset, struct seek_entry entry,
                      struct frame *frame)
{
    struct input input;
    *frame = (struct frame){0};
    if (input_init(&input, file->name, file->fd))
        return -1;
    input.random = true;
    input.offset = offset;
    input.end = offset + entry.size;
    input.frame_size = entry.size < TSTREAM_LARGE ? entry.size : TSTREAM_LARGE;
    int rc = frame_take_header(&input, frame);
    if (rc == 0)
        rc = error_set(STATUS_DATA, "%s: byte %" PRIu64 ": the file has become shorter", file->name,
                       offset);
    else if (rc > 0)
        rc = frame_take_body(&input, frame, file->contexts);
    input_free(&input);
    if (rc)
        return -1;
    if (frame->size != entry.size || frame->content != entry.content)
        return error_set(STATUS_DATA,
                         "%s: byte %" PRIu64
                         ": a frame of %zu bytes with a content of %zu, the seek table says %u and "
                         "%u",
                         file->name, offset, frame->size, frame->content, entry.size,
                         entry.content);
    if (frame_decode(frame, file->contexts))
        return error_prefix("%s: byte %" PRIu64, file->name, offset);
    return 0;
}

// The seek table of n frames itself.
static struct seek_entry table_entry(size_t n)
{
    uint32_t content = (uint32_t)(8 * n + TSTREAM_TABLE_FIXED);
    return (struct seek_entry){8 + content, content};
}

// Takes the seek table that ends at `end`. The frames it lists add up to a place in the file.
static int find_extent(const struct tstream_file *file, uint64_t end, struct extent *extent)
{
    uint8_t footer[TSTREAM_TABLE_FIXED];
    size_t got;
    if (end - file->begin < 8 + sizeof footer ||
        fd_pread_full(file->fd, footer, sizeof footer, end - sizeof footer, &got) ||
        got < sizeof footer || (uint32_t)get_le(footer + 5, 4) != TSTREAM_TABLE_END)
        return -1;
    extent->n = (uint32_t)get_le(footer, 4);
    if (extent->n < 2 || extent->n > TSTREAM_FRAMES_MAX + 2 ||
        table_entry(extent->n).size > end - file->begin)
        return -1;
    extent->table = end - table_entry(extent->n).size;
    uint64_t sum = 0;
    struct frame table;
    int rc = read_frame(file, extent->table, table_entry(extent->n), &table);
    if (!rc && !(rc = seek_table_check(&table, NULL, extent->n))) {
        for (size_t i = 0; i < extent->n; i++)
            sum += seek_table_entry(table.bytes, i).size;
        extent->begin = extent->table - sum;
    }
    rc = rc || sum > extent->table - file->begin ? -1 : 0;
    frame_free(&table);
    return rc;
}

static int take_begin(struct tstream_file *file, uint64_t offset, struct seek_entry entry)
{
    struct frame frame;
    struct schema *schema = NULL;
    int rc = read_frame(file, offset, entry, &frame);
    if (!rc && frame_kind(&frame) == FRAME_BEGIN)
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

// The data frames of a segment, from its seek table and its end frame.
static int take_places(struct tstream_file *file, const struct extent *extent,
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
        if (n == 0 || n > TSTREAM_CONTENT_MAX || add_place(file, &place))
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

static int take_segment(struct tstream_file *file, const struct extent *extent)
{
    struct frame table, end = {0};
    int rc = read_frame(file, extent->table, table_entry(extent->n), &table);
    if (!rc) {
        struct seek_entry first = seek_table_entry(table.bytes, 0);
        struct seek_entry last = seek_table_entry(table.bytes, extent->n - 1);
        rc = take_begin(file, extent->begin, first) ||
             read_frame(file, extent->table - last.size, last, &end) ||
             frame_kind(&end) != FRAME_END || take_places(file, extent, &table, &end);
        file->totals.content += first.content + last.content;
    }
    frame_free(&table);
    frame_free(&end);
    return rc ? -1 : 0;
}

static void forget(struct tstream_file *file)
{
    schema_free(file->schema);
    file->schema = NULL;
    file->totals = (struct tstream_totals){0};
}

static int open_by_tables(struct tstream_file *file)
{
    struct extent *extents = NULL;
    size_t n = 0;
    int rc = file->end > file->begin ? 0 : -1;
    for (uint64_t end = file->end; !rc && end > file->begin; n++) {
        rc = mem_grow(&extents, n, 1, sizeof *extents);
        if (!rc)
            rc = find_extent(file, end, &extents[n]);
        end = rc ? 0 : extents[n].begin;
    }
    while (!rc && n)
        rc = take_segment(file, &extents[--n]);
    free(extents);
    return rc;
}

static int open_by_scan(struct tstream_file *file)
{
    struct input input = {.name = file->name,
                          .fd = file->fd,
                          .random = true,
                          .offset = file->begin,
                          .end = file->end};
    struct tstream_reader *reader = tstream_open_input(&input, 2);
    struct batch *batch;
    int rc = reader ? 1 : -1;
    while (rc > 0 && (rc = tstream_read(reader, &batch)) > 0) {
        batch_free(batch);
        if (add_place(file, tstream_place(reader)))
            rc = -1;
    }
    if (!rc && !(file->schema = schema_copy(tstream_schema(reader))))
        rc = -1;
    if (!rc)
        file->totals = *tstream_totals(reader);
    tstream_close(reader);
    return rc;
}

static int open_file(struct tstream_file *file, bool standard)
{
    struct stat st;
    file->fd = STDIN_FILENO;
    if (standard && fd_refuse_terminal(STDIN_FILENO, file->name) < 0)
        return -1;
    if (!standard && (file->fd = open(file->name, O_RDONLY | O_CLOEXEC)) < 0)
        return error_set_errno(STATUS_NO_INPUT, "%s: cannot open", file->name);
    if (fstat(file->fd, &st))
        return error_set_errno(STATUS_NO_INPUT, "%s: cannot read", file->name);
    off_t at = S_ISREG(st.st_mode) ? lseek(file->fd, 0, SEEK_CUR) : -1;
    if (at < 0)
        return error_set(STATUS_NO_INPUT, "%s: expected a regular file", file->name);
    file->begin = (uint64_t)at;
    file->end = st.st_size > at ? (uint64_t)st.st_size : file->begin;
    if (!(file->contexts = mem_new(1, sizeof *file->contexts)))
        return -1;
    contexts_init(file->contexts);
    if (open_by_tables(file)) {
        forget(file);
        if (open_by_scan(file))
            return -1;
    }
    struct frame_place last = {.first = file->totals.records};
    if (add_place(file, &last))
        return -1;
    file->totals.frames--;
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
    if (!file->name || open_file(file, standard)) {
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
    struct frame frame;
    *batch = NULL;
    if (!read_frame(file, place->offset, (struct seek_entry){place->size, place->content},
                    &frame)) {
        size_t rows = (size_t)(place[1].first - place->first);
        if (frame_kind(&frame) != FRAME_DATA)
            error_set(STATUS_DATA, "not the data frame that the seek table lists");
        else if ((*batch =
                      frame_batch(&frame, file->schema, place->first - place->segment_first)) &&
                 (*batch)->rows != rows) {
            error_set(STATUS_DATA, "the end frame gives the frame %zu records, it has %zu", rows,
                      (*batch)->rows);
            batch_free(*batch);
            *batch = NULL;
        }
        if (*batch)
            (*batch)->first = place->first;
        else
            error_prefix("%s: byte %" PRIu64, file->name, place->offset);
    }
    frame_free(&frame);
    return *batch ? 0 : -1;
}

int tstream_file_hash(const struct tstream_file *file, uint64_t *hash)
{
    *hash = HASH_START;
    for (size_t i = 0; i < file->totals.frames; i++) {
        const struct frame_place *place = &file->places[i];
        uint64_t end = place->offset + place->size;
        uint8_t checksum[4];
        size_t got;
        if (fd_pread_full(file->fd, checksum, sizeof checksum, end - sizeof checksum, &got))
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

static size_t drop_context(void *context)
{
    return ZSTD_freeDCtx(context);
}

void tstream_file_close(struct tstream_file *file)
{
    if (!file)
        return;
    if (file->contexts)
        contexts_free(file->contexts, drop_context);
    if (file->fd > STDIN_FILENO)
        close(file->fd);
    free(file->contexts);
    schema_free(file->schema);
    free(file->places);
    free(file->name);
    free(file);
}
