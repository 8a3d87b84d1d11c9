// Times llama.cpp through libllama's C API, without an interpreter in the loop, and prints one JSON object.
//
//   g++ -std=c++20 -O2 llama_bench.cpp -o llama_bench -ldl
//   llama_bench --libraries DIR --model X.gguf --threads N [--prompt 512] [--tokens 64] [--sequences 1]
//
// DIR holds libllama*.so, libggml*.so and the ggml CPU back ends, of which ggml picks the best for this machine. The
// libraries come without headers, so the few declarations needed stand here. Parameter structs that cross the border
// by value are opaque and larger than the real ones: on x86-64 and AArch64 such a struct is passed in memory, and the
// callee looks at the part it knows. Only the four leading fields of llama_context_params are written, and what
// became of them is read back (check_layout), so a library with another layout is an error and not a wrong figure.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <filesystem>
#include <link.h>
#include <map>
#include <stdexcept>
#include <string>
#include <sys/resource.h>
#include <vector>

namespace {

struct OpaqueParameters {
  alignas(16) std::byte bytes[4096];
};

// The leading fields of llama_context_params.
struct ContextSizes {
  uint32_t context, logical_batch, physical_batch, max_sequences;
};

// llama_batch, with room behind its last field.
struct Batch {
  int32_t tokens;
  int32_t* ids;
  float* embeddings;
  int32_t* positions;
  int32_t* sequence_counts;
  int32_t** sequence_ids;
  int8_t* wants_logits;
  uint64_t unknown[8];
};

[[noreturn]] void fail(const std::string& message) { throw std::runtime_error(message); }

// The one file of `directory` whose name starts with `prefix` and then goes on with '.', as libllama.v0.5.0.so does.
std::string find_library(const std::string& directory, const std::string& prefix) {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().filename().string().starts_with(prefix + ".")) found.push_back(entry.path().string());
  }
  if (found.size() != 1) {
    fail("Cannot find " + prefix + " in " + directory + ": received " + std::to_string(found.size()) +
         " matching files, expected 1");
  }
  return found.front();
}

class Library {
 public:
  explicit Library(const std::string& path) : path_(path), handle_(dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL)) {
    if (!handle_) fail("Cannot load " + path + ": " + dlerror());
  }

  // The function `name`, as a pointer of type Function.
  template <class Function>
  Function* get(const char* name) const {
    void* symbol = dlsym(handle_, name);
    if (!symbol) fail("Cannot find the function " + std::string(name) + " in " + path_);
    return reinterpret_cast<Function*>(symbol);
  }

  std::string name() const { return std::filesystem::path(path_).filename().string(); }

 private:
  std::string path_;
  void* handle_;
};

struct Options {
  std::string libraries, model;
  uint32_t threads = 1;
  uint32_t prompt = 512;   // tokens of each sequence's prompt; decoding starts after it
  uint32_t tokens = 64;    // decode steps that are timed
  uint32_t sequences = 1;  // computed together
};

constexpr uint32_t kWarmUpSteps = 4;
constexpr uint32_t kWarmUpTokens = 32;
constexpr uint32_t kPhysicalBatch = 512;  // libllama's own default

Options parse(int count, char** values) {
  Options options;
  const std::map<std::string, std::string*> texts{{"--libraries", &options.libraries}, {"--model", &options.model}};
  const std::map<std::string, uint32_t*> numbers{
      {"--threads", &options.threads},
      {"--prompt", &options.prompt},
      {"--tokens", &options.tokens},
      {"--sequences", &options.sequences}};
  for (int i = 1; i < count; i += 2) {
    const std::string flag = values[i];
    if (i + 1 == count) fail("Cannot read " + flag + ": it needs a value");
    if (const auto text = texts.find(flag); text != texts.end()) {
      *text->second = values[i + 1];
    } else if (const auto number = numbers.find(flag); number != numbers.end()) {
      const int value = std::atoi(values[i + 1]);
      if (value < 1) fail("Cannot read " + flag + ": received " + values[i + 1] + ", expected a positive integer");
      *number->second = static_cast<uint32_t>(value);
    } else {
      fail("Cannot read the command line: unknown flag " + flag);
    }
  }
  if (options.libraries.empty() || options.model.empty()) fail("Cannot start: --libraries and --model are needed");
  return options;
}

uint32_t round_up(uint32_t value, uint32_t unit) { return (value + unit - 1) / unit * unit; }

