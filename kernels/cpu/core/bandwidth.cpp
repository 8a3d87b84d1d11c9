#include "bandwidth.h"

#include <chrono>

namespace apiq::cpu {
namespace {

typedef uint64_t Lane __attribute__((vector_size(64)));

class ReadAll final : public Op {
 public:
  ReadAll(const std::byte* data, uint64_t bytes, uint32_t threads) : data_(data), lines_(bytes / sizeof(Lane)), threads_(threads) {}
  uint64_t items(uint32_t) const override { return threads_; }
  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    const Lane* line = reinterpret_cast<const Lane*>(data_);
    Lane sums[4] = {};
    uint64_t i = lines_ * begin / threads_;
    const uint64_t last = lines_ * end / threads_;
    for (; i + 4 <= last; i += 4) {
      for (int k = 0; k < 4; k++) sums[k] ^= line[i + k];
    }
    const Lane sum = sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
    asm volatile("" : : "m"(sum));  // keeps the loads
  }

 private:
  const std::byte* data_;
  uint64_t lines_;
  uint32_t threads_;
};

}  // namespace

double measure_bandwidth(Context& context, const Buffer& buffer, uint32_t threads) {
  if (threads == 0) threads = context.pool().threads();
  APIQ_REQUIRE(threads <= context.pool().threads(), "threads: received %u, the context has %u", threads, context.pool().threads());
  APIQ_REQUIRE(reinterpret_cast<uintptr_t>(buffer.data) % sizeof(Lane) == 0 && buffer.bytes >= 4 * sizeof(Lane) * threads,
               "the buffer is too small or not aligned to 64 bytes");
  ReadAll op(buffer.data, buffer.bytes, threads);
  const auto start = std::chrono::steady_clock::now();
  context.run_now(op, threads);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return static_cast<double>(buffer.bytes) / seconds;
}

}  // namespace apiq::cpu
