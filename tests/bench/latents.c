// Measures the reader of latents that training uses. SPDX-License-Identifier: MIT
//     latents                        measures records of 32 KB, float16 and float32, in /tmp
//     latents write N CHANNELS SIDE  writes N float16 records to standard output, labelled 0 .. N-1
//     latents read MEMORY EPOCHS FILE...  measures the files; writes the labels, as int64 in the
//     order
//                                         in which they are read, to standard output
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "formats/latents/latent-fields.h"
#include "formats/latents/latents.h"
#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"
#include "lib/tool/tool.h"

enum { BATCH = 256 };

static void check(bool good)
{
    if (good)
        return;
    fprintf(stderr, "latents: %s\n", error_message());
    exit(1);
}

// Normally distributed numbers, times scale; so many that zstd finds no repeats.
static uint8_t *make_values(enum dtype dtype, size_t n, float scale)
{
    uint8_t *values = mem_new(n, dtype_size(dtype));
    check(values);
    for (size_t i = 0; i < n; i++) {
        float value = scale * (float)rng_normal(&(struct rng){.purpose = RNG_TEST}, i);
        floats_write(values + i * dtype_size(dtype), dtype, &value, 1);
    }
    return values;
}

static void write_stream(const char *path, enum dtype dtype, size_t n, const size_t shape[3],
                         int level)
{
    struct schema *schema = schema_new("latents");
    struct latent_fields fields;
    check(schema && schema_add(schema, "label", DTYPE_I64, NULL, 0) >= 0 &&
          latent_fields_add(schema, true, false, dtype, shape, &fields) >= 0);
    struct output *output = output_open(path);
    struct tstream_writer *out = output ? tstream_create(output, schema, 2, level) : NULL;
    check(out);
    const int label = schema_find(schema, "label"), which[] = {fields.mean, fields.std};
    size_t size = schema->fields[fields.mean].size, rows = schema_rows_aim(schema);
    size_t period = ((size_t)16 << 20) / dtype_size(dtype);
    uint8_t *values[] = {make_values(dtype, period, 1), make_values(dtype, period, 0.03f)};
    for (size_t at = 0; at < n; at += rows) {
        struct batch *batch = batch_new(schema, n - at < rows ? n - at : rows);
        check(batch);
        for (size_t i = 0; i < batch->rows; i++) {
            size_t from = (at + i) * size % (period * dtype_size(dtype) - size + 1);
            for (size_t k = 0; k < 2; k++)
                memcpy(batch->data[which[k]] + i * size, values[k] + from, size);
            memcpy(batch->data[label] + i * 8, &(int64_t){(int64_t)(at + i)}, 8);
        }
        check(tstream_write(out, batch) >= 0);
    }
    check(tstream_finish(out) >= 0);
    free(values[0]);
    free(values[1]);
    schema_free(schema);
}

static void read_epochs(char **paths, uint64_t memory, size_t epochs, const char *what, FILE *order)
{
    struct latents *l =
        latents_open(paths, &(struct latents_options){.seed = 1, .memory = memory, .threads = 2});
    check(l);
    const struct latents_shape *shape = latents_shape(l);
    size_t n = BATCH * shape->channels * shape->height * shape->width;
    float *mean = mem_new(n, sizeof *mean), *std = mem_new(n, sizeof *std);
    int64_t labels[BATCH];
    check(mean && std);
    for (size_t epoch = 0; epoch < epochs; epoch++) {
        double wall = clock_seconds(), processor = processor_seconds();
        for (uint64_t left = shape->records; left;) {
            size_t want = left < BATCH ? left : BATCH;
            check(latents_read(l, want, mean, std, labels) == (long)want);
            if (order)
                check(fwrite(labels, sizeof *labels, want, order) == want);
            left -= want;
        }
        wall = clock_seconds() - wall;
        fprintf(stderr, "%-36s epoch %zu: %8.0f records/s, %.2f processors\n", what, epoch,
                (double)shape->records / wall, (processor_seconds() - processor) / wall);
    }
    if (order) { // the only reader of this process, whose peak memory is its own
        struct rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        fprintf(stderr, "%-36s holds at most %.0f MiB; peak of the process %.0f MiB\n", what,
                (double)latents_memory(l) / (1 << 20), (double)usage.ru_maxrss / 1024);
    }
    latents_close(l);
    free(mean);
    free(std);
}

static void measure(const char *what, enum dtype dtype, const size_t shape[3], int level)
{
    char path[] = "/tmp/latents-XXXXXX", *paths[] = {path, NULL}, text[64];
    check(mkstemp(path) >= 0);
    write_stream(path, dtype, 24000, shape, level);
    snprintf(text, sizeof text, "%s, level %d", what, level);
    read_epochs(paths, (uint64_t)256 << 20, 3, text, NULL);
    unlink(path);
}

int main(int argc, char **argv)
{
    mem_keep_freed(); // as the programs do
    if (argc == 5 && !strcmp(argv[1], "write")) {
        size_t side = strtoul(argv[4], NULL, 10), channels = strtoul(argv[3], NULL, 10);
        write_stream(NULL, DTYPE_F16, strtoul(argv[2], NULL, 10), (size_t[]){channels, side, side},
                     -1);
    } else if (argc > 4 && !strcmp(argv[1], "read")) {
        read_epochs(argv + 4, strtoull(argv[2], NULL, 10), strtoul(argv[3], NULL, 10), "", stdout);
    } else if (argc == 1) {
        for (int level = -1; level <= 1; level += 2) {
            measure("F16 [8, 32, 32] twice", DTYPE_F16, (size_t[]){8, 32, 32}, level);
            measure("F32 [4, 32, 32] twice", DTYPE_F32, (size_t[]){4, 32, 32}, level);
        }
    } else {
        fprintf(stderr, "usage: latents [write N CHANNELS SIDE | read MEMORY EPOCHS FILE...]\n");
        return 64;
    }
    return 0;
}
