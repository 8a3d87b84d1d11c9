#include "token_ranking.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace apiq::cpu {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

// Weights of tokens further below the maximum than this many temperatures are 0 in float32.
constexpr float weightless_distance = 104;

// Buckets per unit of distance: they cover the tokens that have weight, or all tokens where those are closer together.
float bucket_density(const float* logits, uint32_t vocab, float maximum, float temperature) {
  float minimum = maximum;
  for (uint32_t i = 0; i < vocab; i++) minimum = logits[i] < minimum && logits[i] > -infinity ? logits[i] : minimum;
  const float range = std::min(maximum - minimum, weightless_distance * temperature);
  return static_cast<float>(TokenRanking::n_buckets - 1) / std::max(range, 1e-30f);
}

}  // namespace

uint64_t TokenRanking::scratch_bytes(uint32_t vocab) {
  return n_buckets * (sizeof(double) + sizeof(uint32_t)) + uint64_t{vocab} * (sizeof(Entry) + sizeof(float) + sizeof(uint16_t));
}

TokenRanking::TokenRanking(const float* logits, uint32_t vocab, float maximum, float temperature, const FloatKernels& kernels,
                           std::byte* scratch)
    : logits_(logits),
      vocab_(vocab),
      weights_(reinterpret_cast<float*>(scratch + n_buckets * (sizeof(double) + sizeof(uint32_t)) + vocab * sizeof(Entry))),
      bucket_of_(reinterpret_cast<uint16_t*>(weights_ + vocab)),
      counts_(reinterpret_cast<uint32_t*>(scratch + n_buckets * sizeof(double))),
      masses_(reinterpret_cast<double*>(scratch)),
      entries_(reinterpret_cast<Entry*>(scratch + n_buckets * (sizeof(double) + sizeof(uint32_t)))),
      all_{n_buckets - 1, 0, 0, 0} {
  kernels.weigh(logits, vocab, maximum, temperature, weights_);
  const float density = bucket_density(logits, vocab, maximum, temperature);
  for (uint32_t i = 0; i < vocab; i++) {
    const float place = std::min((maximum - logits[i]) * density, static_cast<float>(n_buckets - 1));
    bucket_of_[i] = logits[i] > -infinity ? static_cast<uint16_t>(place) : uint16_t{n_buckets};
  }
  std::fill_n(counts_, n_buckets, 0u);
  std::fill_n(masses_, n_buckets, 0.0);
  for (uint32_t i = 0; i < vocab; i++) {
    if (bucket_of_[i] == n_buckets) continue;
    counts_[bucket_of_[i]]++;
    masses_[bucket_of_[i]] += static_cast<double>(weights_[i]);
  }
  for (uint32_t bucket = 0; bucket < n_buckets; bucket++) {
    all_.count += counts_[bucket];
    all_.mass += masses_[bucket];
  }
}

uint32_t TokenRanking::gather_sorted(uint32_t bucket) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < vocab_; i++) {
    if (bucket_of_[i] == bucket) entries_[n++] = {logits_[i], static_cast<int32_t>(i)};
  }
  std::sort(entries_, entries_ + n, [](const Entry& a, const Entry& b) { return a.logit != b.logit ? a.logit > b.logit : a.token < b.token; });
  return n;
}

template <class Reached>
TokenRanking::Prefix TokenRanking::shortest(const Prefix& within, Reached reached) {
  Prefix prefix{0, 0, 0, 0};
  while (prefix.last_bucket < within.last_bucket &&
         !reached(prefix.count + counts_[prefix.last_bucket], prefix.mass + masses_[prefix.last_bucket])) {
    prefix.count += counts_[prefix.last_bucket];
    prefix.mass += masses_[prefix.last_bucket];
    prefix.last_bucket++;
  }
  // Inside its bucket the order is by logit. That the masses are added in another order than the bucket's own can at most
  // leave the goal unreached by a rounding error: then the bucket's last token ends the prefix.
  const uint32_t n = std::min(gather_sorted(prefix.last_bucket), within.count - prefix.count);
  for (uint32_t i = 0; i < n; i++) {
    prefix.count++;
    prefix.mass += static_cast<double>(weights_[entries_[i].token]);
    prefix.last_token = entries_[i].token;
    if (reached(prefix.count, prefix.mass)) break;
  }
  return prefix;
}

TokenRanking::Prefix TokenRanking::with_count(const Prefix& within, uint32_t count) {
  if (count >= within.count) return within;
  return shortest(within, [&](uint32_t n, double) { return n >= count; });
}

TokenRanking::Prefix TokenRanking::with_mass_of_at_least(const Prefix& within, double mass) {
  return shortest(within, [&](uint32_t, double sum) { return sum >= mass; });
}

TokenRanking::Prefix TokenRanking::with_mass_above(const Prefix& within, double mass) {
  return shortest(within, [&](uint32_t, double sum) { return sum > mass; });
}

uint32_t TokenRanking::count_from(double threshold) const {
  uint32_t count = 0;
  for (uint32_t i = 0; i < vocab_; i++) count += static_cast<double>(logits_[i]) >= threshold;
  return count;
}

}  // namespace apiq::cpu
