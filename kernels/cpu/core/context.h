// A CPU context: buffers in host memory, a thread pool, and the recording of graphs. Ops run before submit returns.
#pragma once

#include <concepts>
#include <memory>
#include <string>
#include <vector>

#include "../../common/contexts.h"
#include "isa.h"
#include "op.h"
#include "thread_pool.h"

namespace apiq::cpu {

class Context final : public ContextBase {
 public:
  explicit Context(const apiq_context_options& options);
  ~Context() override;

  Isa isa() const { return isa_; }
  ThreadPool& pool() { return pool_; }

  // Runs the op now, or appends it to the recording.
  void submit(std::unique_ptr<Op> op);
  // Runs the op now even while a graph is being recorded: for repacking and measuring.
  void run_now(Op& op, uint32_t threads = UINT32_MAX);
  // Ops have run when submit returns: this throws their first asynchronous failure since the last call, if there was one.
  void synchronize();
  void make_current() {}

  uint64_t allocate(uint64_t bytes);
  uint64_t map_file(const std::string& path, uint64_t offset, uint64_t bytes);
  uint64_t view(uint64_t parent, uint64_t offset, uint64_t bytes) { return add_view(parent, offset, bytes); }
  void free(uint64_t handle);
  void upload(const apiq_ref& target, const void* source, uint64_t bytes);
  void download(void* target, const apiq_ref& source, uint64_t bytes);
  // Puts the memory that a large write is about to fill on huge pages. Weights are read from end to end at every token, and with 4 KiB pages
  // the address translation alone costs a third of the bandwidth. What fills slowly, as the KV cache does, stays on small pages and
  // takes only the memory it uses.
  void expect_large_write(const apiq_ref& ref, uint64_t bytes);
  // Gives the whole pages inside a range of a mapped buffer back to the system; nothing happens to other buffers.
  void release_pages(const apiq_ref& ref, uint64_t bytes);

  void begin_graph();
  uint64_t end_graph();
  void abort_graph();
  void launch_graph(uint64_t handle);
  void destroy_graph(uint64_t handle);

  apiq_memory_info memory() const;
  std::string describe() const;

 private:
  struct Graph {
    std::vector<std::unique_ptr<Op>> owned;
    std::vector<Op*> ops;
    std::vector<uint64_t> buffers;
    uint64_t checked_at = 0;  // value of frees_ when all its buffers were last seen alive
  };

  void release_memory(const Buffer& buffer);
  Graph& graph(uint64_t handle);

  Isa isa_;
  ThreadPool pool_;
  std::unordered_map<uint64_t, Graph> graphs_;
  Graph recorded_;
  Failure failure_{APIQ_OK, {}};
  uint64_t allocated_ = 0;
  uint64_t peak_ = 0;
  uint64_t mapped_ = 0;
};

// Runs `body(context)` as the body of an exported function.
template <class Body>
apiq_status enter(uint64_t handle, Body&& body) noexcept {
  return enter_context<Context>(handle, std::forward<Body>(body));
}

// The body of every exported op: checks the arguments through the op's plan, then runs or records it.
template <class OpType, class Args>
apiq_status submit(uint64_t handle, const Args* args) noexcept {
  return enter(handle, [&](Context& context) {
    APIQ_REQUIRE(args != nullptr, "arguments must not be null");
    context.submit(std::make_unique<OpType>(plan(context, *args), context.isa()));
  });
}

}  // namespace apiq::cpu
