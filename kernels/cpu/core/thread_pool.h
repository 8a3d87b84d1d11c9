// A persistent team of threads that runs a list of ops as one parallel region.
//
//   caller   |op 0 phase 0|op 0 phase 1|op 1 ...|      returns
//   worker 1 |............|............|........|      spins a little, then sleeps
//                         ^            ^
//                         barriers: all items of a phase end before the next begins
//
// Items are taken from a shared counter, so a thread that loses its core for a while holds nobody up for long. Which
// thread runs an item never changes a result. A phase of one item is always worker 0's, and no barrier separates two of
// those in a row: small ops of a decode step cost no synchronisation among themselves.
#pragma once

#include <atomic>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "op.h"

namespace apiq::cpu {

struct Region {
  std::span<Op* const> ops;
  uint32_t workers = 1;
  std::byte* shared = nullptr;
  std::atomic<uint32_t> arrived{0};
  std::atomic<uint32_t> generation{0};
  std::atomic<uint64_t> next{0};  // first item nobody has taken
  std::atomic<apiq_status> status{APIQ_OK};
  std::string text;  // written by the one who moved `status` from APIQ_OK
};

class ThreadPool {
 public:
  explicit ThreadPool(uint32_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  uint32_t threads() const { return static_cast<uint32_t>(workers_.size()); }
  // Runs the ops in order on all threads, or on the first `limit` of them. Returns the first Worker::fail, if any. Throws
  // std::bad_alloc, before anything runs, where the memory that an op's threads share cannot be had.
  Failure run(std::span<Op* const> ops, uint32_t limit = UINT32_MAX);
  uint64_t scratch_bytes() const;

 private:
  void serve(uint32_t index);
  void share_memory(std::span<Op* const> ops);

  std::vector<Worker> workers_;
  std::vector<std::thread> threads_;
  Region region_;
  Worker shared_;  // holds the region's shared memory
  std::atomic<uint32_t> launches_{0};  // bumped to start a region
  std::atomic<uint32_t> running_{0};   // workers that have not left the region yet
  std::atomic<bool> stopping_{false};
};

}  // namespace apiq::cpu
