// What -fsanitize=alignment,bounds,shift-exponent,integer-divide-by-zero finds before it happens: wide loads that are not
// aligned, indices beyond an array even if what follows is in bounds too, shifts by 32 and more. The sanitizer's own
// library is not linked.
#include "machine.h"

namespace CODER_NAMESPACE {

// What every description that the compiler passes begins with.
struct Description {
  const char *file;
  uint32_t line, column;
};

static void undefined(const Description *at, const std::string &what) {
  if (!core.name) return;  // a launcher's
  fault(what + " [" + at->file + ":" + std::to_string(at->line) + "]");
}

}  // namespace CODER_NAMESPACE

using namespace CODER_NAMESPACE;

extern "C" {

void __ubsan_handle_type_mismatch_v1(const Description *at, void *address) {
  if (core.name) undefined(at, "accesses " + describe(*core.machine, address) + ": misaligned");
}
void __ubsan_handle_out_of_bounds(const Description *at, void *index) {
  undefined(at, "takes element " + std::to_string(intptr_t(index)) + " of an array: outside");
}
void __ubsan_handle_shift_out_of_bounds(const Description *at, void *, void *by) {
  undefined(at, "shifts by " + std::to_string(intptr_t(by)));
}
void __ubsan_handle_divrem_overflow(const Description *at, void *, void *) { undefined(at, "divides by zero"); }

}  // extern "C"
