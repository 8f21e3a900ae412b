// Sixteen floats in plain C++, for every processor. The other lanes files say the same in intrinsics.
#pragma once

struct F {
  float v[16];
};

#define INKWELL_EACH for (int i = 0; i < 16; ++i)

static inline F set1(float x) {
  F r;
  INKWELL_EACH r.v[i] = x;
  return r;
}
static inline F load(const float* p) {
  F r;
  memcpy(r.v, p, sizeof r.v);
  return r;
}
static inline F load_part(const float* p, int count) {
  F r = set1(0.0f);
  for (int i = 0; i < count; ++i) r.v[i] = p[i];
  return r;
}
static inline void store(float* p, F x) { memcpy(p, x.v, sizeof x.v); }
static inline void store_part(float* p, F x, int count) {
  for (int i = 0; i < count; ++i) p[i] = x.v[i];
}
static inline F operator+(F a, F b) {
  INKWELL_EACH a.v[i] += b.v[i];
  return a;
}
static inline F operator-(F a, F b) {
  INKWELL_EACH a.v[i] -= b.v[i];
  return a;
}
static inline F operator*(F a, F b) {
  INKWELL_EACH a.v[i] *= b.v[i];
  return a;
}
static inline F operator/(F a, F b) {
  INKWELL_EACH a.v[i] /= b.v[i];
  return a;
}
static inline F lesser(F a, F b) {
  INKWELL_EACH a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
  return a;
}
static inline F larger(F a, F b) {
  INKWELL_EACH a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return a;
}
static inline F absolute(F a) {
  INKWELL_EACH a.v[i] = fabsf(a.v[i]);
  return a;
}
// a < b ? yes : no
static inline F if_less(F a, F b, F yes, F no) {
  INKWELL_EACH yes.v[i] = a.v[i] < b.v[i] ? yes.v[i] : no.v[i];
  return yes;
}
// The sign of `sign` on the magnitude of a.
static inline F with_sign(F a, F sign) {
  INKWELL_EACH a.v[i] = copysignf(a.v[i], sign.v[i]);
  return a;
}
// To the nearest integer, ties to even; |a| below 2^22.
static inline F rounded(F a) {
  INKWELL_EACH {
    const float shifted = a.v[i] + 12582912.0f;  // the compiler must keep this order, and without fast-math it does
    a.v[i] = shifted - 12582912.0f;
  }
  return a;
}
// 2 to the power of integers from -126 to 127.
static inline F power_of_two(F n) {
  INKWELL_EACH {
    const float shifted = n.v[i] + 12582912.0f;  // its lowest bits are the integer; a cast may not see NaN
    uint32_t bits;
    memcpy(&bits, &shifted, 4);
    bits = (bits - 0x4B400000u + 127u) << 23;
    memcpy(&n.v[i], &bits, 4);
  }
  return n;
}
static inline F from_bf16(const uint16_t* p) {
  F r;
  INKWELL_EACH {
    uint32_t bits = static_cast<uint32_t>(p[i]) << 16;
    memcpy(&r.v[i], &bits, 4);
  }
  return r;
}
static inline float total(F a) {
  for (int half = 8; half; half /= 2)
    for (int i = 0; i < half; ++i) a.v[i] += a.v[i + half];
  return a.v[0];
}
static inline float largest(F a) {
  for (int half = 8; half; half /= 2)
    for (int i = 0; i < half; ++i) a.v[i] = a.v[i] > a.v[i + half] ? a.v[i] : a.v[i + half];
  return a.v[0];
}
// Lanes from `count` on replaced by `other`.
static inline F first_lanes(F a, int count, float other) {
  INKWELL_EACH a.v[i] = i < count ? a.v[i] : other;
  return a;
}
