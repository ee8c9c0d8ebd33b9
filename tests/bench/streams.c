// Speed of streams: raw bytes over the processor time of all threads together, so GB/s per core.
// SPDX-License-Identifier: MIT
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "formats/tstream.h"
#include "lib/error.h"
#include "lib/mem.h"
#include "lib/rng.h"
#include "lib/tensor.h"

static double seconds(const struct timeval *t)
{
    return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

static double processor_time(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return seconds(&usage.ru_utime) + seconds(&usage.ru_stime);
}

static double wall_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

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

struct data {
    const char *name;
    struct schema *schema;
    uint8_t *samples;
    size_t rows, sample_size, batches; // a frame holds all samples
};

static void produce(const struct data *data, struct output *output, int level)
{
    check(output);
    struct tstream_writer *writer = tstream_create(output, data->schema, 1, level);
    check(writer);
    for (size_t i = 0; i < data->batches; i++) {
        struct batch *batch = batch_new(data->schema, data->rows);
        check(batch);
        memcpy(batch->data[0], data->samples, data->rows * data->sample_size);
        check(!tstream_write(writer, batch));
    }
    check(!tstream_finish(writer));
}

static uint64_t consume(const char *path)
{
    struct tstream_reader *reader = tstream_open(path, 1);
    check(reader);
    struct batch *batch;
    int rc;
    while ((rc = tstream_read(reader, &batch)) > 0)
        batch_free(batch);
    check(!rc);
    uint64_t size = tstream_totals(reader)->size;
    tstream_close(reader);
    return size;
}

// One process writes, one reads; the time of both, by the wall.
static double through_pipe(const struct data *data, int level)
{
    int fds[2];
    char path[32];
    double start = wall_time();
    check(!pipe(fds));
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
    waitpid(child, NULL, 0);
    return wall_time() - start;
}

static void measure(const struct data *data, int level, const char *path)
{
    double raw = (double)(data->batches * data->rows * data->sample_size) / 1e9;
    double start = processor_time();
    produce(data, output_open("/dev/null"), level);
    double write_time = processor_time() - start;
    produce(data, output_open(path), level);
    start = processor_time();
    uint64_t size = consume(path);
    double read_time = processor_time() - start;
    double pipe_time = through_pipe(data, level);
    printf("%-28s %5d %8.2f %8.2f %8.2f %8.3f\n", data->name, level, raw / write_time,
           raw / read_time, raw / pipe_time, raw * 1e9 / (double)size);
}

static void run(struct data *data, void (*fill)(uint8_t *sample, uint64_t number), const char *path)
{
    data->sample_size = schema_record_size(data->schema);
    data->rows = schema_rows_aim(data->schema);
    data->samples = malloc(data->rows * data->sample_size);
    check(data->samples);
    data->batches = ((size_t)400 << 20) / TSTREAM_FRAME_AIM;
    for (uint64_t i = 0; i < data->rows; i++)
        fill(data->samples + i * data->sample_size, i);
    static const int levels[] = {-1, 1, 3};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        measure(data, levels[i], path);
    free(data->samples);
    schema_free(data->schema);
}

int main(void)
{
    char path[] = "/tmp/streams-XXXXXX";
    mem_keep_freed(); // as programs do
    check(mkstemp(path) >= 0);
    printf("streams: GB/s of raw data per core; through a pipe: by the wall, two processes\n");
    printf("%-28s %5s %8s %8s %8s %8s\n", "", "level", "write", "read", "pipe", "ratio");
    struct data images = {.name = "images U8 [256, 256, 3]", .schema = schema_new("images")};
    schema_add(images.schema, "image", DTYPE_U8, (size_t[]){256, 256, 3}, 3);
    run(&images, draw, path);
    struct data latents = {.name = "latents F16 [4, 32, 32]", .schema = schema_new("latents")};
    schema_add(latents.schema, "latent", DTYPE_F16, (size_t[]){4, 32, 32}, 3);
    run(&latents, draw_latent, path);
    unlink(path);
    return 0;
}
