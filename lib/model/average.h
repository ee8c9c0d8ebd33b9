// Averages of a training's weights, and how snapshots of some make the average of any length.
// SPDX-License-Identifier: MIT
// Power-function averages: Karras et al., "Analyzing and Improving the Training Dynamics of
// Diffusion Models" (CVPR 2024), section 3; here they are counted in updates, not in images.
#ifndef DIT_AVERAGE_H
#define DIT_AVERAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// How the weights after each update are averaged.
struct average {
    double decay; // of an exponential average, from 0 to 1
    // Else above 0: a power-function average. After n updates the weights after update t have a
    // share in it that grows as t^gamma. The width is the standard deviation of t / n by these
    // shares, and decides gamma.
    double width;
};
#define AVERAGE_WIDTH_MIN 0.001
#define AVERAGE_WIDTH_MAX 0.28 // below that of gamma = 0, where all shares are equal: 0.2887

// "0.999", or "power:0.05" for a width.
#define AVERAGE_TEXT_SIZE 32
void average_text(const struct average *average, char text[AVERAGE_TEXT_SIZE]);
// Reads such a text up to *end. -1 without an error if it is none.
int average_parse(struct average *average, const char *text, const char **end);
bool average_equals(const struct average *a, const struct average *b);

// The exponent gamma of a width.
double average_power(double width);
// What update n, from 1, keeps of a power-function average; 0 for the first.
double average_power_decay(double width, uint64_t n);

// A power-function average as it is after n updates.
struct snapshot {
    double width;
    uint64_t n;
};
// Sets factors[count], whose sum is 1, by which the snapshots add up to the average that is nearest
// to `wanted` (algorithm 3 of the paper), and *error: how far the shares of the updates are then
// from the wanted ones, relative to their norm. No snapshot may be later than `wanted`. -1 with an
// error (65) if two are alike.
int average_from_snapshots(const struct snapshot *snapshots, size_t count,
                           const struct snapshot *wanted, double *factors, double *error);

#endif
