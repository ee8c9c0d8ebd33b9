// Finds the folders of this process's control groups, and reads their limits.
// SPDX-License-Identifier: MIT
#include "lib/base/cgroup.h"

#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT_MAX 0x1p62 // version 1 shows no limit as one of almost 2^63

static FILE *open_text(const char *folder, const char *file)
{
    char path[PATH_MAX];
    size_t n = (size_t)snprintf(path, sizeof path, "%s/%s", folder, file);
    return n < sizeof path ? fopen(path, "re") : NULL;
}

// The number behind `key` at the start of a line of a file; `otherwise` if there is none, or one
// below 0, or "max".
static double read_number(const char *folder, const char *file, const char *key, double otherwise)
{
    char line[256], *end = NULL;
    const size_t length = strlen(key);
    double number = -1;
    FILE *in = open_text(folder, file);
    while (in && !end && fgets(line, sizeof line, in))
        if (strncmp(line, key, length) == 0)
            number = strtod(line + length, &end);
    if (in)
        fclose(in);
    return end && end > line + length && number >= 0 ? number : otherwise;
}

// What the group may still use. The pages that it has of files are given back when they are needed.
static void limit_memory(struct cgroup_limits *limits, const char *folder, double most,
                         const char *usage, const char *inactive, const char *active)
{
    if (!(most < LIMIT_MAX))
        return;
    double left = most - read_number(folder, usage, "", 0) +
                  read_number(folder, "memory.stat", inactive, 0) +
                  read_number(folder, "memory.stat", active, 0);
    left = fmax(0, fmin(left, most));
    if (left < (double)limits->memory)
        limits->memory = (uint64_t)left;
}

// The files of either version; a group has those of one, and only of its controllers.
static void read_group(struct cgroup_limits *limits, const char *folder)
{
    limit_memory(limits, folder, read_number(folder, "memory.limit_in_bytes", "", INFINITY),
                 "memory.usage_in_bytes", "total_inactive_file ", "total_active_file ");
    limit_memory(limits, folder,
                 fmin(read_number(folder, "memory.max", "", INFINITY),
                      read_number(folder, "memory.high", "", INFINITY)),
                 "memory.current", "inactive_file ", "active_file ");
    double quota = read_number(folder, "cpu.cfs_quota_us", "", INFINITY);
    double period = read_number(folder, "cpu.cfs_period_us", "", 0);
    if (period > 0)
        limits->processors = fmin(limits->processors, quota / period);
    FILE *in = open_text(folder, "cpu.max");
    if (in && fscanf(in, "%lf %lf", &quota, &period) == 2 && period > 0)
        limits->processors = fmin(limits->processors, quota / period);
    if (in)
        fclose(in);
}

// Whether the words of a list with commas include this one.
static bool has_word(const char *list, const char *word)
{
    const size_t length = strlen(word);
    for (; list; list = strchr(list, ',')) {
        list += *list == ',';
        if (strncmp(list, word, length) == 0 && (list[length] == ',' || !list[length]))
            return true;
    }
    return false;
}

// Reads a group and those above it, up to the folder where the hierarchy is mounted.
static void read_branch(struct cgroup_limits *limits, const char *mount, const char *below)
{
    char folder[PATH_MAX];
    size_t top = strlen(mount), n = (size_t)snprintf(folder, sizeof folder, "%s%s", mount, below);
    while (n < sizeof folder) {
        read_group(limits, folder);
        if (n <= top)
            return;
        while (n > top && folder[--n] != '/')
            ;
        folder[n] = 0;
    }
}

// A group's path is shown from the hierarchy's root, of which a container may see a part alone:
// the mount's own root is then a part of that path. `controllers` is empty for version 2.
static void read_hierarchy(struct cgroup_limits *limits, const char *root, const char *controllers,
                           const char *group)
{
    char *line = NULL, from[PATH_MAX], at[PATH_MAX], type[32], options[512], mount[PATH_MAX];
    size_t size = 0;
    FILE *in = open_text(root, "proc/self/mountinfo");
    while (in && getline(&line, &size, in) > 0) {
        const char *rest = strstr(line, " - ");
        if (!rest || sscanf(line, "%*s %*s %*s %4095s %4095s", from, at) != 2 ||
            sscanf(rest, " - %31s %*s %511s", type, options) != 2)
            continue;
        if (*controllers ? strcmp(type, "cgroup") != 0 ||
                               !((has_word(controllers, "memory") && has_word(options, "memory")) ||
                                 (has_word(controllers, "cpu") && has_word(options, "cpu")))
                         : strcmp(type, "cgroup2") != 0)
            continue;
        size_t n = strcmp(from, "/") == 0 ? 0 : strlen(from);
        if (strncmp(group, from, n) != 0 || (group[n] != '/' && group[n]) ||
            (size_t)snprintf(mount, sizeof mount, "%s%s", root, at) >= sizeof mount)
            continue;
        read_branch(limits, mount, strcmp(group + n, "/") == 0 ? "" : group + n);
    }
    free(line);
    if (in)
        fclose(in);
}

struct cgroup_limits cgroup_read(const char *root)
{
    struct cgroup_limits limits = {UINT64_MAX, INFINITY};
    char *line = NULL;
    size_t size = 0;
    FILE *in = open_text(root, "proc/self/cgroup");
    while (in && getline(&line, &size, in) > 0) { // NUMBER:CONTROLLERS:PATH
        char *controllers = strchr(line, ':'), *group;
        line[strcspn(line, "\n")] = 0;
        if (!controllers || !(group = strchr(++controllers, ':')))
            continue;
        *group++ = 0;
        read_hierarchy(&limits, root, controllers, group);
    }
    free(line);
    if (in)
        fclose(in);
    return limits;
}
