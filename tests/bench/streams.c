// streams [STREAM]...: measures the speed of writing and reading streams at several levels, in raw
// bytes per second of processor time, which is GB/s per core. It takes the records of the given
// streams; without any, it makes some up.
// SPDX-License-Identifier: MIT
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "formats/tstream/tstream.h"
#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"
#include "lib/base/tensor.h"

static void check(bool good)
{
    if (good)
        return;
    fprintf(stderr, "streams: %s\n", error_message());
    exit(1);
}

// Like a photograph: slow changes, edges, and a little noise.
static void draw(uint8_t *image, uint64_t number)
{
    const struct rng rng = {.purpose = RNG_TEST, .sample = number};
    double phase = rng_uniform(&rng, 0), edge = 256 * rng_uniform(&rng, 1);
    for (size_t i = 0; i < 256 * 256 * 3; i++) {
        double y = (double)(i / 768), x = (double)(i / 3 % 256);
        double value = 128 + 60 * sin(x / 40 + phase) + 40 * cos(y / 25 + (double)(i % 3));
        value += (x + y / 3 > edge ? 20 : -20) + 2 * rng_normal(&rng, i + 8);
        image[i] = (uint8_t)fmin(fmax(value, 0), 255);
    }
}

static void draw_latent(uint8_t *latent, uint64_t number)
{
    const struct rng rng = {.purpose = RNG_TEST, .sample = number};
    for (size_t i = 0; i < 4 * 32 * 32; i++) {
        uint16_t bits = f16_from_f32((float)rng_normal(&rng, i));
        memcpy(latent + 2 * i, &bits, 2);
    }
}

#define SIZE_MIN   ((size_t)96 << 20) // raw bytes of each measurement, at least
#define SIZE_TAKEN ((size_t)48 << 20) // raw bytes that are read of a given stream
#define ROUNDS     3

struct data {
    const char *name;
    struct schema *schema;
    struct batch **batches;
    size_t n, repeats; // each batch is written `repeats` times
    double size;       // raw bytes of the batches, each counted once
};

static void data_add(struct data *data, struct batch *batch)
{
    check(mem_grow(&data->batches, data->n, 1, sizeof *data->batches) == 0);
    data->batches[data->n++] = batch;
    data->size += (double)(batch->rows * schema_record_size(data->schema));
}

static void produce(const struct data *data, struct output *output, int level)
{
    check(output);
    struct tstream_writer *writer = tstream_create(output, data->schema, 1, level);
    check(writer);
    for (size_t i = 0; i < data->n * data->repeats; i++) {
        const struct batch *from = data->batches[i % data->n];
        struct batch *batch = batch_new(data->schema, from->rows);
        check(batch);
        for (size_t k = 0; k < data->schema->n_fields; k++)
            memcpy(batch->data[k], from->data[k], from->rows * data->schema->fields[k].size);
        check(tstream_write(writer, batch) >= 0);
    }
    check(tstream_finish(writer) >= 0);
}

static uint64_t consume(const char *path)
{
    struct tstream_reader *reader = tstream_open(path, 1);
    check(reader);
    struct batch *batch;
    int rc;
    while ((rc = tstream_read(reader, &batch)) > 0)
        batch_free(batch);
    check(rc >= 0);
    uint64_t size = tstream_totals(reader)->size;
    tstream_close(reader);
    return size;
}

static double seconds(const struct timeval *t)
{
    return (double)t->tv_sec + 1e-6 * (double)t->tv_usec;
}

