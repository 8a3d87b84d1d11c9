#include "block.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "fault.h"

namespace apiq::emulator {
namespace {

uint64_t seed_from_environment() {
  const char* const text = std::getenv("APIQ_EMULATOR_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

uint64_t seed = seed_from_environment();

bool same_site(const Site& a, const Site& b) { return a.line() == b.line() && a.column() == b.column() && a.file_name() == b.file_name(); }

const char* name_of(Collective kind) {
  switch (kind) {
    case Collective::shuffle: return "a shuffle";
    case Collective::ballot: return "a ballot";
    case Collective::sync_warp: return "sync_warp";
  }
  return "a collective";
}

}  // namespace

void set_seed(uint64_t value) { seed = value; }

Block& current_block() {
  static thread_local Block block;
  return block;
}

// SplitMix64 (Steele, Lea and Flood 2014).
uint64_t Block::random() {
  random_state_ += 0x9e3779b97f4a7c15u;
  uint64_t mixed = random_state_;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
  return mixed ^ (mixed >> 31);
}

void Block::run_grid(const Shape& shape, void (*body)(const void*), const void* argument) {
  if (shape.threads == 0 || shape.threads > max_threads || shape.threads % warp_size != 0) {
    fault("a block of %u threads, expected a multiple of %u up to %u", shape.threads, warp_size, max_threads);
  }
  if (shape.grid_x == 0 || shape.grid_y == 0 || shape.grid_y > 65535) fault("a grid of %u x %u blocks", shape.grid_x, shape.grid_y);
  shape_ = shape;
  body_ = body;
  argument_ = argument;
  random_state_ = seed;
  while (pool_.size() < shape.threads) pool_.push_back(std::make_unique<Thread>());

  const uint64_t blocks = uint64_t{shape.grid_x} * shape.grid_y;
  // A walk in steps of an odd constant from a random start visits all of a power of two's residues.
  uint64_t ring = 1;
  while (ring < blocks) ring *= 2;
  const uint64_t start = random();
  for (uint64_t i = 0; i < ring; i++) {
    const uint64_t block = (start + i * 0x9e3779b97f4a7c15u) & (ring - 1);
    if (block >= blocks) continue;
    index_x_ = static_cast<uint32_t>(block % shape.grid_x);
    index_y_ = static_cast<uint32_t>(block / shape.grid_x);
    run_block();
  }
}

void Block::thread_main(void* self) {
  Block& block = *static_cast<Block*>(self);
  const uint32_t thread = block.current_;
  // Copied out before the fiber switches away: exceptions in flight belong to the OS thread.
  std::string text;
  bool faulted = false;
  try {
    block.body_(block.argument_);
  } catch (const Fault& caught) {
    text = caught.text;
    faulted = true;
  }
  if (faulted) {
    block.fault_ = std::move(text);
    block.faulted_ = true;
  }
  block.pool_[thread]->state = State::ended;
  block.running_--;
}

void Block::run_block() {
  shared_.reset(shape_.shared_bytes);
  warps_.assign(shape_.threads / warp_size, Warp());
  block_epoch_ = 0;
  at_barrier_ = 0;
  running_ = shape_.threads;
  faulted_ = false;
  for (uint32_t i = 0; i < shape_.threads; i++) pool_[i]->state = State::ready;

  std::vector<uint32_t> order(shape_.threads);
  std::iota(order.begin(), order.end(), 0u);
  while (running_ != 0) {
    for (uint32_t i = shape_.threads - 1; i > 0; i--) std::swap(order[i], order[random() % (i + 1)]);
    bool progressed = false;
    for (const uint32_t thread : order) {
      if (pool_[thread]->state != State::ready) continue;
      progressed = true;
      current_ = thread;
      pool_[thread]->fiber.resume(&Block::thread_main, this);
      if (faulted_) break;
    }
    if (faulted_ || !progressed) {
      for (uint32_t i = 0; i < shape_.threads; i++) {
        if (pool_[i]->state != State::ended) pool_[i]->fiber.abandon();
      }
      if (!faulted_) report_deadlock();
      fault("block (%u, %u): %s", index_x_, index_y_, fault_.c_str());
    }
  }
}

void Block::wait(State state, const Site& site) {
  Thread& self = *pool_[current_];
  self.state = state;
  self.site = site;
  self.fiber.suspend();
}

void Block::barrier(const Site& site) {
  if (++at_barrier_ < shape_.threads) return wait(State::at_barrier, site);
  for (uint32_t i = 0; i < shape_.threads; i++) {
    Thread& other = *pool_[i];
    if (i == current_) continue;
    if (!same_site(other.site, site)) {
      fault("divergent barrier: thread %u waits at line %u and thread %u at line %u of %s", i, other.site.line(), current_, site.line(),
            site.file_name());
    }
    other.state = State::ready;
  }
  at_barrier_ = 0;
  block_epoch_++;
}

const std::array<uint32_t, warp_size>& Block::collect(Collective kind, uint32_t value, const Site& site) {
  const uint32_t first = current_ / warp_size * warp_size;
  Warp& warp = warps_[current_ / warp_size];
  if (warp.arrived == 0) {
    warp.kind = kind;
    warp.site = site;
    warp.turn ^= 1;
  } else if (warp.kind != kind || !same_site(warp.site, site)) {
    fault("divergent warp: thread %u is in %s at line %u while its warp is in %s at line %u of %s", current_, name_of(kind), site.line(),
          name_of(warp.kind), warp.site.line(), warp.site.file_name());
  }
  auto& brought = warp.brought[warp.turn];
  brought[lane()] = value;
  if (++warp.arrived < warp_size) {
    wait(State::in_collective, site);
    return brought;
  }
  warp.arrived = 0;
  if (kind == Collective::sync_warp) warp.epoch++;
  for (uint32_t i = first; i < first + warp_size; i++) pool_[i]->state = State::ready;
  return brought;
}

void Block::report_deadlock() const {
  uint32_t ended = 0;
  const Thread* waiting = nullptr;
  for (uint32_t i = 0; i < shape_.threads; i++) {
    const Thread& thread = *pool_[i];
    if (thread.state == State::ended) ended++;
    if (thread.state != State::ended && (waiting == nullptr || thread.state == State::in_collective)) waiting = &thread;
  }
  const bool in_warp = waiting->state == State::in_collective;
  fault("block (%u, %u): divergent %s: of %u threads %u wait at barriers, %u in warp collectives and %u have returned; one waits at "
        "line %u of %s",
        index_x_, index_y_, in_warp ? "warp" : "barrier", shape_.threads, at_barrier_, shape_.threads - at_barrier_ - ended, ended,
        waiting->site.line(), waiting->site.file_name());
}

}  // namespace apiq::emulator
