// The path for x86 processors with AVX2.
#include "kernels.h"

#if defined(__x86_64__)
#include <math.h>
#include <string.h>

#if defined(__clang__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#include <immintrin.h>
#endif

#define PATH_NAME "avx2"

namespace inkwell {
namespace {
#include "lanes_avx2.h"
#include "functions.h"
#include "products_avx2.h"
#include "table.h"
}  // namespace
}  // namespace inkwell

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace inkwell {
const Kernels* avx2_kernels() { return __builtin_cpu_supports("avx2") ? &kTable : nullptr; }
}  // namespace inkwell
#else
namespace inkwell {
const Kernels* avx2_kernels() { return nullptr; }
}  // namespace inkwell
#endif
