// Paged attention against float64: grouped queries, windows, float16 caches, padding, chunks, and data that names what does not exist.
#include "random.h"
#include "session.h"

namespace apiq::test {
namespace {

constexpr uint32_t block_size = 16;

// Two sequences whose keys and values lie in scattered blocks of one cache.
struct Scene {
  uint32_t n_heads, n_kv_heads, head_dim, window, dtype;
  uint32_t positions = 150;  // of a sequence: more than one tile of 128
  uint32_t max_blocks = 10;
  uint32_t n_blocks = 23;
  std::vector<double> keys, values;  // [2, positions, n_kv_heads, head_dim], as the cache holds them
  std::vector<float> k32, v32;
  std::vector<uint16_t> k16, v16;
  std::vector<int32_t> tables;

  Scene(uint32_t n_heads, uint32_t n_kv_heads, uint32_t head_dim, uint32_t window, uint32_t dtype)
      : n_heads(n_heads), n_kv_heads(n_kv_heads), head_dim(head_dim), window(window), dtype(dtype) {
    Random random(head_dim + window);
    const uint64_t per_sequence = uint64_t{positions} * n_kv_heads * head_dim;
    const uint64_t elements = uint64_t{n_blocks} * n_kv_heads * head_dim * block_size;
    keys.resize(2 * per_sequence);
    values.resize(2 * per_sequence);
    k32.assign(elements, NAN);  // what no position owns must not be read
    v32.assign(elements, NAN);
    k16.assign(elements, 0x7e00);
    v16.assign(elements, 0x7e00);
    for (uint32_t seq = 0; seq < 2; seq++) {
      for (uint32_t b = 0; b < max_blocks; b++) tables.push_back(static_cast<int32_t>((7 * (seq * max_blocks + b) + 3) % n_blocks));
    }
    for (uint32_t seq = 0; seq < 2; seq++) {
      for (uint32_t p = 0; p < positions; p++) {
        for (uint32_t h = 0; h < n_kv_heads; h++) {
          for (uint32_t d = 0; d < head_dim; d++) {
            const uint64_t head = (uint64_t(tables[seq * max_blocks + p / block_size]) * n_kv_heads + h) * head_dim * block_size;
            const uint64_t at = index(seq, p, h) + d;
            keys[at] = place(random.uniform(-1, 1), k32, k16, head + d * block_size + p % block_size);
            values[at] = place(random.uniform(-1, 1), v32, v16, head + p % block_size * head_dim + d);
          }
        }
      }
    }
  }

  uint64_t index(uint32_t seq, uint32_t position, uint32_t kv_head) const {
    return ((uint64_t{seq} * positions + position) * n_kv_heads + kv_head) * head_dim;
  }

  double place(float value, std::vector<float>& wide, std::vector<uint16_t>& half, uint64_t at) const {
    wide[at] = value;
    half[at] = half_bits(value);
    return dtype == APIQ_F32 ? double(value) : half_value(half[at]);
  }

  apiq_attention_args arguments(const Session& session, const std::vector<int32_t>& seqs, const std::vector<int32_t>& positions_of_rows,
                                const std::vector<float>& q) const {
    apiq_attention_args args{};
    args.kv.k = dtype == APIQ_F32 ? session.put(k32) : session.put(k16);
    args.kv.v = dtype == APIQ_F32 ? session.put(v32) : session.put(v16);
    args.kv.block_tables = session.put(tables);
    args.kv.row_seq = session.put(seqs);
    args.kv.row_pos = session.put(positions_of_rows);
    args.kv.dtype = dtype;
    args.kv.n_blocks = n_blocks;
    args.kv.block_size = block_size;
    args.kv.n_kv_heads = n_kv_heads;
    args.kv.head_dim = head_dim;
    args.kv.n_seqs = 2;
    args.kv.max_blocks = max_blocks;
    args.kv.rows = static_cast<uint32_t>(seqs.size());
    args.q = session.put(q);
    args.y = session.put(std::vector<float>(q.size(), 9.0f));
    args.n_heads = n_heads;
    args.window = window;
    args.scale = 0.25f;
    return args;
  }

