// Some systems fortify longjmp by default, which then takes a jump to another stack for an error.
#undef _FORTIFY_SOURCE
#include "fiber.h"

#include <sys/mman.h>

#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(address, size) static_cast<void>(address)
#endif

namespace apiq::emulator {
namespace {

constexpr size_t stack_bytes = 128u << 10;
constexpr size_t guard_bytes = 4u << 10;

// makecontext passes ints only, so the fiber that starts is named here.
thread_local Fiber* starting = nullptr;

}  // namespace

Fiber::~Fiber() {
  if (stack_ != nullptr) munmap(stack_, stack_bytes + guard_bytes);
}

void Fiber::prepare() {
  if (stack_ == nullptr) {
    void* const mapped = mmap(nullptr, stack_bytes + guard_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    stack_ = static_cast<std::byte*>(mapped);
    mprotect(stack_, guard_bytes, PROT_NONE);  // stacks grow down: an overflow faults instead of spilling into a neighbour
  }
  getcontext(&start_);
  start_.uc_stack.ss_sp = stack_ + guard_bytes;
  start_.uc_stack.ss_size = stack_bytes;
  start_.uc_link = nullptr;
  makecontext(&start_, &Fiber::run, 0);
}

void Fiber::run() {
  Fiber& self = *starting;
  for (;;) {
    // Frames that an exception or an abandoned body left behind: AddressSanitizer does not see fibers come and go.
    ASAN_UNPOISON_MEMORY_REGION(self.stack_ + guard_bytes, stack_bytes);
    self.body_(self.argument_);
    self.suspend();
  }
}

// ucontext makes the first switch only: its switches cost a system call, those of _setjmp do not.
void Fiber::resume(void (*body)(void*), void* argument) {
  body_ = body;
  argument_ = argument;
  if (!started_) prepare();
  if (_setjmp(outside_) != 0) return;
  if (started_) _longjmp(inside_, 1);
  started_ = true;
  starting = this;
  setcontext(&start_);
}

void Fiber::suspend() {
  if (_setjmp(inside_) == 0) _longjmp(outside_, 1);
}

}  // namespace apiq::emulator
