// The harness of tests/ops: runs every operation on the device under test and on ref, with the same
// inputs, and compares; or measures it. check.h says how a test is written.
// SPDX-License-Identifier: MIT
#include "tests/ops/check.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"
#include "lib/base/tensor.h"
#include "lib/tool/tool.h"
#include "tests/tap.h"

#define GUARD          ((size_t)256) // bytes before and behind every buffer
#define POISON         0xFF          // NaN in every floating type
#define BUFFERS_MAX    20
#define COMPLAINTS_MAX 5     // lines printed about each failing test
#define BENCH_SECONDS  0.3   // the duration of a measurement
#define ROUND_SECONDS  0.02  // the duration of the runs that a GPU gets without a wait between them
#define PERIOD         99991 // elements after which contents repeat in a measurement

struct buffer {
    enum use use;
    enum type type;
    size_t n, size;                // elements; bytes without the guards
    unsigned char *memory;         // of the device, with the guards
    unsigned char *before, *after; // copies on the host, with the guards
};

// The buffers that one run of a body made.
struct trace {
    struct buffer buffers[BUFFERS_MAX];
    size_t n;
};

struct session {
    struct device *ref, *tested;
    struct device *otherwise; // `tested` with another number of threads; NULL if it is a GPU
    uint64_t seed;
    bool bench;
    size_t case_number;
    char case_name[160];
    // The body in progress:
    struct trace *trace;
    bool ran; // it has reached RUN
    // The test in progress:
    const char *name;
    size_t cases, failures;
    double worst; // the largest relative error
    // The timing in progress, in rounds of several runs, each round timed as a whole:
    bool timed;
    size_t rounds, round_runs,
        runs_left; // rounds begun; of this one: runs, and those still to come
    double started, round_started, best;
    double copy_rate, peak_flops; // of the device, per second: bytes read and written, operations
};

__attribute__((format(printf, 2, 3))) static void complain(struct session *s, const char *format,
                                                           ...)
{
    if (++s->failures > COMPLAINTS_MAX)
        return;
    va_list ap;
    va_start(ap, format);
    printf("# %s, seed %" PRIu64 ": ", s->case_name, s->seed);
    vprintf(format, ap);
    putchar('\n');
    va_end(ap);
}

static void *need(void *memory)
{
    if (!memory)
        tool_fail();
    return memory;
}

void check_begin(struct check *check)
{
    struct session *s = check->session;
    s->ran = true;
    s->rounds = s->runs_left = 0;
    s->best = INFINITY;
    s->started = clock_seconds();
}

// Ends a round of runs and chooses the length of the next: on a GPU long enough that the wait at
// its end is negligible.
static void end_round(struct check *check)
{
    struct session *s = check->session;
    const char *error = device_error(check->device); // waits
    if (error) {
        complain(s, "%s", error);
        check->device->error[0] = '\0';
    }
    s->best = fmin(s->best, (clock_seconds() - s->round_started) / (double)s->round_runs);
    if (check->device->backend->wait)
        s->round_runs = (size_t)fmax(1, fmin(1000, ROUND_SECONDS / s->best));
}

bool check_again(struct check *check)
{
    struct session *s = check->session;
    if (s->runs_left) {
        s->runs_left--;
        return true;
    }
    if (s->rounds)
        end_round(check);
    else
        s->round_runs = 1;
    s->runs_left = s->round_runs - 1;
    s->round_started = clock_seconds();
    return s->rounds++ == 0 ||
           (s->timed && (s->rounds < 5 || s->round_started - s->started < BENCH_SECONDS));
}

// Contents

static double random_value(const struct check *check, size_t element, double spread)
{
    static const double scales[] = {0, 1e-6, 1, 1, 1, 8, -8, 30};
    const struct rng rng = {check->session->seed, RNG_TEST, (uint32_t)check->session->case_number,
                            check->session->trace->n};
    double value = rng_normal(&rng, element) * spread;
    if (check->wild)
        value *= scales[rng_u32(&rng, element + ((size_t)1 << 32)) % 8];
    return spread < 0 ? fabs(value) : value;
}

// The value as an activation of the device under test holds it, so that both devices get the same.
static float act_value(const struct session *s, double value)
{
    bool narrow = s->tested->backend->act_size == 2;
    return narrow ? bf16_to_f32(bf16_from_f32((float)value)) : (float)value;
}

