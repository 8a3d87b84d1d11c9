#include "context.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstring>

namespace apiq::cpu {
namespace {

constexpr uint64_t huge_page = 2u << 20;
constexpr uint32_t max_threads = 1024;

uint64_t page_size() {
  static const uint64_t size = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return size;
}

uint32_t usable_processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

uint32_t checked_threads(uint32_t requested) {
  if (requested > max_threads) fail(APIQ_INVALID_ARGUMENT, "threads: received %u, expected at most %u", requested, max_threads);
  return requested == 0 ? usable_processors() : requested;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) out += c;
  }
  return out + "\"";
}

}  // namespace

Context::Context(const apiq_context_options& options) : isa_(choose_isa(options.isa)), pool_(checked_threads(options.threads)) {
  if (options.device != 0) fail(APIQ_INVALID_ARGUMENT, "device: received %u, the CPU library has device 0 only", options.device);
  APIQ_REQUIRE(options.reserved == 0, "reserved: received %u, expected 0", options.reserved);
}

Context::~Context() {
  for (const auto& [handle, buffer] : buffers_) release_memory(buffer);
}

void Context::submit(std::unique_ptr<Op> op) {
  if (recording_) {
    recorded_.ops.push_back(op.get());
    recorded_.owned.push_back(std::move(op));
    return;
  }
  run_now(*op);
}

void Context::run_now(Op& op, uint32_t threads) {
  Op* const one[] = {&op};
  Failure failure = pool_.run(one, threads);
  if (failure_.status == APIQ_OK) failure_ = std::move(failure);
}

void Context::synchronize() {
  if (failure_.status == APIQ_OK) return;
  Failure failure = std::move(failure_);
  failure_ = {APIQ_OK, {}};
  throw failure;
}

// Big buffers begin on a huge page, so that expect_large_write can use them whole.
uint64_t Context::allocate(uint64_t bytes) {
  Buffer buffer;
  buffer.bytes = bytes;
  if (bytes >= huge_page) {
    if (bytes > UINT64_MAX - 2 * huge_page) fail(APIQ_OUT_OF_MEMORY, "Cannot allocate %" PRIu64 " bytes", bytes);
    buffer.mapping_bytes = (bytes + huge_page - 1) / huge_page * huge_page + huge_page;
    buffer.mapping = mmap(nullptr, buffer.mapping_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer.mapping == MAP_FAILED) fail(APIQ_OUT_OF_MEMORY, "Cannot allocate %" PRIu64 " bytes: %s", bytes, std::strerror(errno));
    const uintptr_t start = reinterpret_cast<uintptr_t>(buffer.mapping);
    buffer.data = reinterpret_cast<std::byte*>((start + huge_page - 1) / huge_page * huge_page);
  } else {
    const uint64_t rounded = (std::max<uint64_t>(bytes, 1) + 63) / 64 * 64;
    buffer.data = static_cast<std::byte*>(std::aligned_alloc(64, rounded));
    if (buffer.data == nullptr) throw std::bad_alloc();
    std::memset(buffer.data, 0, rounded);
  }
  allocated_ += bytes;
  peak_ = std::max(peak_, allocated_);
  return add_buffer(buffer);
}

uint64_t Context::map_file(const std::string& path, uint64_t offset, uint64_t bytes) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail(APIQ_IO_ERROR, "Cannot open %s: %s", path.c_str(), std::strerror(errno));
  struct stat info;
  if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(file);
    fail(APIQ_IO_ERROR, "Cannot map %s: not a regular file", path.c_str());
  }
  const uint64_t size = static_cast<uint64_t>(info.st_size);
  if (offset > size || bytes > size - offset) {
    close(file);
    fail(APIQ_OUT_OF_RANGE, "Cannot map %" PRIu64 " bytes at offset %" PRIu64 " of %s: it has %" PRIu64, bytes, offset, path.c_str(), size);
  }
  Buffer buffer;
  buffer.bytes = bytes == 0 ? size - offset : bytes;
  buffer.writable = false;
  buffer.mapped = true;
  if (buffer.bytes != 0) {
    const uint64_t lead = offset % page_size();
    buffer.mapping_bytes = buffer.bytes + lead;
    buffer.mapping = mmap(nullptr, buffer.mapping_bytes, PROT_READ, MAP_PRIVATE, file, static_cast<off_t>(offset - lead));
    if (buffer.mapping == MAP_FAILED) {
      const int error = errno;
      close(file);
      fail(APIQ_IO_ERROR, "Cannot map %s: %s", path.c_str(), std::strerror(error));
    }
    buffer.data = static_cast<std::byte*>(buffer.mapping) + lead;
  }
  close(file);
  mapped_ += buffer.bytes;
  return add_buffer(buffer);
}

