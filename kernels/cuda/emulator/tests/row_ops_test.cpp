// The small ops of a layer against float64: embedding, rotary, kv_store, silu_mul, add.
#include "gptq_matrix.h"

namespace apiq::test {
namespace {

void expect_floats(const Session& session, const apiq_ref& ref, const std::vector<double>& expected, double relative,
                   const std::string& what) {
  std::vector<double> tolerance;
  for (const double value : expected) tolerance.push_back(std::fabs(value) * relative + relative * 1e-2);
  check_near(session.get<float>(ref, expected.size()), expected, tolerance, what);
}

const Register elementwise("elementwise: silu_mul and add against float64, in place too", [] {
  const Session session;
  const uint64_t count = 1000;
  const std::vector<float> a = Random(1).floats(count, -30, 30), b = Random(2).floats(count);
  std::vector<double> silu(count), sum(count);
  for (uint64_t i = 0; i < count; i++) {
    silu[i] = a[i] / (1.0 + std::exp(-double(a[i]))) * b[i];
    sum[i] = double(a[i]) + b[i];
  }
  const apiq_silu_mul_args silu_args{session.put(a), session.put(b), session.zeros(count * 4), count};
  session.ok(apiq_silu_mul(session.context, &silu_args), "silu_mul");
  expect_floats(session, silu_args.y, silu, 1e-6, "silu_mul");
  const apiq_ref in_place = session.put(b);
  const apiq_add_args add_args{session.put(a), in_place, in_place, count};
  session.ok(apiq_add(session.context, &add_args), "add");
  expect_floats(session, in_place, sum, 1e-7, "add");
});

const Register rotary("rope: table and rotation against float64, large positions", [] {
  const Session session;
  const uint32_t rows = 3, heads = 5, half = 20;
  const std::vector<int32_t> positions{0, 7, 131071};
  std::vector<float> inv_freq(half);
  for (uint32_t i = 0; i < half; i++) inv_freq[i] = static_cast<float>(std::pow(10000.0, -double(i) / half));
  apiq_rope_table_args table{};
  table.positions = session.put(positions);
  table.inv_freq = session.put(inv_freq);
  table.table = session.zeros(rows * 2 * half * 4);
  table.rows = rows;
  table.half_dim = half;
  table.scale = 1.25f;
  session.ok(apiq_rope_table(session.context, &table), "rope_table");
  const std::vector<float> x = Random(3).floats(rows * heads * 2 * half);
  const apiq_rotary_args rotate{session.put(x), table.table, rows, heads, 2 * half, 0};
  session.ok(apiq_rotary(session.context, &rotate), "rotary");
  std::vector<double> expected_table(rows * 2 * half), expected(x.size());
  for (uint32_t r = 0; r < rows; r++) {
    for (uint32_t i = 0; i < half; i++) {
      const float angle = static_cast<float>(positions[r]) * inv_freq[i];
      const double c = 1.25 * std::cos(double(angle)), s = 1.25 * std::sin(double(angle));
      expected_table[r * 2 * half + i] = c;
      expected_table[r * 2 * half + half + i] = s;
      for (uint32_t h = 0; h < heads; h++) {
        const uint32_t at = (r * heads + h) * 2 * half + i;
        expected[at] = x[at] * c - x[at + half] * s;
        expected[at + half] = x[at + half] * c + x[at] * s;
      }
    }
  }
  expect_floats(session, table.table, expected_table, 2e-7, "table");
  expect_floats(session, rotate.x, expected, 3e-5, "x");
});

const Register rotary_inverse("rotary: the inverse undoes a rotation, scaled by the table's squared radius", [] {
  const Session session;
  const uint32_t rows = 3, heads = 5, half = 20;
  std::vector<float> table(rows * 2 * half);
  Random random(11);
  for (uint32_t r = 0; r < rows; r++) {
    for (uint32_t i = 0; i < half; i++) {
      const float angle = random.uniform(-3, 3);
      table[r * 2 * half + i] = 1.25f * std::cos(angle);
      table[r * 2 * half + half + i] = 1.25f * std::sin(angle);
    }
  }
  const std::vector<float> x = Random(12).floats(rows * heads * 2 * half);
  apiq_rotary_args rotate{session.put(x), session.put(table), rows, heads, 2 * half, 0};
  session.ok(apiq_rotary(session.context, &rotate), "rotary");
  rotate.inverse = 1;
  session.ok(apiq_rotary(session.context, &rotate), "rotary, inverse");
  std::vector<double> expected;
  for (const float value : x) expected.push_back(1.25 * 1.25 * value);
  expect_floats(session, rotate.x, expected, 3e-5, "x");
  rotate.inverse = 2;
  session.refused(apiq_rotary(session.context, &rotate), APIQ_INVALID_ARGUMENT, "inverse: received 2, expected 0 or 1");
});

// `table` looked up for ids 3, -1, 0 and one past its end.
void expect_embedding(const Session& session, const apiq_weight& table, const std::vector<double>& entries, const std::string& what) {
  const uint32_t width = table.in_features;
  const std::vector<int32_t> ids{3, -1, 0, static_cast<int32_t>(table.out_features)};
  apiq_embedding_args args{};
  args.table = table;
  args.ids = session.put(ids);
  args.y = session.put(std::vector<float>(4 * width, 5.0f));
  args.rows = 4;
  session.ok(apiq_embedding(session.context, &args), "embedding");
  session.refused(apiq_context_synchronize(session.context), APIQ_OUT_OF_RANGE, "embedding: an id is outside the table");
  std::vector<double> expected(4 * width, 0.0);
  for (uint32_t i = 0; i < width; i++) {
    expected[i] = entries[3 * width + i];
    expected[2 * width + i] = entries[i];
  }
  check_near(session.get<float>(args.y, 4 * width), expected, std::vector<double>(4 * width, 0.0), what);
}

const Register embedding("embedding: dense and packed tables to the bit, ids outside give zeros and a status", [] {
  const Session session;
  const std::vector<float> values = Random(4).floats(9 * 50);
  const apiq_weight dense{session.put(values), APIQ_WEIGHT_DENSE, APIQ_F32, 0, 0, 0, 9, 50, 0};
  expect_embedding(session, dense, std::vector<double>(values.begin(), values.end()), "dense");
  for (const uint32_t zero : {APIQ_ZERO_INTEGER, APIQ_ZERO_FLOAT}) {
    const GptqMatrix matrix(40, 192, 4, 64, zero, APIQ_GPTQ_V2, 8);
    expect_embedding(session, matrix.repacked(session), std::vector<double>(matrix.dequantized.begin(), matrix.dequantized.end()), "packed");
  }
});

const Register kv_store("kv_store: rows land in their blocks, padding and refused rows write nothing", [] {
  const Session session;
  const uint32_t heads = 2, head_dim = 16, n_blocks = 3;
  const uint64_t elements = uint64_t{n_blocks} * heads * head_dim * 16;
  const std::vector<float> keys = Random(5).floats(4 * heads * head_dim), values = Random(6).floats(4 * heads * head_dim);
  for (const uint32_t dtype : {APIQ_F32, APIQ_F16}) {
    const uint64_t element = dtype == APIQ_F32 ? 4 : 2;
    apiq_kv_store_args args{};
    args.kv.k = session.zeros(elements * element);
    args.kv.v = session.zeros(elements * element);
    args.kv.block_tables = session.put(std::vector<int32_t>{2, 0, 1, 3});
    args.kv.row_seq = session.put(std::vector<int32_t>{0, -1, 1, 1});
    // Block 0, slot 5; padding; block 1, slot 4; block 3, which is none.
    args.kv.row_pos = session.put(std::vector<int32_t>{21, 0, 4, 30});
    args.kv.dtype = dtype;
    args.kv.n_blocks = n_blocks;
    args.kv.block_size = 16;
    args.kv.n_kv_heads = heads;
    args.kv.head_dim = head_dim;
    args.kv.n_seqs = 2;
    args.kv.max_blocks = 2;
    args.kv.rows = 4;
    args.keys = session.put(keys);
    args.values = session.put(values);
    session.ok(apiq_kv_store(session.context, &args), "kv_store");
    session.refused(apiq_context_synchronize(session.context), APIQ_OUT_OF_RANGE, "block id");
    std::vector<float> k(elements), v(elements);
    const auto place = [&](uint32_t row, uint32_t block, uint32_t slot) {
      for (uint32_t i = 0; i < heads * head_dim; i++) {
        const uint32_t h = i / head_dim, d = i % head_dim;
        k[((block * heads + h) * head_dim + d) * 16 + slot] = keys[row * heads * head_dim + i];
        v[((block * heads + h) * 16 + slot) * head_dim + d] = values[row * heads * head_dim + i];
      }
    };
    place(0, 0, 5);
    place(2, 1, 4);
    if (dtype == APIQ_F32) {
      check(session.get<float>(args.kv.k, elements) == k && session.get<float>(args.kv.v, elements) == v, "float32 cache");
    } else {
      std::vector<uint16_t> k_half, v_half;
      for (const float value : k) k_half.push_back(half_bits(value));
      for (const float value : v) v_half.push_back(half_bits(value));
      check(session.get<uint16_t>(args.kv.k, elements) == k_half && session.get<uint16_t>(args.kv.v, elements) == v_half, "float16 cache");
    }
  }
});

}  // namespace
}  // namespace apiq::test