static void fill(const struct check *check, const struct buffer *b, const void *contents,
                 double spread)
{
    unsigned char *to = b->before + GUARD;
    if (b->type == RAW || (contents && b->type != ACT)) {
        memcpy(to, contents, b->size);
        return;
    }
    const bool repeats = check->session->timed && !contents && b->n > PERIOD;
    const size_t n = repeats ? PERIOD : b->n;
    for (size_t i = 0; i < n; i++) {
        double value = contents ? ((const float *)contents)[i] : random_value(check, i, spread);
        if (b->type == F64) {
            ((double *)(void *)to)[i] = value;
        } else if (b->type == F32) {
            ((float *)(void *)to)[i] = (float)value;
        } else if (b->type == U8) {
            to[i] = (unsigned char)(unsigned)(fabs(value) * 100);
        } else if (check->device->backend->act_size == 2) {
            ((uint16_t *)(void *)to)[i] = bf16_from_f32((float)value);
        } else {
            ((float *)(void *)to)[i] = act_value(check->session, value);
        }
    }
    const size_t period = b->n ? b->size / b->n * n : 0;
    for (size_t at = period; at < b->size; at += period)
        memcpy(to + at, to, b->size - at < period ? b->size - at : period);
}

void *check_buffer(struct check *check, enum use use, enum type type, const void *contents,
                   size_t n, double spread)
{
    struct trace *trace = check->session->trace;
    if (trace->n == BUFFERS_MAX)
        tool_usage_error("%s: over %d buffers", check->session->case_name, BUFFERS_MAX);
    const size_t sizes[] = {check->device->backend->act_size, 4, 8, 1, 1};
    struct buffer *b = &trace->buffers[trace->n];
    *b = (struct buffer){.use = use, .type = type, .n = n, .size = n * sizes[type]};
    const size_t whole = b->size + 2 * GUARD;
    b->before = need(mem_new(whole, 1));
    memset(b->before, POISON, whole);
    if (use == IN || use == INOUT)
        fill(check, b, contents, spread);
    trace->n++;
    b->memory = device_alloc(check->device, whole);
    if (!b->memory)
        tool_usage_error("%s: no memory for a buffer of %zu bytes", check->session->case_name,
                         whole);
    device_upload(check->device, b->memory, b->before, whole);
    return b->memory + GUARD;
}

// Comparison

static double value_at(const struct buffer *b, size_t i)
{
    const unsigned char *data = b->after + GUARD;
    switch (b->type) {
    case F64:
        return ((const double *)(const void *)data)[i];
    case U8:
    case RAW:
        return data[i];
    default:
        if (b->size == 2 * b->n)
            return bf16_to_f32(((const uint16_t *)(const void *)data)[i]);
        return ((const float *)(const void *)data)[i];
    }
}

static bool is_poison(const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != POISON)
            return false;
    return true;
}

static void check_bounds(struct session *s, const struct buffer *b, size_t number, const char *who)
{
    if (!is_poison(b->after, GUARD))
        complain(s, "%s wrote before buffer %zu", who, number);
    if (!is_poison(b->after + GUARD + b->size, GUARD))
        complain(s, "%s wrote behind buffer %zu", who, number);
    if (b->use == IN && memcmp(b->before, b->after, b->size + 2 * GUARD) != 0)
        complain(s, "%s changed its input, buffer %zu", who, number);
    for (size_t i = 0; b->use == OUT && b->type < U8 && i < b->n; i++) {
        size_t size = b->size / b->n;
        if (is_poison(b->after + GUARD + i * size, size)) {
            complain(s, "%s left element %zu of buffer %zu unwritten", who, i, number);
            break;
        }
    }
}

// The limit of the relative error, of a whole buffer in the L2 norm. One element may be off by ten
// times as much of its own magnitude plus the buffer's root mean square.
static double tolerance(const struct check *check)
{
    const struct backend *backend = check->session->tested->backend;
    double limit = backend->act_size == 2 ? 1e-2 : strstr(backend->name, "tf32") ? 1e-3 : 2e-5;
    return check->wild ? 10 * limit : limit;
}

static void compare(struct check *check, const struct buffer *want, const struct buffer *got,
                    size_t number)
{
    struct session *s = check->session;
    double square = 0, error_square = 0;
    for (size_t i = 0; i < want->n; i++) {
        double a = value_at(want, i), error = value_at(got, i) - a;
        if (isfinite(a)) {
            square += a * a;
            error_square += error * error;
        }
    }
    const double negligible =
        1e-8; // below what matters to a model, such as the far tail of the GELU
    const double limit = tolerance(check), rms = sqrt(square / (double)want->n) + negligible;
    const double relative = sqrt(error_square) / (sqrt(square) + negligible);
    s->worst = worse(s->worst, relative);
    if (!(relative <= limit))
        complain(s, "buffer %zu is off by %.2g of its norm (limit %.1g)", number, relative, limit);
    for (size_t i = 0; i < want->n; i++) {
        double a = value_at(want, i), b = value_at(got, i);
        bool same = isnan(a)           ? isnan(b)
                    : isinf(a)         ? a == b
                    : want->type >= U8 ? a == b
                                       : fabs(b - a) <= 10 * limit * (fabs(a) + rms);
        if (!same) {
            complain(s, "buffer %zu, element %zu of %zu: %.9g, expected %.9g", number, i, want->n,
                     b, a);
            return;
        }
    }
}

