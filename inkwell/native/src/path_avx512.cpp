// The path for x86 processors with AVX-512 VNNI.
//
// Tests may name a header that puts plain functions in the place of its instructions (INKWELL_EMULATED_AVX512).
#include "kernels.h"

#if defined(__x86_64__)
#include <math.h>
#include <string.h>

#if defined(INKWELL_EMULATED_AVX512)
#include INKWELL_EMULATED_AVX512
#define INKWELL_OPAQUE(x)
#elif defined(__clang__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni")
#include <immintrin.h>
#endif

#if !defined(INKWELL_OPAQUE)
// A value that the compiler knows nothing of, or it would leave out the work that measuring is about.
#define INKWELL_OPAQUE(x) asm volatile("" : "+v"(x))
#endif

#define PATH_NAME "avx512"

namespace inkwell {
namespace {
#include "lanes_avx512.h"
#include "functions.h"
#include "products_avx512.h"
#include "table.h"
}  // namespace
}  // namespace inkwell

#if defined(INKWELL_EMULATED_AVX512)
#elif defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace inkwell {
const Kernels* avx512_kernels() {
#if defined(INKWELL_EMULATED_AVX512)
  return &kTable;
#else
  const bool here = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  return here ? &kTable : nullptr;
#endif
}
}  // namespace inkwell
#else
namespace inkwell {
const Kernels* avx512_kernels() { return nullptr; }
}  // namespace inkwell
#endif
