// gemm_bench: times apiq_gemm and apiq_causal_attention through the C ABI against the processor's peak of fused multiply-adds.
//
//   gemm_bench [--isa auto] [--compute f32] [--threads 0] [--seconds 0.3] [--only SUBSTRING]
//
// The yardstick is a loop of float32 multiply-adds on registers alone (--compute bf16 can reach twice that), on as many threads, run
// before and after every shape; the larger of the two counts, and of a shape the best of its runs, because the machine may be
// shared. One thread is timed by the processor time it got, several by the clock. Shapes are those of a training step of a
// SmolLM2-135M block (hidden 576, intermediate 1536, 512 rows, LoRA of rank 64) and of a chunk of its head, some large and some
// thin ones.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <thread>
#include <vector>

#include "apiq.h"

#if defined(__x86_64__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

namespace {

struct Options {
  uint32_t isa = APIQ_ISA_AUTO, compute = APIQ_COMPUTE_F32, threads = 0;
  double seconds = 0.3;
  std::string only;
};

uint64_t context = 0;

void check(apiq_status status, const char* what) {
  if (status == APIQ_OK) return;
  char text[512];
  uint64_t bytes = 0;
  apiq_last_error(context, reinterpret_cast<uint8_t*>(text), sizeof text, &bytes);
  const int length = static_cast<int>(std::min<uint64_t>(bytes, sizeof text));
  std::fprintf(stderr, "Cannot %s: status %d, %.*s\n", what, status, length, text);
  std::exit(1);
}

double seconds_now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Of this thread if the work is its alone, else of the clock.
double work_seconds(uint32_t threads) {
  if (threads != 1) return seconds_now();
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// ---- the peak ----

constexpr uint64_t peak_rounds = 1u << 20;
constexpr uint32_t chains = 12;  // independent sums: more than latency times throughput

#if defined(__x86_64__)
[[gnu::target("avx512f")]] double fma_loop_avx512() {
  __m512 sum[chains];
#pragma GCC unroll 12
  for (uint32_t c = 0; c < chains; c++) sum[c] = _mm512_set1_ps(1.0f);
  const __m512 a = _mm512_set1_ps(0.5f);
  for (uint64_t i = 0; i < peak_rounds; i++) {
#pragma GCC unroll 12
    for (uint32_t c = 0; c < chains; c++) {
      sum[c] = _mm512_fmadd_ps(sum[c], a, a);
      asm("" : "+v"(sum[c]));
    }
  }
#pragma GCC unroll 12
  for (uint32_t i = 1; i < chains; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
  volatile float sink = _mm512_cvtss_f32(sum[0]);
  (void)sink;
  return 2.0 * 16 * chains * peak_rounds;
}

[[gnu::target("avx2,fma")]] double fma_loop_avx2() {
  __m256 sum[chains];
#pragma GCC unroll 12
  for (uint32_t c = 0; c < chains; c++) sum[c] = _mm256_set1_ps(1.0f);
  const __m256 a = _mm256_set1_ps(0.5f);
  for (uint64_t i = 0; i < peak_rounds; i++) {
#pragma GCC unroll 12
    for (uint32_t c = 0; c < chains; c++) {
      sum[c] = _mm256_fmadd_ps(sum[c], a, a);
      asm("" : "+x"(sum[c]));
    }
  }
#pragma GCC unroll 12
  for (uint32_t i = 1; i < chains; i++) sum[0] = _mm256_add_ps(sum[0], sum[i]);
  volatile float sink = _mm256_cvtss_f32(sum[0]);
  (void)sink;
  return 2.0 * 8 * chains * peak_rounds;
}
#endif

// The portable kernels call fmaf, one element at a time; their peak is that call.
double fma_loop_scalar() {
  volatile float factor = 0.5f;
  const float a = factor;
  float sum[4] = {1, 2, 3, 4};
  for (uint64_t i = 0; i < peak_rounds; i++) {
    for (float& s : sum) s = __builtin_fmaf(s, a, a);
  }
  volatile float sink = sum[0] + sum[1] + sum[2] + sum[3];
  (void)sink;
  return 2.0 * 4 * peak_rounds;
}

// Operations a second of `threads` threads.
double measure_peak(const std::string& isa, uint32_t threads) {
  double (*loop)() = fma_loop_scalar;
#if defined(__x86_64__)
  if (isa.starts_with("avx512")) loop = fma_loop_avx512;
  if (isa == "avx2") loop = fma_loop_avx2;
#endif
  double best = 0;
  for (uint32_t round = 0; round < 3; round++) {
    std::vector<std::thread> team;
    const double start = work_seconds(threads);
    for (uint32_t i = 1; i < threads; i++) team.emplace_back([loop] { loop(); });
    const double operations = loop();
    for (std::thread& thread : team) thread.join();
    best = std::max(best, operations * threads / (work_seconds(threads) - start));
  }
  return best;
}

// ---- what is measured ----

apiq_ref random_tensor(uint64_t count) {
  static uint64_t state = 0x9e3779b97f4a7c15u;
  std::vector<float> values(count);
  for (float& value : values) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    value = static_cast<float>(static_cast<int32_t>(state >> 32)) * 0x1p-31f;
  }
  uint64_t handle = 0;
  check(apiq_buffer_alloc(context, count * 4, &handle), "allocate a buffer");
  check(apiq_buffer_upload(context, handle, 0, values.data(), count * 4), "upload");
  return {handle, 0};
}

void release(const apiq_ref& ref) { check(apiq_buffer_free(context, ref.buffer), "free"); }

struct Timer {
  std::string isa;
  uint32_t threads;
  const Options& options;

  template <class Run>
  void time(const std::string& name, double operations, Run run) const {
    double peak = measure_peak(isa, threads), best = 1e9;
    run();
    const double start = seconds_now();
    for (uint32_t runs = 0; runs < 3 || seconds_now() - start < options.seconds; runs++) {
      const double begin = work_seconds(threads);
      run();
      best = std::min(best, work_seconds(threads) - begin);
    }
    peak = std::max(peak, measure_peak(isa, threads));
    std::printf("%-46s %9.3f ms %8.2f GFLOP/s  %5.1f %% of %7.2f\n", name.c_str(), best * 1e3, operations / best * 1e-9,
                100 * operations / best / peak, peak * 1e-9);
    std::fflush(stdout);
  }
};

struct GemmShape {
  const char* name;
  uint32_t m, n, k;
  bool transpose_a, transpose_b;
};

const GemmShape gemm_shapes[] = {
    {"forward up", 512, 1536, 576, false, true},
    {"forward down", 512, 576, 1536, false, true},
    {"forward q, o", 512, 576, 576, false, true},
    {"forward k, v", 512, 192, 576, false, true},
    {"dX up", 512, 576, 1536, false, false},
    {"dX down", 512, 1536, 576, false, false},
    {"dX q, o", 512, 576, 576, false, false},
    {"dX k, v", 512, 576, 192, false, false},
    {"dW up", 1536, 576, 512, true, false},
    {"dW down", 576, 1536, 512, true, false},
    {"dW q, o", 576, 576, 512, true, false},
    {"dW k, v", 192, 576, 512, true, false},
    {"head logits", 170, 49152, 576, false, true},
    {"head dX", 170, 576, 49152, false, false},
    {"LoRA h = x A^T", 512, 64, 576, false, true},
    {"LoRA y += h B^T", 512, 1536, 64, false, true},
    {"LoRA dh = dy B", 512, 64, 1536, false, false},
    {"LoRA dA = dh^T x", 64, 576, 512, true, false},
    {"LoRA dB = dy^T h", 1536, 64, 512, true, false},
    {"LoRA dx += dh A", 512, 576, 64, false, false},
    {"W = Q + B A", 1536, 576, 64, false, false},
    {"Gram x^T x", 576, 576, 2048, true, false},
    {"large NN", 2048, 2048, 2048, false, false},
    {"large NT", 2048, 2048, 2048, false, true},
    {"large TN", 2048, 2048, 2048, true, false},
    {"large TT", 2048, 2048, 2048, true, true},
    {"one row NT", 1, 1536, 576, false, true},
    {"one row NN", 1, 1536, 576, false, false},
    {"eight rows NT", 8, 1536, 576, false, true},
    {"ragged NT", 509, 1531, 577, false, true},
    {"small", 64, 64, 64, false, false},
};

void time_gemm(const Timer& timer, const GemmShape& shape) {
  const uint64_t m = shape.m, n = shape.n, k = shape.k;
  apiq_gemm_args args{};
  args.a = random_tensor(m * k);
  args.b = random_tensor(k * n);
  args.c = random_tensor(m * n);
  args.m = shape.m;
  args.n = shape.n;
  args.k = shape.k;
  args.transpose_a = shape.transpose_a;
  args.transpose_b = shape.transpose_b;
  args.lda = shape.transpose_a ? shape.m : shape.k;
  args.ldb = shape.transpose_b ? shape.k : shape.n;
  args.ldc = shape.n;
  args.alpha = 1;
  args.compute = timer.options.compute;
  char name[96];
  std::snprintf(name, sizeof name, "%-17s %5u x %5u x %5u %c%c", shape.name, shape.m, shape.n, shape.k,
                shape.transpose_a ? 'T' : 'N', shape.transpose_b ? 'T' : 'N');
  timer.time(name, 2.0 * static_cast<double>(m * n * k), [&] { check(apiq_gemm(context, &args), "multiply"); });
  for (const apiq_ref& ref : {args.a, args.b, args.c}) release(ref);
}

// Operations of the products that causality leaves: two of them forward, five more backward.
void time_attention(const Timer& timer, uint32_t seq_len, uint32_t n_heads, uint32_t n_kv_heads, uint32_t head_dim) {
  const uint64_t q_count = uint64_t{seq_len} * n_heads * head_dim, kv_count = uint64_t{seq_len} * n_kv_heads * head_dim;
  apiq_causal_attention_args forward{};
  forward.q = random_tensor(q_count);
  forward.k = random_tensor(kv_count);
  forward.v = random_tensor(kv_count);
  forward.y = random_tensor(q_count);
  forward.lse = random_tensor(uint64_t{seq_len} * n_heads);
  forward.n_seqs = 1;
  forward.seq_len = seq_len;
  forward.n_heads = n_heads;
  forward.n_kv_heads = n_kv_heads;
  forward.head_dim = head_dim;
  forward.scale = 0.125f;
  apiq_causal_attention_backward_args backward{};
  backward.q = forward.q;
  backward.k = forward.k;
  backward.v = forward.v;
  backward.y = forward.y;
  backward.lse = forward.lse;
  backward.dy = random_tensor(q_count);
  backward.dq = random_tensor(q_count);
  backward.dk = random_tensor(kv_count);
  backward.dv = random_tensor(kv_count);
  backward.n_seqs = 1;
  backward.seq_len = seq_len;
  backward.n_heads = n_heads;
  backward.n_kv_heads = n_kv_heads;
  backward.head_dim = head_dim;
  backward.scale = 0.125f;
  const double product = 2.0 * seq_len * (seq_len + 1.0) / 2 * n_heads * head_dim;
  char name[96];
  std::snprintf(name, sizeof name, "attention          %5u tokens, %u/%u heads of %u", seq_len, n_heads, n_kv_heads, head_dim);
  timer.time(name, 2 * product, [&] { check(apiq_causal_attention(context, &forward), "attend"); });
  std::snprintf(name, sizeof name, "attention backward %5u tokens, %u/%u heads of %u", seq_len, n_heads, n_kv_heads, head_dim);
  timer.time(name, 5 * product, [&] { check(apiq_causal_attention_backward(context, &backward), "attend backward"); });
  for (const apiq_ref& ref : {forward.q, forward.k, forward.v, forward.y, forward.lse}) release(ref);
  for (const apiq_ref& ref : {backward.dy, backward.dq, backward.dk, backward.dv}) release(ref);
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i], value = argv[i + 1];
    if (flag == "--threads") options.threads = static_cast<uint32_t>(std::strtoul(argv[i + 1], nullptr, 10));
    else if (flag == "--seconds") options.seconds = std::strtod(argv[i + 1], nullptr);
    else if (flag == "--only") options.only = value;
    else if (flag == "--isa" && value == "auto") options.isa = APIQ_ISA_AUTO;
    else if (flag == "--isa" && value == "scalar") options.isa = APIQ_ISA_SCALAR;
    else if (flag == "--isa" && value == "avx2") options.isa = APIQ_ISA_AVX2;
    else if (flag == "--isa" && value == "avx512") options.isa = APIQ_ISA_AVX512;
    else if (flag == "--isa" && value == "avx512bf16") options.isa = APIQ_ISA_AVX512_BF16;
    else if (flag == "--compute" && value == "f32") options.compute = APIQ_COMPUTE_F32;
    else if (flag == "--compute" && value == "bf16") options.compute = APIQ_COMPUTE_BF16;
    else {
      std::fprintf(stderr, "Cannot read the command line: received %s %s, expected a flag of the list in gemm_bench.cpp\n", argv[i],
                   argv[i + 1]);
      std::exit(2);
    }
  }
  return options;
}

