// What the library needs of a device, carried out by the CUDA runtime (device_api_cuda.cpp) or by the block emulator
// (emulator/device_api_emulated.cpp). Failures are thrown as Failure with the driver's own words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "../common/failure.h"

namespace apiq::device {

struct Description {
  std::string backend;       // "cuda", or "cuda-emulated"
  std::string name;
  std::string architecture;  // "sm_90"; "host" in emulation
  uint32_t multiprocessors = 0;
  uint64_t memory_bytes = 0;
};

// UNSUPPORTED where there is no such device, or no driver.
Description describe(uint32_t ordinal);
// Makes the device the calling thread's current one.
void select(uint32_t ordinal);

// Device memory, zero-filled, 256-byte aligned. OUT_OF_MEMORY with sizes when there is none.
std::byte* allocate(uint64_t bytes);
void release(std::byte* data) noexcept;

// One word of host memory that kernels can write: where they leave the code of a failure. Starts at 0.
uint32_t* allocate_fault_word();
void release_fault_word(uint32_t* word) noexcept;

struct Grid {
  uint32_t x;
  uint32_t y;
  uint32_t threads;           // of a block
  uint32_t shared_bytes = 0;  // dynamic
};

// What a stream captured, ready to be replayed.
class Graph {
 public:
  virtual ~Graph() = default;
};

// An ordered queue of work on the current device.
class Stream {
 public:
  virtual ~Stream() = default;

  // kernel(args) for every thread of the grid. Args is passed by value, so it may hold spans and numbers only.
  template <class Args>
  void launch(void (*kernel)(Args), const Grid& grid, const Args& args) {
    launch_raw(reinterpret_cast<void (*)()>(kernel), &call<Args>, grid, &args, sizeof(Args));
  }

  virtual void synchronize() = 0;
  // After the work before; upload may return once it has read the source, download returns with the target written.
  virtual void upload(std::byte* target, const void* source, uint64_t bytes) = 0;
  virtual void download(void* target, const std::byte* source, uint64_t bytes) = 0;

  // Between the two, launches are recorded and not carried out.
  virtual void begin_capture() = 0;
  virtual std::unique_ptr<Graph> end_capture() = 0;
  virtual void discard_capture() noexcept = 0;
  virtual void replay(Graph& graph) = 0;

 protected:
  using Kernel = void (*)();
  using Caller = void (*)(Kernel kernel, const void* args);
  // `caller` calls the kernel on the host, where that is what running it means.
  virtual void launch_raw(Kernel kernel, Caller caller, const Grid& grid, const void* args, size_t args_bytes) = 0;

 private:
  template <class Args>
  static void call(Kernel kernel, const void* args) {
    reinterpret_cast<void (*)(Args)>(kernel)(*static_cast<const Args*>(args));
  }
};

std::unique_ptr<Stream> make_stream();

}  // namespace apiq::device
