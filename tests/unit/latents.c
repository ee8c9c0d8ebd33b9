// The training reader yields every record once an epoch, in an order that follows from the seed.
// SPDX-License-Identifier: MIT
#include "formats/latents/latents.h"

#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/latents/latent-fields.h"
#include "lib/base/error.h"
#include "tests/tap.h"

// Latents of 2x2x3 float32, all of whose elements are the record's index. Those of the mirrored
// latent, here called the twin, are -1 - index.
enum { C = 2, H = 2, W = 3, COUNT = C * H * W, N = 1000 };

static char folder[] = "/tmp/latents-XXXXXX";
static char all[64], part_a[64], part_b[64], spread[64], empty[64];
static int level = 1;     // zstd's
static float marked = -1; // the index of one record whose latent is index + 0.25

static void write_stream(const char *path, size_t first, size_t n, size_t rows, bool with_spread)
{
    struct schema *schema = schema_new("latents");
    struct latent_fields fields;
    bool good = (with_spread || schema_add(schema, "label", DTYPE_I64, NULL, 0) == 0) &&
                latent_fields_add(schema, with_spread, with_spread, DTYPE_F32,
                                  (const size_t[3]){C, H, W}, &fields) == 0;
    struct output *output = output_open(path);
    struct tstream_writer *out = good && output ? tstream_create(output, schema, 2, level) : NULL;
    for (size_t at = 0; out && at < n; at += rows) {
        struct batch *batch = batch_new(schema, n - at < rows ? n - at : rows);
        for (size_t i = 0; i < batch->rows * COUNT; i++) {
            float index = first + at + i / COUNT;
            index += index == marked ? 0.25f : 0;
            ((float *)batch->data[fields.mean])[i] = index;
            if (with_spread) {
                ((float *)batch->data[fields.std])[i] = index + 0.5f;
                ((float *)batch->data[fields.mean_flip])[i] = -1 - index;
                ((float *)batch->data[fields.std_flip])[i] = -1 - index - 0.5f;
            } else {
                ((int64_t *)batch->data[schema_find(schema, "label")])[i / COUNT] = index + 5;
            }
        }
        good = good && tstream_write(out, batch) == 0;
    }
    if (!out || tstream_finish(out) < 0 || !good) {
        fprintf(stderr, "%s: %s\n", path, error_message());
        exit(1);
    }
    schema_free(schema);
}

static struct latents *open_latents(char **paths, uint64_t memory, uint64_t seed)
{
    return latents_open(paths,
                        &(struct latents_options){.seed = seed, .memory = memory, .threads = 2});
}

// Reads n records, `step` at a time; sets to (n) to the index of each, or -1 - index for a twin.
// False if a record is not as it was written.
static bool read_records(struct latents *l, size_t n, size_t step, double *to)
{
    float mean[64 * COUNT], std[64 * COUNT];
    int64_t labels[64];
    bool has_std = latents_shape(l)->spread;
    for (size_t at = 0; at < n; at += step) {
        size_t want = n - at < step ? n - at : step;
        if (latents_read(l, want, mean, has_std ? std : NULL, labels) != (long)want)
            return false;
        for (size_t i = 0; i < want; i++) {
            double value = to[at + i] = mean[i * COUNT], index = value < 0 ? -1 - value : value;
            double spread_there = value < 0 ? value - 0.5 : value + 0.5;
            for (size_t k = i * COUNT; k < (i + 1) * COUNT; k++)
                if (mean[k] != value || (has_std && std[k] != spread_there))
                    return false;
            if (labels[i] != (has_std ? -1 : index + 5))
                return false;
        }
    }
    return true;
}

static bool each_once(const double *values)
{
    bool seen[N] = {false};
    for (size_t i = 0; i < N; i++) {
        double index = values[i] < 0 ? -1 - values[i] : values[i];
        if (!(index >= 0 && index < N) || seen[(size_t)index])
            return false;
        seen[(size_t)index] = true;
    }
    return true;
}

// The mean distance of records from their places in the files: N/3 for a random order.
static double displacement(const double *values)
{
    double sum = 0;
    for (size_t i = 0; i < N; i++)
        sum += fabs(values[i] - i);
    return sum / N;
}