// A model in a context with a thread pool of its own, as llama.cpp's tools have it: without one libllama starts its
// threads anew every step.
class Session {
 public:
  Session(const Library& llama, const Library& ggml, const Options& options)
      : llama_(llama), decode_(llama.get<int(void*, Batch)>("llama_decode")),
        synchronize_(llama.get<void(void*)>("llama_synchronize")) {
    llama.get<void(void (*)(int, const char*, void*), void*)>("llama_log_set")([](int, const char*, void*) {}, nullptr);
    ggml.get<void(const char*)>("ggml_backend_load_all_from_path")(options.libraries.c_str());
    llama.get<void()>("llama_backend_init")();

    const auto model_parameters = llama.get<OpaqueParameters()>("llama_model_default_params")();
    model_ = llama.get<void*(const char*, OpaqueParameters)>("llama_model_load_from_file")(options.model.c_str(),
                                                                                           model_parameters);
    if (!model_) fail("Cannot load " + options.model + ": libllama refused it");

    const uint32_t longest = round_up(options.prompt + kWarmUpSteps + options.tokens, kPhysicalBatch);
    const uint32_t all = options.sequences * longest;
    sizes_ = {all, all, kPhysicalBatch, options.sequences};
    auto parameters = llama.get<OpaqueParameters()>("llama_context_default_params")();
    std::memcpy(parameters.bytes, &sizes_, sizeof sizes_);
    context_ = llama.get<void*(void*, OpaqueParameters)>("llama_init_from_model")(model_, parameters);
    if (!context_) fail("Cannot create a context of " + std::to_string(all) + " tokens: libllama refused it");

    attach_threads(ggml, options.threads);
    batch_ = llama.get<Batch(int32_t, int32_t, int32_t)>("llama_batch_init")(
        static_cast<int32_t>(sizes_.logical_batch), 0, 1);
    check_layout(options.threads);
  }

  // The process ends after the run: its end frees model and context.
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Empties every sequence.
  void clear() {
    llama_.get<void(void*, bool)>("llama_memory_clear")(memory(), false);
    next_position_ = 0;
  }

  // Appends `count` tokens to each of the first `sequences` sequences in one call; returns the seconds it took.
  double feed(uint32_t sequences, uint32_t count) {
    batch_.tokens = 0;
    for (uint32_t sequence = 0; sequence < sequences; ++sequence) {
      for (uint32_t i = 0; i < count; ++i) {
        const int32_t slot = batch_.tokens++;
        const uint32_t position = next_position_ + i;
        batch_.ids[slot] = static_cast<int32_t>(3 + (position * 7919u + sequence * 104729u) % 997u);
        batch_.positions[slot] = static_cast<int32_t>(position);
        batch_.sequence_counts[slot] = 1;
        batch_.sequence_ids[slot][0] = static_cast<int32_t>(sequence);
        batch_.wants_logits[slot] = i + 1 == count;
      }
    }
    const auto start = std::chrono::steady_clock::now();
    const int status = decode_(context_, batch_);
    synchronize_(context_);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (status != 0) {
      fail("Cannot decode " + std::to_string(batch_.tokens) + " tokens: llama_decode gave " + std::to_string(status));
    }
    next_position_ += count;
    return elapsed.count();
  }

  // Fails unless the last call was computed for real: its tokens are in the cache and its logits are numbers.
  void check_result() {
    const int32_t last = llama_.get<int32_t(void*, int32_t)>("llama_memory_seq_pos_max")(memory(), 0);
    if (last + 1 != static_cast<int32_t>(next_position_)) {
      fail("Cannot trust the run: the cache ends at position " + std::to_string(last) + ", expected " +
           std::to_string(next_position_ - 1));
    }
    const float* logits = llama_.get<float*(void*, int32_t)>("llama_get_logits_ith")(context_, -1);
    if (!logits) fail("Cannot trust the run: libllama has no logits for its last token");
    const float first = logits[0];
    bool varied = false;
    for (int32_t i = 0; i < vocabulary(); ++i) {
      if (!std::isfinite(logits[i])) fail("Cannot trust the run: logit " + std::to_string(i) + " is not finite");
      varied = varied || logits[i] != first;
    }
    if (!varied) fail("Cannot trust the run: all logits are equal");
  }

 private:
  void* memory() const { return llama_.get<void*(void*)>("llama_get_memory")(context_); }

  int32_t vocabulary() const {
    const void* vocabulary = llama_.get<const void*(const void*)>("llama_model_get_vocab")(model_);
    return llama_.get<int32_t(const void*)>("llama_vocab_n_tokens")(vocabulary);
  }

  void attach_threads(const Library& ggml, uint32_t threads) {
    void* registry = ggml.get<void*(const char*)>("ggml_backend_reg_by_name")("CPU");
    if (!registry) fail("Cannot find ggml's CPU back end among the loaded ones");
    // This one and the next default come from libggml-base, which libggml brings along.
    const auto procedure = ggml.get<void*(void*, const char*)>("ggml_backend_reg_get_proc_address");
    const auto create = reinterpret_cast<void* (*)(OpaqueParameters*)>(procedure(registry, "ggml_threadpool_new"));
    if (!create) fail("Cannot find ggml_threadpool_new in ggml's CPU back end");
    auto parameters = ggml.get<OpaqueParameters(int)>("ggml_threadpool_params_default")(static_cast<int>(threads));
    void* pool = create(&parameters);
    if (!pool) fail("Cannot create a pool of " + std::to_string(threads) + " threads: ggml refused it");
    llama_.get<void(void*, void*, void*)>("llama_attach_threadpool")(context_, pool, nullptr);
    llama_.get<void(void*, int32_t, int32_t)>("llama_set_n_threads")(context_, static_cast<int32_t>(threads),
                                                                     static_cast<int32_t>(threads));
  }

