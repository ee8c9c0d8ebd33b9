// The Test Anything Protocol for tests in C. SPDX-License-Identifier: MIT
//     int main(void) { ok(1 + 1 == 2, "one and one are %d", 2); return tap_done(); }
#ifndef DIT_TAP_H
#define DIT_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static int tap_run, tap_failed;

__attribute__((format(printf, 2, 3))) static inline bool ok(bool good, const char *name, ...)
{
    va_list ap;
    va_start(ap, name);
    printf("%sok %d - ", good ? "" : "not ", ++tap_run);
    vprintf(name, ap);
    putchar('\n');
    fflush(stdout);
    va_end(ap);
    tap_failed += !good;
    return good;
}

// A line of explanation under a test.
#define diag(...) (printf("# " __VA_ARGS__), putchar('\n'))

// A test that can't run here, and why.
#define skip(name, why) printf("ok %d - %s # SKIP %s\n", ++tap_run, name, why)

// Where the reference data is: $REFERENCE_DIR, default tests/data.
static inline const char *reference_dir(void)
{
    const char *dir = getenv("REFERENCE_DIR");
    return dir && *dir ? dir : "tests/data";
}

static inline int tap_done(void)
{
    printf("1..%d\n", tap_run);
    return tap_failed != 0;
}

#endif
