// The exported functions that are not ops, the same for every backend: contexts, buffers, graphs. Included once a library, after
//   using apiq::<backend>::Context;
//   using apiq::<backend>::enter;
#include "contexts.h"

using apiq::Contexts;

namespace {

template <class T>
void require_target(const T* pointer, const char* name) {
  APIQ_REQUIRE(pointer != nullptr, "%s must not be null", name);
}

}  // namespace

extern "C" {

uint32_t apiq_abi_version(void) { return APIQ_ABI_VERSION; }

apiq_status apiq_context_create(const apiq_context_options* options, uint64_t* context) {
  return apiq::guarded(apiq::thread_error(), [&] {
    require_target(options, "options");
    require_target(context, "context");
    auto created = std::make_unique<Context>(*options);
    const uint64_t handle = apiq::next_handle();
    auto& table = Contexts<Context>::all();
    const std::lock_guard guard(table.lock);
    table.by_handle.emplace(handle, std::move(created));
    *context = handle;
  });
}

apiq_status apiq_context_destroy(uint64_t context) {
  return apiq::guarded(apiq::thread_error(), [&] {
    auto& table = Contexts<Context>::all();
    table.find(context).make_current();
    std::unique_ptr<Context> destroyed;
    const std::lock_guard guard(table.lock);
    destroyed = std::move(table.by_handle.at(context));
    table.by_handle.erase(context);
  });
}

apiq_status apiq_context_synchronize(uint64_t context) {
  return enter(context, [](Context& c) { c.synchronize(); });
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
  return enter(context, [&](Context& c) { c.upload({buffer, offset}, source, bytes); });
}

apiq_status apiq_buffer_download(uint64_t context, uint64_t buffer, uint64_t offset, void* target, uint64_t bytes) {
  return enter(context, [&](Context& c) { c.download(target, {buffer, offset}, bytes); });
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
