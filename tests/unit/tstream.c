// Streams are read back as they were written, in order and at random, for every dtype and any
// level, number of threads and number of segments. SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/tstream/tstream.h"
#include "lib/base/error.h"
#include "lib/base/rng.h"
#include "tests/tap.h"

#define ROWS_MAX 5

static char folder[] = "/tmp/tstream-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

// A schema with one tensor of each dtype, of ranks 1 to 8.
static struct schema *all_dtypes(void)
{
    struct schema *schema = schema_new("latents");
    const size_t shape[] = {1, 2, 1, 3, 1, 1, 2};
    for (int i = 0; i < DTYPE_COUNT; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d.%s", i, i % 2 ? "a" : "B_");
        if (schema_add(schema, name, (enum dtype)i, shape, (size_t)i % 8))
            exit(2);
    }
    schema_set(schema, "classes", "[\"cat\", \"H\xc3\xbcndin\"]");
    return schema;
}

// Sets the bytes of a record, which depend on its number and its field alone.
static void record_bytes(uint8_t *bytes, size_t size, uint64_t record, size_t field)
{
    const struct rng rng = {.purpose = RNG_TEST, .step = (uint32_t)field, .sample = record};
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(rng_u32(&rng, i) % 7);
}

// Whether the batch holds what was written. Records repeat after `period` where streams are joined.
static bool batch_is_good(const struct schema *schema, const struct batch *batch, uint64_t period)
{
    uint8_t expected[4096];
    for (size_t i = 0; i < schema->n_fields; i++) {
        size_t size = schema->fields[i].size;
        if ((uintptr_t)batch->data[i] % dtype_size(schema->fields[i].dtype))
            return false;
        for (size_t row = 0; row < batch->rows; row++) {
            record_bytes(expected, size, (batch->first + row) % period, i);
            if (memcmp(batch->data[i] + row * size, expected, size) != 0)
                return false;
        }
    }
    return true;
}

// Writes records 0 to n - 1 in batches of 1 to ROWS_MAX rows.
static int write_stream(const char *path, const struct schema *schema, uint64_t n, size_t threads,
                        int64_t level)
{
    struct output *output = output_open(path);
    struct tstream_writer *writer = output ? tstream_create(output, schema, threads, level) : NULL;
    if (!writer)
        return -1;
    for (uint64_t record = 0; record < n;) {
        struct batch *batch = batch_new(schema, ROWS_MAX);
        size_t rows = 1 + record % ROWS_MAX;
        rows = record + rows < n ? rows : (size_t)(n - record);
        for (size_t i = 0; i < schema->n_fields; i++)
            for (size_t row = 0; row < rows; row++)
                record_bytes(batch->data[i] + row * schema->fields[i].size, schema->fields[i].size,
                             record + row, i);
        if (batch_truncate(schema, batch, rows) < 0 || tstream_write(writer, batch) < 0) {
            tstream_abandon(writer);
            return -1;
        }
        record += rows;
    }
    return tstream_finish(writer);
}

// Reads a stream in order. The number of records, or -1 if it fails or one of them is wrong.
static int64_t read_stream(const char *path, size_t threads, uint64_t period)
{
    struct tstream_reader *reader = tstream_open(path, threads);
    if (!reader)
        return -1;
    struct batch *batch;
    uint64_t n = 0;
    int rc;
    while ((rc = tstream_read(reader, &batch)) > 0) {
        if (batch->first != n || !batch_is_good(tstream_schema(reader), batch, period)) {
            diag("record %" PRIu64 " is not as written", n);
            rc = -1;
        }
        n += batch->rows;
        batch_free(batch);
        if (rc < 0)
            break;
    }
    if (rc == 0 && tstream_totals(reader)->records != n)
        rc = -1;
    tstream_close(reader);
    return rc < 0 ? -1 : (int64_t)n;
}

// Reads a stream by random access, frames from last to first; otherwise as read_stream.
static int64_t read_file(const char *path, uint64_t period, struct tstream_totals *totals)
{
    struct tstream_file *file = tstream_file_open(path);
    if (!file)
        return -1;
    const struct schema *schema = tstream_file_schema(file);
    size_t frames = tstream_file_frames(file);
    uint64_t n = 0;
    bool good = tstream_file_first(file, frames) == tstream_file_records(file);
    for (size_t i = frames; good && i--;) {
        struct batch *batch;
        if (tstream_file_read(file, i, &batch) < 0) {
            good = false;
            break;
        }
        good = batch->first == tstream_file_first(file, i) &&
               batch->first + batch->rows == tstream_file_first(file, i + 1) &&
               batch_is_good(schema, batch, period);
        n += batch->rows;
        batch_free(batch);
    }
    good = good && n == tstream_file_records(file);
    *totals = *tstream_file_totals(file);
    tstream_file_close(file);
    return good ? (int64_t)n : -1;
}

