// An op of the CPU backend: validated once, then run by all threads of the pool, one phase after another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "../../common/failure.h"

namespace apiq::cpu {

// One thread's view of a running region.
class Worker {
 public:
  uint32_t index = 0;  // 0 is the caller's thread
  uint32_t count = 1;
  // Uninitialised memory of this thread, valid until the current Op::run returns; 64-byte aligned. One request at a time.
  std::byte* scratch(size_t bytes);
  // Records an asynchronous failure (the first one wins); the next synchronize, download or launch reports it.
  void fail(apiq_status status, const char* text);

  // Uninitialised memory of the op that runs, the same for all threads and phases: Op::shared_bytes() of it, 64-byte aligned.
  std::byte* shared() const;

  struct Region* region = nullptr;  // set by the pool
  size_t scratch_bytes() const { return capacity_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  size_t capacity_ = 0;
};

class Op {
 public:
  virtual ~Op() = default;
  virtual uint32_t phases() const { return 1; }
  // How many items of independent work a phase has. Called by every thread and at every launch: it must be cheap and
  // depend on recorded shapes only.
  virtual uint64_t items(uint32_t phase) const = 0;
  // How many neighbouring items a thread takes at once.
  virtual uint64_t grain(uint32_t /*phase*/) const { return 1; }
  // How much memory the threads share while the op runs. What it holds is gone when the next op begins.
  virtual uint64_t shared_bytes() const { return 0; }
  // Items [begin, end) of a phase. All items of a phase end before the next phase begins. Must not throw.
  virtual void run(uint32_t phase, uint64_t begin, uint64_t end, Worker& worker) = 0;
};

}  // namespace apiq::cpu
