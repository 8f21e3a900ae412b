// What all paths share, written in terms of sixteen lanes `F`. Included once per path, inside its namespace.
#pragma once

// Of two lanes that are not ordered, lesser and larger take the second, so that NaN passes through.
static inline F clamped(F x, float low, float high) { return larger(set1(low), lesser(set1(high), x)); }

// e to the power of x, exactly 0 below -87.3. Reduction and polynomial are those of Cephes' expf (S. Moshier),
// with a relative error below 3e-7.
static inline F exponential(F x) {
  const F bounded = clamped(x, -87.3f, 88.0f);
  const F n = rounded(bounded * set1(1.44269504088896341f));
  const F r = bounded - n * set1(0.693359375f) - n * set1(-2.12194440e-4f);
  F p = set1(1.9875691500e-4f);
  p = p * r + set1(1.3981999507e-3f);
  p = p * r + set1(8.3334519073e-3f);
  p = p * r + set1(4.1665795894e-2f);
  p = p * r + set1(1.6666665459e-1f);
  p = p * r + set1(5.0000001201e-1f);
  const F result = (p * (r * r) + r + set1(1.0f)) * power_of_two(n);
  return if_less(x, set1(-87.3f), set1(0.0f), result);
}

static inline F logistic(F x) { return set1(1.0f) / (set1(1.0f) + exponential(set1(0.0f) - x)); }

// Near zero the odd polynomial of Cephes' tanhf, else 1 - 2 / (e^2|x| + 1).
static inline F hyperbolic_tangent(F x) {
  const F size = absolute(x), square = x * x;
  F p = set1(-5.70498872745e-3f);
  p = p * square + set1(2.06390887954e-2f);
  p = p * square + set1(-5.37397155531e-2f);
  p = p * square + set1(1.33314422036e-1f);
  p = p * square + set1(-3.33332819422e-1f);
  const F near_zero = p * square * x + x;
  const F e = exponential(lesser(set1(40.0f), size + size));
  const F far = with_sign(set1(1.0f) - set1(2.0f) / (e + set1(1.0f)), x);
  return if_less(size, set1(0.625f), near_zero, far);
}

// x times the normal distribution function, with the error function of Abramowitz and Stegun 7.1.26
// (absolute error below 1.5e-7).
static inline F gelu(F x) {
  const F z = absolute(x) * set1(0.70710678118654752f);
  const F t = set1(1.0f) / (set1(1.0f) + set1(0.3275911f) * z);
  F p = set1(1.061405429f);
  p = p * t + set1(-1.453152027f);
  p = p * t + set1(1.421413741f);
  p = p * t + set1(-0.284496736f);
  p = p * t + set1(0.254829592f);
  const F tail = p * t * exponential(set1(0.0f) - z * z);  // 1 - erf(z)
  const F half = set1(0.5f) * tail;
  return x * if_less(x, set1(0.0f), half, set1(1.0f) - half);
}

static inline F swish(F x) { return x * logistic(x); }

static inline F load_up_to(const float* p, int count) { return count >= 16 ? load(p) : load_part(p, count); }
static inline void store_up_to(float* p, F x, int count) {
  if (count >= 16)
    store(p, x);
  else
    store_part(p, x, count);
}

// Last step of a product: scale, bias and what it is added to, for one row and one tile.
static inline void finish(const Matrix& matrix, const Quantised& rows, int row, int tile, F sums, Start start, float* out,
                          size_t out_stride) {
  const int column = tile * kTile, count = matrix.out - column;
  F y = sums * set1(rows.scale[row]) * load(matrix.scale + column) + load(matrix.bias + column);
  const float* from = start.row(static_cast<size_t>(row));
  if (from != nullptr) y = load_up_to(from + column, count) + y;
  store_up_to(out + static_cast<size_t>(row) * out_stride + column, y, count);
}

static inline void store_row(uint8_t* row, int at, F values, int count);

// Nearest of 255 even steps between minus and plus the row's largest magnitude. A row that is not finite has a
// scale that is not either, so that it shows in its own results and in no others.
static void quantise(const float* x, int width, uint8_t* row, float* scale, int32_t* sum) {
  F most = set1(0.0f), odd = set1(0.0f);
  for (int i = 0; i < width; i += 16) {
    const F part = load_up_to(x + i, width - i);
    most = larger(most, absolute(part));
    odd = odd + part * set1(0.0f);  // NaN where a value is not finite
  }
  const float peak = largest(most), strange = total(odd);
  const bool usable = strange == 0.0f && peak > 1e-30f;
  const F factor = set1(usable ? 127.0f / peak : 0.0f);
  F all = set1(0.0f);
  for (int i = 0; i < width; i += 16) {
    const F part = usable ? rounded(load_up_to(x + i, width - i) * factor) : set1(0.0f);
    all = all + part;  // integers far below 2^24: exact in any order
    store_row(row, i, part, width - i < 16 ? width - i : 16);
  }
  *scale = strange == 0.0f ? (usable ? peak / 127.0f : 0.0f) : strange;
  *sum = static_cast<int32_t>(total(all));
}

static void rnn(const float* gates, int width, float* hidden) {
  for (int i = 0; i < width; i += 16)
    store_up_to(hidden + i, hyperbolic_tangent(load_up_to(gates + i, width - i)), width - i);
}

