// apiq_weight_packed_bytes, apiq_weight_repack and apiq_weight_dequantize.
#include "../../common/plans/weight.h"

#include <cstring>

#include "../core/context.h"
#include "../packed/matrices.h"
#include "../packed/repack.h"

namespace apiq {

uint64_t packed_bytes(const WeightPlan& weight) {
  return weight.lut() ? cpu::lut_matrix(weight).bytes() : cpu::affine_matrix(weight).bytes();
}

namespace cpu {
namespace {

// Items are tiles.
class Repack final : public Op {
 public:
  explicit Repack(const RepackPlan& plan)
      : source_{plan.qweight, plan.zeros, plan.scales, plan.format}, matrix_(affine_matrix(plan.weight)), target_(plan.target) {
    if (!plan.weight.lut()) return;
    matrix_ = lut_matrix(plan.weight).codes;
    float header[table_entries];
    for (uint32_t i = 0; i < table_entries; i++) header[i] = plan.table[i & ((1u << plan.weight.bits) - 1)];
    std::memcpy(target_, header, sizeof header);
    target_ += sizeof header;
  }

  uint64_t items(uint32_t) const override { return matrix_.tiles(); }
  // Four tiles are 256 B of every source line: whole cache lines and few pages touched twice.
  uint64_t grain(uint32_t) const override { return 4; }
  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    for (uint64_t tile = begin; tile < end; tile++) {
      repack_tile(source_, matrix_, static_cast<uint32_t>(tile), target_ + tile * matrix_.tile_bytes());
    }
  }

 private:
  GptqSource source_;
  AffineMatrix matrix_;
  std::byte* target_;
};

// Items are rows.
class Dequantize final : public Op {
 public:
  Dequantize(const DequantizePlan& plan, Isa isa) : plan_(plan), kernels_(packed_kernels(isa)) {}

  uint64_t items(uint32_t) const override { return plan_.n_rows; }
  uint64_t grain(uint32_t) const override { return tile_rows; }
  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    const WeightPlan& weight = plan_.weight;
    const uint32_t first = plan_.first_row + static_cast<uint32_t>(begin), rows = static_cast<uint32_t>(end - begin);
    float* const y = plan_.y + begin * weight.in_features;
    if (weight.lut()) return kernels_.dequantize_lut(lut_matrix(weight), first, rows, y, weight.in_features);
    kernels_.dequantize(affine_matrix(weight), first, rows, y, weight.in_features);
  }

 private:
  DequantizePlan plan_;
  const PackedKernels& kernels_;
};

}  // namespace
}  // namespace cpu
}  // namespace apiq

using namespace apiq;

extern "C" apiq_status apiq_weight_packed_bytes(uint64_t context, const apiq_weight* weight, uint64_t* bytes) {
  return cpu::enter(context, [&](cpu::Context&) {
    APIQ_REQUIRE(weight != nullptr && bytes != nullptr, "the weight and its length must not be null");
    const WeightPlan shape = weight_shape(*weight, "weight");
    APIQ_REQUIRE(shape.packed(), "weight.kind: received a dense matrix, expected APIQ_WEIGHT_AFFINE or APIQ_WEIGHT_LUT");
    *bytes = packed_bytes(shape);
  });
}

extern "C" apiq_status apiq_weight_repack(uint64_t context, const apiq_weight_repack_args* args) {
  return cpu::enter(context, [&](cpu::Context& found) {
    APIQ_REQUIRE(args != nullptr, "arguments must not be null");
    const RepackPlan repack = plan(found, *args);
    cpu::Repack op(repack);
    found.expect_large_write(args->weight.data, packed_bytes(repack.weight));
    found.run_now(op);
    if (!repack.release_source) return;
    found.release_pages(args->qweight, repack.qweight_bytes);
    if (args->zeros.buffer != 0) found.release_pages(args->zeros, repack.zeros_bytes);
    found.release_pages(args->scales, repack.scales_bytes);
  });
}

extern "C" apiq_status apiq_weight_dequantize(uint64_t context, const apiq_weight_dequantize_args* args) {
  return cpu::submit<cpu::Dequantize>(context, args);
}
