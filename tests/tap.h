// The Test Anything Protocol for tests in C. SPDX-License-Identifier: MIT
//     int main(void)
//     {
//         ok(tstream_open(path) == 0, "a stream of %d frames is opened", frames);
//         ok(tstream_read(path) == 0, "... and read");
//         return tap_done();
//     }
// In tstream.c these cases are called "tstream: a stream of 2 frames is opened" and "tstream: a
// stream of 2 frames is opened and read": a name that begins with "... " continues the last name
// that doesn't. No two cases of a test may have one name.
#ifndef DIT_TAP_H
#define DIT_TAP_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int tap_run, tap_failed;
static char tap_subject[400];

static inline void tap_line(const char *result, const char *name, const char *directive)
{
    const bool goes_on = strncmp(name, "... ", 4) == 0;
    if (!goes_on)
        snprintf(tap_subject, sizeof tap_subject, "%.399s", name);
    printf("%s %d - %s: %s%s%s\n", result, ++tap_run, program_invocation_short_name, tap_subject,
           goes_on ? name + 3 : "", directive);
    fflush(stdout);
}

__attribute__((format(printf, 2, 3))) static inline bool ok(bool good, const char *name, ...)
{
    char said[400];
    va_list ap;
    va_start(ap, name);
    vsnprintf(said, sizeof said, name, ap);
    va_end(ap);
    tap_line(good ? "ok" : "not ok", said, "");
    tap_failed += !good;
    return good;
}

// A line of explanation under a case.
#define diag(...) (printf("# " __VA_ARGS__), putchar('\n'))

// A case that can't run here, and why.
static inline void skip(const char *name, const char *why)
{
    char directive[400];
    snprintf(directive, sizeof directive, " # SKIP %s", why);
    tap_line("ok", name, directive);
}

// A seed for random numbers, which is printed; SEED=N in the environment replaces it.
static inline uint64_t tap_seed(uint64_t seed)
{
    const char *wish = getenv("SEED");
    if (wish && *wish)
        seed = strtoull(wish, NULL, 10);
    diag("%s: SEED=%llu", program_invocation_short_name, (unsigned long long)seed);
    return seed;
}

// The larger of two errors. NaN counts as the largest: fmax() would pass over it.
static inline double worse(double a, double b)
{
    return a != a || a > b ? a : b;
}

// Where the reference data is: $REFERENCE_DIR, default tests/data.
static inline const char *reference_dir(void)
{
    const char *dir = getenv("REFERENCE_DIR");
    return dir && *dir ? dir : "tests/data";
}

// Ends a test: prints the plan, and returns the exit status of the program. A test without a case
// fails.
static inline int tap_done(void)
{
    if (tap_run == 0)
        ok(false, "has a case");
    printf("1..%d\n", tap_run);
    return tap_failed != 0;
}

#endif
