#include "transformer.h"

namespace inkwell {
namespace {

constexpr int64_t kTabulated = 4096;  // positions whose angles are computed beforehand

uint16_t to_bf16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

void copy(Buffer<float>& to, const float* from, size_t count) {
  to.resize(padded(count));
  memcpy(to.get(), from, count * sizeof(float));
}

}  // namespace

Transformer::Transformer(const Kernels& kernels, int threads, const TransformerShape& shape,
                         const float* const* weights)
    : Network(kernels, threads, shape.vocabulary),
      shape_(shape),
      depth_(shape.width / shape.heads),
      key_rows_(padded(static_cast<size_t>(depth_), 4)),
      value_width_(padded(static_cast<size_t>(depth_))),
      slots_(padded(static_cast<size_t>(shape.window))),
      blocks_(static_cast<size_t>(shape.layers)) {
  const size_t width = static_cast<size_t>(shape.width);
  copy(embedding_, *weights++, static_cast<size_t>(shape.vocabulary) * width);
  for (Block& block : blocks_) {
    copy(block.norms[0], weights[0], width);
    copy(block.norms[1], weights[1], width);
    block.qkv.set(kernels, weights[2], weights[3], shape.width, 3 * shape.width);
    block.proj.set(kernels, weights[4], weights[5], shape.width, shape.width);
    copy(block.norms[2], weights[6], width);
    copy(block.norms[3], weights[7], width);
    block.up.set(kernels, weights[8], weights[9], shape.width, shape.feed);
    block.down.set(kernels, weights[10], weights[11], shape.feed, shape.width);
    products_ += block.qkv.work() + block.proj.work() + block.up.work() + block.down.work();
    weights += 12;
  }
  copy(last_norm_[0], weights[0], width);
  copy(last_norm_[1], weights[1], width);
  head_.set(kernels, weights[2], nullptr, shape.width, shape.vocabulary);
  const size_t half = static_cast<size_t>(depth_ / 2);
  for (size_t i = 0; i < half; ++i) rates_.push_back(pow(10000.0, -2.0 * static_cast<double>(i) / depth_));
  table_.resize(static_cast<size_t>(kTabulated) * 2 * half);
  for (int64_t p = 0; p < kTabulated; ++p) {
    float* row = table_.get() + static_cast<size_t>(p) * 2 * half;
    turns(p, row, row + half);
  }
  scratch_.resize(static_cast<size_t>(pool_.threads()) * (slots_ + value_width_));
}

// Cosines and sines of a position, at the angles that training has: products rounded to float.
void Transformer::turns(int64_t position, float* cosines, float* sines) const {
  for (size_t i = 0; i < rates_.size(); ++i) {
    const float angle = static_cast<float>(position) * static_cast<float>(rates_[i]);
    cosines[i] = static_cast<float>(cos(static_cast<double>(angle)));
    sines[i] = static_cast<float>(sin(static_cast<double>(angle)));
  }
}

void Transformer::reserve(int rows) {
  if (rows <= capacity_) return;
  const size_t count = static_cast<size_t>(rows), width = padded(static_cast<size_t>(shape_.width));
  codes_.resize(kernels_, shape_.width, rows);
  feed_codes_.resize(kernels_, shape_.feed, rows);
  stream_.resize(count * width);
  normed_.resize(count * width);
  mixed_.resize(count * width);
  qkv_.resize(count * padded(static_cast<size_t>(3 * shape_.width)));
  feed_.resize(count * padded(static_cast<size_t>(shape_.feed)));
  turns_.resize(count * static_cast<size_t>(depth_));
  places_.resize(count);
  starts_.reserve(count);
  capacity_ = rows;
}

Status Transformer::step(const int64_t* tokens, const int64_t* rows, int count, const Memory& memory, float* logits) {
  if (!known(tokens, count)) return kBadToken;
  if (count > capacity_) return kBadRow;
  tokens_ = tokens;
  count_ = count;
  memory_ = memory;
  logits_ = logits;
  starts_.clear();
  for (int i = 0; i < count; ++i) {
    Place& place = places_[static_cast<size_t>(i)];
    place.row = static_cast<size_t>(rows == nullptr ? i : rows[i]);
    place.first = place.last = i;
    if (i > 0 && places_[static_cast<size_t>(i - 1)].row == place.row) {
      place.position = places_[static_cast<size_t>(i - 1)].position + 1;
      ++places_[static_cast<size_t>(starts_.back())].last;
    } else {
      place.position = memory.positions[place.row];
      place.last = i + 1;
      starts_.push_back(i);
    }
  }
  const size_t products = products_ + (logits == nullptr ? 0 : head_.work());
  pool_.run(work, this, threads_for(products * static_cast<size_t>(count)));
  for (int start : starts_) {
    const Place& place = places_[static_cast<size_t>(start)];
    memory.positions[place.row] += place.last - place.first;
  }
  return kDone;
}

void Transformer::work(void* self, int thread, int threads) {
  static_cast<Transformer*>(self)->run(thread, threads);
}

const float* Transformer::mods_of(int token, size_t block, size_t part) const {
  if (memory_.mods == nullptr) return nullptr;
  const size_t row = places_[static_cast<size_t>(token)].row;
  return memory_.mods + ((row * blocks_.size() + block) * 4 + part) * static_cast<size_t>(shape_.width);
}

void Transformer::run(int thread, int threads) {
  const int n = count_;
  const size_t width = padded(static_cast<size_t>(shape_.width)), wide = padded(static_cast<size_t>(3 * shape_.width));
  const size_t feed = padded(static_cast<size_t>(shape_.feed));
  const Range own = share(n, thread, threads);
  const Start onto_stream{stream_.get(), width, nullptr};
  const auto normalise = [&](const float* weight, const float* bias, size_t block, size_t part, bool modulated) {
    for (int i = own.first; i < own.last; ++i) {
      float* y = normed_.get() + static_cast<size_t>(i) * width;
      kernels_.norm(stream(i), weight, bias, modulated ? mods_of(i, block, part) : nullptr, shape_.width, y);
      codes_.set(kernels_, i, y, shape_.width);
    }
  };
  embed(thread, threads);
  for (size_t b = 0; b < blocks_.size(); ++b) {
    Block& block = blocks_[b];
    normalise(block.norms[0].get(), block.norms[1].get(), b, 0, true);
    if (thread == 0) next_.store(0, std::memory_order_relaxed);
    pool_.barrier(threads);
    multiply(block.qkv, codes_, n, {}, qkv_.get(), wide, thread, threads);
    pool_.barrier(threads);
    attend(b, thread);
    pool_.barrier(threads);
    for (int i = own.first; i < own.last; ++i)
      codes_.set(kernels_, i, mixed_.get() + static_cast<size_t>(i) * width, shape_.width);
    pool_.barrier(threads);
    multiply(block.proj, codes_, n, onto_stream, stream_.get(), width, thread, threads);
    pool_.barrier(threads);
    normalise(block.norms[2].get(), block.norms[3].get(), b, 2, true);
    pool_.barrier(threads);
    multiply(block.up, codes_, n, {}, feed_.get(), feed, thread, threads);
    const Range tiles = share(block.up.matrix().tiles(), thread, threads);
    const int from = tiles.first * kTile, to = tiles.last * kTile < shape_.feed ? tiles.last * kTile : shape_.feed;
    for (int i = 0; i < n && from < to; ++i)
      kernels_.activate(shape_.activation, feed_.get() + static_cast<size_t>(i) * feed + from, to - from);
    pool_.barrier(threads);
    for (int i = own.first; i < own.last; ++i)
      feed_codes_.set(kernels_, i, feed_.get() + static_cast<size_t>(i) * feed, shape_.feed);
    pool_.barrier(threads);
    multiply(block.down, feed_codes_, n, onto_stream, stream_.get(), width, thread, threads);
    pool_.barrier(threads);
  }
  if (logits_ == nullptr) return;
  normalise(last_norm_[0].get(), last_norm_[1].get(), 0, 0, false);
  pool_.barrier(threads);
  multiply(head_, codes_, n, {}, logits_, static_cast<size_t>(vocabulary_), thread, threads);
}

void Transformer::embed(int thread, int threads) {
  const Range own = share(count_, thread, threads);
  const size_t width = static_cast<size_t>(shape_.width), half = rates_.size();
  for (int i = own.first; i < own.last; ++i) {
    memcpy(stream(i), embedding_.get() + static_cast<size_t>(tokens_[i]) * width, width * sizeof(float));
    float* row = turns_.get() + static_cast<size_t>(i) * 2 * half;
    const int64_t position = places_[static_cast<size_t>(i)].position;
    if (position < kTabulated)
      memcpy(row, table_.get() + static_cast<size_t>(position) * 2 * half, 2 * half * sizeof(float));
    else
      turns(position, row, row + half);
  }
}

// Heads of rows are handed out one after another: rows that are far along take longer than those that begin.
void Transformer::attend(size_t block, int thread) {
  float* scratch = scratch_.get() + static_cast<size_t>(thread) * (slots_ + value_width_);
  const int tasks = static_cast<int>(starts_.size()) * shape_.heads;
  for (int task; (task = next_.fetch_add(1, std::memory_order_relaxed)) < tasks;) {
    const Place& place = places_[static_cast<size_t>(starts_[static_cast<size_t>(task / shape_.heads)])];
    for (int token = place.first; token < place.last; ++token)
      attend_head(block, token, task % shape_.heads, scratch);
  }
}

void Transformer::attend_head(size_t block, int token, int head, float* scratch) {
  const Place& place = places_[static_cast<size_t>(token)];
  const size_t depth = static_cast<size_t>(depth_), width = static_cast<size_t>(shape_.width), half = depth / 2;
  const size_t h = static_cast<size_t>(head), heads = static_cast<size_t>(shape_.heads);
  float* q = qkv_.get() + static_cast<size_t>(token) * padded(3 * width) + h * depth;
  float *k = q + width, *v = k + width;
  const float* cosines = turns_.get() + static_cast<size_t>(token) * depth;
  kernels_.rotate(q, cosines, cosines + half, depth_ / 2);
  kernels_.rotate(k, cosines, cosines + half, depth_ / 2);
  const size_t index = (place.row * blocks_.size() + block) * heads + h;
  const Head ring{memory_.keys + index * key_rows_ * slots_,
                  memory_.values + index * value_width_ * static_cast<size_t>(shape_.window)};
  const size_t slot = static_cast<size_t>(place.position % shape_.window);
  uint16_t* key = ring.keys + slot / 16 * key_rows_ * 16 + slot % 16;
  uint16_t* value = ring.values + slot * value_width_;
  const float scale = 1.0f / sqrtf(static_cast<float>(depth_));
  for (size_t d = 0; d < depth; ++d) {
    key[d * 16] = to_bf16(k[d]);
    value[d] = to_bf16(v[d]);
  }
  float* query = scratch + slots_;
  for (size_t d = 0; d < depth; ++d) query[d] = q[d] * scale;
  const int64_t seen = place.position + 1;
  const int length = static_cast<int>(seen < shape_.window ? seen : shape_.window);
  kernels_.attend(query, ring, length, depth_, scratch,
                  mixed_.get() + static_cast<size_t>(token) * padded(width) + h * depth);
}

}  // namespace inkwell
