// The sums are made anew for each step, in a fixed order: so a window that was read back from text
// decides as the one that was written. SPDX-License-Identifier: MIT
#include "lib/model/outliers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"

#define NUMBER_SIZE 32 // bytes of a number as text

static bool is_far_above(const double last[OUTLIER_WINDOW], double z, double value)
{
    double mean = 0, squares = 0;
    for (size_t i = 0; i < OUTLIER_WINDOW; i++)
        mean += last[i] / OUTLIER_WINDOW;
    for (size_t i = 0; i < OUTLIER_WINDOW; i++)
        squares += (last[i] - mean) * (last[i] - mean);
    return value > mean + z * sqrt(squares / OUTLIER_WINDOW);
}

bool outlier_is(const struct outlier_window *window, double z, double loss, double norm)
{
    return window->n >= OUTLIER_WINDOW &&
           (is_far_above(window->loss, z, loss) || is_far_above(window->norm, z, norm));
}

void outlier_add(struct outlier_window *window, double loss, double norm)
{
    size_t at = (size_t)(window->n++ % OUTLIER_WINDOW);
    window->loss[at] = loss;
    window->norm[at] = norm;
}

char *outlier_text(const struct outlier_window *window)
{
    const size_t size = NUMBER_SIZE * (1 + 2 * OUTLIER_WINDOW);
    char *text = mem_new(size, 1);
    if (!text)
        return NULL;
    size_t used = (size_t)snprintf(text, size, "%llu", (unsigned long long)window->n);
    for (size_t i = 0; i < OUTLIER_WINDOW && i < window->n; i++)
        used +=
            (size_t)snprintf(text + used, size - used, " %a %a", window->loss[i], window->norm[i]);
    return text;
}

int outlier_parse(struct outlier_window *window, const char *text)
{
    char *end;
    *window = (struct outlier_window){.n = strtoull(text, &end, 10)};
    bool good = end > text;
    for (size_t i = 0; good && i < 2 * OUTLIER_WINDOW && i / 2 < window->n; i++) {
        const char *number = end;
        double value = strtod(number, &end);
        good = end > number && isfinite(value);
        *(i % 2 ? &window->norm[i / 2] : &window->loss[i / 2]) = value;
    }
    return good && !*end ? 0
                         : error_set(STATUS_DATA,
                                     "expected the losses and gradients of the last steps, found "
                                     "\"%.40s\"",
                                     text);
}
