// The shared memory of one emulated block. Every 4-byte word has a shadow that knows who touched it last and when, so that a
// read of a word nobody wrote, and two accesses with no barrier between them, are faults whatever the order of threads was.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace apiq::emulator {

constexpr uint32_t warp_size = 32;
constexpr uint32_t max_shared_bytes = 227u << 10;  // per block on compute capability 9.0; 99 KiB on 8.6 and 8.9

// Who accesses, and after how many barriers of its block and of its warp.
struct Access {
  uint32_t thread;
  uint32_t block_epoch;
  uint32_t warp_epoch;
};

class SharedMemory {
 public:
  // Forgets everything and makes room for `dynamic_bytes` at offset 0, filled with NaNs.
  void reset(uint32_t dynamic_bytes);
  // The offset of the array that `tag` names; the first call of a block makes it.
  uint32_t static_array(const void* tag, uint32_t bytes);
  uint32_t dynamic_bytes() const { return dynamic_bytes_; }

  // Offsets and sizes in bytes, multiples of 4; the caller has checked the bounds of its array.
  void read(uint32_t offset, void* target, uint32_t bytes, const Access& by);
  void write(uint32_t offset, const void* source, uint32_t bytes, const Access& by);

 private:
  enum class Readers : uint8_t { none, one, warp, block };
  struct Shadow {
    bool written = false;
    Readers readers = Readers::none;  // since the last write, as far as one record can tell
    Access write{};
    Access read{};
  };
  struct StaticArray {
    const void* tag;
    uint32_t offset;
  };

  void grow(uint32_t bytes);

  std::vector<std::byte> bytes_;
  std::vector<Shadow> shadows_;
  std::vector<StaticArray> arrays_;
  uint32_t dynamic_bytes_ = 0;
};

}  // namespace apiq::emulator