// Runs

static void run_body(struct check *check, struct device *device, check_body *body, const size_t *n,
                     struct trace *trace)
{
    struct session *s = check->session;
    check->device = device;
    check->flops = check->bytes = 0;
    trace->n = 0;
    s->trace = trace;
    s->ran = false;
    body(check, n);
    if (!s->ran)
        complain(s, "the test runs no operation");
    for (size_t i = 0; i < trace->n; i++) {
        struct buffer *b = &trace->buffers[i];
        const size_t whole = b->size + 2 * GUARD;
        b->after = NULL;
        if (!s->timed) {
            b->after = need(mem_new(whole, 1));
            device_download(device, b->after, b->memory, whole);
        }
        device_release(device, b->memory);
    }
}

static void free_trace(struct trace *trace)
{
    for (size_t i = 0; i < trace->n; i++) {
        free(trace->buffers[i].before);
        free(trace->buffers[i].after);
    }
}

static void name_case(struct session *s, const size_t *n, bool wild)
{
    snprintf(s->case_name, sizeof s->case_name, "%s {%zu, %zu, %zu, %zu, %zu, flags %zu}%s",
             s->name, n[0], n[1], n[2], n[3], n[4], n[FLAGS], wild ? " wild" : "");
}

// The result must not depend on the number of threads, not by one bit.
static void check_threads(struct check *check, check_body *body, const size_t *n,
                          const struct trace *want)
{
    struct session *s = check->session;
    struct trace got;
    run_body(check, s->otherwise, body, n, &got);
    for (size_t i = 0; i < got.n; i++)
        if (got.buffers[i].use != SCRATCH &&
            memcmp(want->buffers[i].after, got.buffers[i].after, got.buffers[i].size + GUARD) != 0)
            complain(s, "buffer %zu depends on the number of threads, %d or %d", i,
                     s->tested->threads, s->otherwise->threads);
    free_trace(&got);
}

static void run_case(struct check *check, check_body *body, const size_t *n)
{
    struct session *s = check->session;
    struct trace want, got;
    size_t compared = 0;
    name_case(s, n, check->wild);
    s->cases++;
    s->case_number++;
    run_body(check, s->ref, body, n, &want);
    run_body(check, s->tested, body, n, &got);
    for (size_t i = 0; i < want.n; i++) {
        check_bounds(s, &want.buffers[i], i, "ref");
        check_bounds(s, &got.buffers[i], i, s->tested->description);
        if (want.buffers[i].use == SCRATCH)
            continue;
        compare(check, &want.buffers[i], &got.buffers[i], i);
        compared += want.buffers[i].use != IN;
    }
    if (compared == 0)
        complain(s, "the test compares no output");
    if (s->otherwise)
        check_threads(check, body, n, &got);
    free_trace(&want);
    free_trace(&got);
}

void check_cases(struct check *check, check_body *body, const size_t *flag_sets, size_t n_sets,
                 const size_t cases[][SIZES], size_t n_cases)
{
    if (check->session->bench)
        return;
    for (size_t i = 0; i < n_cases; i++) {
        size_t n[SIZES];
        memcpy(n, cases[i], sizeof n);
        for (size_t k = 0; k < n_sets; k++) {
            n[FLAGS] = flag_sets ? flag_sets[k] : k;
            check->wild = false;
            run_case(check, body, n);
            check->wild = true;
            run_case(check, body, n);
        }
    }
}

// Prints a rate in units of 1e9, and its share of the peak rate if that is known.
static void print_rate(double rate, const char *unit, double peak)
{
    printf(" %9.1f %s", 1e-9 * rate, unit);
    if (peak > 0)
        printf(" %3.0f%%", 100 * rate / peak);
}

void check_bench(struct check *check, check_body *body, unsigned flags, const size_t n[SIZES])
{
    struct session *s = check->session;
    if (!s->bench)
        return;
    size_t sizes[SIZES];
    memcpy(sizes, n, sizeof sizes);
    sizes[FLAGS] = flags;
    name_case(s, sizes, false);
    struct trace trace;
    s->timed = true;
    run_body(check, s->tested, body, sizes, &trace);
    double bytes = check->bytes;
    for (size_t i = 0; i < trace.n && check->bytes == 0; i++)
        bytes += (double)trace.buffers[i].size * (trace.buffers[i].use == INOUT ? 2 : 1);
    printf("%-72s %9.4f ms", s->case_name, 1e3 * s->best);
    print_rate(bytes / s->best, "GB/s", s->copy_rate);
    if (check->flops > 0)
        print_rate(check->flops / s->best, "GFLOP/s", s->peak_flops);
    putchar('\n');
    fflush(stdout);
    free_trace(&trace);
}

