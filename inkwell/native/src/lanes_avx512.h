// Sixteen floats as one AVX-512 register.
#pragma once

struct F {
  __m512 v;
};

static inline __mmask16 lanes_below(int count) {
  return count >= 16 ? static_cast<__mmask16>(0xFFFF) : count <= 0 ? static_cast<__mmask16>(0) : static_cast<__mmask16>((1u << count) - 1);
}
static inline F set1(float x) { return {_mm512_set1_ps(x)}; }
static inline F load(const float* p) { return {_mm512_loadu_ps(p)}; }
static inline F load_part(const float* p, int count) { return {_mm512_maskz_loadu_ps(lanes_below(count), p)}; }
static inline void store(float* p, F x) { _mm512_storeu_ps(p, x.v); }
static inline void store_part(float* p, F x, int count) { _mm512_mask_storeu_ps(p, lanes_below(count), x.v); }
static inline F operator+(F x, F y) { return {_mm512_add_ps(x.v, y.v)}; }
static inline F operator-(F x, F y) { return {_mm512_sub_ps(x.v, y.v)}; }
static inline F operator*(F x, F y) { return {_mm512_mul_ps(x.v, y.v)}; }
static inline F operator/(F x, F y) { return {_mm512_div_ps(x.v, y.v)}; }
static inline F lesser(F x, F y) { return {_mm512_min_ps(x.v, y.v)}; }
static inline F larger(F x, F y) { return {_mm512_max_ps(x.v, y.v)}; }
static inline F absolute(F x) {
  return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x.v), _mm512_set1_epi32(0x7FFFFFFF)))};
}
static inline F if_less(F x, F y, F yes, F no) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, y.v, _CMP_LT_OQ), no.v, yes.v)};
}
static inline F with_sign(F x, F sign) {
  const __m512i bit = _mm512_set1_epi32(static_cast<int>(0x80000000u));
  return {_mm512_castsi512_ps(_mm512_or_si512(_mm512_andnot_si512(bit, _mm512_castps_si512(x.v)),
                                              _mm512_and_si512(bit, _mm512_castps_si512(sign.v))))};
}
static inline F rounded(F x) { return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
static inline F power_of_two(F n) {
  return {_mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvttps_epi32(n.v), _mm512_set1_epi32(127)), 23))};
}
static inline F from_bf16(const uint16_t* p) {
  const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16))};
}
static inline __m256 upper(__m512 v) { return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1)); }
static inline float total(F x) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x.v), upper(x.v));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
static inline float largest(F x) {
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(x.v), upper(x.v));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}
static inline F first_lanes(F x, int count, float other) {
  return {_mm512_mask_blend_ps(lanes_below(count), _mm512_set1_ps(other), x.v)};
}
