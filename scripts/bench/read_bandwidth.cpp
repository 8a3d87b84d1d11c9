// Measures how fast this machine reads memory, the yardstick of a decode step: every thread sums a range of its own,
// one sequential stream over huge pages. Prints one JSON object with the median and the best pass.
//
//   g++ -std=c++20 -O3 -pthread read_bandwidth.cpp -o read_bandwidth
//   read_bandwidth THREADS
#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <thread>
#include <vector>

namespace {

constexpr size_t kBytes = size_t{1} << 30;  // far larger than any cache
constexpr int kPasses = 9;                  // the first one warms up

std::atomic<uint64_t> sink;  // keeps the sums alive

#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
uint64_t sum(const uint64_t* words, size_t count) {
  uint64_t total = 0;
  for (size_t i = 0; i < count; ++i) total += words[i];
  return total;
}

}  // namespace

int main(int count, char** values) {
  const int threads = count == 2 ? std::atoi(values[1]) : 0;
  if (threads < 1) {
    std::fprintf(stderr, "Cannot measure: expected one argument, the number of threads\n");
    return 1;
  }
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    std::fprintf(stderr, "Cannot measure: no memory for %zu bytes\n", kBytes);
    return 1;
  }
  madvise(memory, kBytes, MADV_HUGEPAGE);
  std::memset(memory, 1, kBytes);

  const auto* words = static_cast<const uint64_t*>(memory);
  const size_t words_each = kBytes / sizeof(uint64_t) / threads;
  std::barrier pass_edge(threads + 1);
  std::vector<std::thread> readers;
  for (int thread = 0; thread < threads; ++thread) {
    readers.emplace_back([&, thread] {
      for (int pass = 0; pass < kPasses; ++pass) {
        pass_edge.arrive_and_wait();
        sink += sum(words + thread * words_each, words_each);
        pass_edge.arrive_and_wait();
      }
    });
  }
  std::vector<double> seconds;
  for (int pass = 0; pass < kPasses; ++pass) {
    pass_edge.arrive_and_wait();
    const auto start = std::chrono::steady_clock::now();
    pass_edge.arrive_and_wait();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (pass > 0) seconds.push_back(elapsed.count());
  }
  for (auto& reader : readers) reader.join();

  std::sort(seconds.begin(), seconds.end());
  const double bytes = static_cast<double>(words_each * threads * sizeof(uint64_t));
  std::printf("{\"threads\":%d,\"bytesPerSecond\":%.0f,\"bestBytesPerSecond\":%.0f}\n", threads,
              bytes / seconds[seconds.size() / 2], bytes / seconds.front());
}
