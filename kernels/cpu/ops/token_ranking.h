// The tokens of one row in order of (logit descending, id ascending), sorted only where somebody looks.
//
// Tokens go into 4,096 buckets by their distance from the largest logit, so that a bucket's tokens all come before the next one's;
// each bucket knows its count and its mass, the sum of its weights exp((logit - maximum) / temperature). Top-k, top-p, min-p and the
// draw are all questions for a prefix of the order: the bucket it ends in is found by adding up buckets, and only that one is sorted.
#pragma once

#include <cstdint>

#include "../isa/float_kernels.h"

namespace apiq::cpu {

class TokenRanking {
 public:
  // A prefix of the order.
  struct Prefix {
    uint32_t last_bucket;
    uint32_t count;  // of tokens
    double mass;
    int32_t last_token;
  };

  static constexpr uint32_t n_buckets = 4096;
  static uint64_t scratch_bytes(uint32_t vocab);

  // Tokens of logit -infinity do not take part; at least one other must exist. `scratch` is aligned to 64 bytes.
  TokenRanking(const float* logits, uint32_t vocab, float maximum, float temperature, const FloatKernels& kernels, std::byte* scratch);

  Prefix all() const { return all_; }
  // The shortest prefix of `within` that has `count` tokens, or whose mass is at least (or above) `mass`; else all of it.
  Prefix with_count(const Prefix& within, uint32_t count);
  Prefix with_mass_of_at_least(const Prefix& within, double mass);
  Prefix with_mass_above(const Prefix& within, double mass);
  // How many tokens have logit >= threshold.
  uint32_t count_from(double threshold) const;

 private:
  struct Entry {
    float logit;
    int32_t token;
  };

  template <class Reached>
  Prefix shortest(const Prefix& within, Reached reached);
  uint32_t gather_sorted(uint32_t bucket);

  const float* logits_;
  uint32_t vocab_;
  float* weights_;      // [vocab]
  uint16_t* bucket_of_;  // [vocab]; n_buckets: takes no part
  uint32_t* counts_;    // [n_buckets]
  double* masses_;      // [n_buckets]
  Entry* entries_;      // [vocab], the sorted bucket
  Prefix all_;
};

}  // namespace apiq::cpu
