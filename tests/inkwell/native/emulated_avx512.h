// The AVX-512 instructions that the core uses, in plain C++ after Intel's description of them, so that the path is
// tested on machines that have none. Needs AVX2 for the halves and quarters that a reduction ends with.
#pragma once

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

namespace emulated {

struct Floats {
  float v[16];
};
struct Ints {
  int32_t v[16];
};
struct Doubles {
  double v[8];
};

template <class Result, class Source>
Result cast(Source a) {
  Result r;
  static_assert(sizeof r == sizeof a, "64 bytes");
  memcpy(&r, &a, sizeof r);
  return r;
}

template <class Result, class Lane>
Result each(Lane lane) {
  Result r;
  for (int i = 0; i < 16; ++i) r.v[i] = lane(i);
  return r;
}

inline Floats set(float x) {
  return each<Floats>([&](int) { return x; });
}
inline Ints set(int32_t x) {
  return each<Ints>([&](int) { return x; });
}
inline Floats loadu(const float* p) {
  return each<Floats>([&](int i) { return p[i]; });
}
inline Ints loadu(const void* p) {
  Ints r;
  memcpy(&r, p, sizeof r);
  return r;
}
inline Floats maskz_loadu(__mmask16 mask, const float* p) {
  return each<Floats>([&](int i) { return mask >> i & 1 ? p[i] : 0.0f; });
}
inline void storeu(float* p, Floats a) { memcpy(p, &a, sizeof a); }
inline void mask_storeu(float* p, __mmask16 mask, Floats a) {
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) p[i] = a.v[i];
}
inline Floats add(Floats a, Floats b) {
  return each<Floats>([&](int i) { return a.v[i] + b.v[i]; });
}
inline Floats sub(Floats a, Floats b) {
  return each<Floats>([&](int i) { return a.v[i] - b.v[i]; });
}
inline Floats mul(Floats a, Floats b) {
  return each<Floats>([&](int i) { return a.v[i] * b.v[i]; });
}
inline Floats div(Floats a, Floats b) {
  return each<Floats>([&](int i) { return a.v[i] / b.v[i]; });
}
inline Floats min(Floats a, Floats b) {
  return each<Floats>([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline Floats max(Floats a, Floats b) {
  return each<Floats>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Floats nearest(Floats a) {
  return each<Floats>([&](int i) { return nearbyintf(a.v[i]); });
}
inline __mmask16 less(Floats a, Floats b) {
  unsigned mask = 0;
  for (int i = 0; i < 16; ++i) mask |= static_cast<unsigned>(a.v[i] < b.v[i]) << i;
  return static_cast<__mmask16>(mask);
}
inline Floats blend(__mmask16 mask, Floats no, Floats yes) {
  return each<Floats>([&](int i) { return mask >> i & 1 ? yes.v[i] : no.v[i]; });
}
inline Ints both(Ints a, Ints b) {
  return each<Ints>([&](int i) { return a.v[i] & b.v[i]; });
}
inline Ints not_and(Ints a, Ints b) {
  return each<Ints>([&](int i) { return ~a.v[i] & b.v[i]; });
}
inline Ints either(Ints a, Ints b) {
  return each<Ints>([&](int i) { return a.v[i] | b.v[i]; });
}
inline Ints add(Ints a, Ints b) {
  return each<Ints>([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) + static_cast<uint32_t>(b.v[i])); });
}
inline Ints sub(Ints a, Ints b) {
  return each<Ints>([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) - static_cast<uint32_t>(b.v[i])); });
}
inline Ints shift_left(Ints a, int count) {
  return each<Ints>([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) << count); });
}
inline Ints truncated(Floats a) {
  return each<Ints>([&](int i) { return static_cast<int32_t>(a.v[i]); });
}
inline Ints to_ints(Floats a) {
  return each<Ints>([&](int i) { return static_cast<int32_t>(nearbyintf(a.v[i])); });
}
inline Floats to_floats(Ints a) {
  return each<Floats>([&](int i) { return static_cast<float>(a.v[i]); });
}
inline Ints widen16(__m256i a) {
  uint16_t v[16];
  memcpy(v, &a, sizeof v);
  return each<Ints>([&](int i) { return static_cast<int32_t>(v[i]); });
}
inline __m128i saturate8(Ints a) {
  int8_t v[16];
  for (int i = 0; i < 16; ++i) v[i] = static_cast<int8_t>(a.v[i] < -128 ? -128 : a.v[i] > 127 ? 127 : a.v[i]);
  __m128i r;
  memcpy(&r, v, sizeof r);
  return r;
}
// VPDPBUSD: four unsigned bytes of a times four signed bytes of b are added to each sum, without saturation.
inline Ints dpbusd(Ints sums, Ints a, Ints b) {
  uint8_t left[64];
  int8_t right[64];
  memcpy(left, &a, 64);
  memcpy(right, &b, 64);
  for (int i = 0; i < 64; ++i) sums.v[i / 4] += static_cast<int32_t>(left[i]) * static_cast<int32_t>(right[i]);
  return sums;
}
inline __m256 low_half(Floats a) { return _mm256_loadu_ps(a.v); }
inline __m256d high_half(Doubles a) { return _mm256_loadu_pd(a.v + 4); }

}  // namespace emulated

#define __m512 emulated::Floats
#define __m512i emulated::Ints
#define __m512d emulated::Doubles
#define _mm512_set1_ps(x) emulated::set(static_cast<float>(x))
#define _mm512_set1_epi32(x) emulated::set(static_cast<int32_t>(x))
#define _mm512_setzero_si512() emulated::set(0)
#define _mm512_loadu_ps(p) emulated::loadu(static_cast<const float*>(p))
#define _mm512_loadu_si512(p) emulated::loadu(static_cast<const void*>(p))
#define _mm512_maskz_loadu_ps emulated::maskz_loadu
#define _mm512_storeu_ps emulated::storeu
#define _mm512_mask_storeu_ps emulated::mask_storeu
#define _mm512_add_ps emulated::add
#define _mm512_sub_ps emulated::sub
#define _mm512_mul_ps emulated::mul
#define _mm512_div_ps emulated::div
#define _mm512_min_ps emulated::min
#define _mm512_max_ps emulated::max
#define _mm512_roundscale_ps(a, mode) emulated::nearest(a)
#define _mm512_cmp_ps_mask(a, b, predicate) emulated::less(a, b)
#define _mm512_mask_blend_ps emulated::blend
#define _mm512_and_si512 emulated::both
#define _mm512_andnot_si512 emulated::not_and
#define _mm512_or_si512 emulated::either
#define _mm512_add_epi32 emulated::add
#define _mm512_sub_epi32 emulated::sub
#define _mm512_slli_epi32 emulated::shift_left
#define _mm512_cvttps_epi32 emulated::truncated
#define _mm512_cvtps_epi32 emulated::to_ints
#define _mm512_cvtepi32_ps emulated::to_floats
#define _mm512_cvtepu16_epi32 emulated::widen16
#define _mm512_cvtsepi32_epi8 emulated::saturate8
#define _mm512_dpbusd_epi32 emulated::dpbusd
#define _mm512_castps_si512 emulated::cast<emulated::Ints>
#define _mm512_castsi512_ps emulated::cast<emulated::Floats>
#define _mm512_castps_pd emulated::cast<emulated::Doubles>
#define _mm512_castps512_ps256 emulated::low_half
#define _mm512_extractf64x4_pd(a, part) emulated::high_half(a)
