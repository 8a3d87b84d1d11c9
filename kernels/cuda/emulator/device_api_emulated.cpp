// device_api.h without a device: launches run on the calling thread, captures keep a list of them.
#include "../device_api.h"

#include <cinttypes>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "block.h"
#include "fault.h"
#include "memory.h"

namespace apiq::device {
namespace {

struct Launch {
  void (*kernel)();
  void (*caller)(void (*)(), const void*);
  Grid grid;
  std::vector<std::byte> args;
};

void run(const Launch& launch) {
  try {
    emulator::current_block().run_grid(
        {launch.grid.x, launch.grid.y, launch.grid.threads, launch.grid.shared_bytes},
        [](const void* argument) {
          const Launch& self = *static_cast<const Launch*>(argument);
          self.caller(self.kernel, self.args.data());
        },
        &launch);
  } catch (const emulator::Fault& fault) {
    fail(APIQ_INTERNAL, "emulated kernel: %s", fault.text.c_str());
  }
}

class EmulatedGraph final : public Graph {
 public:
  std::vector<Launch> launches;
};

class EmulatedStream final : public Stream {
 public:
  void synchronize() override {}
  void upload(std::byte* target, const void* source, uint64_t bytes) override { std::memcpy(target, source, bytes); }
  void download(void* target, const std::byte* source, uint64_t bytes) override { std::memcpy(target, source, bytes); }
  void begin_capture() override { captured_ = std::make_unique<EmulatedGraph>(); }
  std::unique_ptr<Graph> end_capture() override { return std::move(captured_); }
  void discard_capture() noexcept override { captured_.reset(); }
  void replay(Graph& graph) override {
    for (const Launch& launch : static_cast<EmulatedGraph&>(graph).launches) run(launch);
  }

 protected:
  void launch_raw(Kernel kernel, Caller caller, const Grid& grid, const void* args, size_t args_bytes) override {
    const auto* const first = static_cast<const std::byte*>(args);
    Launch launch{kernel, caller, grid, std::vector<std::byte>(first, first + args_bytes)};
    if (captured_ == nullptr) return run(launch);
    captured_->launches.push_back(std::move(launch));
  }

 private:
  std::unique_ptr<EmulatedGraph> captured_;
};

}  // namespace

Description describe(uint32_t ordinal) {
  if (ordinal != 0) fail(APIQ_UNSUPPORTED, "Cannot use CUDA device %u: the emulator has device 0 only", ordinal);
  return {"cuda-emulated", "block emulator", "host", 1, emulator::device_bytes};
}

void select(uint32_t) {}

std::byte* allocate(uint64_t bytes) {
  try {
    return emulator::allocate(bytes);
  } catch (const std::bad_alloc&) {
    fail(APIQ_OUT_OF_MEMORY, "Cannot allocate %" PRIu64 " bytes on the emulated device", bytes);
  }
}

void release(std::byte* data) noexcept { emulator::release(data); }

uint32_t* allocate_fault_word() { return reinterpret_cast<uint32_t*>(emulator::allocate(sizeof(uint32_t))); }
void release_fault_word(uint32_t* word) noexcept { emulator::release(reinterpret_cast<std::byte*>(word)); }

std::unique_ptr<Stream> make_stream() { return std::make_unique<EmulatedStream>(); }

}  // namespace apiq::device
