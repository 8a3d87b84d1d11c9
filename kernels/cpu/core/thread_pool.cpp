#include "thread_pool.h"

#include <algorithm>
#include <new>

namespace apiq::cpu {
namespace {

// About 50 microseconds: longer than a barrier inside a step ever takes, shorter than anyone would notice on a core that
// something else wants.
constexpr uint32_t spin_limit = 2000;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Waits until `value` differs from `old`: spins for a bounded time, then sleeps on a futex.
void await_change(const std::atomic<uint32_t>& value, uint32_t old) {
  for (uint32_t i = 0; i < spin_limit; i++) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause();
  }
  value.wait(old, std::memory_order_acquire);
}

void barrier(Region& region) {
  const uint32_t generation = region.generation.load(std::memory_order_relaxed);
  if (region.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == region.workers) {
    region.arrived.store(0, std::memory_order_relaxed);
    region.next.store(0, std::memory_order_relaxed);
    region.generation.store(generation + 1, std::memory_order_release);
    region.generation.notify_all();
  } else {
    await_change(region.generation, generation);
  }
}

// An op that fails to get memory ends as a status, on whichever thread it happens.
void run_items(Op& op, uint32_t phase, uint64_t begin, uint64_t end, Worker& worker) {
  try {
    op.run(phase, begin, end, worker);
  } catch (const std::bad_alloc&) {
    worker.fail(APIQ_OUT_OF_MEMORY, "out of host memory for an op's scratch");
  }
}

// Whether a phase is worked on by several threads.
bool is_shared(const Op& op, uint32_t phase) { return op.items(phase) > std::max<uint64_t>(op.grain(phase), 1); }

bool has_shared_phase(std::span<Op* const> ops) {
  for (const Op* op : ops) {
    for (uint32_t phase = 0; phase < op->phases(); phase++) {
      if (is_shared(*op, phase)) return true;
    }
  }
  return false;
}

void run_region(Region& region, Worker& worker) {
  bool after_shared_phase = false;  // the previous phase was worked on by several threads
  bool first = true;
  for (Op* op : region.ops) {
    const uint32_t phases = op->phases();
    for (uint32_t phase = 0; phase < phases; phase++) {
      const uint64_t items = op->items(phase);
      const uint64_t grain = std::max<uint64_t>(op->grain(phase), 1);
      const bool shared = region.workers > 1 && is_shared(*op, phase);
      if (!first && (shared || after_shared_phase) && region.workers > 1) barrier(region);
      first = false;
      after_shared_phase = shared;
      if (!shared) {
        if (worker.index == 0 && items > 0) run_items(*op, phase, 0, items, worker);
        continue;
      }
      for (;;) {
        const uint64_t begin = region.next.fetch_add(grain, std::memory_order_relaxed);
        if (begin >= items) break;
        run_items(*op, phase, begin, std::min(begin + grain, items), worker);
      }
    }
  }
}

}  // namespace

std::byte* Worker::scratch(size_t bytes) {
  if (bytes > capacity_) {
    const size_t rounded = (bytes + 4095) / 4096 * 4096;
    memory_.reset();
    capacity_ = 0;
    memory_.reset(static_cast<std::byte*>(std::aligned_alloc(64, rounded)));
    if (memory_ == nullptr) throw std::bad_alloc();
    capacity_ = rounded;
  }
  return memory_.get();
}

std::byte* Worker::shared() const { return region->shared; }

void Worker::fail(apiq_status status, const char* text) {
  apiq_status expected = APIQ_OK;
  if (region->status.compare_exchange_strong(expected, status)) region->text = text;
}

ThreadPool::ThreadPool(uint32_t threads) : workers_(threads) {
  for (uint32_t i = 0; i < threads; i++) {
    workers_[i].index = i;
    workers_[i].count = threads;
    workers_[i].region = &region_;
  }
  for (uint32_t i = 1; i < threads; i++) threads_.emplace_back([this, i] { serve(i); });
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_relaxed);
  launches_.fetch_add(1, std::memory_order_release);
  launches_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::serve(uint32_t index) {
  uint32_t seen = 0;
  for (;;) {
    await_change(launches_, seen);
    seen = launches_.load(std::memory_order_acquire);
    if (stopping_.load(std::memory_order_relaxed)) return;
    if (index < region_.workers) run_region(region_, workers_[index]);
    running_.fetch_sub(1, std::memory_order_acq_rel);
    running_.notify_all();
  }
}

void ThreadPool::share_memory(std::span<Op* const> ops) {
  uint64_t bytes = 0;
  for (const Op* op : ops) bytes = std::max(bytes, op->shared_bytes());
  region_.shared = bytes == 0 ? nullptr : shared_.scratch(bytes);
}

Failure ThreadPool::run(std::span<Op* const> ops, uint32_t limit) {
  share_memory(ops);
  region_.ops = ops;
  // Waking the others costs more than a small op.
  region_.workers = has_shared_phase(ops) ? std::min(threads(), std::max(limit, 1u)) : 1;
  region_.next.store(0, std::memory_order_relaxed);
  region_.status.store(APIQ_OK, std::memory_order_relaxed);
  const bool alone = region_.workers == 1;
  if (!alone) {
    running_.store(threads() - 1, std::memory_order_relaxed);
    launches_.fetch_add(1, std::memory_order_release);
    launches_.notify_all();
  }
  run_region(region_, workers_[0]);
  while (!alone) {
    const uint32_t left = running_.load(std::memory_order_acquire);
    if (left == 0) break;
    await_change(running_, left);
  }
  const apiq_status status = region_.status.load(std::memory_order_acquire);
  return {status, status == APIQ_OK ? std::string() : region_.text};
}

uint64_t ThreadPool::scratch_bytes() const {
  uint64_t sum = shared_.scratch_bytes();
  for (const Worker& worker : workers_) sum += worker.scratch_bytes();
  return sum;
}

}  // namespace apiq::cpu
