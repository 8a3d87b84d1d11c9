// linear_bench: times packed linears through the C ABI, over the shapes of TinyLlama-1.1B with random weights, every layer distinct.
//
//   linear_bench [--bits 2] [--group 64] [--threads 0] [--layers 22] [--rows 1,8,64,512] [--head-bits 8] [--seconds 2] [--lut 0]
//                [--f32 0]
//
// --lut 1: the linears are lut matrices, the head stays affine. --f32 1: float32 activations.
//
// One line a row count: the median step (all linears of all layers, one recorded graph), the packed bytes it reads a second, the
// median share of the bandwidth measured right after every step, rows (tokens) a second, multiply-adds a second. Then the same for the output
// head, 32000 x 2048. APIQ_ISA=scalar|avx2|avx512 forces a path.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#include "apiq.h"

namespace {

struct Options {
  uint32_t bits = 2, group = 64, threads = 0, layers = 22, head_bits = 8, lut = 0, f32 = 0;
  double seconds = 2;
  std::vector<uint32_t> rows = {1, 8, 64, 512};
};

struct Shape {
  uint32_t in_features;
  std::vector<uint32_t> outs;  // parts that share the input
};
const std::vector<Shape> layer_shapes = {{2048, {2048, 256, 256}}, {2048, {2048}}, {2048, {5632, 5632}}, {5632, {2048}}};

uint64_t context = 0;

void check(apiq_status status, const char* what) {
  if (status == APIQ_OK) return;
  char text[512];
  uint64_t bytes = 0;
  apiq_last_error(context, reinterpret_cast<uint8_t*>(text), sizeof text, &bytes);
  std::fprintf(stderr, "Cannot %s: status %d, %.*s\n", what, status, static_cast<int>(std::min<uint64_t>(bytes, sizeof text)), text);
  std::exit(1);
}

apiq_ref allocate(uint64_t bytes) {
  uint64_t handle = 0;
  check(apiq_buffer_alloc(context, bytes, &handle), "allocate a buffer");
  return {handle, 0};
}

apiq_ref upload(const void* data, uint64_t bytes) {
  const apiq_ref ref = allocate(bytes);
  check(apiq_buffer_upload(context, ref.buffer, 0, data, bytes), "upload");
  return ref;
}

struct Random {
  uint64_t state = 0x9e3779b97f4a7c15u;
  uint32_t next() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state >> 32);
  }
} random_words;

std::vector<uint32_t> words(uint64_t count) {
  std::vector<uint32_t> values(count);
  for (uint32_t& value : values) value = random_words.next();
  return values;
}

// Hands out stretches of one big buffer, as a loader does: what is read in a step lies together on huge pages.
struct Arena {
  apiq_ref next;
  apiq_ref take(uint64_t bytes) {
    const apiq_ref taken = next;
    next.offset += (bytes + 63) / 64 * 64;
    return taken;
  }
};

uint64_t packed_bytes(apiq_weight weight) {
  uint64_t bytes = 0;
  check(apiq_weight_packed_bytes(context, &weight, &bytes), "size a weight");
  return bytes;
}

void fill_weight(const apiq_weight& weight) {
  const uint64_t groups = weight.in_features / weight.group, outs = weight.out_features;
  const std::vector<uint32_t> q = words(uint64_t{weight.in_features} / 32 * weight.bits * outs);
  const std::vector<uint32_t> zeros = words(groups * ((outs * weight.bits + 31) / 32));
  const std::vector<uint16_t> scales(groups * outs, 0x2400);  // 2^-6
  apiq_weight_repack_args args{};
  args.qweight = upload(q.data(), q.size() * 4);
  const bool lut = weight.kind == APIQ_WEIGHT_LUT;
  const float table[16] = {-1, -0.7f, -0.5f, -0.4f, -0.3f, -0.2f, -0.1f, 0, 0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f, 0.7f, 1};
  (lut ? args.table : args.zeros) = lut ? upload(table, sizeof table) : upload(zeros.data(), zeros.size() * 4);
  args.scales = upload(scales.data(), scales.size() * 2);
  args.weight = weight;
  args.format = APIQ_GPTQ_V2;
  check(apiq_weight_repack(context, &args), "repack");
  for (const apiq_ref& source : {args.qweight, lut ? args.table : args.zeros, args.scales}) {
    check(apiq_buffer_free(context, source.buffer), "free");
  }
}

struct Linear {
  uint32_t in_features;
  std::vector<apiq_weight> weights;
};

struct Model {
  std::vector<Linear> linears;
  apiq_ref memory{};
  uint64_t bytes = 0;
  uint64_t weights = 0;
};

Model make_model(const std::vector<Shape>& shapes, uint32_t layers, uint32_t bits, uint32_t group, uint32_t kind) {
  Model model;
  for (uint32_t layer = 0; layer < layers; layer++) {
    for (const Shape& shape : shapes) {
      Linear linear{shape.in_features, {}};
      for (const uint32_t out : shape.outs) {
        linear.weights.push_back({{0, 0}, kind, 0, bits, group, APIQ_ZERO_INTEGER, out, shape.in_features, 0});
        model.bytes += packed_bytes(linear.weights.back());
        model.weights += uint64_t{out} * shape.in_features;
      }
      model.linears.push_back(linear);
    }
  }
  model.memory = allocate(model.bytes);
  Arena arena{model.memory};
  for (Linear& linear : model.linears) {
    for (apiq_weight& weight : linear.weights) {
      weight.data = arena.take(packed_bytes(weight));
      fill_weight(weight);
    }
  }
  return model;
}

