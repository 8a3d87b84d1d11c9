// Attention of a few queries over one paged key/value head, in segments of 256 positions that begin at multiples of 256:
//
//   for every segment            scores: K blocks are [head_dim, 16], so 16 positions are 16 lanes and head_dim is summed in order
//     for every query            m' = max(m, scores); p = exp(score - m'); l = l * exp(m - m') + sum(p); y = y * exp(m - m')
//                                y += p[j] * v[j], position by position
//   y = y / l
//
// That is the online softmax (Milakov and Gimelshein, arXiv 1805.02867), a segment at a time. What is summed when depends on a
// query's own range of positions and on nothing else, so its result is the same in every batch and chunk. Queries taken together
// only share loads.
#pragma once

namespace apiq::cpu::APIQ_ISA {
namespace {

// Where the segment's intermediate results lie in the task's scratch memory.
struct Segment {
  uint32_t first;  // position
  float* scores;   // [n_queries, attention_segment]: scores, then probabilities
  float* sums;     // [n_queries, head_dim]
};

uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }
uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

// Q queries times B blocks.
template <uint32_t Q, uint32_t B, class T>
void score_tile(const AttentionTask& task, const Segment& segment, uint32_t query, uint32_t block) {
  const T* k[B];
  for (uint32_t b = 0; b < B; b++) {
    k[b] = static_cast<const T*>(task.k) + static_cast<uint64_t>(task.blocks[block + b]) * task.block_stride;
  }
  const float* q[Q];
  for (uint32_t i = 0; i < Q; i++) q[i] = task.queries[query + i].q;
  Vec16 dots[Q][B];
  for (auto& of_query : dots) {
    for (Vec16& dot : of_query) dot = zero();
  }
  for (uint32_t d = 0; d < task.head_dim; d++) {
    Vec16 keys[B];
    for (uint32_t b = 0; b < B; b++) keys[b] = load(k[b] + d * 16);
    for (uint32_t i = 0; i < Q; i++) {
      const Vec16 element = broadcast(q[i][d]);
      for (uint32_t b = 0; b < B; b++) dots[i][b] = fma(element, keys[b], dots[i][b]);
    }
  }
  for (uint32_t i = 0; i < Q; i++) {
    float* row = segment.scores + uint64_t{query + i} * attention_segment + (block * 16 - segment.first);
    for (uint32_t b = 0; b < B; b++) store(row + b * 16, dots[i][b]);
  }
}

template <uint32_t Q, uint32_t B, class T>
void score_blocks(const AttentionTask& task, const Segment& segment, uint32_t query, uint32_t block, uint32_t end) {
  for (; block + B <= end; block += B) score_tile<Q, B, T>(task, segment, query, block);
  if constexpr (B > 1) {
    if (block < end) score_blocks<Q, B / 2, T>(task, segment, query, block, end);
  }
}

// Raw scores of all queries from `query` on, over blocks [block, end).
template <uint32_t Q, class T>
void score(const AttentionTask& task, const Segment& segment, uint32_t query, uint32_t block, uint32_t end) {
  constexpr uint32_t B = accumulators / Q < 8 ? accumulators / Q : 8;
  for (; query + Q <= task.n_queries; query += Q) score_blocks<Q, B, T>(task, segment, query, block, end);
  if constexpr (Q > 1) {
    if (query < task.n_queries) score<Q / 2, T>(task, segment, query, block, end);
  }
}

// Turns one query's scores over positions [begin, end) of the segment into probabilities relative to its running maximum.
void softmax_step(float scale, uint32_t first, uint32_t begin, uint32_t end, float* scores, float* sums, uint32_t head_dim,
                         float* maximum_so_far, float* total) {
  const Vec16 factor = broadcast(scale);
  const Vec16 nothing = broadcast(-__builtin_inff());
  const uint32_t first_block = begin / 16 * 16;
  Vec16 most = broadcast(*maximum_so_far);
  for (uint32_t p = first_block; p < end; p += 16) {
    const uint32_t after = 0xffffu << (begin > p ? begin - p : 0);
    const uint32_t before = 0xffffu >> (end < p + 16 ? p + 16 - end : 0);
    float* s = scores + (p - first);
    const Vec16 scaled = select(after & before, mul(load(s), factor), nothing);
    store(s, scaled);
    most = max(most, scaled);
  }
  const float new_maximum = maximum(most);
  const Vec16 shift = broadcast(new_maximum);
  Vec16 part = zero();
  for (uint32_t p = first_block; p < end; p += 16) {
    float* s = scores + (p - first);
    const Vec16 probability = exp(sub(load(s), shift));
    store(s, probability);
    part = add(part, probability);
  }
  const Vec16 correction = exp(sub(broadcast(*maximum_so_far), shift));
  for (uint32_t d = 0; d < head_dim; d += 16) store(sums + d, mul(load(sums + d), correction));
  store_n(total, fma(broadcast(*total), correction, broadcast(sum(part))), 1);
  *maximum_so_far = new_maximum;
}

// Adds p[j] * v[j] over positions [begin, end) for Q queries and V vectors of head_dim from d on.
template <uint32_t Q, uint32_t V, class T>
void value_tile(const AttentionTask& task, const Segment& segment, uint32_t query, uint32_t d, uint32_t begin, uint32_t end) {
  float* sums[Q];
  const float* probabilities[Q];
  Vec16 acc[Q][V];
  for (uint32_t i = 0; i < Q; i++) {
    sums[i] = segment.sums + uint64_t{query + i} * task.head_dim + d;
    probabilities[i] = segment.scores + uint64_t{query + i} * attention_segment - segment.first;
    for (uint32_t v = 0; v < V; v++) acc[i][v] = load(sums[i] + v * 16);
  }
  for (uint32_t p = begin; p < end;) {
    const uint32_t block_end = smaller(end, p / 16 * 16 + 16);
    const T* values = static_cast<const T*>(task.v) + static_cast<uint64_t>(task.blocks[p / 16]) * task.block_stride +
                      uint64_t{p % 16} * task.head_dim + d;
    for (; p < block_end; p++, values += task.head_dim) {
      Vec16 element[V];
      for (uint32_t v = 0; v < V; v++) element[v] = load(values + v * 16);
      for (uint32_t i = 0; i < Q; i++) {
        const Vec16 probability = broadcast(probabilities[i][p]);
        for (uint32_t v = 0; v < V; v++) acc[i][v] = fma(probability, element[v], acc[i][v]);
      }
    }
  }
  for (uint32_t i = 0; i < Q; i++) {
    for (uint32_t v = 0; v < V; v++) store(sums[i] + v * 16, acc[i][v]);
  }
}

template <uint32_t Q, uint32_t V, class T>
void value_columns(const AttentionTask& task, const Segment& segment, uint32_t query, uint32_t d, uint32_t begin, uint32_t end) {
  for (; d + V * 16 <= task.head_dim; d += V * 16) value_tile<Q, V, T>(task, segment, query, d, begin, end);
  if constexpr (V > 1) {
    if (d < task.head_dim) value_columns<Q, V / 2, T>(task, segment, query, d, begin, end);
  }
}

template <uint32_t Q, class T>
void value_range(const AttentionTask& task, const Segment& segment, uint32_t query, uint32_t begin, uint32_t end) {
  constexpr uint32_t V = accumulators / Q < 8 ? accumulators / Q : 8;
  if (begin < end) value_columns<Q, V, T>(task, segment, query, 0, begin, end);
}

// Queries of a tile share the positions they all attend to; what lies before and after is each one's own. A position outside a
// query's range is never multiplied in, not even with probability 0: its value may be anything.
template <uint32_t Q, class T>
void add_values(const AttentionTask& task, const Segment& segment, uint32_t query) {
  const uint32_t segment_end = segment.first + attention_segment;
  for (; query + Q <= task.n_queries; query += Q) {
    uint32_t begin[Q];
    uint32_t end[Q];
    uint32_t common_begin = segment.first;
    uint32_t common_end = segment_end;
    for (uint32_t i = 0; i < Q; i++) {
      begin[i] = larger(task.queries[query + i].begin, segment.first);
      end[i] = larger(smaller(task.queries[query + i].end, segment_end), begin[i]);
      common_begin = larger(common_begin, begin[i]);
      common_end = smaller(common_end, end[i]);
    }
    common_end = larger(common_begin, common_end);
    for (uint32_t i = 0; i < Q; i++) value_range<1, T>(task, segment, query + i, begin[i], smaller(end[i], common_begin));
    value_range<Q, T>(task, segment, query, common_begin, common_end);
    for (uint32_t i = 0; i < Q; i++) value_range<1, T>(task, segment, query + i, larger(begin[i], common_end), end[i]);
  }
  if constexpr (Q > 1) {
    if (query < task.n_queries) add_values<Q / 2, T>(task, segment, query);
  }
}

template <class T>
void attention(const AttentionTask& task) {
  float* maxima = task.scratch + uint64_t{task.n_queries} * (attention_segment + task.head_dim);
  float* totals = maxima + task.n_queries;
  Segment segment{0, task.scratch, task.scratch + uint64_t{task.n_queries} * attention_segment};
  uint32_t first = task.queries[0].begin;
  uint32_t last = 0;
  for (uint32_t i = 0; i < task.n_queries; i++) {
    first = smaller(first, task.queries[i].begin);
    last = larger(last, task.queries[i].end);
    maxima[i] = -__builtin_inff();
    totals[i] = 0;
    for (uint32_t d = 0; d < task.head_dim; d += 16) store(segment.sums + uint64_t{i} * task.head_dim + d, zero());
  }
  for (segment.first = first / attention_segment * attention_segment; segment.first < last; segment.first += attention_segment) {
    const uint32_t segment_end = segment.first + attention_segment;
    const uint32_t from = larger(first, segment.first);
    const uint32_t to = smaller(last, segment_end);
    score<4, T>(task, segment, 0, from / 16, (to + 15) / 16);
    for (uint32_t i = 0; i < task.n_queries; i++) {
      const uint32_t begin = larger(task.queries[i].begin, segment.first);
      const uint32_t end = smaller(task.queries[i].end, segment_end);
      if (begin >= end) continue;
      softmax_step(task.scale, segment.first, begin, end, segment.scores + uint64_t{i} * attention_segment,
                   segment.sums + uint64_t{i} * task.head_dim, task.head_dim, &maxima[i], &totals[i]);
    }
    add_values<4, T>(task, segment, 0);
  }
  for (uint32_t i = 0; i < task.n_queries; i++) {
    const Vec16 total = broadcast(totals[i]);
    for (uint32_t d = 0; d < task.head_dim; d += 16) {
      store(task.queries[i].y + d, div(load(segment.sums + uint64_t{i} * task.head_dim + d), total));
    }
  }
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