// The text after "key": in the context's description, up to the next quote, comma or brace.
std::string field(const std::string& description, const std::string& key) {
  const size_t at = description.find("\"" + key + "\":");
  if (at == std::string::npos) return "";
  const size_t begin = description.find_first_not_of("\"", at + key.size() + 3);
  return description.substr(begin, description.find_first_of("\",}", begin) - begin);
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  const apiq_context_options context_options = {0, options.threads, options.isa, 0};
  check(apiq_context_create(&context_options, &context), "create a context");
  char text[512];
  uint64_t length = 0;
  check(apiq_context_describe(context, reinterpret_cast<uint8_t*>(text), sizeof text, &length), "describe the context");
  const std::string description(text, std::min<uint64_t>(length, sizeof text));
  std::printf("%s\n", description.c_str());
  const std::string threads = field(description, "threads");
  const Timer timer{field(description, "isa"), static_cast<uint32_t>(std::strtoul(threads.c_str(), nullptr, 10)), options};
  for (const GemmShape& shape : gemm_shapes) {
    if (std::string(shape.name).find(options.only) != std::string::npos) time_gemm(timer, shape);
  }
  if (std::string("attention").find(options.only) != std::string::npos) {
    time_attention(timer, 512, 9, 3, 64);
    time_attention(timer, 2048, 9, 3, 64);
    time_attention(timer, 512, 32, 4, 64);
    time_attention(timer, 512, 8, 8, 128);
  }
  check(apiq_context_destroy(context), "destroy the context");
}
