// apiq_gemm: blocked as by Goto and van de Geijn (Anatomy of High-Performance Matrix Multiplication, 2008).
//
//        k                n             Both factors are packed a block at a time into panels whose elements lie in the order
//     +-----+      +---+---+---+        the innermost loop reads them: tile_rows of op(a), or tile_cols of op(b), side by side
//   m |a0 a0|    k |b0 |b1 |b2 |        for every p of the block's depth. Transposed factors and wide strides cost something
//     |a1 a1|      |b0 |b1 |b2 |        once, here, and the reading after that is sequential.
//     |a2 a2|      +---+---+---+
//     +-----+                           An item of the second phase: some panels of a times some of b.
//
// Why it is fast, with AVX-512 on a Zen 4 core (one 64-byte multiply-add a cycle, 32 KiB + 1 MiB of cache):
//   registers  a tile of c is 8 x 48: 24 sums, 3 vectors of b, 1 broadcast element of a. A step of p is 24 multiply-adds and 11
//              loads, so loading takes less than half the time of computing; 24 chains hide the 4 cycles of a multiply-add.
//   L1         a panel of a, 8 x 384 floats = 12 KiB, stays while all of the item's panels of b pass by.
//   L2         the item's b, 384 x 384 floats = 576 KiB, stays while the panels of a pass by; a vector of it comes from L2 for
//              every 8 multiply-adds: 8 bytes a cycle of the 32 that L2 gives.
//   packing    m k + k n elements moved for m n k multiply-adds: at 512 x 1536 x 576, one for 384.
//   c          is read and written once for every 384 terms of its sums.
//
// The sum of an element runs over p = 0, 1, .. in blocks whose size depends on k alone; a block is one chain of multiply-adds
// from 0, and c = alpha chain + beta c, then c = alpha chain + c. How the work is cut otherwise never shows in the result.
//
// APIQ_COMPUTE_BF16 rounds the factors as it packs them. With AVX-512 BF16 a word of a panel holds two terms and a 64-byte
// instruction does 32 multiply-adds: panels of half the size, half the steps, and all of the above as it is.
#include "../../common/plans/gemm.h"

#include <algorithm>

#include "../core/context.h"
#include "../gemm/kernels.h"

namespace apiq::cpu {
namespace {

constexpr uint32_t round_up(uint32_t value, uint32_t step) { return (value + step - 1) / step * step; }
constexpr uint32_t pieces(uint32_t count, uint32_t size) { return count / size + (count % size != 0); }

// For every block of c, and every block of k within it, two phases: pack the factors; multiply.
class Gemm final : public Op {
 public:
  Gemm(const GemmPlan& plan, Isa isa)
      : plan_(plan),
        kernels_(panel_kernels(isa, plan.compute)),
        depth_(round_up(pieces(plan.k, pieces(plan.k, max_depth)), 8)),
        depths_(pieces(plan.k, depth_)),
        rows_{plan.m, kernels_.tile_rows, 8, item_rows},
        cols_{plan.n, kernels_.tile_cols, 2, item_cols} {
    // Enough items for many threads, but not so small that panels are not reused.
    const auto n_items = [&] { return uint64_t{pieces(rows_.block, rows_.item)} * pieces(cols_.block, cols_.item); };
    while (n_items() < enough_items && (cols_.halve() || rows_.halve())) {
    }
  }

  uint64_t shared_bytes() const override { return uint64_t{kernels_.words(depth_)} * (rows_.block + cols_.block) * sizeof(float); }

  uint32_t phases() const override { return 2 * depths_ * rows_.blocks() * cols_.blocks(); }

  uint64_t items(uint32_t phase) const override {
    const Block block = at(phase);
    if (phase % 2 == 0) return uint64_t{pieces(block.rows, rows_.pack)} + pieces(block.cols, cols_.pack);
    return uint64_t{pieces(block.rows, rows_.item)} * pieces(block.cols, cols_.item);
  }

  uint64_t grain(uint32_t) const override {
    const bool small = uint64_t{plan_.m} * plan_.n <= alone / plan_.k;
    return small ? UINT64_MAX : 1;
  }

  void run(uint32_t phase, uint64_t begin, uint64_t end, Worker& worker) override {
    const Block block = at(phase);
    float* const a = reinterpret_cast<float*>(worker.shared());
    float* const b = a + uint64_t{kernels_.words(depth_)} * rows_.block;
    for (uint64_t item = begin; item < end; item++) {
      if (phase % 2 == 0) {
        pack(block, static_cast<uint32_t>(item), a, b);
      } else {
        multiply(block, item, a, b);
      }
    }
  }

