// The block emulator: runs a kernel's blocks one after another on the host, every thread a fiber.
//
// Between two barriers the order of threads is drawn anew (seeded), and so is the order of blocks in the grid. What a GPU may
// do silently is a Fault here: a barrier or warp collective that not all threads reach, or that they reach at different places.
// Not emulated: races between blocks, and the weaker orders that global memory allows.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include "fiber.h"
#include "shared_memory.h"

namespace apiq::emulator {

constexpr uint32_t max_threads = 1024;

struct Shape {
  uint32_t grid_x = 1;
  uint32_t grid_y = 1;
  uint32_t threads = warp_size;  // of a block, a multiple of 32
  uint32_t shared_bytes = 0;     // dynamic
};

using Site = std::source_location;
enum class Collective : uint32_t { shuffle, ballot, sync_warp };

class Block {
 public:
  // Runs `body(argument)` once for each thread of each block.
  void run_grid(const Shape& shape, void (*body)(const void*), const void* argument);

  uint32_t thread() const { return current_; }
  uint32_t lane() const { return current_ % warp_size; }
  uint32_t threads() const { return shape_.threads; }
  uint32_t index_x() const { return index_x_; }
  uint32_t index_y() const { return index_y_; }

  SharedMemory& shared() { return shared_; }
  Access access() const { return {current_, block_epoch_, warps_[current_ / warp_size].epoch}; }

  // All threads of the block, at the same place of the source.
  void barrier(const Site& site);
  // All lanes of the warp, at the same place. Returns what each lane brought.
  const std::array<uint32_t, warp_size>& collect(Collective kind, uint32_t value, const Site& site);

 private:
  enum class State : uint8_t { ready, at_barrier, in_collective, ended };
  struct Thread {
    Fiber fiber;
    State state = State::ended;
    Site site;
  };
  struct Warp {
    uint32_t arrived = 0;
    uint32_t epoch = 0;  // counts __syncwarp
    Collective kind{};
    Site site;
    // Two sets in turn: a lane may bring its next value while a slower one has not read this one.
    std::array<uint32_t, warp_size> brought[2]{};
    uint32_t turn = 0;
  };

  static void thread_main(void* block);
  void run_block();
  void wait(State state, const Site& site);
  [[noreturn]] void report_deadlock() const;
  uint64_t random();

  std::vector<std::unique_ptr<Thread>> pool_;
  std::vector<Warp> warps_;
  SharedMemory shared_;
  Shape shape_;
  void (*body_)(const void*) = nullptr;
  const void* argument_ = nullptr;
  uint32_t index_x_ = 0;
  uint32_t index_y_ = 0;
  uint32_t current_ = 0;
  uint32_t block_epoch_ = 0;
  uint32_t at_barrier_ = 0;
  uint32_t running_ = 0;  // threads that have not ended
  uint64_t random_state_ = 0;
  bool faulted_ = false;
  std::string fault_;
};

// The block that the calling OS thread emulates; each OS thread has one.
Block& current_block();

// The orders of threads and blocks in a launch are a function of its shape and of this. At start: APIQ_EMULATOR_SEED, or 1.
void set_seed(uint64_t seed);

}  // namespace apiq::emulator
