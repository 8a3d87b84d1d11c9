// The emulator itself: planted faults are caught in every order of threads, and right kernels are left alone.
#include "../../device.cuh"
#include "check.h"

namespace apiq::cuda {
namespace {

using test::check;
using test::check_contains;
using test::Register;

constexpr uint64_t seeds = 20;

struct Args {
  Global<float> out;
};

// Device memory of some floats.
class Floats {
 public:
  explicit Floats(uint64_t count) : data(reinterpret_cast<float*>(emulator::allocate(count * sizeof(float)))), count(count) {}
  ~Floats() { emulator::release(reinterpret_cast<std::byte*>(data)); }
  float* const data;
  const uint64_t count;
};

// The fault's text, or "" when there was none.
std::string run(void (*kernel)(Args), const emulator::Shape& shape, const Floats& out) {
  struct Call {
    void (*kernel)(Args);
    Args args;
  } call{kernel, {{out.data, out.count}}};
  try {
    emulator::current_block().run_grid(
        shape,
        [](const void* argument) {
          const Call& self = *static_cast<const Call*>(argument);
          self.kernel(self.args);
        },
        &call);
  } catch (const emulator::Fault& fault) {
    return fault.text;
  }
  return "";
}

void expect_fault(void (*kernel)(Args), const std::string& part, uint32_t shared_bytes = 0) {
  for (uint64_t seed = 1; seed <= seeds; seed++) {
    emulator::set_seed(seed);
    const Floats out(64);
    check_contains(run(kernel, {1, 1, 64, shared_bytes}, out), part);
  }
  emulator::set_seed(1);
}

void expect_no_fault(void (*kernel)(Args), uint32_t shared_bytes = 0) {
  for (uint64_t seed = 1; seed <= seeds; seed++) {
    emulator::set_seed(seed);
    const Floats out(64);
    const std::string fault = run(kernel, {1, 1, 64, shared_bytes}, out);
    check(fault.empty(), fault);
  }
  emulator::set_seed(1);
}

// ---- right kernels -------------------------------------------------------------------------------

APIQ_KERNEL(64) reverses_through_shared_memory(Args a) {
  APIQ_SHARED(float, values, 64);
  const uint32_t i = thread_index();
  values.store(i, static_cast<float>(i));
  sync_block();
  a.out.store(i, values.load(63 - i));
  sync_block();
  values.store(i, 0.0f);
}

APIQ_KERNEL(64) neighbours_within_a_warp(Args a) {
  const Shared<float> values = dynamic_shared<float>(0, 64);
  const uint32_t i = thread_index();
  values.store(i, static_cast<float>(i));
  sync_warp();
  a.out.store(i, values.load(i ^ 1));
  sync_warp();
  values.store(i ^ 1, 0.0f);
}

APIQ_KERNEL(64) collectives(Args a) {
  const uint32_t i = thread_index();
  const uint32_t lane = i % warp_threads;
  const float sum = warp_sum(static_cast<float>(lane));
  const float above = shuffle_down(static_cast<float>(lane), 3);
  const uint32_t odd = ballot(lane % 2 == 1);
  a.out.store(i, sum == 496.0f && above == static_cast<float>(lane < 29 ? lane + 3 : lane) && odd == 0xaaaaaaaau ? 1.0f : 0.0f);
}

APIQ_KERNEL(64) counts_atomically(Args a) { a.out.add_atomically(0, 1.0f); }

APIQ_KERNEL(64) marks_its_block(Args a) {
  if (thread_index() == 0) a.out.add_atomically(block_index_y() * 5 + block_index_x(), 1.0f);
}

const Register right_kernels("emulator: right kernels run without a fault", [] {
  expect_no_fault(reverses_through_shared_memory);
  expect_no_fault(neighbours_within_a_warp, 64 * sizeof(float));
  expect_no_fault(collectives);
});

const Register right_results("emulator: results, atomics and every block of a grid once", [] {
  const Floats out(64);
  check(run(reverses_through_shared_memory, {1, 1, 64, 0}, out).empty(), "fault");
  for (uint32_t i = 0; i < 64; i++) check(out.data[i] == static_cast<float>(63 - i), "reversed");
  check(run(collectives, {1, 1, 64, 0}, out).empty(), "fault");
  for (uint32_t i = 0; i < 64; i++) check(out.data[i] == 1.0f, "collectives");
  const Floats count(1);
  check(run(counts_atomically, {3, 2, 64, 0}, count).empty(), "fault");
  check(count.data[0] == 384.0f, "atomic additions");
  const Floats marks(15);
  check(run(marks_its_block, {5, 3, 64, 0}, marks).empty(), "fault");
  for (uint32_t i = 0; i < 15; i++) check(marks.data[i] == 1.0f, "blocks");
});

// ---- planted faults ------------------------------------------------------------------------------

APIQ_KERNEL(64) reads_past_shared(Args a) {
  APIQ_SHARED(float, values, 64);
  values.store(thread_index(), 0.0f);
  sync_block();
  a.out.store(thread_index(), values.load(thread_index() + 1));
}
APIQ_KERNEL(64) writes_past_shared(Args) {
  APIQ_SHARED(float, values, 63);
  values.store(thread_index(), 0.0f);
}
APIQ_KERNEL(64) reads_past_global(Args a) { a.out.store(0, a.out.load(thread_index() + 1)); }
APIQ_KERNEL(64) loads_misaligned(Args a) { a.out.store(0, a.out.load4(2).x); }
APIQ_KERNEL(64) takes_too_much_dynamic(Args) { dynamic_shared<float>(64, 64); }
APIQ_KERNEL(64) reads_uninitialised(Args a) {
  APIQ_SHARED(float, values, 64);
  a.out.store(thread_index(), values.load(thread_index()));
}
APIQ_KERNEL(64) misses_barrier_before_read(Args a) {
  APIQ_SHARED(float, values, 64);
  values.store(thread_index(), 1.0f);
  sync_warp();  // orders a warp, not the block
  a.out.store(thread_index(), values.load(63 - thread_index()));
}
APIQ_KERNEL(64) misses_barrier_before_write(Args a) {
  APIQ_SHARED(float, values, 64);
  values.store(thread_index(), 1.0f);
  sync_block();
  a.out.store(thread_index(), values.load(63 - thread_index()));
  values.store(thread_index(), 2.0f);
}
APIQ_KERNEL(64) relies_on_warp_order(Args a) {
  APIQ_SHARED(float, values, 64);
  values.store(thread_index(), 1.0f);
  a.out.store(thread_index(), values.load(thread_index() ^ 1));
}
APIQ_KERNEL(64) half_the_block_waits(Args) {
  if (thread_index() < 32) sync_block();
}
APIQ_KERNEL(64) waits_at_two_places(Args) {
  if (thread_index() < 32) {
    sync_block();
  } else {
    sync_block();
  }
}
APIQ_KERNEL(64) half_the_warp_shuffles(Args a) {
  if (thread_index() % 2 == 0) a.out.store(0, shuffle_xor(1.0f, 2));
}
APIQ_KERNEL(64) warp_in_two_collectives(Args a) {
  a.out.store(thread_index(), thread_index() % 2 == 0 ? shuffle_xor(1.0f, 2) : static_cast<float>(ballot(true)));
}

const Register bounds("emulator: catches accesses out of bounds and misaligned", [] {
  expect_fault(reads_past_shared, "shared read out of bounds: thread 63, element 64 of an array of 64");
  expect_fault(writes_past_shared, "shared write out of bounds");
  expect_fault(reads_past_global, "global read out of bounds: thread 63, element 64 of a span of 64");
  expect_fault(loads_misaligned, "misaligned 16-byte read");
  expect_fault(takes_too_much_dynamic, "reach past the 256 bytes of dynamic shared memory", 256);
});

const Register uninitialised("emulator: catches a read of uninitialised shared memory",
                             [] { expect_fault(reads_uninitialised, "which nobody wrote"); });

const Register races("emulator: catches a missing barrier in every order of threads", [] {
  for (void (*kernel)(Args) : {misses_barrier_before_read, misses_barrier_before_write, relies_on_warp_order}) {
    for (uint64_t seed = 1; seed <= seeds; seed++) {
      emulator::set_seed(seed);
      const Floats out(64);
      const std::string fault = run(kernel, {1, 1, 64, 0}, out);
      // Where the reader happens to come first, there is nothing to read yet.
      check(fault.find("missing barrier") != std::string::npos || fault.find("which nobody wrote") != std::string::npos,
            "seed " + std::to_string(seed) + ": received \"" + fault + "\"");
    }
  }
  emulator::set_seed(1);
});

const Register divergence("emulator: catches divergent barriers and warp collectives", [] {
  expect_fault(half_the_block_waits, "divergent barrier: of 64 threads 32 wait at barriers");
  expect_fault(waits_at_two_places, "divergent barrier: thread");
  expect_fault(half_the_warp_shuffles, "divergent warp");
  expect_fault(warp_in_two_collectives, "divergent warp");
});

const Register after_fault("emulator: runs on after a fault", [] {
  for (int i = 0; i < 3; i++) {
    expect_fault(half_the_block_waits, "divergent barrier");
    expect_no_fault(reverses_through_shared_memory);
  }
});

const Register spans("emulator: a span must lie in live device memory", [] {
  float outside = 0;
  try {
    const Global<float> span(&outside, 1);
  } catch (const emulator::Fault& fault) {
    return check_contains(fault.text, "lies in no allocation");
  }
  check(false, "a span over host memory was accepted");
});

}  // namespace
}  // namespace apiq::cuda