  // softmax(scale q k) v of one row and head, in float64.
  std::vector<double> reference(const float* q, uint32_t seq, uint32_t position, uint32_t head) const {
    const uint32_t kv_head = head / (n_heads / n_kv_heads);
    const uint32_t first = window != 0 && position >= window ? position - window + 1 : 0;
    std::vector<double> y(head_dim, 0.0);
    double total = 0;
    for (uint32_t p = first; p <= position; p++) {
      double score = 0;
      for (uint32_t d = 0; d < head_dim; d++) score += q[d] * keys[index(seq, p, kv_head) + d];
      const double weight = std::exp(0.25 * score);
      total += weight;
      for (uint32_t d = 0; d < head_dim; d++) y[d] += weight * values[index(seq, p, kv_head) + d];
    }
    for (double& value : y) value /= total;
    return y;
  }

  void expect_right() const {
    const Session session;
    const std::vector<int32_t> seqs{0, 1, -1, 1, 0, 1};
    const std::vector<int32_t> rows{0, 149, 5, 17, 127, 128};
    const uint64_t row_elements = uint64_t{n_heads} * head_dim;
    const std::vector<float> q = Random(3).floats(seqs.size() * row_elements, -2, 2);
    const apiq_attention_args args = arguments(session, seqs, rows, q);
    session.ok(apiq_attention(session.context, &args), "attention");
    std::vector<double> expected(q.size(), 0.0);
    for (size_t r = 0; r < seqs.size(); r++) {
      for (uint32_t h = 0; h < n_heads && seqs[r] >= 0; h++) {
        const uint64_t at = r * row_elements + h * head_dim;
        const std::vector<double> y = reference(&q[at], static_cast<uint32_t>(seqs[r]), static_cast<uint32_t>(rows[r]), h);
        std::copy(y.begin(), y.end(), expected.begin() + static_cast<int64_t>(at));
      }
    }
    check_near(session.get<float>(args.y, q.size()), expected, std::vector<double>(q.size(), 3e-6), "y");
  }
};

const Register plain("attention: float32 cache, one head a key", [] { Scene(2, 2, 32, 0, APIQ_F32).expect_right(); });
const Register grouped("attention: grouped queries, float16 cache, head_dim 48", [] { Scene(6, 2, 48, 0, APIQ_F16).expect_right(); });
const Register windowed("attention: a sliding window that begins inside a block and a tile", [] {
  Scene(2, 1, 16, 21, APIQ_F32).expect_right();
});
const Register wide("attention: head_dim 256", [] { Scene(1, 1, 256, 0, APIQ_F16).expect_right(); });

const Register chunks("attention: a row's bits do not depend on the rows beside it", [] {
  const Scene scene(2, 1, 32, 0, APIQ_F16);
  const Session session;
  const std::vector<float> q = Random(4).floats(64);
  const apiq_attention_args alone = scene.arguments(session, {1}, {140}, q);
  session.ok(apiq_attention(session.context, &alone), "attention");
  std::vector<float> three = Random(5).floats(192);
  std::copy(q.begin(), q.end(), three.begin() + 64);
  const apiq_attention_args among = scene.arguments(session, {0, 1, 1}, {3, 140, 139}, three);
  session.ok(apiq_attention(session.context, &among), "attention");
  const std::vector<float> all = session.get<float>(among.y, 192);
  check(session.get<float>(alone.y, 64) == std::vector<float>(all.begin() + 64, all.begin() + 128), "the row differs");
});

const Register bad_data("attention: sequences, positions and blocks out of range are reported, once, at the next synchronize", [] {
  const Session session;
  const std::vector<float> q(32, 1.0f);
  const auto expect = [&](Scene scene, int32_t seq, int32_t position, const std::string& part) {
    const apiq_attention_args args = scene.arguments(session, {seq, 0}, {position, 1}, q);
    session.ok(apiq_attention(session.context, &args), "attention");
    session.refused(apiq_context_synchronize(session.context), APIQ_OUT_OF_RANGE, part);
    session.ok(apiq_context_synchronize(session.context), "synchronize");
    for (const float value : session.get<float>(args.y, 32)) check(std::isfinite(value), "y holds what was never computed");
  };
  Scene scene(1, 1, 16, 0, APIQ_F32);
  expect(scene, 2, 0, "sequence");
  expect(scene, 1, -1, "position");
  expect(scene, 1, 160, "position");
  scene.tables[scene.max_blocks + 1] = 23;
  expect(scene, 1, 20, "block id");
  scene.tables[scene.max_blocks] = -1;
  expect(scene, 1, 20, "block id");
});

}  // namespace
}  // namespace apiq::test
