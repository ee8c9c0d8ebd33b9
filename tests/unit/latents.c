// The training reader: every record once an epoch, in an order that follows from the seed.
// SPDX-License-Identifier: MIT
#include "formats/latents.h"

#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/latent-fields.h"
#include "lib/error.h"
#include "tests/tap.h"

// Latents of 2x2x3 float32 that hold the record's index; its twin's holds -1 - index.
enum { C = 2, H = 2, W = 3, COUNT = C * H * W, N = 1000 };

static char folder[] = "/tmp/latents-XXXXXX";
static char all[64], part_a[64], part_b[64], spread[64], empty[64];

static void write_stream(const char *path, size_t first, size_t n, size_t rows, bool with_spread)
{
    struct schema *schema = schema_new("latents");
    struct latent_fields fields;
    bool good = (with_spread || schema_add(schema, "label", DTYPE_I64, NULL, 0) == 0) &&
                latent_fields_add(schema, with_spread, with_spread, DTYPE_F32,
                                  (const size_t[3]){C, H, W}, &fields) == 0;
    struct output *output = output_open(path);
    struct tstream_writer *out = good && output ? tstream_create(output, schema, 2, 1) : NULL;
    for (size_t at = 0; out && at < n; at += rows) {
        struct batch *batch = batch_new(schema, n - at < rows ? n - at : rows);
        for (size_t i = 0; i < batch->rows * COUNT; i++) {
            float index = first + at + i / COUNT;
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
    if (!out || tstream_finish(out) || !good) {
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

// Reads n records, `step` at a time; the index of each, or -1 - index for a twin. False if a
// record is not whole.
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

// How far records are from where they were, on average: N/3 for a random order.
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
    ok(good, "%s: from any place as in reading to it", what);
    latents_close(l);

    l = open_latents(paths, memory, 5);
    ok(read_records(l, 3 * N, 7, again) && memcmp(once, again, sizeof(once)) == 0,
       "%s: the same from the same seed, whatever is read at a time", what);
    latents_close(l);
    l = open_latents(paths, memory, 5);
    ok(latents_seek(l, N + 3) == 0 && read_records(l, 50, 50, part) &&
           memcmp(part, once + N + 3, 50 * sizeof(*part)) == 0,
       "%s: a resumed run reads on as the unbroken one", what);
    latents_close(l);
    l = open_latents(paths, memory, 6);
    ok(read_records(l, N, 64, again) && memcmp(once, again, sizeof(part)),
       "%s: another order from another seed", what);
    latents_close(l);
}

static void test_flips(void)
{
    static double epochs[2 * N];
    char *paths[] = {spread, NULL};
    struct latents *l = open_latents(paths, 1 << 20, 5);
    ok(l && latents_shape(l)->spread && latents_shape(l)->flips, "spread and twins are found");
    ok(l && read_records(l, 2 * N, 64, epochs) && each_once(epochs) && each_once(epochs + N),
       "of each record the image or its twin comes, with its own std, and label -1");
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
    ok(flips > 0.45 * 2 * N && flips < 0.55 * 2 * N, "half of them are twins (%zu)", flips);
    ok(changed > 0.42 * N && changed < 0.58 * N, "each epoch draws anew (%zu)", changed);
    latents_close(l);
}

// Puts a pipe that is fed with `path` in the place of standard input.
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
    struct latents_options options = {.seed = 5, .memory = 20000, .one_pass = true, .threads = 2};
    feed(all);
    struct latents *l = latents_open(NULL, &options);
    ok(l && latents_shape(l)->records == 0, "one pass of a pipe: its length is not known");
    ok(read_records(l, N, 64, values) && each_once(values), "one pass: every record once");
    ok(displacement(values) > 20, "one pass: shuffled within 10 kB");
    float latent[COUNT];
    int64_t label;
    ok(latents_read(l, 1, latent, NULL, &label) == 0 &&
           latents_read(l, 1, latent, NULL, &label) == 0,
       "one pass: then it is over");
    ok(latents_seek(l, N) == 0 && latents_seek(l, 0) < 0 && error_status() == STATUS_DATA,
       "one pass: there is no way back");
    diag("%s", error_message());
    latents_close(l);

    options.one_pass = false;
    feed(all);
    l = latents_open(NULL, &options);
    char *paths[] = {all, NULL};
    struct latents *direct = latents_open(paths, &options);
    ok(l && direct && read_records(l, 2 * N, 64, values) && read_records(direct, 2 * N, 64, file) &&
           memcmp(values, file, sizeof(file)) == 0,
       "more passes of a pipe: as from a file");
    ok(latents_fingerprint(l) == latents_fingerprint(direct), "with the file's fingerprint");
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
    test_order("in 20 kB", (char *[]){all, NULL}, 20000);
    test_order("frame by frame", (char *[]){all, NULL}, 1);
    test_order("two files", (char *[]){part_a, part_b, NULL}, 1 << 20);
    test_order("two files in 20 kB", (char *[]){part_a, part_b, NULL}, 20000);
    struct latents *a = open_latents((char *[]){all, NULL}, 1, 1);
    struct latents *b = open_latents((char *[]){part_a, part_b, NULL}, 1, 1);
    ok(a && b && latents_fingerprint(a) && latents_fingerprint(a) != latents_fingerprint(b),
       "other data has another fingerprint");
    latents_close(a);
    latents_close(b);
    test_flips();
    test_pipe();
    test_errors();
    char command[64];
    snprintf(command, sizeof(command), "rm -r %s", folder);
    ok(system(command) == 0, "the folder goes");
    return tap_done();
}
