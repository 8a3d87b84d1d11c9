// A CUDA context: device buffers, one stream of ops in order, a second for what must happen at once, recorded graphs.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "../common/contexts.h"
#include "device_api.h"
#include "device_faults.h"

namespace apiq::cuda {

class Context final : public ContextBase {
 public:
  explicit Context(const apiq_context_options& options);
  ~Context() override;

  // Where ops go: carried out in order, or recorded.
  device::Stream& stream() { return *ops_; }
  // Where copies and weight functions go: after all ops so far, and at once even while a graph is being recorded.
  device::Stream& immediate();
  // What kernels are given to report a failure that depends on data, and where the first one is kept.
  uint32_t* fault_word() const { return fault_word_; }
  // Working memory of one op; ops run in order, so they share it. Stays where it is: recorded graphs know the address.
  float* scratch(uint64_t floats);

  // Waits for the ops so far; throws the first failure of an asynchronous one.
  void synchronize();

  // Called at the start of every entry point: CUDA's current device belongs to the thread.
  void make_current() { device::select(ordinal_); }

  uint64_t allocate(uint64_t bytes);
  // Copies the file's range into device memory: a device cannot page a file in.
  uint64_t map_file(const std::string& path, uint64_t offset, uint64_t bytes);
  uint64_t view(uint64_t parent, uint64_t offset, uint64_t bytes) { return add_view(parent, offset, bytes); }
  void free(uint64_t handle);
  void upload(const apiq_ref& target, const void* source, uint64_t bytes);
  void download(void* target, const apiq_ref& source, uint64_t bytes);
  // A mapped file was copied to the device: there are no pages to give back, the range is only checked.
  void release_pages(const apiq_ref& ref, uint64_t bytes) { in<std::byte>(ref, bytes, "release_pages"); }

  void begin_graph();
  uint64_t end_graph();
  void abort_graph();
  void launch_graph(uint64_t handle);
  void destroy_graph(uint64_t handle);

  apiq_memory_info memory() const { return {allocated_, peak_, mapped_, scratch_bytes_}; }
  std::string describe() const;

 private:
  struct Graph {
    std::unique_ptr<device::Graph> recorded;
    std::vector<uint64_t> buffers;
    uint64_t checked_at;  // value of frees_ when all its buffers were last seen alive
  };

  Graph& graph(uint64_t handle);

  uint32_t ordinal_;
  device::Description description_;
  std::unique_ptr<device::Stream> ops_;
  std::unique_ptr<device::Stream> side_;
  uint32_t* fault_word_ = nullptr;
  std::unordered_map<uint64_t, Graph> graphs_;
  std::vector<std::byte*> scratches_;  // the last is in use, the others belong to graphs recorded earlier
  uint64_t scratch_floats_ = 0;        // of the last
  uint64_t scratch_bytes_ = 0;         // of all
  uint64_t allocated_ = 0;
  uint64_t peak_ = 0;
  uint64_t mapped_ = 0;
};

// Runs `body(context)` as the body of an exported function.
template <class Body>
apiq_status enter(uint64_t handle, Body&& body) noexcept {
  return enter_context<Context>(handle, std::forward<Body>(body));
}

// The body of every exported op: checks the arguments through the op's plan, then launches or records its kernels.
template <class Plan, class Args>
apiq_status submit(uint64_t handle, const Args* args, void (*run)(Context&, const Plan&)) noexcept {
  return enter(handle, [&](Context& context) {
    APIQ_REQUIRE(args != nullptr, "arguments must not be null");
    run(context, plan(context, *args));
  });
}

}  // namespace apiq::cuda
