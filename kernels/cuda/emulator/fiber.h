// A stack of its own for every thread of an emulated block, and the switch between it and the scheduler.
#pragma once

#include <csetjmp>
#include <cstddef>
#include <ucontext.h>

namespace apiq::emulator {

class Fiber {
 public:
  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber();

  // Runs `body(argument)` up to its next suspend, or to its end. A fiber whose body ended begins anew at the next resume.
  void resume(void (*body)(void*), void* argument);
  // Called inside the body: back to the caller of resume.
  void suspend();
  // Gives up a body in the middle: nothing on its stack is destroyed.
  void abandon() { started_ = false; }

 private:
  static void run();
  void prepare();

  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
  std::byte* stack_ = nullptr;
  bool started_ = false;
  ucontext_t start_;
  jmp_buf inside_;
  jmp_buf outside_;
};

}  // namespace apiq::emulator