  void check_layout(uint32_t threads) const {
    const auto expect = [&](const char* getter, uint32_t expected) {
      const uint32_t received = llama_.get<uint32_t(const void*)>(getter)(context_);
      if (received != expected) {
        fail("Cannot rely on the layout of libllama's structs: " + std::string(getter) + " gives " +
             std::to_string(received) + ", expected " + std::to_string(expected));
      }
    };
    expect("llama_n_ctx", sizes_.context);
    expect("llama_n_batch", sizes_.logical_batch);
    expect("llama_n_ubatch", sizes_.physical_batch);
    expect("llama_n_seq_max", sizes_.max_sequences);
    expect("llama_n_threads", threads);
    expect("llama_n_threads_batch", threads);
    const bool batch_as_declared = batch_.tokens == 0 && batch_.ids && !batch_.embeddings && batch_.positions &&
                                   batch_.sequence_counts && batch_.sequence_ids && batch_.sequence_ids[0] &&
                                   batch_.wants_logits;
    if (!batch_as_declared) {
      fail("Cannot rely on the layout of libllama's structs: llama_batch_init filled other fields");
    }
  }

  const Library& llama_;
  int (*decode_)(void*, Batch);
  void (*synchronize_)(void*);
  void* model_ = nullptr;
  void* context_ = nullptr;
  ContextSizes sizes_{};
  Batch batch_{};
  uint32_t next_position_ = 0;
};

struct Summary {
  double best, median;
};

Summary summarize(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  return {seconds.front(), (seconds[(seconds.size() - 1) / 2] + seconds[seconds.size() / 2]) / 2};
}

// Seconds for the prompts of all sequences.
double time_prefill(Session& session, const Options& options) {
  session.feed(options.sequences, std::min(options.prompt, kWarmUpTokens));
  session.clear();
  const double seconds = session.feed(options.sequences, options.prompt);
  session.check_result();
  return seconds;
}

// Seconds for a step of all sequences, which hold their prompts.
Summary time_decode(Session& session, const Options& options) {
  for (uint32_t step = 0; step < kWarmUpSteps; ++step) session.feed(options.sequences, 1);
  std::vector<double> seconds;
  for (uint32_t step = 0; step < options.tokens; ++step) seconds.push_back(session.feed(options.sequences, 1));
  session.check_result();
  return summarize(seconds);
}

// File name of the ggml CPU back end that was loaded, such as libggml-cpu-haswell.so.
std::string loaded_cpu_backend() {
  std::string name;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* result) {
        const std::string file = std::filesystem::path(info->dlpi_name).filename().string();
        if (!file.starts_with("libggml-cpu")) return 0;
        *static_cast<std::string*>(result) = file;
        return 1;
      },
      &name);
  return name;
}

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char character : text) {
    if (character == '"' || character == '\\') result += '\\';
    result += static_cast<unsigned char>(character) < 0x20 ? ' ' : character;
  }
  return result + "\"";
}

void run(const Options& options) {
  const Library llama(find_library(options.libraries, "libllama"));
  const Library ggml(find_library(options.libraries, "libggml"));
  Session session(llama, ggml, options);
  const double prefill = time_prefill(session, options);
  const Summary decode = time_decode(session, options);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const std::string system_info = llama.get<const char*()>("llama_print_system_info")();
  const uint32_t prompt_tokens = options.sequences * options.prompt;
  std::printf("{\"library\":%s,\"cpuBackend\":%s,\"systemInfo\":%s,\"model\":%s,\"threads\":%u,\"sequences\":%u,",
              quoted(llama.name()).c_str(), quoted(loaded_cpu_backend()).c_str(), quoted(system_info).c_str(),
              quoted(options.model).c_str(), options.threads, options.sequences);
  std::printf("\"decode\":{\"steps\":%u,\"tokensPerSecond\":%.3f,\"medianMs\":%.4f,\"bestMs\":%.4f},", options.tokens,
              options.sequences / decode.median, 1e3 * decode.median, 1e3 * decode.best);
  std::printf("\"prefill\":{\"tokens\":%u,\"tokensPerSecond\":%.3f,\"seconds\":%.4f},\"peakResidentBytes\":%lld}\n",
              prompt_tokens, prompt_tokens / prefill, prefill, usage.ru_maxrss * 1024LL);
}

}  // namespace

int main(int count, char** values) {
  try {
    run(parse(count, values));
    std::fflush(stdout);
    // Not through exit: ggml's pool threads are still alive and its libraries' destructors do not expect them.
    std::_Exit(0);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    std::_Exit(1);
  }
}
