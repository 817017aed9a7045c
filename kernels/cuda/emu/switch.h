// Fibers: functions with stacks of their own that give way to one another. A suspended fiber is the address of what it
// left on its stack.
//
// The switch is inlined where it is used and ends in an indirect jump instead of a return, which a processor predicts,
// as all fibers are suspended in the same few places. What a call preserves is preserved; floating point modes
// are common to all fibers.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

namespace coder_emu {

#if defined(__x86_64__)

// Leaves this fiber in `*from` and goes on with `to`.
static inline __attribute__((always_inline)) void switch_fiber(void **from, void *to) {
  asm volatile(
      "leaq -128(%%rsp), %%rsp\n"  // a leaf function may use as much below the stack's end
      "pushq %%rbp\n"
      "pushq %%rbx\n"
      "leaq 1f(%%rip), %%rax\n"
      "pushq %%rax\n"
      "movq %%rsp, (%%rdi)\n"
      "movq %%rsi, %%rsp\n"
      "popq %%rax\n"
      "jmpq *%%rax\n"
      "1:\n"
      "popq %%rbx\n"
      "popq %%rbp\n"
      "leaq 128(%%rsp), %%rsp\n"
      : "+D"(from), "+S"(to)
      :
      : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4",
        "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc", "memory");
}

// A fiber that will run `entry`, which never returns, below `top`.
static inline void *new_fiber(char *top, size_t, void (*entry)()) {
  uintptr_t *frame = reinterpret_cast<uintptr_t *>(uintptr_t(top) & ~uintptr_t(63)) - 4;
  frame[0] = uintptr_t(entry);
  frame[1] = 0;  // where a return address would lie
  return frame;
}

#elif defined(__aarch64__)

static inline __attribute__((always_inline)) void switch_fiber(void **from, void *to) {
  register void **x0 asm("x0") = from;
  register void *x1 asm("x1") = to;
  asm volatile(
      "adr x9, 1f\n"
      "stp x19, x29, [sp, #-32]!\n"
      "str x9, [sp, #16]\n"
      "mov x10, sp\n"
      "str x10, [x0]\n"
      "mov sp, x1\n"
      "ldr x9, [sp, #16]\n"
      "br x9\n"
      "1:\n"
      "ldp x19, x29, [sp], #32\n"
      : "+r"(x0), "+r"(x1)
      :
      : "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "x18", "x20", "x21",
        "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x30", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9",
        "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26",
        "v27", "v28", "v29", "v30", "v31", "cc", "memory");
}

static inline void *new_fiber(char *top, size_t, void (*entry)()) {
  uintptr_t *frame = reinterpret_cast<uintptr_t *>(uintptr_t(top) & ~uintptr_t(63)) - 8;
  frame[2] = uintptr_t(entry);
  return frame;
}

#else  // slower, as each switch is a system call

static inline void switch_fiber(void **from, void *to) {
  ucontext_t here;
  *from = &here;
  swapcontext(&here, static_cast<ucontext_t *>(to));
}

static inline void *new_fiber(char *top, size_t bytes, void (*entry)()) {
  char *at = reinterpret_cast<char *>((uintptr_t(top) - sizeof(ucontext_t)) & ~uintptr_t(63));
  ucontext_t *fiber = reinterpret_cast<ucontext_t *>(at);
  getcontext(fiber);
  fiber->uc_stack.ss_sp = top - bytes;
  fiber->uc_stack.ss_size = bytes - size_t(top - at);
  fiber->uc_link = nullptr;
  makecontext(fiber, entry, 0);
  return fiber;
}

#endif

}  // namespace coder_emu