static int command(const char *format, const char *a, const char *b)
{
    char text[2048];
    snprintf(text, sizeof text, format, a, b);
    return system(text);
}

static void test_round_trip(const struct schema *schema)
{
    static const struct {
        uint64_t n;
        size_t threads;
        int64_t level;
    } cases[] = {{0, 1, 1},   {1, 1, -1},   {100, 1, -1}, {100, 3, 1},
                 {100, 8, 3}, {100, 2, 19}, {33, 2, -7},  {100, 2, 1}};
    char path[256];
    snprintf(path, sizeof path, "%s", in_folder("a"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t n = cases[i].n;
        struct tstream_totals totals;
        ok(!write_stream(path, schema, n, cases[i].threads, cases[i].level),
           "case %zu: %" PRIu64 " records are written by %zu threads", i, n, cases[i].threads);
        ok(read_stream(path, cases[i].threads, 1000) == (int64_t)n,
           "case %zu: the records are read in order", i);
        ok(read_file(path, 1000, &totals) == (int64_t)n && totals.segments == 1,
           "case %zu: the records are read at random", i);
        ok(!command("zstd -qt <%s && zstd -dc <%s >/dev/null", path, path),
           "case %zu: zstd reads the stream", i);
    }
}

static void test_schema(const struct schema *schema)
{
    struct tstream_reader *reader = tstream_open(in_folder("a"), 1);
    ok(reader && !schema_check_same(schema, tstream_schema(reader)),
       "the schema is read as it was written");
    const char *classes = reader ? schema_get(tstream_schema(reader), "classes") : NULL;
    ok(classes && !strcmp(classes, schema_get(schema, "classes")),
       "metadata in UTF-8 is read as it was written");
    tstream_close(reader);
    size_t last = 16;
    bool falling = true;
    for (size_t i = 0; i < schema->n_fields; i++) {
        falling = falling && dtype_size(schema->fields[i].dtype) <= last;
        last = dtype_size(schema->fields[i].dtype);
    }
    ok(falling, "tensors are sorted by falling element size");
}

static void test_segments(const struct schema *schema)
{
    char a[256], b[256];
    struct tstream_totals totals;
    snprintf(a, sizeof a, "%s", in_folder("a"));
    snprintf(b, sizeof b, "%s", in_folder("b"));
    write_stream(a, schema, 40, 1, 1);
    ok(!command("cat %1$s %1$s %1$s >%2$s", a, b), "three streams are joined by cat");
    ok(read_stream(b, 2, 40) == 120, "joined streams are read in order as one");
    ok(read_file(b, 40, &totals) == 120 && totals.segments == 3,
       "joined streams are read at random as one");
    struct schema *other = schema_copy(schema);
    schema_set(other, "image_size", "64");
    write_stream(in_folder("c"), other, 3, 1, 1);
    command("cat %s >>%s", in_folder("c"), b);
    ok(read_stream(b, 2, 40) == -1 && error_status() == STATUS_DATA &&
           strstr(error_message(), "image_size") && strstr(error_message(), "byte "),
       "a segment with other metadata is refused with the key and the place");
    ok(read_file(b, 40, &totals) == -1 && strstr(error_message(), "image_size"),
       "a segment with other metadata is refused at random access, too");
    schema_free(other);
}

// Batches of a reader go straight to a writer.
static void test_copy(void)
{
    char a[256], b[256];
    snprintf(a, sizeof a, "%s", in_folder("a"));
    snprintf(b, sizeof b, "%s", in_folder("b"));
    struct tstream_reader *reader = tstream_open(a, 2);
    struct tstream_writer *writer = tstream_create(output_open(b), tstream_schema(reader), 2, 1);
    struct batch *batch;
    int rc = 0;
    for (int i = 0; i < 30 && !rc; i++) { // 30 times, so that `first` takes more digits than before
        if (i) {
            tstream_close(reader);
            reader = tstream_open(a, 2);
        }
        while ((rc = tstream_read(reader, &batch)) > 0 && !(rc = tstream_write(writer, batch)))
            ;
    }
    tstream_close(reader);
    rc |= tstream_finish(writer);
    ok(!rc && read_stream(b, 2, 40) == 1200, "batches can be handed from a reader to a writer");
}

// Frames that are too large to be compressed or decompressed in advance.
static void test_large(void)
{
    const size_t shape[] = {1000, 1000, 3}, rows = 4;
    struct schema *schema = schema_new("images");
    schema_add(schema, "image", DTYPE_U8, shape, 3);
    schema_add(schema, "label", DTYPE_I64, NULL, 0);
    struct tstream_writer *writer = tstream_create(output_open(in_folder("large")), schema, 2, 1);
    int rc = 0;
    for (int i = 0; i < 4; i++) {
        struct batch *batch = batch_new(schema, i == 2 ? 1 : rows);
        for (size_t row = 0; row < batch->rows; row++) {
            memcpy(batch->data[0] + 8 * row, &(int64_t){-1 - i}, 8);
            memset(batch->data[1] + row * 3000000, 16 * i + (int)row, 3000000);
        }
        rc |= tstream_write(writer, batch);
    }
    ok(!rc && !tstream_finish(writer), "large frames are written");
    struct tstream_reader *reader = tstream_open(in_folder("large"), 2);
    struct tstream_file *file = tstream_file_open(in_folder("large"));
    struct batch *batch, *again;
    bool good = reader && file;
    for (int i = 0; good && tstream_read(reader, &batch) > 0; i++) {
        good = !tstream_file_read(file, (size_t)i, &again) && again->rows == batch->rows &&
               !memcmp(batch->data[1], again->data[1], batch->rows * 3000000);
        for (size_t row = 0; good && row < batch->rows; row++)
            good = batch->data[1][row * 3000000 + 2999999] == 16 * i + (int)row &&
                   !memcmp(batch->data[0], &(int64_t){-1 - i}, 8);
        batch_free(batch);
        batch_free(again);
    }
    ok(good && tstream_totals(reader)->records == 13,
       "large frames are read in order and at random");
    tstream_close(reader);
    tstream_file_close(file);
    ok(!command("zstd -qt <%s # %s", in_folder("large"), ""), "zstd reads large frames");
    schema_free(schema);
}

// "large" is there from the test before.
static void test_rest(void)
{
    struct tstream_file *file = tstream_file_open(in_folder("large"));
    struct batch *batch = NULL;
    uint64_t before, after;
    bool good = file && tstream_file_hash(file, &before) == 0;
    if (good)
        tstream_file_rest(file);
    good = good && tstream_file_read(file, 1, &batch) == 0 && batch->first == 4 &&
           tstream_file_hash(file, &after) == 0 && before == after;
    ok(good, "a file at rest is opened again to read it");
    batch_free(batch);
    command("cp %s %s.other", in_folder("large"), in_folder("large"));
    command("mv %s.other %s", in_folder("large"), in_folder("large"));
    ok(tstream_file_read(file, 1, &batch) < 0 && error_status() == STATUS_NO_INPUT &&
           strstr(error_message(), "replaced") && tstream_file_hash(file, &after) < 0,
       "a file that was replaced meanwhile is an error: %s", error_message());
    command("rm %s # %s", in_folder("large"), "");
    ok(tstream_file_read(file, 1, &batch) < 0 && error_status() == STATUS_NO_INPUT,
       "... and one that is gone: %s", error_message());
    tstream_file_close(file);
}

static void test_early_end(void)
{
    int fds[2];
    if (pipe(fds))
        exit(2);
    struct schema *schema = all_dtypes();
    write_stream(in_folder("a"), schema, 40, 1, 1);
    // A reader that is closed early must not wait for an input that blocks.
    char text[512];
    snprintf(text, sizeof text, "(cat %s; exec sleep 60) >/dev/fd/%d & echo $!", in_folder("a"),
             fds[1]);
    FILE *shell = popen(text, "r");
    int pid = 0;
    bool good = shell && fscanf(shell, "%d", &pid) == 1;
    char path[32];
    snprintf(path, sizeof path, "/dev/fd/%d", fds[0]);
    struct tstream_reader *reader = tstream_open(path, 2);
    struct batch *batch = NULL;
    good = good && reader && tstream_read(reader, &batch) == 1;
    tstream_close(reader);
    ok(good, "a reader can be closed while its input waits");
    batch_free(batch);
    command("kill %s # %s", (snprintf(path, sizeof path, "%d", pid), path), "");
    pclose(shell);
    close(fds[0]);
    close(fds[1]);
    struct tstream_writer *writer = tstream_create(output_open(in_folder("gone")), schema, 2, 1);
    tstream_write(writer, batch_new(schema, 0));
    tstream_abandon(writer);
    ok(access(in_folder("gone"), F_OK) < 0, "an abandoned stream leaves no file");
    schema_free(schema);
}

int main(void)
{
    if (!mkdtemp(folder))
        return 2;
    struct schema *schema = all_dtypes();
    test_round_trip(schema);
    test_schema(schema);
    test_segments(schema);
    test_copy();
    test_large();
    test_rest();
    test_early_end();
    schema_free(schema);
    command("rm -r %s # %s", folder, "");
    return tap_done();
}
