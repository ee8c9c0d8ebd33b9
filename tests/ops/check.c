// The harness of tests/ops: runs every operation on the device under test and on ref, with the same
// inputs, and compares; or measures it. check.h says how a test is written.
// SPDX-License-Identifier: MIT
#include "tests/ops/check.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

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
#define FAULTED        3     // exit status of a process whose device can't go on

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

// What a process has reached, in memory that it shares with the process that started it.
struct progress {
    size_t next;                   // the operation in progress, or the next one
    const struct backend *backend; // of the device under test, once that is open
    char device[32];               // the backend's name
    int run, failed;               // cases of TAP
    bool complained;               // a measurement found something wrong
};

struct session {
    struct device *ref, *tested;
    struct device *otherwise; // `tested` with another number of threads; NULL if it is a GPU
    uint64_t seed;
    bool bench;
    bool repeat;           // each case runs twice, with the same bits; wild numbers only once
    const char *only;      // these operations, with commas, or NULL for all
    bool alone;            // it is one operation, tested in this process
    const char *case_part; // only cases whose names contain this, or NULL for all
    int64_t limit;         // seconds for an operation; 0 for no limit
    struct progress *progress;
    size_t case_number;
    char case_name[160];
    // The body in progress:
    struct trace *trace;
    const struct trace *want; // ref's, which is kept while the other devices run; NULL in a bench
    bool ran;                 // it has reached RUN
    // The test in progress:
    const char *name;
    bool tests_ref; // the device under test runs ref's own function, so that comparing can't fail
    size_t cases, failures;
    double worst; // the largest relative error
    // The timing in progress, in rounds of several runs, each round timed as a whole:
    bool timed;
    size_t runs;                          // of the body in progress, so far
    size_t rounds, round_runs, runs_left; // rounds begun; runs of this one, and those to come
    double started, round_started, best;
    double copy_rate, peak_flops; // of the device, per second: bytes read and written, operations
};

void check_complain(struct session *s, const char *format, ...)
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

// Reports the test in progress.
static void report_test(struct session *s)
{
    const bool good = s->failures == 0 && s->cases > 0;
    if (s->failures > COMPLAINTS_MAX)
        printf("# %s: %zu complaints in all\n", s->name, s->failures);
    if (s->bench)
        s->progress->complained |= s->failures > 0;
    else if (s->tests_ref)
        ok(good,
           "%s on %s is ref's own function: %zu cases, of which bounds and threads are checked",
           s->name, s->progress->device, s->cases);
    else
        ok(good, "%s on %s: %zu cases, error %.1e", s->name, s->progress->device, s->cases,
           s->worst);
    s->progress->run = tap_run;
    s->progress->failed = tap_failed;
    s->progress->next++;
}

// Ends the process, as the device can't go on; the case in progress has failed.
__attribute__((noreturn)) static void give_up(struct session *s)
{
    report_test(s);
    if (s->alone && !s->bench)
        tap_done();
    fflush(stdout);
    _exit(s->alone ? 1 : FAULTED); // without the driver's own exit, which may hang after a fault
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
    s->runs = s->rounds = s->runs_left = 0;
    s->best = INFINITY;
    s->started = clock_seconds();
}

// Waits for the device and reports its error. A fault of a GPU stays, and then nothing more can
// run.
static void stop_if_faulty(struct check *check)
{
    const char *error = device_error(check->device);
    if (!error)
        return;
    check_complain(check->session, "%s", error);
    check->device->error[0] = '\0';
    if (device_error(check->device))
        give_up(check->session);
}

// Ends a round of runs and chooses the length of the next: on a GPU long enough that the wait at
// its end is negligible.
static void end_round(struct check *check)
{
    struct session *s = check->session;
    stop_if_faulty(check);
    s->best = fmin(s->best, (clock_seconds() - s->round_started) / (double)s->round_runs);
    if (check->device->backend->wait)
        s->round_runs = (size_t)fmax(1, fmin(1000, ROUND_SECONDS / s->best));
}

