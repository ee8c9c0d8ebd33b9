// Which steps are outliers, and that a window comes back from text. SPDX-License-Identifier: MIT
#include "lib/model/outliers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "tests/tap.h"

// Losses 1 and 3 in turn, of mean 2 and deviation 1; norms 10 and 20, of mean 15 and deviation 5.
static struct outlier_window make_window(size_t steps)
{
    struct outlier_window window = {0};
    for (size_t i = 0; i < steps; i++)
        outlier_add(&window, i % 2 ? 3 : 1, i % 2 ? 20 : 10);
    return window;
}

static void test_judging(void)
{
    const struct outlier_window full = make_window(OUTLIER_WINDOW), short_of = make_window(127);
    ok(!outlier_is(&full, 4, 5.999, 34.99), "a step within 4 standard deviations is none");
    ok(outlier_is(&full, 4, 6.001, 15), "a loss above them is one");
    ok(outlier_is(&full, 4, 2, 35.01), "a gradient above them is one");
    ok(!outlier_is(&full, 4, -100, 0), "a small loss and gradient are none");
    ok(!outlier_is(&short_of, 4, 1e9, 1e9), "nothing is one before the window is full");
    struct outlier_window later = full;
    for (int i = 0; i < OUTLIER_WINDOW; i++)
        outlier_add(&later, i % 2 ? 103 : 101, 15);
    ok(!outlier_is(&later, 4, 105, 15) && outlier_is(&later, 4, 107, 15),
       "the last 128 steps alone count");
}

static void test_text(void)
{
    struct outlier_window window = make_window(50), back;
    outlier_add(&window, 1.0 / 3, sqrt(2));
    char *text = outlier_text(&window);
    ok(text && outlier_parse(&back, text) == 0 && memcmp(&window, &back, sizeof back) == 0,
       "a window comes back from its text exactly");
    free(text);
    window = make_window(300);
    text = outlier_text(&window);
    ok(text && outlier_parse(&back, text) == 0 && memcmp(&window, &back, sizeof back) == 0,
       "... also when it has gone round");
    free(text);
    static const char *const bad[] = {"", "x", "1", "1 0x1p0", "1 nan 1", "0 1", "1 1 1 1"};
    bool refused = true;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused = refused && outlier_parse(&back, bad[i]) < 0 && error_status() == STATUS_DATA;
    ok(refused, "other texts are refused");
}

int main(void)
{
    test_judging();
    test_text();
    return tap_done();
}