// One process writes into a pipe, another reads it: elapsed time, and the processor time of both.
static void through_pipe(const struct data *data, int level, double *wall, double *processor)
{
    int fds[2];
    char path[32];
    double start = clock_seconds(), busy = processor_seconds();
    check(pipe(fds) >= 0);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        close(fds[0]);
        snprintf(path, sizeof path, "/dev/fd/%d", fds[1]);
        produce(data, output_open(path), level);
        _exit(0);
    }
    close(fds[1]);
    snprintf(path, sizeof path, "/dev/fd/%d", fds[0]);
    consume(path);
    close(fds[0]);
    struct rusage usage;
    wait4(child, NULL, 0, &usage);
    *wall = clock_seconds() - start;
    *processor = processor_seconds() - busy + seconds(&usage.ru_utime) + seconds(&usage.ru_stime);
}

static void keep_least(double *least, double value)
{
    *least = value < *least ? value : *least;
}

static void measure(const struct data *data, int level, const char *path)
{
    double writing = INFINITY, reading = INFINITY, wall = INFINITY, both = INFINITY, size = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double start = processor_seconds(), pipe_wall, pipe_both;
        produce(data, output_open("/dev/null"), level);
        keep_least(&writing, processor_seconds() - start);
        if (!round)
            produce(data, output_open(path), level);
        start = processor_seconds();
        size = (double)consume(path);
        keep_least(&reading, processor_seconds() - start);
        through_pipe(data, level, &pipe_wall, &pipe_both);
        keep_least(&wall, pipe_wall);
        keep_least(&both, pipe_both);
    }
    double raw = data->size * (double)data->repeats;
    printf("%-28.28s %5d %8.2f %8.2f %8.2f %8.2f %8.3f\n", data->name, level, raw / writing / 1e9,
           raw / reading / 1e9, raw / both / 1e9, raw / wall / 1e9, raw / size);
}

static void run(struct data *data, const char *path)
{
    data->repeats = (size_t)((double)SIZE_MIN / data->size) + 1;
    static const int levels[] = {-512, 1, 3};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        measure(data, levels[i], path);
    for (size_t i = 0; i < data->n; i++)
        batch_free(data->batches[i]);
    free(data->batches);
    schema_free(data->schema);
}

static void run_drawn(const char *name, const char *kind, enum dtype dtype, const size_t shape[3],
                      void (*fill)(uint8_t *sample, uint64_t number), const char *path)
{
    struct data data = {.name = name, .schema = schema_new(kind)};
    check(schema_add(data.schema, "sample", dtype, shape, 3) >= 0);
    struct batch *batch = batch_new(data.schema, schema_rows_aim(data.schema));
    check(batch);
    for (uint64_t i = 0; i < batch->rows; i++)
        fill(batch->data[0] + i * data.schema->fields[0].size, i);
    data_add(&data, batch);
    run(&data, path);
}

static void run_stream(const char *name, const char *path)
{
    struct tstream_reader *reader = tstream_open(name, 1);
    check(reader);
    struct data data = {.name = name, .schema = schema_copy(tstream_schema(reader))};
    struct batch *batch;
    int rc = 1;
    while (data.size < (double)SIZE_TAKEN && (rc = tstream_read(reader, &batch)) > 0)
        data_add(&data, batch);
    check(rc >= 0 && data.n);
    tstream_close(reader);
    run(&data, path);
}

int main(int argc, char **argv)
{
    char path[] = "/tmp/streams-XXXXXX";
    mem_keep_freed(); // as the programs do
    check(mkstemp(path) >= 0);
    printf("streams: GB/s of raw data per core; piped: a writing and a reading process together;\n"
           "wall: the same by elapsed time\n");
    printf("%-28s %5s %8s %8s %8s %8s %8s\n", "", "level", "write", "read", "piped", "wall",
           "ratio");
    for (int i = 1; i < argc; i++)
        run_stream(argv[i], path);
    if (argc == 1) {
        run_drawn("images U8 [256, 256, 3]", "images", DTYPE_U8, (size_t[]){256, 256, 3}, draw,
                  path);
        run_drawn("latents F16 [4, 32, 32]", "latents", DTYPE_F16, (size_t[]){4, 32, 32},
                  draw_latent, path);
    }
    unlink(path);
    return 0;
}