 private:
  static constexpr uint32_t max_depth = 384;
  static constexpr uint32_t max_block = 4096;  // rows or columns packed at a time: bounds the scratch at 12 MiB
  static constexpr uint32_t item_rows = 64;
  static constexpr uint32_t item_cols = 384;
  static constexpr uint64_t enough_items = 16;
  static constexpr uint64_t alone = 1u << 17;  // multiply-adds that take no longer than waking a thread

  // How the rows or the columns of c are cut. All sizes but the count are multiples of the tile's.
  struct Cut {
    Cut(uint32_t n, uint32_t tile_size, uint32_t pack_tiles, uint32_t item_size)
        : count(n),
          tile(tile_size),
          block(std::min(round_up(std::min(n, max_block), tile), round_up(max_block, tile))),
          pack(pack_tiles * tile),
          item(std::min(block, round_up(item_size, tile))) {}

    uint32_t blocks() const { return pieces(count, block); }
    bool halve() {
      if (item <= 2 * tile) return false;
      item = round_up(item / 2, tile);
      return true;
    }

    uint32_t count;
    uint32_t tile;
    uint32_t block;  // packed at a time
    uint32_t pack;   // packed by an item
    uint32_t item;   // multiplied by an item
  };

  // What a pair of phases works on.
  struct Block {
    uint64_t row;
    uint64_t col;
    uint64_t p;
    uint32_t rows;
    uint32_t cols;
    uint32_t depth;
    uint32_t words;  // of a line of a panel
  };

  Block at(uint32_t phase) const {
    const uint32_t step = phase / 2;
    const uint64_t p = uint64_t{step % depths_} * depth_;
    const uint64_t row = uint64_t{step / depths_ % rows_.blocks()} * rows_.block;
    const uint64_t col = uint64_t{step / depths_ / rows_.blocks()} * cols_.block;
    const auto part = [](uint32_t count, uint64_t from, uint32_t most) {
      return static_cast<uint32_t>(std::min<uint64_t>(most, count - from));
    };
    const uint32_t depth = part(plan_.k, p, depth_);
    return {row, col, p, part(plan_.m, row, rows_.block), part(plan_.n, col, cols_.block), depth, kernels_.words(depth)};
  }

  // Items are stretches of op(a)'s rows, then of op(b)'s columns.
  void pack(const Block& block, uint32_t item, float* a, float* b) const {
    const uint32_t row_items = pieces(block.rows, rows_.pack);
    if (item < row_items) {
      const uint32_t row = item * rows_.pack;
      const GemmPlan::Matrix& from = plan_.a;
      kernels_.pack_rows({.source = from.data + (block.row + row) * from.row_stride + block.p * from.column_stride,
                          .line_stride = from.row_stride,
                          .k_stride = from.column_stride,
                          .lines = std::min(rows_.pack, block.rows - row),
                          .k = block.depth,
                          .words = block.words},
                         a + uint64_t{row} * block.words);
    } else {
      const uint32_t col = (item - row_items) * cols_.pack;
      const GemmPlan::Matrix& from = plan_.b;
      kernels_.pack_cols({.source = from.data + block.p * from.row_stride + (block.col + col) * from.column_stride,
                          .line_stride = from.column_stride,
                          .k_stride = from.row_stride,
                          .lines = std::min(cols_.pack, block.cols - col),
                          .k = block.depth,
                          .words = block.words},
                         b + uint64_t{col} * block.words);
    }
  }

  // Neighbouring items share columns.
  void multiply(const Block& block, uint64_t item, const float* a, const float* b) const {
    const uint64_t down = pieces(block.rows, rows_.item);
    const uint32_t row = static_cast<uint32_t>(item % down) * rows_.item;
    const uint32_t col = static_cast<uint32_t>(item / down) * cols_.item;
    kernels_.multiply({.a = a + uint64_t{row} * block.words,
                       .b = b + uint64_t{col} * block.words,
                       .words = block.words,
                       .rows = std::min(rows_.item, block.rows - row),
                       .cols = std::min(cols_.item, block.cols - col),
                       .c = plan_.c + (block.row + row) * plan_.ldc + block.col + col,
                       .ldc = plan_.ldc,
                       .alpha = plan_.alpha,
                       .beta = block.p == 0 ? plan_.beta : 1.0f});
  }

  const GemmPlan plan_;
  const PanelKernels& kernels_;
  const uint32_t depth_;   // terms of a block of k, but for the last
  const uint32_t depths_;  // blocks of k
  Cut rows_;
  Cut cols_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_gemm(uint64_t context, const apiq_gemm_args* args) {
  return apiq::cpu::submit<apiq::cpu::Gemm>(context, args);
}
