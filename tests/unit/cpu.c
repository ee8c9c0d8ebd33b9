// The instruction set is found from what the processor and the system say, and DIT_CPU limits it.
// SPDX-License-Identifier: MIT
#include "lib/base/cpu.h"

#include "lib/base/error.h"
#include "tests/tap.h"

// A processor with AVX-512 and AVX512_BF16, under a system that saves all its registers.
static const struct cpu_features whole = {0x28001000, 0xd0030020, 0x20, 0xe7};

static void lacks(struct cpu_features features, enum cpu_isa isa, const char *name)
{
    const char *what = cpu_lacks(&features, isa);
    ok(what && strcmp(what, name) == 0, "for instruction set %d one that lacks %s is refused", isa,
       name);
    ok(!cpu_lacks(&features, isa - 1), "... and is not for the one below");
}

static void test_features(void)
{
    static const struct {
        unsigned bit;
        const char *name;
    } avx512[] = {{16, "AVX-512 F"},
                  {17, "AVX-512 DQ"},
                  {28, "AVX-512 CD"},
                  {30, "AVX-512 BW"},
                  {31, "AVX-512 VL"}};
    struct cpu_features f = {0};
    ok(!cpu_lacks(&f, CPU_GENERIC), "every processor does for the generic code");
    ok(!cpu_lacks(&whole, CPU_AVX512BF16), "a processor that has all does for AVX512_BF16");
    f = whole, f.leaf7_ebx &= ~(1u << 5), lacks(f, CPU_AVX2, "AVX2");
    f = whole, f.leaf1_ecx &= ~(1u << 12), lacks(f, CPU_AVX2, "FMA");
    f = whole, f.leaf1_ecx &= ~(1u << 29), lacks(f, CPU_AVX2, "F16C");
    f = whole, f.xcr0 = 3, lacks(f, CPU_AVX2, "a system that saves the registers of AVX");
    f = whole, f.xcr0 = 7, lacks(f, CPU_AVX512, "a system that saves the registers of AVX-512");
    f = whole, f.leaf7_1_eax = 0, lacks(f, CPU_AVX512BF16, "AVX512_BF16");
    for (size_t i = 0; i < sizeof avx512 / sizeof *avx512; i++) {
        f = whole, f.leaf7_ebx &= ~(1u << avx512[i].bit);
        lacks(f, CPU_AVX512, avx512[i].name);
    }
}

static void refuses(const char *value, const char *text)
{
    setenv("DIT_CPU", value, 1);
    ok(cpu_check() < 0 && error_status() == STATUS_USAGE && strstr(error_message(), text),
       "DIT_CPU='%s' is refused", value);
    diag("%s", error_message());
}

static void test_limit(void)
{
    static const char *const names[] = {"generic", "avx2", "avx512", "avx512bf16"};
    unsetenv("DIT_CPU");
    ok(cpu_check() == 0, "no DIT_CPU is no limit");
    refuses("", "expected generic, avx2, avx512 or avx512bf16");
    refuses("avx", "DIT_CPU is 'avx'; expected generic, avx2, avx512 or avx512bf16");
    refuses("AVX2", "expected generic, avx2, avx512 or avx512bf16");
    const enum cpu_isa best = cpu_isa();
    for (enum cpu_isa isa = CPU_GENERIC; isa <= CPU_AVX512BF16; isa++) {
        setenv("DIT_CPU", names[isa], 1);
        if (isa <= best)
            ok(cpu_check() == 0, "DIT_CPU=%s is taken by a processor that has it", names[isa]);
        else
            refuses(names[isa], "but this processor lacks");
    }
}

int main(void)
{
    test_features();
    test_limit();
    return tap_done();
}
