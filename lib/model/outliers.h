// Tells steps of training whose loss or gradient is far larger than before, as a batch of damaged
// data or an unlucky draw makes them. SPDX-License-Identifier: MIT
#ifndef DIT_OUTLIERS_H
#define DIT_OUTLIERS_H

#include <stdbool.h>
#include <stdint.h>

#define OUTLIER_WINDOW 128 // steps

// The last steps, applied or not; all zero at first.
struct outlier_window {
    uint64_t n; // steps so far; step i stands at i % OUTLIER_WINDOW
    double loss[OUTLIER_WINDOW], norm[OUTLIER_WINDOW];
};

// Whether the loss or the gradient's norm is more than z standard deviations above the mean in the
// window. False until the window is full.
bool outlier_is(const struct outlier_window *window, double z, double loss, double norm);
void outlier_add(struct outlier_window *window, double loss, double norm);
// The window as text, malloc'd, and back from it, exactly. NULL or -1 with an error.
char *outlier_text(const struct outlier_window *window);
int outlier_parse(struct outlier_window *window, const char *text);

#endif
