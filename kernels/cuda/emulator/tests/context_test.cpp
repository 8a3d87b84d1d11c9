// Contexts, buffers, files and graphs: what works, and which status what does not work gives.
#include <unistd.h>

#include <cstdlib>

#include "session.h"

namespace apiq::test {
namespace {

apiq_rms_norm_args norm_args(const apiq_ref& x, const apiq_ref& weight, const apiq_ref& y) {
  return {x, weight, y, 1, 4, 4, 4, 1e-6f, 0};
}

const Register buffers("context: buffers are zero-filled, views share them, both count", [] {
  const Session session;
  const apiq_ref whole = session.zeros(64);
  check(session.get<float>(whole, 16) == std::vector<float>(16), "not zero");
  apiq_ref view{0, 0};
  session.ok(apiq_buffer_view(session.context, whole.buffer, 16, 8, &view.buffer), "buffer_view");
  session.set(view, std::vector<float>{1, 2});
  const std::vector<float> values = session.get<float>(whole, 16);
  check(values[4] == 1 && values[5] == 2 && values[6] == 0, "the view is another memory");
  session.refused(apiq_buffer_free(session.context, whole.buffer), APIQ_INVALID_STATE, "views");
  session.ok(apiq_buffer_free(session.context, view.buffer), "free");
  apiq_memory_info info{};
  session.ok(apiq_context_memory(session.context, &info), "memory");
  check(info.allocated_bytes == 64 && info.peak_bytes == 64, "memory");
  session.ok(apiq_buffer_free(session.context, whole.buffer), "free");
});

const Register handles("context: stale, forged and foreign handles are a status", [] {
  const Session session, other;
  const apiq_ref buffer = session.zeros(16);
  session.ok(apiq_buffer_free(session.context, buffer.buffer), "free");
  session.refused(apiq_buffer_free(session.context, buffer.buffer), APIQ_INVALID_HANDLE, "no buffer");
  const apiq_ref foreign = other.zeros(16);
  float value = 0;
  session.refused(apiq_buffer_download(session.context, foreign.buffer, 0, &value, 4), APIQ_INVALID_HANDLE, "no buffer");
  session.refused(apiq_graph_launch(session.context, 12345), APIQ_INVALID_HANDLE, "no graph");
  check(apiq_context_synchronize(999999) == APIQ_INVALID_HANDLE, "a forged context");
  check(apiq_context_synchronize(0) == APIQ_INVALID_HANDLE, "context 0");
  uint64_t dead = 0;
  const apiq_context_options options{0, 0, 0, 0};
  session.ok(apiq_context_create(&options, &dead), "create");
  session.ok(apiq_context_destroy(dead), "destroy");
  check(apiq_context_destroy(dead) == APIQ_INVALID_HANDLE, "destroyed twice");
});

const Register arguments("context: bad references and nulls are a status", [] {
  const Session session;
  const apiq_ref x = session.zeros(16), weight = session.zeros(16), y = session.zeros(16);
  apiq_rms_norm_args args = norm_args(x, weight, y);
  session.refused(apiq_rms_norm(session.context, nullptr), APIQ_INVALID_ARGUMENT, "null");
  args.x.offset = 4;
  session.refused(apiq_rms_norm(session.context, &args), APIQ_OUT_OF_RANGE, "x: 16 bytes at offset 4");
  args = norm_args(x, weight, y);
  args.y.buffer = 0;
  session.refused(apiq_rms_norm(session.context, &args), APIQ_INVALID_HANDLE, "y");
  args = norm_args(x, weight, x);
  args.weight = x;
  session.refused(apiq_rms_norm(session.context, &args), APIQ_INVALID_ARGUMENT, "overlap");
  session.refused(apiq_buffer_upload(session.context, x.buffer, 0, nullptr, 4), APIQ_INVALID_ARGUMENT, "null");
  session.refused(apiq_buffer_upload(session.context, x.buffer, 15, &args, 4), APIQ_OUT_OF_RANGE, "reach past");
  uint64_t huge = 0;
  session.refused(apiq_buffer_alloc(session.context, uint64_t{1} << 62, &huge), APIQ_OUT_OF_MEMORY, "4611686018427387904 bytes");
  const apiq_context_options second{1, 0, 0, 0};
  check(apiq_context_create(&second, &huge) == APIQ_UNSUPPORTED, "a second device");
  check_contains(last_error(0), "device 1");
});

const Register not_yet("context: ops that are not written yet say so", [] {
  const Session session;
  const apiq_sample_args args{};
  session.refused(apiq_sample(session.context, &args), APIQ_UNSUPPORTED, "not implemented by libapiq_cuda yet: sample");
  double rate = 0;
  session.refused(apiq_measure_bandwidth(session.context, 1, 1, &rate), APIQ_UNSUPPORTED, "yet: measure_bandwidth");
});

const Register describes("context: describe names the backend", [] {
  const Session session;
  uint8_t text[512];
  uint64_t bytes = 0;
  session.ok(apiq_context_describe(session.context, text, sizeof text, &bytes), "describe");
  check_contains(std::string(reinterpret_cast<char*>(text), bytes), "\"backend\":\"cuda-emulated\"");
});

const Register files("context: a mapped file is read-only and reads as the file", [] {
  const Session session;
  char path_template[] = "/tmp/apiq_file_XXXXXX";
  const int opened = mkstemp(path_template);
  check(opened >= 0 && write(opened, "0123456789", 10) == 10, "Cannot write a temporary file");
  close(opened);
  const std::string path = path_template;
  const auto* const name = reinterpret_cast<const uint8_t*>(path.data());
  apiq_ref file{0, 0};
  session.ok(apiq_buffer_map_file(session.context, name, path.size(), 3, 0, &file.buffer), "map_file");
  check(session.get<char>(file, 7) == std::vector<char>{'3', '4', '5', '6', '7', '8', '9'}, "contents");
  session.refused(apiq_buffer_upload(session.context, file.buffer, 0, "x", 1), APIQ_INVALID_ARGUMENT, "read-only");
  session.ok(apiq_buffer_release_pages(session.context, file.buffer, 0, 7), "release_pages");
  apiq_memory_info info{};
  session.ok(apiq_context_memory(session.context, &info), "memory");
  check(info.mapped_bytes == 7 && info.allocated_bytes == 0, "memory");
  session.refused(apiq_buffer_map_file(session.context, name, path.size(), 5, 6, &file.buffer), APIQ_OUT_OF_RANGE, "it has 10");
  unlink(path.c_str());
  session.refused(apiq_buffer_map_file(session.context, name, path.size(), 0, 0, &file.buffer), APIQ_IO_ERROR, "Cannot open");
});

const Register graphs("graph: a recording runs when launched, with what its buffers then hold", [] {
  const Session session;
  const apiq_ref x = session.put(std::vector<float>{1, 1, 1, 1}), y = session.zeros(16);
  const apiq_ref weight = session.put(std::vector<float>{1, 2, 3, 4});
  const apiq_rms_norm_args args = norm_args(x, weight, y);
  uint64_t graph = 0;
  session.ok(apiq_graph_begin(session.context), "graph_begin");
  session.ok(apiq_rms_norm(session.context, &args), "rms_norm");
  session.ok(apiq_graph_end(session.context, &graph), "graph_end");
  check(session.get<float>(y, 4) == std::vector<float>(4), "recording executed the op");
  session.ok(apiq_graph_launch(session.context, graph), "graph_launch");
  check(std::fabs(session.get<float>(y, 4)[3] - 4.0f) < 1e-4f, "first launch");
  session.set(weight, std::vector<float>{5, 6, 7, 8});
  session.ok(apiq_graph_launch(session.context, graph), "graph_launch");
  check(std::fabs(session.get<float>(y, 4)[3] - 8.0f) < 1e-4f, "second launch");
  session.ok(apiq_buffer_free(session.context, weight.buffer), "free");
  session.refused(apiq_graph_launch(session.context, graph), APIQ_INVALID_HANDLE, "graph");
  session.ok(apiq_graph_destroy(session.context, graph), "graph_destroy");
  session.refused(apiq_graph_destroy(session.context, graph), APIQ_INVALID_HANDLE, "no graph");
});

const Register graph_states("graph: begin, end, abort and launch out of turn are INVALID_STATE", [] {
  const Session session;
  uint64_t graph = 0, ended = 0;
  session.refused(apiq_graph_end(session.context, &graph), APIQ_INVALID_STATE, "none is being recorded");
  session.ok(apiq_graph_abort(session.context), "graph_abort");
  session.ok(apiq_graph_begin(session.context), "graph_begin");
  session.ok(apiq_graph_end(session.context, &ended), "graph_end");
  session.ok(apiq_graph_begin(session.context), "graph_begin");
  session.refused(apiq_graph_begin(session.context), APIQ_INVALID_STATE, "is being recorded");
  session.refused(apiq_graph_launch(session.context, ended), APIQ_INVALID_STATE, "while another is being recorded");
  session.ok(apiq_graph_abort(session.context), "graph_abort");
  session.ok(apiq_graph_launch(session.context, ended), "graph_launch");
});

}  // namespace
}  // namespace apiq::test
