// Integer products with AVX2. The byte product of that instruction set saturates, so both sides are widened to
// 16 bits, whose pairwise product is exact: rows are kept as int16, weights as int8 and widened when they are read.
// Layout of weights: (tiles of 16 channels, pairs of inputs, channel, input of the pair).
#pragma once

static size_t padded_inputs(int in) { return padded(static_cast<size_t>(in), 2); }
static size_t tile_bytes(int in) { return padded_inputs(in) * 16; }

static size_t packed_bytes(int in, int out) { return padded(static_cast<size_t>(out)) / 16 * tile_bytes(in); }

static void pack(const int8_t* weights, int in, int out, uint8_t* packed) {
  memset(packed, 0, packed_bytes(in, out));
  for (int n = 0; n < out; ++n)
    for (int k = 0; k < in; ++k)
      packed[static_cast<size_t>(n / 16) * tile_bytes(in) + static_cast<size_t>((k / 2 * 16 + n % 16) * 2 + k % 2)] =
          static_cast<uint8_t>(weights[static_cast<size_t>(n) * static_cast<size_t>(in) + static_cast<size_t>(k)]);
}

static size_t row_bytes(int in) { return padded(static_cast<size_t>(in), 32) * 2; }

static inline void store_row(uint8_t* row, int at, F values, int) {
  // past `count` lie zeros: the row's width is a multiple of 32
  const __m256i low = _mm256_cvtps_epi32(values.a), high = _mm256_cvtps_epi32(values.b);
  const __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(row + 2 * static_cast<size_t>(at)), both);
}

static inline int32_t pair_at(const uint8_t* p) {
  int32_t value;
  memcpy(&value, p, 4);
  return value;
}

template <int R>
static inline void tile_rows(const Matrix& matrix, const Quantised& rows, int first_row, int tile, Start start, float* out,
                             size_t out_stride) {
  const size_t pairs = padded_inputs(matrix.in) / 2;
  const uint8_t* w = matrix.packed + static_cast<size_t>(tile) * tile_bytes(matrix.in);
  const uint8_t* a = rows.data + static_cast<size_t>(first_row) * rows.stride;
  __m256i low[R], high[R];
  for (int r = 0; r < R; ++r) low[r] = high[r] = _mm256_setzero_si256();
#pragma GCC unroll 4
  for (size_t p = 0; p < pairs; ++p) {
    const __m256i w_low = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + 32 * p)));
    const __m256i w_high = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + 32 * p + 16)));
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m256i x = _mm256_set1_epi32(pair_at(a + static_cast<size_t>(r) * rows.stride + 4 * p));
      low[r] = _mm256_add_epi32(low[r], _mm256_madd_epi16(w_low, x));
      high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(w_high, x));
    }
  }
  for (int r = 0; r < R; ++r)
    finish(matrix, rows, first_row + r, tile, {_mm256_cvtepi32_ps(low[r]), _mm256_cvtepi32_ps(high[r])}, start, out,
           out_stride);
}

constexpr int kMostRows = 4;  // with five, gcc keeps sums in memory

static void multiply(const Matrix& matrix, const Quantised& rows, int count, Start start, float* out,
                     size_t out_stride, int first, int last) {
  static void (*const by_rows[])(const Matrix&, const Quantised&, int, int, Start, float*, size_t) = {
      tile_rows<1>, tile_rows<2>, tile_rows<3>, tile_rows<4>, tile_rows<5>, tile_rows<6>};
  const int blocks = (count + kMostRows - 1) / kMostRows;
  for (int tile = first; tile < last; ++tile)
    for (int b = 0; b < blocks; ++b) {
      const int from = count * b / blocks, to = count * (b + 1) / blocks;
      by_rows[to - from - 1](matrix, rows, from, tile, start, out, out_stride);
    }
}

// One product and sum, in registers. The empty instructions keep the compiler from leaving any out, and from
// keeping sums in memory.
static inline void spin_once(__m256i& sum, __m256i& w, __m256i x) {
  asm volatile("" : "+x"(w));
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(w, x));
  asm volatile("" : "+x"(sum));
}

static int64_t spin(int64_t loops) {
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a, e = a, f = a, g = a, h = a, w = _mm256_set1_epi16(3);
  const __m256i x = _mm256_set1_epi16(1);
  for (int64_t loop = 0; loop < loops; ++loop) {
    spin_once(a, w, x);
    spin_once(b, w, x);
    spin_once(c, w, x);
    spin_once(d, w, x);
    spin_once(e, w, x);
    spin_once(f, w, x);
    spin_once(g, w, x);
    spin_once(h, w, x);
  }
  return loops * 8 * 16;
}