void Context::expect_large_write(const apiq_ref& ref, uint64_t bytes) {
  if (bytes < huge_page) return;
  const uintptr_t data = reinterpret_cast<uintptr_t>(out<std::byte>(ref, bytes, "write"));
  const uint64_t whole = buffer(ref.buffer).bytes;
  // Huge pages that the range shares with its neighbours count too, as far as the buffer reaches.
  const uintptr_t first = data - std::min<uint64_t>(ref.offset, data % huge_page);
  const uintptr_t last = std::min((data + bytes + huge_page - 1) / huge_page * huge_page, data - ref.offset + whole);
  const uintptr_t page = (first + page_size() - 1) / page_size() * page_size();
  if (page < last) madvise(reinterpret_cast<void*>(page), last - page, MADV_HUGEPAGE);
}

void Context::release_memory(const Buffer& buffer) {
  if (buffer.parent != 0) return;
  if (buffer.mapping != nullptr) {
    munmap(buffer.mapping, buffer.mapping_bytes);
  } else if (!buffer.mapped) {
    std::free(buffer.data);
  }
}

void Context::free(uint64_t handle) {
  const Buffer removed = remove_buffer(handle);
  release_memory(removed);
  if (removed.parent == 0) (removed.mapped ? mapped_ : allocated_) -= removed.bytes;
}

void Context::upload(const apiq_ref& target, const void* source, uint64_t bytes) {
  std::byte* const address = out<std::byte>(target, bytes, "upload");
  if (bytes == 0) return;
  APIQ_REQUIRE(source != nullptr, "source must not be null");
  expect_large_write(target, bytes);
  std::memcpy(address, source, bytes);
}

void Context::download(void* target, const apiq_ref& source, uint64_t bytes) {
  const std::byte* const address = in<std::byte>(source, bytes, "download");
  synchronize();
  if (bytes == 0) return;
  APIQ_REQUIRE(target != nullptr, "target must not be null");
  std::memcpy(target, address, bytes);
}

void Context::release_pages(const apiq_ref& ref, uint64_t bytes) {
  const std::byte* data = in<std::byte>(ref, bytes, "release_pages");
  if (!buffer(ref.buffer).mapped) return;
  const uintptr_t first = (reinterpret_cast<uintptr_t>(data) + page_size() - 1) / page_size() * page_size();
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) / page_size() * page_size();
  if (first < end) madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
}

void Context::begin_graph() {
  if (recording_) fail(APIQ_INVALID_STATE, "Cannot begin a graph: one is being recorded");
  recording_ = true;
  recorded_ = Graph();
  recorded_buffers_.clear();
}

uint64_t Context::end_graph() {
  if (!recording_) fail(APIQ_INVALID_STATE, "Cannot end a graph: none is being recorded");
  recording_ = false;
  std::sort(recorded_buffers_.begin(), recorded_buffers_.end());
  recorded_buffers_.erase(std::unique(recorded_buffers_.begin(), recorded_buffers_.end()), recorded_buffers_.end());
  recorded_.buffers = std::move(recorded_buffers_);
  recorded_.checked_at = UINT64_MAX;  // a buffer may have been freed while recording
  recorded_buffers_ = {};
  const uint64_t handle = next_handle();
  graphs_.emplace(handle, std::move(recorded_));
  recorded_ = Graph();
  return handle;
}

void Context::abort_graph() {
  recording_ = false;
  recorded_ = Graph();
  recorded_buffers_.clear();
}

Context::Graph& Context::graph(uint64_t handle) {
  const auto found = graphs_.find(handle);
  if (found == graphs_.end()) fail(APIQ_INVALID_HANDLE, "no graph %" PRIu64 " in this context", handle);
  return found->second;
}

void Context::launch_graph(uint64_t handle) {
  if (recording_) fail(APIQ_INVALID_STATE, "Cannot launch a graph while another is being recorded");
  Graph& launched = graph(handle);
  if (launched.checked_at != frees_) {
    for (const uint64_t used : launched.buffers) buffer(used, "graph");
    launched.checked_at = frees_;
  }
  Failure failure = pool_.run(launched.ops);
  if (failure_.status == APIQ_OK) failure_ = std::move(failure);
}

void Context::destroy_graph(uint64_t handle) {
  graph(handle);
  graphs_.erase(handle);
}

apiq_memory_info Context::memory() const { return {allocated_, peak_, mapped_, pool_.scratch_bytes()}; }

std::string Context::describe() const {
  std::string text = "{\"backend\":\"cpu\",\"device\":";
  text += quoted(processor_name());
  text += ",\"isa\":";
  text += quoted(isa_name(isa_));
  text += ",\"available_isas\":[";
  for (const Isa isa : available_isas()) {
    if (isa != Isa::scalar) text += ',';
    text += quoted(isa_name(isa));
  }
  text += "],\"threads\":";
  text += std::to_string(pool_.threads());
  text += '}';
  return text;
}

}  // namespace apiq::cpu
