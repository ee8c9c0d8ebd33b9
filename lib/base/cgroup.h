// The limits that Linux control groups, as containers and Slurm set them, put on this process.
// SPDX-License-Identifier: MIT
#ifndef DIT_CGROUP_H
#define DIT_CGROUP_H

#include <stdint.h>

struct cgroup_limits {
    uint64_t memory;   // bytes that may still be used; UINT64_MAX if there is no limit
    double processors; // as much time as so many processors give; INFINITY if there is no limit
};

// The smallest limits of the groups that this process is in and of all above them, version 1 or 2.
// What cannot be read sets no limit. `root` stands before all paths: "" but in tests.
struct cgroup_limits cgroup_read(const char *root);

#endif
