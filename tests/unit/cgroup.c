// The limits of control groups are found in made-up trees of /proc and /sys.
// SPDX-License-Identifier: MIT
#include "lib/base/cgroup.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/tap.h"

#define MIB ((uint64_t)1 << 20)

static char root[] = "/tmp/cgroup-XXXXXX";

// Writes a file of the tree; its folders are made.
static void put(const char *path, const char *text)
{
    char name[512];
    int n = snprintf(name, sizeof name, "%s/%s", root, path);
    for (char *slash = name + strlen(root) + 1; slash < name + n && (slash = strchr(slash, '/'));) {
        *slash = 0;
        mkdir(name, 0777);
        *slash++ = '/';
    }
    FILE *out = fopen(name, "w");
    if (!out || fputs(text, out) < 0 || fclose(out) != 0)
        abort();
}

static void begin(void)
{
    strcpy(root, "/tmp/cgroup-XXXXXX");
    if (!mkdtemp(root))
        abort();
}

static struct cgroup_limits end(void)
{
    struct cgroup_limits limits = cgroup_read(root);
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", root);
    if (system(command) != 0)
        abort();
    return limits;
}

static void put_v2(void)
{
    put("proc/self/cgroup", "0::/job/step\n");
    put("proc/self/mountinfo",
        "21 1 8:1 / / rw - ext4 /dev/sda rw\n"
        "29 22 0:26 / /cg rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
}

static void test_version_2(void)
{
    begin();
    put_v2();
    put("cg/job/step/memory.max", "max\n");
    put("cg/job/step/memory.current", "0\n");
    put("cg/job/memory.max", "104857600\n");
    put("cg/job/memory.high", "max\n");
    put("cg/job/memory.current", "62914560\n");
    put("cg/job/memory.stat", "anon 3\ninactive_file 10485760\nactive_file 5242880\n");
    put("cg/job/step/cpu.max", "250000 100000\n");
    put("cg/job/cpu.max", "max 100000\n");
    struct cgroup_limits limits = end();
    ok(limits.memory == 55 * MIB, "version 2: what the group above has left is its limit less its "
                                  "use, without pages of files");
    ok(limits.processors == 2.5, "version 2: the quota of processors");

    begin();
    put_v2();
    put("cg/job/step/memory.max", "104857600\n");
    put("cg/job/step/memory.high", "52428800\n");
    put("cg/job/step/memory.current", "1048576\n");
    put("cg/job/cpu.max", "50000 100000\n");
    put("cg/job/step/cpu.max", "400000 100000\n");
    limits = end();
    ok(limits.memory == 49 * MIB, "version 2: memory.high is a limit, too");
    ok(limits.processors == 0.5, "version 2: the smaller quota of two groups counts");

    begin();
    put_v2();
    put("cg/job/memory.max", "1048576\n");
    put("cg/job/memory.current", "2097152\n");
    limits = end();
    ok(limits.memory == 0, "a group that is over its limit has nothing left");
    ok(isinf(limits.processors), "a group without a quota sets no limit");
}

static void test_version_1(void)
{
    begin();
    put("proc/self/cgroup",
        "9:name=systemd:/slurm/job\n4:memory:/slurm/job\n2:cpu,cpuacct:/slurm\n0::/\n");
    put("proc/self/mountinfo",
        "31 23 0:28 / /cg rw - tmpfs tmpfs rw\n"
        "32 31 0:29 / /cg/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
        "35 31 0:32 / /cg/memory rw,relatime - cgroup cgroup rw,memory\n"
        "41 31 0:38 / /cg/unified rw,relatime - cgroup2 cgroup2 rw\n");
    put("cg/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("cg/memory/slurm/memory.limit_in_bytes", "1073741824\n");
    put("cg/memory/slurm/memory.usage_in_bytes", "536870912\n");
    put("cg/memory/slurm/job/memory.limit_in_bytes", "209715200\n");
    put("cg/memory/slurm/job/memory.usage_in_bytes", "104857600\n");
    put("cg/memory/slurm/job/memory.stat", "inactive_file 1\ntotal_inactive_file 41943040\n");
    put("cg/cpu,cpuacct/slurm/cpu.cfs_quota_us", "150000\n");
    put("cg/cpu,cpuacct/slurm/cpu.cfs_period_us", "100000\n");
    put("cg/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    put("cg/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    struct cgroup_limits limits = end();
    ok(limits.memory == 140 * MIB, "version 1: the group with the least memory left counts");
    ok(limits.processors == 1.5, "version 1: the quota of processors");
}

static void test_container(void)
{
    begin();
    put("proc/self/cgroup", "4:memory:/docker/abc/inner\n");
    put("proc/self/mountinfo", "35 31 0:32 /docker/abc /cg/memory ro - cgroup cgroup rw,memory\n"
                               "36 31 0:32 /docker/other /other ro - cgroup cgroup rw,memory\n");
    put("cg/memory/memory.limit_in_bytes", "1048576\n");
    put("cg/memory/memory.usage_in_bytes", "0\n");
    put("other/memory.limit_in_bytes", "4096\n");
    struct cgroup_limits limits = end();
    ok(limits.memory == MIB, "a container that sees a part of the hierarchy finds its limit there");
}

static void test_nothing(void)
{
    begin();
    struct cgroup_limits limits = end();
    ok(limits.memory == UINT64_MAX && isinf(limits.processors), "without /proc there is no limit");
    begin();
    put("proc/self/cgroup", "0::/job\nnonsense\n:\n4:memory\n");
    put("proc/self/mountinfo", "- - -\n\n29 22 0:26 / /cg rw - cgroup2\n1 - cgroup2 x rw\n"
                               "29 22 0:26 / /cg rw - cgroup2 cgroup2 rw\n");
    put("cg/job/memory.max", "many\n");
    put("cg/job/cpu.max", "100000 0\n");
    limits = end();
    ok(limits.memory == UINT64_MAX && isinf(limits.processors),
       "what cannot be read sets no limit");
}

int main(void)
{
    test_version_2();
    test_version_1();
    test_container();
    test_nothing();
    return tap_done();
}
