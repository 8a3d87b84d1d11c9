#include "device_api.h"

#include <cuda_runtime_api.h>

#include <cinttypes>

namespace apiq::device {
namespace {

// A failure of the runtime as a status. A fault of a kernel poisons the CUDA context for good: every later call reports it.
void check(cudaError_t result, const char* doing) {
  if (result == cudaSuccess) return;
  const apiq_status status = result == cudaErrorMemoryAllocation ? APIQ_OUT_OF_MEMORY : APIQ_INTERNAL;
  cudaGetLastError();  // clears what is not sticky
  fail(status, "Cannot %s: CUDA error %d, %s (%s)", doing, static_cast<int>(result), cudaGetErrorString(result), cudaGetErrorName(result));
}

class CudaGraph final : public Graph {
 public:
  explicit CudaGraph(cudaGraphExec_t executable) : executable(executable) {}
  ~CudaGraph() override { cudaGraphExecDestroy(executable); }
  cudaGraphExec_t const executable;
};

class CudaStream final : public Stream {
 public:
  CudaStream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "create a stream"); }
  ~CudaStream() override { cudaStreamDestroy(stream_); }

  void synchronize() override { check(cudaStreamSynchronize(stream_), "synchronize"); }

  void upload(std::byte* target, const void* source, uint64_t bytes) override {
    check(cudaMemcpyAsync(target, source, bytes, cudaMemcpyHostToDevice, stream_), "upload");
    // Pageable memory is staged before the call returns, pinned memory is not: the caller may reuse either at once.
    synchronize();
  }
  void download(void* target, const std::byte* source, uint64_t bytes) override {
    check(cudaMemcpyAsync(target, source, bytes, cudaMemcpyDeviceToHost, stream_), "download");
    synchronize();
  }

  // Relaxed: allocations and the other stream go on as usual while this one is captured.
  void begin_capture() override { check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), "begin a capture"); }
  std::unique_ptr<Graph> end_capture() override {
    cudaGraph_t captured = nullptr;
    check(cudaStreamEndCapture(stream_, &captured), "end a capture");
    cudaGraphExec_t executable = nullptr;
    const cudaError_t result = cudaGraphInstantiate(&executable, captured, 0);
    cudaGraphDestroy(captured);
    check(result, "instantiate a graph");
    return std::make_unique<CudaGraph>(executable);
  }
  void discard_capture() noexcept override {
    cudaGraph_t captured = nullptr;
    cudaStreamEndCapture(stream_, &captured);
    if (captured != nullptr) cudaGraphDestroy(captured);
    cudaGetLastError();  // a capture that an error ended early says so, which is no news here
  }
  void replay(Graph& graph) override { check(cudaGraphLaunch(static_cast<CudaGraph&>(graph).executable, stream_), "launch a graph"); }

  cudaStream_t raw() const { return stream_; }

 protected:
  void launch_raw(Kernel kernel, Caller, const Grid& grid, const void* args, size_t) override {
    void* parameters[] = {const_cast<void*>(args)};
    check(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(grid.x, grid.y, 1), dim3(grid.threads, 1, 1), parameters,
                           grid.shared_bytes, stream_),
          "launch a kernel");
  }

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace

Description describe(uint32_t ordinal) {
  int devices = 0;
  const cudaError_t counted = cudaGetDeviceCount(&devices);
  if (counted != cudaSuccess) {
    fail(APIQ_UNSUPPORTED, "Cannot use CUDA: error %d, %s (%s)", static_cast<int>(counted), cudaGetErrorString(counted),
         cudaGetErrorName(counted));
  }
  if (ordinal >= static_cast<uint32_t>(devices)) {
    fail(APIQ_UNSUPPORTED, "Cannot use CUDA device %u: this machine has %d", ordinal, devices);
  }
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, static_cast<int>(ordinal)), "describe the device");
  const int version = properties.major * 10 + properties.minor;
  if (version < 80) {
    fail(APIQ_UNSUPPORTED, "Cannot use CUDA device %u: %s has compute capability %d.%d, expected at least 8.0", ordinal, properties.name,
         properties.major, properties.minor);
  }
  return {"cuda", properties.name, "sm_" + std::to_string(version), static_cast<uint32_t>(properties.multiProcessorCount),
          properties.totalGlobalMem};
}

void select(uint32_t ordinal) { check(cudaSetDevice(static_cast<int>(ordinal)), "select the device"); }

std::byte* allocate(uint64_t bytes) {
  void* data = nullptr;
  const cudaError_t result = cudaMalloc(&data, bytes == 0 ? 1 : bytes);
  if (result == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t available = 0, total = 0;
    cudaMemGetInfo(&available, &total);
    fail(APIQ_OUT_OF_MEMORY, "Cannot allocate %" PRIu64 " bytes on the device: %zu of %zu are free", bytes, available, total);
  }
  check(result, "allocate device memory");
  // The legacy stream would wait for, and be refused by, a capture in progress; a stream of its own does not.
  CudaStream zeroing;
  const cudaError_t zeroed = cudaMemsetAsync(data, 0, bytes, zeroing.raw());
  if (zeroed != cudaSuccess) cudaFree(data);
  check(zeroed, "clear device memory");
  zeroing.synchronize();
  return static_cast<std::byte*>(data);
}

void release(std::byte* data) noexcept { cudaFree(data); }

uint32_t* allocate_fault_word() {
  void* word = nullptr;
  check(cudaHostAlloc(&word, sizeof(uint32_t), cudaHostAllocMapped), "allocate pinned memory");
  *static_cast<uint32_t*>(word) = 0;
  return static_cast<uint32_t*>(word);
}

void release_fault_word(uint32_t* word) noexcept { cudaFreeHost(word); }

std::unique_ptr<Stream> make_stream() { return std::make_unique<CudaStream>(); }

}  // namespace apiq::device
