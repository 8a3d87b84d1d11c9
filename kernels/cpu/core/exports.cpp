// The exported functions that are not ops: contexts, buffers, graphs.
#include <mutex>
#include <unordered_map>

#include "bandwidth.h"
#include "context.h"

namespace apiq::cpu {
namespace {

// Contexts by handle. The lock guards the table only: a context is used from one thread at a time.
struct Contexts {
  std::mutex lock;
  std::unordered_map<uint64_t, std::unique_ptr<Context>> by_handle;
};

Contexts& contexts() {
  static Contexts* const table = new Contexts;  // never destroyed: threads may outlive main
  return *table;
}

template <class T>
void require_target(const T* pointer, const char* name) {
  APIQ_REQUIRE(pointer != nullptr, "%s must not be null", name);
}

}  // namespace

Context& find_context(uint64_t handle) {
  Contexts& table = contexts();
  const std::lock_guard guard(table.lock);
  const auto found = table.by_handle.find(handle);
  if (found == table.by_handle.end()) fail(APIQ_INVALID_HANDLE, "no such context");
  return *found->second;
}

}  // namespace apiq::cpu

using apiq::cpu::Context;
using apiq::cpu::contexts;
using apiq::cpu::enter;
using apiq::cpu::require_target;

extern "C" {

uint32_t apiq_abi_version(void) { return APIQ_ABI_VERSION; }

apiq_status apiq_context_create(const apiq_context_options* options, uint64_t* context) {
  return apiq::guarded(apiq::thread_error(), [&] {
    require_target(options, "options");
    require_target(context, "context");
    auto created = std::make_unique<Context>(*options);
    const uint64_t handle = apiq::next_handle();
    auto& table = contexts();
    const std::lock_guard guard(table.lock);
    table.by_handle.emplace(handle, std::move(created));
    *context = handle;
  });
}

apiq_status apiq_context_destroy(uint64_t context) {
  return apiq::guarded(apiq::thread_error(), [&] {
    apiq::cpu::find_context(context);
    std::unique_ptr<Context> destroyed;
    auto& table = contexts();
    const std::lock_guard guard(table.lock);
    destroyed = std::move(table.by_handle.at(context));
    table.by_handle.erase(context);
  });
}

apiq_status apiq_context_synchronize(uint64_t context) {
  return enter(context, [](Context& c) { c.report_failure(); });
}

apiq_status apiq_context_describe(uint64_t context, uint8_t* utf8, uint64_t capacity, uint64_t* bytes) {
  return enter(context, [&](Context& c) { apiq::copy_text(c.describe(), utf8, capacity, bytes); });
}

apiq_status apiq_last_error(uint64_t context, uint8_t* utf8, uint64_t capacity, uint64_t* bytes) {
  if (context == 0) {
    const std::string text = apiq::thread_error();
    return apiq::guarded(apiq::thread_error(), [&] { apiq::copy_text(text, utf8, capacity, bytes); });
  }
  return enter(context, [&](Context& c) { apiq::copy_text(c.last_error, utf8, capacity, bytes); });
}

apiq_status apiq_context_memory(uint64_t context, apiq_memory_info* info) {
  return enter(context, [&](Context& c) {
    require_target(info, "info");
    *info = c.memory();
  });
}

apiq_status apiq_measure_bandwidth(uint64_t context, uint64_t buffer, uint32_t threads, double* bytes_per_second) {
  return enter(context, [&](Context& c) {
    require_target(bytes_per_second, "bytes_per_second");
    *bytes_per_second = apiq::cpu::measure_bandwidth(c, c.buffer(buffer), threads);
  });
}

apiq_status apiq_buffer_alloc(uint64_t context, uint64_t bytes, uint64_t* buffer) {
  return enter(context, [&](Context& c) {
    require_target(buffer, "buffer");
    *buffer = c.allocate(bytes);
  });
}

apiq_status apiq_buffer_free(uint64_t context, uint64_t buffer) {
  return enter(context, [&](Context& c) { c.free(buffer); });
}

apiq_status apiq_buffer_view(uint64_t context, uint64_t buffer, uint64_t offset, uint64_t bytes, uint64_t* view) {
  return enter(context, [&](Context& c) {
    require_target(view, "view");
    *view = c.view(buffer, offset, bytes);
  });
}

apiq_status apiq_buffer_map_file(uint64_t context, const uint8_t* path_utf8, uint64_t path_bytes, uint64_t offset, uint64_t bytes,
                                 uint64_t* buffer) {
  return enter(context, [&](Context& c) {
    require_target(path_utf8, "path");
    require_target(buffer, "buffer");
    const std::string path(reinterpret_cast<const char*>(path_utf8), path_bytes);
    APIQ_REQUIRE(path.find('\0') == std::string::npos, "a path must not contain a null character");
    *buffer = c.map_file(path, offset, bytes);
  });
}

apiq_status apiq_buffer_release_pages(uint64_t context, uint64_t buffer, uint64_t offset, uint64_t bytes) {
  return enter(context, [&](Context& c) { c.release_pages({buffer, offset}, bytes); });
}

apiq_status apiq_buffer_bytes(uint64_t context, uint64_t buffer, uint64_t* bytes) {
  return enter(context, [&](Context& c) {
    require_target(bytes, "bytes");
    *bytes = c.buffer(buffer).bytes;
  });
}

apiq_status apiq_buffer_upload(uint64_t context, uint64_t buffer, uint64_t offset, const void* source, uint64_t bytes) {
  return enter(context, [&](Context& c) {
    std::byte* target = c.out<std::byte>({buffer, offset}, bytes, "upload");
    if (bytes == 0) return;
    require_target(source, "source");
    c.expect_large_write({buffer, offset}, bytes);
    std::memcpy(target, source, bytes);
  });
}

apiq_status apiq_buffer_download(uint64_t context, uint64_t buffer, uint64_t offset, void* target, uint64_t bytes) {
  return enter(context, [&](Context& c) {
    const std::byte* source = c.in<std::byte>({buffer, offset}, bytes, "download");
    c.report_failure();
    if (bytes == 0) return;
    require_target(target, "target");
    std::memcpy(target, source, bytes);
  });
}

apiq_status apiq_graph_begin(uint64_t context) {
  return enter(context, [](Context& c) { c.begin_graph(); });
}

apiq_status apiq_graph_end(uint64_t context, uint64_t* graph) {
  return enter(context, [&](Context& c) {
    require_target(graph, "graph");
    *graph = c.end_graph();
  });
}

apiq_status apiq_graph_abort(uint64_t context) {
  return enter(context, [](Context& c) { c.abort_graph(); });
}

apiq_status apiq_graph_launch(uint64_t context, uint64_t graph) {
  return enter(context, [&](Context& c) { c.launch_graph(graph); });
}

apiq_status apiq_graph_destroy(uint64_t context, uint64_t graph) {
  return enter(context, [&](Context& c) { c.destroy_graph(graph); });
}

}  // extern "C"
