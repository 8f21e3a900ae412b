// Integer products in plain C++: rows are int16, and weights stand as they come, channel by
// channel, and are widened to int16 when they are read.
#pragma once

static size_t packed_bytes(int in, int out) { return static_cast<size_t>(in) * static_cast<size_t>(out); }

static void pack(const int8_t* weights, int in, int out, uint8_t* packed) {
  memcpy(packed, weights, packed_bytes(in, out));
}

static size_t row_bytes(int in) { return padded(static_cast<size_t>(in), 32) * 2; }

static inline void store_row(uint8_t* row, int at, F values, int count) {
  int16_t part[16];
  for (int i = 0; i < count; ++i) part[i] = static_cast<int16_t>(values.v[i]);
  memcpy(row + 2 * static_cast<size_t>(at), part, static_cast<size_t>(count) * 2);
}

// Four rows at a time over one channel's weights: compilers know this loop and have an instruction for it.
static void add_products(const int16_t* w, const int16_t* const a[4], size_t count, int32_t sums[4]) {
  int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  for (size_t k = 0; k < count; ++k) {
    const int32_t x = w[k];
    s0 += x * a[0][k];
    s1 += x * a[1][k];
    s2 += x * a[2][k];
    s3 += x * a[3][k];
  }
  sums[0] += s0;
  sums[1] += s1;
  sums[2] += s2;
  sums[3] += s3;
}

static void add_products(const int16_t* w, const int16_t* a, size_t count, int32_t& sum) {
  int32_t s = 0;
  for (size_t k = 0; k < count; ++k) s += static_cast<int32_t>(w[k]) * a[k];
  sum += s;
}

constexpr int kMostRows = 64;
constexpr size_t kWidened = 1024;  // inputs that are widened together

static void tile_products(const Matrix& matrix, const Quantised& rows, int first_row, int count, int tile,
                          int32_t (*sums)[kMostRows]) {
  const size_t in = static_cast<size_t>(matrix.in);
  int16_t w[kWidened];
  for (int c = 0; c < 16; ++c) {
    memset(sums[c], 0, sizeof sums[c]);
    const int column = tile * 16 + c;
    if (column >= matrix.out) continue;
    const int8_t* weights = reinterpret_cast<const int8_t*>(matrix.packed) + static_cast<size_t>(column) * in;
    for (size_t from = 0; from < in; from += kWidened) {
      const size_t part = in - from < kWidened ? in - from : kWidened;
      for (size_t k = 0; k < part; ++k) w[k] = weights[from + k];
      const auto row = [&](int r) {
        return reinterpret_cast<const int16_t*>(rows.data + static_cast<size_t>(first_row + r) * rows.stride) + from;
      };
      int r = 0;
      for (; r + 4 <= count; r += 4) {
        const int16_t* four[4] = {row(r), row(r + 1), row(r + 2), row(r + 3)};
        add_products(w, four, part, sums[c] + r);
      }
      for (; r < count; ++r) add_products(w, row(r), part, sums[c][r]);
    }
  }
}

static void multiply(const Matrix& matrix, const Quantised& rows, int count, Start start, float* out,
                     size_t out_stride, int first, int last) {
  int32_t sums[16][kMostRows];
  for (int tile = first; tile < last; ++tile)
    for (int r = 0; r < count; r += kMostRows) {
      const int block = count - r < kMostRows ? count - r : kMostRows;
      tile_products(matrix, rows, r, block, tile, sums);
      for (int i = 0; i < block; ++i) {
        F values;
        for (int c = 0; c < 16; ++c) values.v[c] = static_cast<float>(sums[c][i]);
        finish(matrix, rows, r + i, tile, values, start, out, out_stride);
      }
    }
}

static int64_t spin(int64_t loops) {
  // no instruction can be named here: a product small enough for the fastest cache
  int16_t a[256], w[256];
  for (int i = 0; i < 256; ++i) a[i] = w[i] = static_cast<int16_t>(i - 128);
  int32_t sum = 0;
  for (int64_t loop = 0; loop < loops; ++loop) {
    const int16_t* from = w;
    asm volatile("" : "+r"(from) : : "memory");
    for (int k = 0; k < 256; ++k) sum += static_cast<int32_t>(a[k]) * from[k];
  }
  asm volatile("" : : "r"(sum));
  return loops * 256;
}