void check_bench_gpu(struct check *check, check_body *body, unsigned flags, const size_t n[SIZES])
{
    if (!check->session->tested->backend->host_floats)
        check_bench(check, body, flags, n);
}

// Measures the peak rates to which operations are compared: of arithmetic, and on a GPU of copies
// in its memory. On a CPU the latter would differ for each cache.
static void measure_device(struct check *check)
{
    struct session *s = check->session;
    struct device *d = check->device = s->tested;
    s->peak_flops = device_peak_flops(d);
    s->copy_rate = 0;
    printf("# at most %.1f GFLOP/s\n", 1e-9 * s->peak_flops);
    if (d->backend->host_floats)
        return;
    const size_t size = (size_t)1 << 30;
    void *from = device_alloc(d, size), *to = device_alloc(d, size);
    if (!from || !to)
        tool_usage_error("%s: no memory for copies of %zu bytes", d->description, size);
    s->timed = true;
    for (check_begin(check); check_again(check);)
        device_copy(d, to, from, size);
    s->copy_rate = 2 * (double)size / s->best;
    device_release(d, from);
    device_release(d, to);
    printf("# a copy moves %.1f GB/s\n", 1e-9 * s->copy_rate);
}

static const struct {
    const char *name;
    void (*run)(struct check *check);
    size_t offset; // of the operation in struct op_table
} tests[] = {
#define OP(name, cpu, params, args) {#name, test_##name, offsetof(struct op_table, name)},
#include "kernels/ops.def"
#undef OP
};
#define N_TESTS (sizeof tests / sizeof tests[0])

// Whether the device under test runs ref's own function, so that comparing can't fail.
static bool is_ref_function(const struct session *s, size_t offset)
{
    return memcmp((const char *)s->tested->ops + offset, (const char *)s->ref->ops + offset,
                  sizeof(void (*)(void))) == 0;
}

static size_t run_tests(struct check *check, const char *only)
{
    struct session *s = check->session;
    size_t chosen = 0;
    printf("# %s, seed %" PRIu64 "\n", s->tested->description, s->seed);
    if (s->bench)
        measure_device(check);
    for (size_t i = 0; i < N_TESTS; i++) {
        if (only && strcmp(only, tests[i].name) != 0)
            continue;
        s->name = tests[i].name;
        s->cases = s->failures = s->case_number = 0;
        s->worst = 0;
        chosen++;
        tests[i].run(check);
        if (s->bench)
            continue;
        const bool good = s->failures == 0 && s->cases > 0;
        const char *device = s->tested->backend->name;
        if (is_ref_function(s, tests[i].offset))
            ok(good,
               "%s on %s is ref's own function: %zu cases, of which bounds and threads are checked",
               s->name, device, s->cases);
        else
            ok(good, "%s on %s: %zu cases, error %.1e", s->name, device, s->cases, s->worst);
    }
    return chosen;
}

int main(int argc, char **argv)
{
    struct session session = {0};
    const char *backend = NULL, *only = NULL;
    const struct option options[] = {
        OPTION_STRING("backend", 'b', &backend, "NAME", "test only this device"),
        OPTION_STRING("only", 'n', &only, "NAME", "test only this operation"),
        OPTION_FLAG("bench", 0, &session.bench, "measure instead of testing"),
        TOOL_OPTION_THREADS,
        TOOL_OPTION_SEED,
        TOOL_OPTIONS_COMMON,
        OPTION_END};
    tool_start(argc, argv,
               &(struct tool_info){"check-ops", "[OPTION]...",
                                   "Test or measure the operations of every backend.", options});
    session.seed = tap_seed(tool.seed);
    char why[256];
    session.ref = device_open("ref", 1, why);
    const char *const all[] = {"generic", "cpu", NULL}, *const one[] = {backend, NULL};
    const char *const fast[] = {"cpu", NULL};
    const struct backend *done = NULL;
    for (const char *const *name = backend ? one : session.bench ? fast : all; *name; name++) {
        session.tested = device_open(*name, (int)tool.threads, why);
        const bool host = session.tested && session.tested->backend->host_floats;
        session.otherwise = host ? device_open(*name, tool.threads == 1 ? 3 : 1, why) : NULL;
        if (!session.ref || !session.tested || (host && !session.otherwise))
            tool_usage_error("%s", why);
        struct check check = {.seed = session.seed, .session = &session};
        if (session.tested->backend != done && !run_tests(&check, only))
            tool_usage_error("--only %s: there is no such operation", only);
        done = session.tested->backend;
        device_close(session.tested);
        device_close(session.otherwise);
    }
    device_close(session.ref);
    return session.bench ? tool_finish() : tap_done();
}