bool check_again(struct check *check)
{
    struct session *s = check->session;
    if (s->runs_left) {
        s->runs++;
        s->runs_left--;
        return true;
    }
    if (s->rounds)
        end_round(check);
    else
        s->round_runs = 1;
    s->runs_left = s->round_runs - 1;
    s->round_started = clock_seconds();
    const bool again =
        s->rounds++ == 0 ||
        (s->timed && (s->rounds < 5 || s->round_started - s->started < BENCH_SECONDS));
    s->runs += again;
    return again;
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

// The value as an activation of the device under test holds it, or for tf32 as its products see it,
// with 11 bits. Both devices get the same, as sums that cancel would magnify a rounding.
static float act_value(const struct session *s, double value)
{
    const struct backend *backend = s->tested->backend;
    int exponent;
    const double fraction = frexp(value, &exponent);
    if (backend->act_size == 2)
        return bf16_to_f32(bf16_from_f32((float)value));
    return (float)(strstr(backend->name, "tf32") ? ldexp(rint(fraction * 2048), exponent - 11)
                                                 : value);
}

static void fill(const struct check *check, const struct buffer *b, const void *contents,
                 double spread)
{
    unsigned char *to = b->before + GUARD;
    if (b->type == RAW || (contents && b->type != ACT)) {
        memmove(to, contents, b->size); // check_share rounds in place
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
    // Random numbers are drawn once, for ref, but not for a buffer that it does without.
    const struct trace *want = check->session->want;
    if (!contents && want && want != trace && trace->n < want->n)
        contents = want->buffers[trace->n].before + GUARD;
    if (use == IN || use == INOUT)
        fill(check, b, contents, spread);
    trace->n++;
    b->memory = device_alloc(check->device, whole);
    if (!b->memory) {
        const char *error = device_error(check->device);
        check_complain(check->session, "buffer %zu, of %zu bytes: %s", trace->n - 1, whole,
                       error ? error : "the device has not enough memory");
        give_up(check->session);
    }
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

static const unsigned char *element(const struct buffer *b, size_t i)
{
    return b->after + GUARD + i * (b->size / b->n);
}

static void check_bounds(struct session *s, const struct buffer *b, size_t number, const char *who)
{
    if (!is_poison(b->after, GUARD))
        check_complain(s, "%s wrote before buffer %zu", who, number);
    if (!is_poison(b->after + GUARD + b->size, GUARD))
        check_complain(s, "%s wrote behind buffer %zu", who, number);
    if (b->use == IN && memcmp(b->before, b->after, b->size + 2 * GUARD) != 0)
        check_complain(s, "%s changed its input, buffer %zu", who, number);
    for (size_t i = 0; b->use == OUT && b->type < U8 && i < b->n; i++) {
        size_t size = b->size / b->n;
        if (is_poison(b->after + GUARD + i * size, size)) {
            check_complain(s, "%s left element %zu of buffer %zu unwritten", who, i, number);
            break;
        }
    }
}

double check_tolerance(const struct check *check)
{
    const struct backend *backend = check->session->tested->backend;
    double limit = backend->act_size == 2 ? 1e-2 : strstr(backend->name, "tf32") ? 1e-3 : 2e-5;
    return check->wild ? 10 * limit : limit;
}

// The elements of a buffer that are wrong.
struct misses {
    size_t count, first, last, nans, unwritten;
};

static void miss(struct misses *m, const struct buffer *got, size_t i)
{
    if (m->count++ == 0)
        m->first = i;
    m->last = i;
    const bool unwritten = got->type < U8 && is_poison(element(got, i), got->size / got->n);
    m->unwritten += unwritten;
    m->nans += !unwritten && isnan(value_at(got, i));
}

static void complain_of(struct session *s, const struct misses *m, size_t number,
                        const struct buffer *want, const struct buffer *got, const char *how)
{
    if (m->count)
        check_complain(
            s,
            "buffer %zu: %zu of %zu elements differ, from %zu to %zu (NaN: %zu, unwritten: "
            "%zu); element %zu is %.9g, %s %.9g",
            number, m->count, want->n, m->first, m->last, m->nans, m->unwritten, m->first,
            value_at(got, m->first), how, value_at(want, m->first));
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
    const double limit = check_tolerance(check), count = want->n ? (double)want->n : 1;
    const double rms = sqrt(square / count) + check->floor + 1e-8; // which no model notices
    const double relative = sqrt(error_square / count) / rms;
    s->worst = worse(s->worst, relative);
    if (!(relative <= limit))
        check_complain(s, "buffer %zu is off by %.2g of its norm (limit %.1g)", number, relative,
                       limit);
    struct misses misses = {0};
    for (size_t i = 0; i < want->n; i++) {
        double a = value_at(want, i), b = value_at(got, i);
        bool same = isnan(a)           ? isnan(b)
                    : isinf(a)         ? a == b
                    : want->type >= U8 ? a == b
                                       : fabs(b - a) <= 10 * limit * (fabs(a) + rms);
        if (!same)
            miss(&misses, got, i);
    }
    complain_of(s, &misses, number, want, got, "expected");
}

// A second run must not differ from the first, not by one bit. `how` says what may have made the
// difference.
static void compare_bits(struct session *s, const struct buffer *first, const struct buffer *second,
                         size_t number, const char *how)
{
    struct misses misses = {0};
    const size_t size = first->n ? first->size / first->n : 0;
    for (size_t i = 0; i < first->n; i++)
        if (memcmp(element(first, i), element(second, i), size) != 0)
            miss(&misses, second, i);
    complain_of(s, &misses, number, first, second, how);
}

// For tests that compute results by themselves

static const struct buffer *find_buffer(const struct check *check, const void *memory)
{
    const struct trace *trace = check->session->trace;
    const struct buffer *b = trace->buffers;
    while (b->memory + GUARD != memory)
        b++; // the body has made it
    return b;
}

double check_value_before(const struct check *check, const void *buffer, size_t i)
{
    const struct buffer *b = find_buffer(check, buffer);
    const struct buffer before = {.type = b->type, .n = b->n, .size = b->size, .after = b->before};
    return value_at(&before, i);
}

double check_value_now(const struct check *check, const void *buffer, size_t i)
{
    const struct buffer *b = find_buffer(check, buffer);
    const size_t size = b->size / b->n;
    unsigned char bytes[GUARD + sizeof(double)];
    device_download(check->device, bytes + GUARD, b->memory + GUARD + i * size, size);
    const struct buffer now = {.type = b->type, .n = 1, .size = size, .after = bytes};
    return value_at(&now, 0);
}

void check_share(struct check *check, const void *buffer)
{
    struct session *s = check->session;
    const struct buffer *b = find_buffer(check, buffer);
    if (s->timed) // without ref
        return;
    const struct buffer *want = &s->want->buffers[b - s->trace->buffers];
    if (b == want)
        device_download(s->ref, b->before + GUARD, buffer, b->size);
    fill(check, b, want->before + GUARD, 0);
    device_upload(check->device, b->memory + GUARD, b->before + GUARD, b->size);
}

size_t check_runs(const struct check *check)
{
    return check->session->runs;
}

// Runs

static void run_body(struct check *check, struct device *device, check_body *body, const size_t *n,
                     struct trace *trace)
{
    struct session *s = check->session;
    check->device = device;
    check->flops = check->bytes = check->floor = 0;
    trace->n = 0;
    s->trace = trace;
    s->ran = false;
    body(check, n);
    if (!s->ran)
        check_complain(s, "the test runs no operation");
    for (size_t i = 0; i < trace->n; i++) {
        struct buffer *b = &trace->buffers[i];
        const size_t whole = b->size + 2 * GUARD;
        b->after = NULL;
        if (!s->timed) {
            b->after = need(mem_new(whole, 1));
            device_download(device, b->after, b->memory, whole);
            stop_if_faulty(check);
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

// Returns whether the case is wanted.
static bool name_case(struct session *s, const size_t *n, bool wild)
{
    snprintf(s->case_name, sizeof s->case_name, "%s {%zu, %zu, %zu, %zu, %zu, flags %zu}%s",
             s->name, n[0], n[1], n[2], n[3], n[4], n[FLAGS], wild ? " wild" : "");
    return !s->case_part || strstr(s->case_name, s->case_part);
}

// A second run must give the same bits: on a CPU with another number of threads; on a GPU, whose
// operations use no atomics, a difference is a race.
static void run_again(struct check *check, check_body *body, const size_t *n,
                      const struct trace *first)
{
    struct session *s = check->session;
    struct device *d = s->otherwise ? s->otherwise : s->tested;
    char how[64] = "in the run before";
    if (s->otherwise)
        snprintf(how, sizeof how, "with %d threads, but with %d", d->threads, s->tested->threads);
    struct trace second;
    run_body(check, d, body, n, &second);
    for (size_t i = 0; i < second.n; i++)
        if (second.buffers[i].use != SCRATCH)
            compare_bits(s, &first->buffers[i], &second.buffers[i], i, how);
    free_trace(&second);
}

static void run_case(struct check *check, check_body *body, const size_t *n)
{
    struct session *s = check->session;
    struct trace want, got;
    size_t compared = 0;
    s->case_number++;
    if (!name_case(s, n, check->wild))
        return;
    s->cases++;
    s->want = &want;
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
        check_complain(s, "the test compares no output");
    if (s->otherwise || (s->repeat && !check->wild))
        run_again(check, body, n, &got);
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
    if (!name_case(s, sizes, false))
        return;
    s->cases++;
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
    if (!check->session->tested->backend->host_memory)
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
    if (d->backend->host_memory)
        return;
    const size_t room = d->backend->memory_free(d) / 8, most = (size_t)1 << 30;
    const size_t size = room < most ? room : most;
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

static bool is_ref_function(const struct session *s, size_t offset)
{
    return memcmp((const char *)s->tested->ops + offset, (const char *)s->ref->ops + offset,
                  sizeof(void (*)(void))) == 0;
}

// Whether NAME is in a list with commas.
static bool is_listed(const char *list, const char *name)
{
    const size_t length = strlen(name);
    for (const char *at = list; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, length) == 0 && (!at[length] || at[length] == ','))
            return true;
    }
    return false;
}

// Stops a test that hangs: SIGALRM ends the process.
static void set_limit(const struct session *s)
{
    alarm((unsigned)s->limit);
}

static void open_device(struct session *s, const char *name)
{
    char why[256];
    s->ref = device_open("ref", 1, why);
    if (s->ref)
        s->tested = device_open(name, (int)tool.threads, why);
    const bool host = s->tested && s->tested->backend->host_memory;
    s->otherwise = host ? device_open(name, tool.threads == 1 ? 3 : 1, why) : NULL;
    if (!s->ref || !s->tested || (host && !s->otherwise))
        tool_usage_error("%s", why);
    s->progress->backend = s->tested->backend;
    snprintf(s->progress->device, sizeof s->progress->device, "%s", s->tested->backend->name);
}

// Tests the operations from s->progress->next on.
static void run_tests(struct session *s, const char *name)
{
    struct check check = {.seed = s->seed, .session = s};
    open_device(s, name);
    check.narrow = s->tested->backend->act_size == 2;
    printf("# %s, seed %" PRIu64 "\n", s->tested->description, s->seed);
    if (s->bench && s->progress->next < N_TESTS)
        measure_device(&check);
    while (s->progress->next < N_TESTS) {
        const size_t i = s->progress->next;
        if (s->only && !is_listed(s->only, tests[i].name)) {
            s->progress->next++;
            continue;
        }
        set_limit(s);
        s->name = tests[i].name;
        s->tests_ref = is_ref_function(s, tests[i].offset);
        s->cases = s->failures = s->case_number = 0;
        s->worst = 0;
        tests[i].run(&check);
        report_test(s);
    }
    alarm(0);
    device_close(s->tested);
    device_close(s->otherwise);
    device_close(s->ref);
}

// Reports the test that ended its process.
static void report_end(struct session *s, int status)
{
    const char *test = tests[s->progress->next].name, *device = s->progress->device;
    const int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (number == SIGALRM)
        printf("# %s: stopped after %" PRId64 " s\n", test, s->limit);
    else if (number)
        printf("# %s: the process ended by signal %d (%s)\n", test, number, strsignal(number));
    else
        printf("# %s: the process ended with status %d\n", test, WEXITSTATUS(status));
    if (s->bench)
        s->progress->complained = true;
    else
        ok(false, "%s on %s runs to its end", test, device);
    s->progress->run = tap_run;
    s->progress->failed = tap_failed;
    s->progress->next++;
}

// Tests in a process of its own, and after a fault, a crash or a test that hangs goes on with the
// next operation in another one, as a device that has faulted serves its process no more.
static void guard_tests(struct session *s, const char *name)
{
    int status = 0;
    do {
        s->progress->backend = NULL;
        fflush(stdout);
        const pid_t process = fork();
        if (process < 0)
            tool_usage_error("a process can't be started: %s", strerror(errno));
        if (process == 0) {
            run_tests(s, name);
            exit(0);
        }
        while (waitpid(process, &status, 0) < 0 && errno == EINTR)
            ;
        tap_run = s->progress->run;
        tap_failed = s->progress->failed;
        const bool opened = s->progress->backend;
        if (!opened && s->progress->next == 0) // the reason has been printed
            exit(WIFEXITED(status) ? WEXITSTATUS(status) : 70);
        const bool reported = WIFEXITED(status) && WEXITSTATUS(status) == FAULTED;
        if (status && !reported && s->progress->next < N_TESTS)
            report_end(s, status);
        else if (status && !reported)
            ok(false, "the device %s closes", s->progress->device);
    } while (s->progress->next < N_TESTS);
}

// Fails unless the list with commas names operations.
static void check_names(const char *list)
{
    while (*list) {
        const size_t length = strcspn(list, ",");
        size_t i = 0;
        while (i < N_TESTS && (strncmp(list, tests[i].name, length) != 0 || tests[i].name[length]))
            i++;
        if (i == N_TESTS)
            tool_usage_error("--only %.*s: there is no such operation", (int)length, list);
        list += length + (list[length] == ',');
    }
}

int main(int argc, char **argv)
{
    struct session session = {0};
    const char *backend = NULL;
    const struct option options[] = {
        OPTION_STRING("backend", 'b', &backend, "NAME", "test only this device"),
        OPTION_STRING("only", 'n', &session.only, "NAME,...",
                      "test only these operations; one is tested in this very process"),
        OPTION_STRING("case", 'c', &session.case_part, "TEXT",
                      "test only the cases whose names contain TEXT"),
        OPTION_INT("limit", 0, &session.limit, 0, 86400,
                   "stop an operation's test after N seconds (default 0, never)"),
        OPTION_FLAG("repeat", 0, &session.repeat,
                    "run each case but those of wild numbers twice, which must give the same bits"),
        OPTION_FLAG("bench", 0, &session.bench, "measure instead of testing"),
        TOOL_OPTION_THREADS,
        TOOL_OPTION_SEED,
        TOOL_OPTIONS_COMMON,
        OPTION_END};
    tool_start(argc, argv,
               &(struct tool_info){"check-ops", "[OPTION]...",
                                   "Test or measure the operations of every backend.", options});
    if (session.only)
        check_names(session.only);
    session.alone = session.only && !strchr(session.only, ',');
    session.seed = tap_seed(tool.seed);
    session.progress = mmap(NULL, sizeof *session.progress, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (session.progress == MAP_FAILED)
        tool_usage_error("out of memory");
    const bool all = !backend && !session.bench; // but ref, with which they are compared
    for (size_t i = 1; !all || device_host_name(i); i++) {
        const char *name = all ? device_host_name(i) : backend ? backend : "cpu";
        session.progress->next = 0;
        (session.alone ? run_tests : guard_tests)(&session, name);
        if (!all)
            break;
    }
    const int failed = session.bench ? session.progress->complained : tap_done();
    const int status = tool_finish();
    return status ? status : failed;
}
