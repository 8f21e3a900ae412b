// Integer products with AVX-512 VNNI, four at a time: unsigned bytes times signed bytes. Weights are stored with
// 128 added, so that the row, which is the signed side, can be broadcast from memory; 128 times the row's sum comes
// off at the end. Layout of weights: (tiles of 16 channels, fours of inputs, channel, input of the four).
#pragma once

static size_t padded_inputs(int in) { return padded(static_cast<size_t>(in), 4); }
static size_t tile_bytes(int in) { return padded_inputs(in) * 16; }

static size_t packed_bytes(int in, int out) { return padded(static_cast<size_t>(out)) / 16 * tile_bytes(in); }

static void pack(const int8_t* weights, int in, int out, uint8_t* packed) {
  memset(packed, 128, packed_bytes(in, out));
  for (int n = 0; n < out; ++n)
    for (int k = 0; k < in; ++k)
      packed[static_cast<size_t>(n / 16) * tile_bytes(in) + static_cast<size_t>((k / 4 * 16 + n % 16) * 4 + k % 4)] =
          static_cast<uint8_t>(weights[static_cast<size_t>(n) * static_cast<size_t>(in) + static_cast<size_t>(k)] + 128);
}

static size_t row_bytes(int in) { return padded(static_cast<size_t>(in), 64); }

static inline void store_row(uint8_t* row, int at, F values, int) {
  // past `count` lie zeros: the row's width is a multiple of 64
  const __m128i bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(values.v));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(row + at), bytes);
}

static inline int32_t four_at(const uint8_t* p) {
  int32_t value;
  memcpy(&value, p, 4);
  return value;
}

// R rows of C tiles: 24 of the 32 registers are sums at the most.
template <int R, int C>
static inline void tile_rows(const Matrix& matrix, const Quantised& rows, int first_row, int tile, Start start, float* out,
                             size_t out_stride) {
  const size_t fours = padded_inputs(matrix.in) / 4, step = tile_bytes(matrix.in);
  const uint8_t* w = matrix.packed + static_cast<size_t>(tile) * step;
  const uint8_t* a = rows.data + static_cast<size_t>(first_row) * rows.stride;
  __m512i sums[R][C];
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) sums[r][c] = _mm512_setzero_si512();
  for (size_t k = 0; k < fours; ++k) {
    __m512i weights[C];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) weights[c] = _mm512_loadu_si512(w + static_cast<size_t>(c) * step + 64 * k);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512i x = _mm512_set1_epi32(four_at(a + static_cast<size_t>(r) * rows.stride + 4 * k));
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sums[r][c] = _mm512_dpbusd_epi32(sums[r][c], weights[c], x);
    }
  }
  for (int r = 0; r < R; ++r) {
    const __m512i offset = _mm512_set1_epi32(128 * rows.sum[first_row + r]);
    for (int c = 0; c < C; ++c)
      finish(matrix, rows, first_row + r, tile + c, {_mm512_cvtepi32_ps(_mm512_sub_epi32(sums[r][c], offset))}, start,
             out, out_stride);
  }
}

constexpr int kMostRows = 6;

template <int C>
static void tiles(const Matrix& matrix, const Quantised& rows, int count, Start start, float* out, size_t out_stride,
                  int tile) {
  static void (*const by_rows[])(const Matrix&, const Quantised&, int, int, Start, float*, size_t) = {
      tile_rows<1, C>, tile_rows<2, C>, tile_rows<3, C>, tile_rows<4, C>, tile_rows<5, C>, tile_rows<6, C>};
  const int blocks = (count + kMostRows - 1) / kMostRows;
  for (int b = 0; b < blocks; ++b) {
    const int from = count * b / blocks, to = count * (b + 1) / blocks;
    by_rows[to - from - 1](matrix, rows, from, tile, start, out, out_stride);
  }
}

static void multiply(const Matrix& matrix, const Quantised& rows, int count, Start start, float* out,
                     size_t out_stride, int first, int last) {
  int tile = first;
  for (; tile + 4 <= last; tile += 4) tiles<4>(matrix, rows, count, start, out, out_stride, tile);
  for (; tile + 2 <= last; tile += 2) tiles<2>(matrix, rows, count, start, out, out_stride, tile);
  for (; tile < last; ++tile) tiles<1>(matrix, rows, count, start, out, out_stride, tile);
}

static int64_t spin(int64_t loops) {
  __m512i sums[12], w = _mm512_set1_epi32(0x01020304);
  const __m512i x = _mm512_set1_epi32(0x01010101);
  for (int i = 0; i < 12; ++i) sums[i] = _mm512_setzero_si512();
  for (int64_t loop = 0; loop < loops; ++loop) {
    INKWELL_OPAQUE(w);
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) sums[i] = _mm512_dpbusd_epi32(sums[i], w, x);
  }
  for (int i = 0; i < 12; ++i) INKWELL_OPAQUE(sums[i]);
  return loops * 12 * 64;
}
