// Measures each operation of one pass of a program, for DIT_CUDA_PROFILE.
// SPDX-License-Identifier: MIT
//
// A pass begins with the second run of a repeated work (device_repeat), when products have chosen
// their algorithms, and ends when that work runs again: a step of training with its update, a step
// of sampling, a run of an autoencoder. It is not recorded as a graph; each operation runs between
// two events.
#ifndef DIT_CUDA_PROFILE_H
#define DIT_CUDA_PROFILE_H

#include "kernels/device.h"

struct profile;

// NULL unless $DIT_CUDA_PROFILE names a file, to which the table is appended. Then the device's
// operations are measured ones.
struct profile *profile_new(struct device *device);
// Ends the pass if it is under way. NULL is fine.
void profile_free(struct device *device, struct profile *profile);
// Called when a repeated work is about to run, for the second time or later. Returns whether it
// must run directly, to be measured. *measured belongs to the work, and is false at first.
bool profile_takes(struct device *device, struct profile *profile, bool *measured);

#endif