static void test_order(const char *what, char **paths, uint64_t memory)
{
    static double once[3 * N], again[3 * N], part[N];
    struct latents *l = open_latents(paths, memory, 5);
    if (!ok(l != NULL, "%s: opens", what)) {
        diag("%s", error_message());
        return;
    }
    const struct latents_shape *shape = latents_shape(l);
    ok(shape->channels == C && shape->height == H && shape->width == W && shape->records == N,
       "%s: shape and number of records", what);
    ok(read_records(l, 3 * N, 64, once) && latents_position(l) == 3 * N, "%s: three epochs", what);
    ok(each_once(once) && each_once(once + N) && each_once(once + 2 * N),
       "%s: every record once an epoch", what);
    ok(memcmp(once, once + N, sizeof(part)) && memcmp(once + N, once + 2 * N, sizeof(part)),
       "%s: each epoch in an order of its own", what);
    double distance = displacement(once);
    ok(distance > 0.25 * N && distance < 0.42 * N, "%s: far from the files' order (%.0f)", what,
       distance);

    static const size_t places[] = {2 * N + 1, 17, N, 2 * N - 1, 0, N + 500};
    bool good = true;
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++)
        good = good && latents_seek(l, places[i]) == 0 && latents_position(l) == places[i] &&
               read_records(l, 300, 13, part) &&
               memcmp(part, once + places[i], 300 * sizeof(*part)) == 0;
    ok(good, "%s: seeking to any place gives the same as reading up to it", what);
    latents_close(l);

    l = open_latents(paths, memory, 5);
    ok(read_records(l, 3 * N, 7, again) && memcmp(once, again, sizeof(once)) == 0,
       "%s: the same order from the same seed, however many are read at a time", what);
    latents_close(l);
    l = open_latents(paths, memory, 5);
    ok(latents_seek(l, N + 3) == 0 && read_records(l, 50, 50, part) &&
           memcmp(part, once + N + 3, 50 * sizeof(*part)) == 0,
       "%s: a resumed run reads what an unbroken one does", what);
    latents_close(l);
    l = open_latents(paths, memory, 6);
    ok(read_records(l, N, 64, again) && memcmp(once, again, sizeof(part)),
       "%s: another order from another seed", what);
    latents_close(l);
}

// Three ranks each read their part of every batch of 50 and skip the others' parts; `whole` is what
// a single reader reads.
static void test_skip(const char *what, char **paths, uint64_t memory)
{
    static double whole[2 * N], parts[2 * N];
    const size_t from[] = {0, 13, 40, 50};
    struct latents *l = open_latents(paths, memory, 5);
    bool good = l && read_records(l, 2 * N, 50, whole);
    latents_close(l);
    for (size_t rank = 0; rank < 3 && good; rank++) {
        l = open_latents(paths, memory, 5);
        for (size_t at = 0; at < 2 * N && good; at += 50)
            good = latents_skip(l, from[rank]) == 0 &&
                   read_records(l, from[rank + 1] - from[rank], 64, parts + at + from[rank]) &&
                   latents_skip(l, 50 - from[rank + 1]) == 0 && latents_position(l) == at + 50;
        latents_close(l);
    }
    ok(good && memcmp(whole, parts, sizeof(whole)) == 0,
       "%s: three ranks together read what one reads", what);
    l = open_latents(paths, memory, 5);
    ok(l && latents_skip(l, N + 777) == 0 && latents_position(l) == N + 777 &&
           read_records(l, 100, 64, parts) &&
           memcmp(parts, whole + N + 777, 100 * sizeof(*parts)) == 0,
       "%s: more than an epoch can be skipped", what);
    latents_close(l);
}

static void test_cache(void)
{
    static double large[2 * N], kept[2 * N];
    char *paths[] = {part_a, part_b, NULL};
    struct latents_options options = {.seed = 5, .memory = 1, .cache = true, .threads = 1};
    struct latents *l = open_latents(paths, 1 << 20, 5), *cache = latents_open(paths, &options);
    ok(l && cache && read_records(l, 2 * N, 64, large) && read_records(cache, 2 * N, 64, kept) &&
           memcmp(large, kept, sizeof(kept)) == 0,
       "cache: the order does not depend on the memory");
    ok(latents_memory(cache) > N * COUNT * sizeof(float) && latents_memory(cache) < 3 << 20,
       "cache: the memory that it takes is reported (%llu kB)",
       (unsigned long long)latents_memory(cache) >> 10);
    latents_close(l);
    latents_close(cache);
    l = open_latents(paths, 200000, 5);
    ok(l && latents_memory(l) < 200000 + 3 * ((size_t)512 << 10),
       "the memory that reading takes is reported if the data does not fit (%llu kB)",
       (unsigned long long)latents_memory(l) >> 10);
    latents_close(l);
}

