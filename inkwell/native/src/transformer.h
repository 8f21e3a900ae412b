// The GPT: pre-norm blocks, rotary positions, a ring of keys and values per row, and category modulations.
#pragma once

#include <atomic>
#include <vector>

#include "network.h"

namespace inkwell {

struct TransformerShape {
  int vocabulary, layers, heads, width, window, feed;  // feed: inner width of the feed-forward part
  Activation activation;
};

// Where rows keep what they remember.
struct Memory {
  int64_t* positions;   // (rows)
  uint16_t* keys;       // (rows, layers, heads, W/16, D/4 · 4, 16) in bfloat16
  uint16_t* values;     // (rows, layers, heads, W, D/16 · 16) in bfloat16
  const float* mods;    // (rows, layers, 4, C), or nullptr
};

class Transformer : public Network {
 public:
  // `weights`: embedding (V, C); per block norm weight and bias, qkv, proj, norm, up, down, each weight and bias;
  // the last norm; the output layer's weight.
  Transformer(const Kernels& kernels, int threads, const TransformerShape& shape, const float* const* weights);

  void reserve(int rows) override;

  // Feeds tokens[i] to row rows[i] (i without `rows`). Tokens of one row stand together, first to last, and have
  // the same effect as one step after another. No logits are computed when `logits` is nullptr.
  Status step(const int64_t* tokens, const int64_t* rows, int count, const Memory& memory, float* logits);

  // `memory`: positions, keys, values, mods.
  Status step(const int64_t* tokens, int count, void* const* memory, float* logits) override {
    return step(tokens, nullptr, count,
                {static_cast<int64_t*>(memory[0]), static_cast<uint16_t*>(memory[1]), static_cast<uint16_t*>(memory[2]),
                 static_cast<const float*>(memory[3])},
                logits);
  }

 private:
  struct Block {
    Buffer<float> norms[4];  // attention weight and bias, feed-forward weight and bias
    Linear qkv, proj, up, down;
  };
  struct Place {
    size_t row;        // of the memory
    int64_t position;  // of its token
    int first, last;   // its tokens of this step, given at the first of them; last == first at the others
  };

  static void work(void* self, int thread, int threads);
  void run(int thread, int threads);
  void embed(int thread, int threads);
  void attend(size_t block, int thread);
  void attend_head(size_t block, int token, int head, float* scratch);
  void turns(int64_t position, float* cos, float* sin) const;
  const float* mods_of(int token, size_t block, size_t part) const;
  float* stream(int token) { return stream_.get() + static_cast<size_t>(token) * padded(static_cast<size_t>(shape_.width)); }

  TransformerShape shape_;
  int depth_;          // of a head
  size_t key_rows_, value_width_, slots_;  // a head's key depth, value depth and window, padded
  Buffer<float> embedding_, last_norm_[2], table_;
  std::vector<double> rates_;
  std::vector<Block> blocks_;
  Linear head_;
  Codes codes_, feed_codes_;
  Buffer<float> stream_, normed_, qkv_, mixed_, feed_, turns_, scratch_;
  std::vector<Place> places_;
  std::vector<int> starts_;  // tokens that are the first of their row
  size_t products_ = 0;      // of one token, without the output layer
  std::atomic<int> next_{0};

  // The step at hand.
  const int64_t* tokens_ = nullptr;
  int count_ = 0;
  Memory memory_{};
  float* logits_ = nullptr;
};

}  // namespace inkwell
