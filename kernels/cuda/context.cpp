#include "context.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstring>

namespace apiq::cuda {
namespace {

// The bytes of a file while they are being copied to the device.
class MappedFile {
 public:
  MappedFile(const std::string& path, uint64_t offset, uint64_t bytes) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) fail(APIQ_IO_ERROR, "Cannot open %s: %s", path.c_str(), std::strerror(errno));
    struct stat info;
    const bool regular = fstat(file, &info) == 0 && S_ISREG(info.st_mode);
    const uint64_t size = regular ? static_cast<uint64_t>(info.st_size) : 0;
    const bool inside = offset <= size && bytes <= size - offset;
    if (regular && inside) {
      bytes_ = bytes == 0 ? size - offset : bytes;
      lead_ = offset % static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
      if (bytes_ != 0) mapping_ = mmap(nullptr, bytes_ + lead_, PROT_READ, MAP_PRIVATE, file, static_cast<off_t>(offset - lead_));
    }
    const int error = errno;
    close(file);
    if (!regular) fail(APIQ_IO_ERROR, "Cannot map %s: not a regular file", path.c_str());
    if (!inside) {
      fail(APIQ_OUT_OF_RANGE, "Cannot map %" PRIu64 " bytes at offset %" PRIu64 " of %s: it has %" PRIu64, bytes, offset, path.c_str(),
           size);
    }
    if (mapping_ == MAP_FAILED) fail(APIQ_IO_ERROR, "Cannot map %s: %s", path.c_str(), std::strerror(error));
    if (mapping_ != nullptr) madvise(mapping_, bytes_ + lead_, MADV_SEQUENTIAL);
  }
  ~MappedFile() {
    if (mapping_ != nullptr) munmap(mapping_, bytes_ + lead_);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return static_cast<const std::byte*>(mapping_) + lead_; }
  uint64_t bytes() const { return bytes_; }

 private:
  void* mapping_ = nullptr;
  uint64_t bytes_ = 0;
  uint64_t lead_ = 0;  // mappings start at a page
};

}  // namespace

Context::Context(const apiq_context_options& options) : ordinal_(options.device), description_(device::describe(options.device)) {
  APIQ_REQUIRE(options.isa == 0 && options.reserved == 0, "isa, reserved: received %u, %u, expected 0", options.isa, options.reserved);
  make_current();
  ops_ = device::make_stream();
  side_ = device::make_stream();
  fault_word_ = device::allocate_fault_word();
}

Context::~Context() {
  graphs_.clear();
  ops_.reset();
  side_.reset();
  for (const auto& [handle, buffer] : buffers_) {
    if (buffer.parent == 0) device::release(buffer.data);
  }
  for (std::byte* scratch : scratches_) device::release(scratch);
  device::release_fault_word(fault_word_);
}

// begin_graph waited for the ops before the recording, and nothing runs on the recording stream since.
device::Stream& Context::immediate() { return recording_ ? *side_ : *ops_; }

float* Context::scratch(uint64_t floats) {
  if (floats > scratch_floats_) {
    const uint64_t bytes = checked_mul(floats, sizeof(float), "scratch");
    scratches_.push_back(device::allocate(bytes));
    scratch_floats_ = floats;
    scratch_bytes_ += bytes;
  }
  return scratches_.empty() ? nullptr : reinterpret_cast<float*>(scratches_.back());
}

void Context::synchronize() {
  immediate().synchronize();
  const uint32_t code = *static_cast<volatile uint32_t*>(fault_word_);
  if (code == no_fault) return;
  *fault_word_ = no_fault;
  fail(APIQ_OUT_OF_RANGE, "%s", describe_fault(code));
}

uint64_t Context::allocate(uint64_t bytes) {
  Buffer buffer;
  buffer.data = device::allocate(bytes);
  buffer.bytes = bytes;
  allocated_ += bytes;
  peak_ = std::max(peak_, allocated_);
  return add_buffer(buffer);
}

uint64_t Context::map_file(const std::string& path, uint64_t offset, uint64_t bytes) {
  const MappedFile file(path, offset, bytes);
  Buffer buffer;
  buffer.data = device::allocate(file.bytes());
  buffer.bytes = file.bytes();
  buffer.writable = false;
  buffer.mapped = true;
  mapped_ += buffer.bytes;
  const uint64_t handle = add_buffer(buffer);
  if (file.bytes() != 0) immediate().upload(buffer.data, file.data(), file.bytes());
  return handle;
}

void Context::free(uint64_t handle) {
  immediate().synchronize();
  const Buffer removed = remove_buffer(handle);
  if (removed.parent != 0) return;
  device::release(removed.data);
  (removed.mapped ? mapped_ : allocated_) -= removed.bytes;
}

void Context::upload(const apiq_ref& target, const void* source, uint64_t bytes) {
  std::byte* const address = out<std::byte>(target, bytes, "upload");
  if (bytes == 0) return;
  APIQ_REQUIRE(source != nullptr, "source must not be null");
  immediate().upload(address, source, bytes);
}

void Context::download(void* target, const apiq_ref& source, uint64_t bytes) {
  const std::byte* const address = in<std::byte>(source, bytes, "download");
  synchronize();
  if (bytes == 0) return;
  APIQ_REQUIRE(target != nullptr, "target must not be null");
  immediate().download(target, address, bytes);
}

void Context::begin_graph() {
  if (recording_) fail(APIQ_INVALID_STATE, "Cannot begin a graph: one is being recorded");
  ops_->synchronize();
  ops_->begin_capture();
  recording_ = true;
  recorded_buffers_.clear();
}

uint64_t Context::end_graph() {
  if (!recording_) fail(APIQ_INVALID_STATE, "Cannot end a graph: none is being recorded");
  recording_ = false;
  std::sort(recorded_buffers_.begin(), recorded_buffers_.end());
  recorded_buffers_.erase(std::unique(recorded_buffers_.begin(), recorded_buffers_.end()), recorded_buffers_.end());
  // A buffer may have been freed while recording, so the first launch checks.
  Graph ended{ops_->end_capture(), std::move(recorded_buffers_), UINT64_MAX};
  recorded_buffers_ = {};
  const uint64_t handle = next_handle();
  graphs_.emplace(handle, std::move(ended));
  return handle;
}

void Context::abort_graph() {
  if (!recording_) return;
  recording_ = false;
  recorded_buffers_.clear();
  ops_->discard_capture();
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
  ops_->replay(*launched.recorded);
}

void Context::destroy_graph(uint64_t handle) {
  graph(handle);
  immediate().synchronize();  // a launch of it may still run
  graphs_.erase(handle);
}

std::string Context::describe() const {
  std::string name;
  for (const char c : description_.name) {
    if (c == '"' || c == '\\') name += '\\';
    name += c;
  }
  return "{\"backend\":\"" + description_.backend + "\",\"device\":\"" + name + "\",\"isa\":\"" + description_.architecture +
         "\",\"available_isas\":[\"" + description_.architecture + "\"],\"threads\":1,\"multiprocessors\":" +
         std::to_string(description_.multiprocessors) + ",\"memory_bytes\":" + std::to_string(description_.memory_bytes) + "}";
}

}  // namespace apiq::cuda