static uint64_t memory_total(void)
{
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

// A stream of zeros that is larger than the machine's memory, made by repeating a segment.
static void test_cache_too_large(void)
{
    const size_t shape[3] = {4, 1024, 1024}, rows = 15; // of 16 MiB each
    struct latent_fields fields;
    struct schema *schema = schema_new("latents");
    latent_fields_add(schema, false, false, DTYPE_F32, shape, &fields);
    char path[80], *paths[] = {path, NULL};
    snprintf(path, sizeof(path), "%s/zeros", folder);
    struct tstream_writer *out = tstream_create(output_open(path), schema, 1, 1);
    struct batch *batch = batch_new(schema, rows);
    memset(batch->data[0], 0, rows * schema->fields[0].size);
    tstream_write(out, batch);
    tstream_finish(out);
    uint8_t *segment;
    size_t size;
    bool good = file_read_all(path, &segment, &size, 1 << 20) == 0;
    FILE *file = fopen(path, "ae");
    for (uint64_t i = 0; good && i <= memory_total() / (rows * schema->fields[0].size); i++)
        good = fwrite(segment, 1, size, file) == size;
    fclose(file);
    free(segment);
    schema_free(schema);
    struct latents *l = latents_open(paths, &(struct latents_options){.cache = true, .threads = 1});
    ok(good && !l && error_status() == STATUS_USAGE && strstr(error_message(), "GiB"),
       "cache: too little memory is an error at opening");
    diag("%s", error_message());
    latents_close(l);
    unlink(path);
}

static uint64_t fingerprint_of(char **paths)
{
    struct latents *l = open_latents(paths, 1 << 20, 1);
    uint64_t fingerprint = l ? latents_fingerprint(l) : 0;
    latents_close(l);
    return fingerprint;
}

static void test_fingerprint(void)
{
    char again[80], *both[] = {part_a, part_b, NULL}, *swapped[] = {part_b, part_a, NULL};
    snprintf(again, sizeof(again), "%s/again", folder);
    uint64_t fingerprint = fingerprint_of((char *[]){all, NULL});
    ok(fingerprint && fingerprint != fingerprint_of(both), "other data has another fingerprint");
    ok(fingerprint_of(both) != fingerprint_of(swapped),
       "files in another order have another fingerprint");
    level = 9;
    write_stream(again, 0, N, 9, false);
    ok(fingerprint_of((char *[]){again, NULL}) == fingerprint,
       "another level of compression does not change the fingerprint");
    level = 1;
    marked = 700;
    write_stream(again, 0, N, 9, false);
    marked = -1;
    ok(fingerprint_of((char *[]){again, NULL}) != fingerprint,
       "a changed record changes the fingerprint");

    struct latents *l = open_latents(both, 1, 1), *other = open_latents(swapped, 1, 1);
    json_t *list = latents_describe(l);
    char *text = json_dumps(list, 0);
    ok(json_array_size(list) == 2 && latents_compare(l, text) == 0,
       "files equal their own description");
    diag("%s", text);
    ok(latents_compare(other, text) < 0 && error_status() == STATUS_DATA &&
           strstr(error_message(), "another order: 2.tstream comes where 1.tstream was"),
       "files in another order differ from a description: %s", error_message());
    free(text);
    json_decref(list);
    latents_close(l);
    latents_close(other);
}

static void test_flips(void)
{
    static double epochs[2 * N];
    char *paths[] = {spread, NULL};
    struct latents *l = open_latents(paths, 1 << 20, 5);
    ok(l && latents_shape(l)->spread && latents_shape(l)->flips,
       "standard deviations and mirrored latents are found");
    ok(l && read_records(l, 2 * N, 64, epochs) && each_once(epochs) && each_once(epochs + N),
       "each record is read as itself or mirrored, with the matching std, and label -1");
    int8_t flipped[N] = {0};
    size_t flips = 0, changed = 0;
    for (size_t i = 0; i < 2 * N; i++) {
        size_t index = epochs[i] < 0 ? -1 - epochs[i] : epochs[i];
        flips += epochs[i] < 0;
        if (i < N)
            flipped[index] = epochs[i] < 0;
        else
            changed += flipped[index] != (epochs[i] < 0);
    }
    ok(flips > 0.45 * 2 * N && flips < 0.55 * 2 * N, "half of the records are mirrored (%zu)",
       flips);
    ok(changed > 0.42 * N && changed < 0.58 * N,
       "each epoch draws anew which records are mirrored (%zu)", changed);
    latents_close(l);
}

// Makes standard input a pipe with the contents of `path`.
static void feed(const char *path)
{
    char command[128];
    snprintf(command, sizeof(command), "cat %s", path);
    FILE *from = popen(command, "r"); // stays open to the end
    dup2(fileno(from), STDIN_FILENO);
}

static void test_pipe(void)
{
    static double values[2 * N], file[2 * N];
    struct latents_options options = {.seed = 5, .memory = 200000, .one_pass = true, .threads = 2};
    feed(all);
    struct latents *l = latents_open(NULL, &options);
    ok(l && latents_shape(l)->records == 0,
       "one pass of a pipe: the number of records is not known");
    ok(read_records(l, N, 64, values) && each_once(values), "one pass: every record once");
    ok(displacement(values) > 20, "one pass: shuffled within 100 kB");
    float latent[COUNT];
    int64_t label;
    ok(latents_read(l, 1, latent, NULL, &label) == 0 &&
           latents_read(l, 1, latent, NULL, &label) == 0,
       "one pass: nothing follows the last record");
    ok(latents_skip(l, 1) == 0 && latents_position(l) == N, "one pass: nothing is left to skip");
    ok(latents_seek(l, N) == 0 && latents_seek(l, 0) < 0 && error_status() == STATUS_DATA,
       "one pass: seeking back is an error");
    diag("%s", error_message());
    latents_close(l);

    static double skipped[N];
    feed(all);
    l = latents_open(NULL, &options);
    ok(latents_skip(l, 300) == 0 && read_records(l, 400, 64, skipped) &&
           memcmp(skipped, values + 300, 400 * sizeof(*values)) == 0,
       "one pass: records can be skipped");
    ok(latents_skip(l, 1000) == 0 && latents_position(l) == N,
       "one pass: skipping stops at the end");
    json_t *list = latents_describe(l);
    ok(latents_fingerprint(l) == 0 && json_array_size(list) == 0 && latents_compare(l, "[]") == 0,
       "one pass: there is no fingerprint and no list of files");
    json_decref(list);
    latents_close(l);
    options.cache = true;
    feed(all);
    l = latents_open(NULL, &options);
    ok(l && latents_shape(l)->records == N && read_records(l, N, 64, skipped) &&
           displacement(skipped) > 0.25 * N,
       "cache: one pass of a pipe is shuffled as a whole");
    latents_close(l);
    options.cache = false;
    options.one_pass = false;
    feed(all);
    l = latents_open(NULL, &options);
    char *paths[] = {all, NULL};
    struct latents *direct = latents_open(paths, &options);
    ok(l && direct && read_records(l, 2 * N, 64, values) && read_records(direct, 2 * N, 64, file) &&
           memcmp(values, file, sizeof(file)) == 0,
       "several passes of a pipe give the records of the file");
    ok(latents_fingerprint(l) == latents_fingerprint(direct),
       "several passes of a pipe give the file's fingerprint");
    latents_close(l);

    int fd = open(all, O_RDONLY);
    dup2(fd, STDIN_FILENO);
    close(fd);
    l = latents_open(NULL, &options);
    ok(l && latents_shape(l)->records == N && latents_seek(l, N) == 0 &&
           read_records(l, N, 64, values) && memcmp(values, file + N, sizeof(file) / 2) == 0,
       "standard input that is a file is read as one");
    latents_close(l);
    latents_close(direct);
}

static void refuses(const char *what, char **paths, enum status status, const char *text)
{
    struct latents *l = open_latents(paths, 1 << 20, 5);
    ok(!l && error_status() == status && strstr(error_message(), text), "%s: status %d", what,
       status);
    diag("%s", error_message());
    latents_close(l);
}

static void write_zeros(const char *path, const char *name, const size_t shape[3])
{
    struct schema *schema = schema_new("images");
    schema_add(schema, name, DTYPE_U8, shape, 3);
    struct tstream_writer *out = tstream_create(output_open(path), schema, 1, 1);
    struct batch *batch = batch_new(schema, 2);
    memset(batch->data[0], 0, 2 * schema->fields[0].size);
    tstream_write(out, batch);
    tstream_finish(out);
    schema_free(schema);
}

static void test_errors(void)
{
    char other[80];
    refuses("a missing file", (char *[]){"/nonexistent", NULL}, STATUS_NO_INPUT, "/nonexistent");
    refuses("no records", (char *[]){empty, NULL}, STATUS_DATA, "no records");
    refuses("files that differ", (char *[]){all, spread, NULL}, STATUS_DATA, spread);
    snprintf(other, sizeof(other), "%s/other", folder);
    write_zeros(other, "image", (const size_t[3]){8, 8, 3});
    refuses("images", (char *[]){other, NULL}, STATUS_DATA, "latent_mean");
    write_zeros(other, "latent", (const size_t[3]){1, 8, 8});
    refuses("latents of U8", (char *[]){other, NULL}, STATUS_DATA, "found U8");
    write_zeros(other, "latent_mean", (const size_t[3]){1, 8, 8});
    refuses("a mean of U8", (char *[]){other, NULL}, STATUS_DATA, "found U8");

    // Files without their tail, and without a piece of the middle.
    char command[256], cut[80];
    snprintf(cut, sizeof(cut), "%s/cut", folder);
    snprintf(command, sizeof(command), "head -c 20000 %s >%s", all, cut);
    ok(system(command) == 0, "a file is cut short");
    refuses("a file cut short", (char *[]){cut, NULL}, STATUS_DATA, "cut short within the frame");
    snprintf(command, sizeof(command), "{ head -c 10000 %s; tail -c +14001 %s; } >%s", all, all,
             cut);
    ok(system(command) == 0, "a file loses its middle");
    refuses("a file without its middle", (char *[]){cut, NULL}, STATUS_DATA, cut);
    refuses("a cut file among others", (char *[]){part_a, cut, NULL}, STATUS_DATA, cut);

    // A file that is damaged after it was opened.
    struct latents *l = open_latents((char *[]){part_b, NULL}, 1 << 20, 5);
    int fd = open(part_b, O_WRONLY);
    struct stat st;
    bool good = l && fd >= 0 && fstat(fd, &st) == 0;
    char zeros[100] = {0};
    good = good && pwrite(fd, zeros, sizeof(zeros), st.st_size / 2) == sizeof(zeros);
    double values[N];
    ok(good && !read_records(l, latents_shape(l)->records, 64, values) &&
           error_status() == STATUS_DATA && strstr(error_message(), part_b),
       "a damaged frame is an error that names the file");
    diag("%s", error_message());
    close(fd);
    latents_close(l);
}

int main(void)
{
    if (!mkdtemp(folder))
        return 1;
    char *const names[] = {all, part_a, part_b, spread, empty};
    for (size_t i = 0; i < 5; i++)
        snprintf(names[i], sizeof(all), "%s/%zu.tstream", folder, i);
    write_stream(all, 0, N, 9, false);
    write_stream(part_a, 0, 300, 7, false);
    write_stream(part_b, 300, N - 300, 20, false);
    write_stream(spread, 0, N, 16, true);
    write_stream(empty, 0, 0, 1, false);

    test_order("kept in memory", (char *[]){all, NULL}, 1 << 20);
    test_order("in 200 kB", (char *[]){all, NULL}, 200000);
    test_order("frame by frame", (char *[]){all, NULL}, 1);
    test_order("two files", (char *[]){part_a, part_b, NULL}, 1 << 20);
    test_order("two files in 200 kB", (char *[]){part_a, part_b, NULL}, 200000);
    test_skip("kept in memory", (char *[]){all, NULL}, 1 << 20);
    test_skip("two files in 200 kB", (char *[]){part_a, part_b, NULL}, 200000);
    test_cache();
    test_cache_too_large();
    test_fingerprint();
    test_flips();
    test_pipe();
    test_errors();
    char command[64];
    snprintf(command, sizeof(command), "rm -r %s", folder);
    ok(system(command) == 0, "the folder is removed");
    return tap_done();
}
