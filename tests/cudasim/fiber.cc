// Fibers: threads of execution, each with a stack of its own. SPDX-License-Identifier: MIT
//
// A switch pushes the registers, exchanges the stack pointer and pops the other fiber's registers;
// other processors than x86-64 use ucontext. Both inform AddressSanitizer.
#include <sys/mman.h>
#include <unistd.h>

#include <stdlib.h>

#include <new>

#include "sim.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__) && !defined(CUDASIM_UCONTEXT)
extern "C" void cudasim_swap(void **save, void *load);
asm(R"(
    .text
    .globl cudasim_swap
    .type cudasim_swap, @function
cudasim_swap:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size cudasim_swap, . - cudasim_swap
)");
#else
#include <ucontext.h>
#endif

namespace cudasim
{
struct fiber {
#if defined(__x86_64__) && !defined(CUDASIM_UCONTEXT)
    void *top;
#else
    ucontext_t context;
#endif
    const void *stack; // its lowest address
    size_t size;
    void *fake; // AddressSanitizer's fake stack
    void (*loop)();
    fiber *next; // in the list of idle fibers
};

static fiber *idle;
static fiber *arriving, *leaving; // in the current switch

static void finish_switch()
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(arriving->fake, &leaving->stack, &leaving->size);
#endif
}

static void enter()
{
    finish_switch();
    arriving->loop();
    abort();
}

static fiber *fiber_new(void (*loop)())
{
    constexpr size_t size = 256 << 10; // only pages that are used take memory
    const size_t page = sysconf(_SC_PAGESIZE);
    char *stack = static_cast<char *>(mmap(nullptr, size, PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (stack == MAP_FAILED || mprotect(stack, page, PROT_NONE) != 0) {
        perror("cudasim: no memory for a thread's stack");
        abort();
    }
    // Stacks that began at the same cache set would evict each other.
    static unsigned made;
    const size_t shift = (made++ * 5 % 61) * 64 + (sizeof(fiber) + 63) / 64 * 64;
    fiber *f = new (stack + size - shift) fiber();
    f->stack = stack + page;
    f->size = size - page - shift;
    f->loop = loop;
#if defined(__x86_64__) && !defined(CUDASIM_UCONTEXT)
    void **top = reinterpret_cast<void **>(stack + size - shift);
    *--top = nullptr; // where enter() would return to
    *--top = reinterpret_cast<void *>(enter);
    f->top = top - 6; // the registers that cudasim_swap pops
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = stack + page;
    f->context.uc_stack.ss_size = f->size;
    makecontext(&f->context, enter, 0);
#endif
    return f;
}

fiber *fiber_host()
{
    static fiber host;
    return &host;
}

fiber *fiber_take(void (*loop)())
{
    fiber *f = idle;
    if (!f)
        return fiber_new(loop);
    idle = f->next;
    return f;
}

void fiber_give(fiber *f)
{
    f->next = idle;
    idle = f;
}

void fiber_switch(fiber *from, fiber *to)
{
    leaving = from;
    arriving = to;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&from->fake, to->stack, to->size);
#endif
#if defined(__x86_64__) && !defined(CUDASIM_UCONTEXT)
    cudasim_swap(&from->top, to->top);
#else
    swapcontext(&from->context, &to->context);
#endif
    finish_switch();
}
} // namespace cudasim
