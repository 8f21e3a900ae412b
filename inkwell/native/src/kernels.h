// What one path (portable, AVX2, AVX-512) has to offer, and the data that all of them share.
//
// Every path gives the same bits: integer sums are exact, and floating-point work is done in groups of sixteen
// lanes with the same operations in the same order everywhere (no fused multiply-add, no reordering). So a seed
// gives one text on every processor, and one path can be tested against another for equality.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace inkwell {

constexpr int kLanes = 16;
constexpr int kTile = 16;           // output channels that are computed together
constexpr int kMostInputs = 65536;  // beyond that a sum of products may not fit 32 bits

inline size_t padded(size_t count, size_t multiple = kLanes) { return (count + multiple - 1) / multiple * multiple; }

// A linear layer: int8 weights with one scale per output channel, laid out as its path likes them.
struct Matrix {
  int in = 0, out = 0;
  const uint8_t* packed = nullptr;
  const float* scale = nullptr;  // (padded out)
  const float* bias = nullptr;   // (padded out)
  int tiles() const { return (out + kTile - 1) / kTile; }
};

// Rows of activations, each quantised with a scale of its own.
struct Quantised {
  uint8_t* data = nullptr;
  size_t stride = 0;  // bytes from row to row
  float* scale = nullptr;
  int32_t* sum = nullptr;  // of the row's quantised values
};

// What a product is added to: nothing, or row `index[r]` (r itself without an index) of `base`.
struct Start {
  const float* base = nullptr;
  size_t stride = 0;
  const int64_t* index = nullptr;
  const float* row(size_t r) const {
    return base == nullptr ? nullptr : base + (index == nullptr ? r : static_cast<size_t>(index[r])) * stride;
  }
};

// One head's ring of keys and values in bfloat16. Keys stand in blocks of sixteen slots, (W/16, D, 16) with D
// padded to a multiple of four; values slot by slot, (W, D) with D padded to a multiple of sixteen.
struct Head {
  uint16_t* keys;
  uint16_t* values;
};

enum class Activation : int { gelu = 0, swish = 1 };

struct Kernels {
  const char* name;
  size_t (*packed_bytes)(int in, int out);
  void (*pack)(const int8_t* weights, int in, int out, uint8_t* packed);  // weights (out, in)
  size_t (*row_bytes)(int in);
  void (*quantise)(const float* x, int width, uint8_t* row, float* scale, int32_t* sum);
  // out[r, c] = start(r, c) + product + bias(c) for all rows and the columns of tiles first to last - 1
  void (*multiply)(const Matrix& matrix, const Quantised& rows, int count, Start start, float* out,
                   size_t out_stride, int first, int last);
  void (*rnn)(const float* gates, int width, float* hidden);
  void (*gru)(const float* inputs, const float* recurrent, int width, float* hidden);
  void (*lstm)(const float* gates, int width, float* hidden, float* cell);
  // y = norm(x) * weight + bias, then * (1 + mod[0 … C]) + mod[C … 2C] where there is a mod
  void (*norm)(const float* x, const float* weight, const float* bias, const float* mod, int width, float* y);
  void (*activate)(Activation kind, float* x, int count);
  void (*rotate)(float* x, const float* cos, const float* sin, int half);
  // Attention of `query` (D, scaled, zeros up to a multiple of sixteen) over the first `length` slots.
  void (*attend)(const float* query, const Head& head, int length, int width, float* scores, float* out);
  // `loops` rounds of nothing but integer products in registers; how many products that were. For measuring.
  int64_t (*spin)(int64_t loops);
};

const Kernels* portable_kernels();
const Kernels* avx2_kernels();    // nullptr where it was not compiled in or this processor cannot run it
const Kernels* avx512_kernels();  // likewise

}  // namespace inkwell