uint64_t record(const Model& model, apiq_ref x, apiq_ref y, uint32_t rows, const Options& options) {
  check(apiq_graph_begin(context), "begin a graph");
  for (const Linear& linear : model.linears) {
    apiq_linear_args args{};
    args.x = x;
    args.rows = rows;
    args.in_features = linear.in_features;
    args.activations = options.f32 != 0 ? APIQ_ACTIVATIONS_F32 : APIQ_ACTIVATIONS_INT8;
    args.n_parts = static_cast<uint32_t>(linear.weights.size());
    Arena arena{y};
    for (uint32_t i = 0; i < args.n_parts; i++) {
      args.parts[i] = {linear.weights[i], {0, 0}, arena.take(uint64_t{rows} * linear.weights[i].out_features * 4)};
    }
    check(apiq_linear(context, &args), "record a linear");
  }
  uint64_t graph = 0;
  check(apiq_graph_end(context, &graph), "end a graph");
  return graph;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double seconds_now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Of this thread if the work is its alone, else of the clock: the machine may be shared.
double work_seconds(uint32_t threads) {
  if (threads != 1) return seconds_now();
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

void time_model(const char* name, const Model& model, uint32_t rows, const Options& options) {
  uint32_t widest_in = 0, outs = 0;
  for (const Linear& linear : model.linears) {
    uint32_t sum = 0;
    for (const apiq_weight& weight : linear.weights) sum += weight.out_features + 16;
    widest_in = std::max(widest_in, linear.in_features);
    outs = std::max(outs, sum);
  }
  std::vector<float> input(uint64_t{rows} * widest_in);
  for (float& value : input) value = static_cast<float>(static_cast<int32_t>(random_words.next())) * 0x1p-31f;
  const apiq_ref x = upload(input.data(), input.size() * 4), y = allocate(uint64_t{rows} * outs * 4);
  const uint64_t graph = record(model, x, y, rows, options);
  check(apiq_graph_launch(context, graph), "launch");
  std::vector<double> steps, bandwidths, shares;
  const double bytes = static_cast<double>(model.bytes), macs = static_cast<double>(model.weights) * rows, start = seconds_now();
  while (steps.size() < 3 || (seconds_now() - start < options.seconds && steps.size() < 200)) {
    const double begin = work_seconds(options.threads);
    check(apiq_graph_launch(context, graph), "launch");
    check(apiq_context_synchronize(context), "synchronize");
    steps.push_back(work_seconds(options.threads) - begin);
    bandwidths.push_back(0);
    check(apiq_measure_bandwidth(context, model.memory.buffer, 0, &bandwidths.back()), "measure the bandwidth");
    shares.push_back(bytes / steps.back() / bandwidths.back());
  }
  const double step = median(steps), best = *std::min_element(steps.begin(), steps.end());
  std::printf("%-8s %5u rows %9.2f ms (best %8.2f) %7.2f GB/s, median share of %5.2f GB/s: %5.1f %% %9.1f tokens/s %8.1f GMAC/s\n", name, rows,
              step * 1e3, best * 1e3, bytes / step * 1e-9, median(bandwidths) * 1e-9, 100 * median(shares), rows / step, macs / step * 1e-9);
  std::fflush(stdout);
  check(apiq_graph_destroy(context, graph), "destroy a graph");
  for (const apiq_ref& ref : {x, y}) check(apiq_buffer_free(context, ref.buffer), "free");
}

std::vector<uint32_t> number_list(const char* text) {
  std::vector<uint32_t> numbers;
  while (*text != 0) {
    char* end = nullptr;
    numbers.push_back(static_cast<uint32_t>(std::strtoul(text, &end, 10)));
    text = *end == ',' ? end + 1 : end;
    if (end == text && *end != 0) break;
  }
  return numbers;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    const auto number = [&] { return static_cast<uint32_t>(std::strtoul(argv[i + 1], nullptr, 10)); };
    if (flag == "--bits") options.bits = number();
    else if (flag == "--group") options.group = number();
    else if (flag == "--threads") options.threads = number();
    else if (flag == "--layers") options.layers = number();
    else if (flag == "--head-bits") options.head_bits = number();
    else if (flag == "--lut") options.lut = number();
    else if (flag == "--f32") options.f32 = number();
    else if (flag == "--seconds") options.seconds = std::strtod(argv[i + 1], nullptr);
    else if (flag == "--rows") options.rows = number_list(argv[i + 1]);
    else {
      std::fprintf(stderr, "Cannot read the command line: received %s, expected a flag of the list at the top of linear_bench.cpp\n", argv[i]);
      std::exit(2);
    }
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  const apiq_context_options context_options = {0, options.threads, APIQ_ISA_AUTO, 0};
  check(apiq_context_create(&context_options, &context), "create a context");
  char description[512];
  uint64_t length = 0;
  check(apiq_context_describe(context, reinterpret_cast<uint8_t*>(description), sizeof description, &length), "describe the context");
  std::printf("%.*s\n", static_cast<int>(std::min<uint64_t>(length, sizeof description)), description);
  const uint32_t kind = options.lut != 0 ? APIQ_WEIGHT_LUT : APIQ_WEIGHT_AFFINE;
  const Model layers = make_model(layer_shapes, options.layers, options.bits, options.group, kind);
  std::printf("%u bits, groups of %u: %.0f M weights, %.1f MB packed\n", options.bits, options.group, static_cast<double>(layers.weights) * 1e-6,
              static_cast<double>(layers.bytes) * 1e-6);
  for (const uint32_t rows : options.rows) time_model("layers", layers, rows, options);
  const Model head = make_model({{2048, {32000}}}, 1, options.head_bits, options.group, APIQ_WEIGHT_AFFINE);
  time_model("head", head, 1, options);
  check(apiq_context_destroy(context), "destroy the context");
}