static void gru(const float* inputs, const float* recurrent, int width, float* hidden) {
  for (int i = 0; i < width; i += 16) {
    const int n = width - i;
    const float *x = inputs + i, *h = recurrent + i;
    const F reset = logistic(load_up_to(x, n) + load_up_to(h, n));
    const F update = logistic(load_up_to(x + width, n) + load_up_to(h + width, n));
    const F candidate = hyperbolic_tangent(load_up_to(x + 2 * width, n) + reset * load_up_to(h + 2 * width, n));
    const F old = load_up_to(hidden + i, n);
    store_up_to(hidden + i, candidate + update * (old - candidate), n);
  }
}

static void lstm(const float* gates, int width, float* hidden, float* cell) {
  for (int i = 0; i < width; i += 16) {
    const int n = width - i;
    const float* g = gates + i;
    const F in = logistic(load_up_to(g, n)), forget = logistic(load_up_to(g + width, n));
    const F candidate = hyperbolic_tangent(load_up_to(g + 2 * width, n));
    const F out = logistic(load_up_to(g + 3 * width, n));
    const F c = load_up_to(cell + i, n) * forget + in * candidate;
    store_up_to(cell + i, c, n);
    store_up_to(hidden + i, out * hyperbolic_tangent(c), n);
  }
}

static void norm(const float* x, const float* weight, const float* bias, const float* mod, int width, float* y) {
  F sum = set1(0.0f);
  for (int i = 0; i < width; i += 16) sum = sum + load_up_to(x + i, width - i);
  const float mean = total(sum) / static_cast<float>(width);
  F squares = set1(0.0f);
  for (int i = 0; i < width; i += 16) {
    const F off = first_lanes(load_up_to(x + i, width - i) - set1(mean), width - i, 0.0f);
    squares = squares + off * off;
  }
  const float spread = 1.0f / sqrtf(total(squares) / static_cast<float>(width) + 1e-5f);
  for (int i = 0; i < width; i += 16) {
    const int n = width - i;
    F v = (load_up_to(x + i, n) - set1(mean)) * set1(spread) * load_up_to(weight + i, n) + load_up_to(bias + i, n);
    if (mod != nullptr) v = v * (set1(1.0f) + load_up_to(mod + i, n)) + load_up_to(mod + width + i, n);
    store_up_to(y + i, v, n);
  }
}

static void activate(Activation kind, float* x, int count) {
  for (int i = 0; i < count; i += 16) {
    const F v = load_up_to(x + i, count - i);
    store_up_to(x + i, kind == Activation::gelu ? gelu(v) : swish(v), count - i);
  }
}

static void rotate(float* x, const float* cos, const float* sin, int half) {
  for (int i = 0; i < half; i += 16) {
    const int n = half - i;
    const F a = load_up_to(x + i, n), b = load_up_to(x + half + i, n);
    const F c = load_up_to(cos + i, n), s = load_up_to(sin + i, n);
    store_up_to(x + i, a * c - b * s, n);
    store_up_to(x + half + i, a * s + b * c, n);
  }
}

static void attend(const float* query, const Head& head, int length, int width, float* scores, float* out) {
  const size_t depth = padded(static_cast<size_t>(width), 4), stride = padded(static_cast<size_t>(width));
  F best = set1(-INFINITY);
  for (int slot = 0; slot < length; slot += 16) {
    const uint16_t* keys = head.keys + static_cast<size_t>(slot) * depth;
    F part[4] = {set1(0.0f), set1(0.0f), set1(0.0f), set1(0.0f)};
    for (size_t d = 0; d < depth; d += 4)
      for (size_t j = 0; j < 4; ++j) part[j] = part[j] + set1(query[d + j]) * from_bf16(keys + (d + j) * 16);
    const F score = first_lanes((part[0] + part[1]) + (part[2] + part[3]), length - slot, -INFINITY);
    best = larger(best, score);
    store(scores + slot, score);
  }
  const F peak = set1(largest(best));
  F sum = set1(0.0f);
  for (int slot = 0; slot < length; slot += 16) {
    const F weight = exponential(load(scores + slot) - peak);
    sum = sum + weight;
    store(scores + slot, weight);
  }
  const F share = set1(1.0f / total(sum));
  for (size_t d = 0; d < stride; d += 64) {
    const size_t parts = stride - d < 64 ? (stride - d) / 16 : 4;
    const uint16_t* values = head.values + d;
    F result[4] = {set1(0.0f), set1(0.0f), set1(0.0f), set1(0.0f)};
    if (parts == 4) {
      for (int slot = 0; slot < length; ++slot, values += stride) {
        const F weight = set1(scores[slot]);
        for (size_t j = 0; j < 4; ++j) result[j] = result[j] + weight * from_bf16(values + j * 16);
      }
    } else {
      for (int slot = 0; slot < length; ++slot, values += stride) {
        const F weight = set1(scores[slot]);
        for (size_t j = 0; j < parts; ++j) result[j] = result[j] + weight * from_bf16(values + j * 16);
      }
    }
    for (size_t j = 0; j < parts; ++j) {
      const int at = static_cast<int>(d + j * 16);
      store_up_to(out + at, result[j] * share, width - at);
    }
  }
}
