#include "draws.h"

#include <math.h>
#include <string.h>

#include <algorithm>
#include <limits>

namespace inkwell {
namespace {

constexpr float kBarred = -std::numeric_limits<float>::infinity();
constexpr uint64_t kGolden = 0x9E3779B97F4A7C15u, kMul1 = 0xBF58476D1CE4E5B9u, kMul2 = 0x94D049BB133111EBu;
constexpr double kMostNoise = 37.5;  // the largest there is: of a uniform number of 53 bits

// splitmix64's finaliser (Steele, Lea, Flood 2014).
inline uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * kMul1;
  x = (x ^ (x >> 27)) * kMul2;
  return x ^ (x >> 31);
}

inline uint64_t word_of(uint64_t noise, int64_t token) {
  return mix64(noise + (static_cast<uint64_t>(token) + 1) * kGolden) >> 11;
}

inline double gumbel(uint64_t word) {
  const double uniform = (static_cast<double>(word) + 0.5) * 0x1p-53;
  return -log(-log(uniform));
}

// At least gumbel(word), without a logarithm: -log(-log u) <= -log(1 - u), and 1 - u is above half of a power of two.
inline double gumbel_bound(uint64_t word) {
  const uint64_t short_of_one = (uint64_t{1} << 53) - word;
  const int magnitude = 63 - __builtin_clzll(short_of_one);
  return (54 - magnitude) * 0.69314718055994531 + 1e-9;
}

// The largest of value + noise so far. Most tokens are out of question before their noise has to be known.
struct Best {
  double score;
  int64_t token;

  void offer(double value, int64_t candidate, uint64_t noise) {
    if (!(value + kMostNoise >= score)) return;
    const uint64_t word = word_of(noise, candidate);
    if (value + gumbel_bound(word) < score) return;
    const double own = value + gumbel(word);
    if (own > score || (own == score && candidate < token)) {
      score = own;
      token = candidate;
    }
  }
};

}  // namespace

uint64_t noise_of(int64_t seed, int64_t position) {
  return mix64(mix64(static_cast<uint64_t>(seed) + kGolden) ^ (static_cast<uint64_t>(position) * kGolden + kMul1));
}

void Drawer::reserve(int vocabulary) {
  const size_t size = static_cast<size_t>(vocabulary);
  vocabulary_ = vocabulary;
  logits_.resize(size);
  weights_.resize(size);
  kept_.reserve(size);
  chosen_.reserve(size);
  order_.reserve(size);
}

int64_t Drawer::draw(const float* logits, const Manner& manner, const Cursor& cursor, const float* prompt,
                     const float* text, const uint8_t* allowed) {
  adjust(logits, manner, cursor, prompt, text, allowed);
  if (manner.temperature == 0.0) return most_likely();
  const uint64_t noise = noise_of(manner.seed, cursor.position);
  const bool narrowed = manner.top_k > 0 || manner.top_p < 1.0 || manner.min_p > 0.0 || manner.typical_p < 1.0;
  return narrowed ? filtered(manner, noise) : plain(manner, noise);
}

double Drawer::log_probability(const float* logits, int64_t token) const {
  float largest = logits[0];
  for (int i = 1; i < vocabulary_; ++i) largest = logits[i] > largest ? logits[i] : largest;
  double total = 0.0;
  for (int i = 0; i < vocabulary_; ++i) total += exp(static_cast<double>(logits[i]) - static_cast<double>(largest));
  return static_cast<double>(logits[token]) - static_cast<double>(largest) - log(total);
}

void Drawer::adjust(const float* logits, const Manner& manner, const Cursor& cursor, const float* prompt,
                    const float* text, const uint8_t* allowed) {
  float* own = logits_.data();
  const size_t size = logits_.size();
  memcpy(own, logits, size * sizeof(float));
  for (int32_t i = 0; i < manner.bias_count; ++i)
    own[static_cast<size_t>(manner.biases[i].token)] += manner.biases[i].value;
  if (manner.penalised) {
    for (size_t i = 0; i < size; ++i) {
      if (text[i] == 0.0f && prompt[i] == 0.0f) continue;
      own[i] = own[i] > 0.0f ? own[i] / manner.repetition : own[i] * manner.repetition;
      if (text[i] > 0.0f) own[i] = own[i] - manner.frequency * text[i] - manner.presence;
    }
  }
  if (allowed != nullptr)
    for (size_t i = 0; i < size; ++i) own[i] = allowed[i] ? own[i] : kBarred;
  if (cursor.least > 0) own[0] = kBarred;
}

int Drawer::most_likely() const {
  int best = 0;
  for (int i = 1; i < vocabulary_; ++i)
    if (logits_[static_cast<size_t>(i)] > logits_[static_cast<size_t>(best)]) best = i;
  return best;
}

int64_t Drawer::plain(const Manner& manner, uint64_t noise) const {
  const int first = most_likely();
  Best best{-std::numeric_limits<double>::infinity(), first};
  best.offer(static_cast<double>(logits_[static_cast<size_t>(first)]) / manner.temperature, first, noise);
  for (int i = 0; i < vocabulary_; ++i) {
    const double value = static_cast<double>(logits_[static_cast<size_t>(i)]) / manner.temperature;
    if (value > -std::numeric_limits<double>::infinity()) best.offer(value, i, noise);
  }
  return best.token;
}

int64_t Drawer::filtered(const Manner& manner, uint64_t noise) {
  kept_.clear();
  if (manner.top_k > 0 && manner.top_k < vocabulary_)
    take_top(static_cast<size_t>(manner.top_k));
  else
    take_all(manner);
  if (kept_.empty()) return 0;  // everything is barred
  weigh(manner);
  if (manner.typical_p < 1.0) keep_typical(manner.typical_p);
  Best best{-std::numeric_limits<double>::infinity(), kept_[0].token};
  for (const Candidate& one : kept_) best.offer(one.value, one.token, noise);
  return best.token;
}

// The `count` largest logits, in falling order; of equal ones those of smaller ids.
void Drawer::take_top(size_t count) {
  const auto before = [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
  };
  const auto cut = [&] {
    std::nth_element(kept_.begin(), kept_.begin() + static_cast<std::ptrdiff_t>(count) - 1, kept_.end(), before);
    kept_.resize(count);
  };
  const size_t size = logits_.size(), room = std::min(2 * count + 32, size);
  float least = kBarred;  // what comes later has to be larger
  constexpr size_t kBlock = 16;
  for (size_t from = 0; from < size; from += kBlock) {
    const size_t to = std::min(from + kBlock, size);
    int larger = 0;
    for (size_t i = from; i < to; ++i) larger |= logits_[i] > least;
    if (!larger) continue;
    for (size_t i = from; i < to; ++i)
      if (logits_[i] > least) kept_.push_back({logits_[i], static_cast<int32_t>(i), 0.0, 0.0});
    if (kept_.size() + kBlock > room && kept_.size() > count) {
      cut();
      least = kept_.back().logit;
    }
  }
  if (kept_.size() > count) cut();
  std::sort(kept_.begin(), kept_.end(), before);
}

// Every token that top_p and min_p could leave, in falling order, with room for what rounding may do.
void Drawer::take_all(const Manner& manner) {
  const size_t size = logits_.size();
  const double largest = static_cast<double>(logits_[static_cast<size_t>(most_likely())]) / manner.temperature;
  if (!(largest > -std::numeric_limits<double>::infinity())) return;
  double total = 0.0;
  for (size_t i = 0; i < size; ++i) {
    weights_[i] = exp(static_cast<double>(logits_[i]) / manner.temperature - largest);
    total += weights_[i];
  }
  // Tokens below this share come, all together, to less than top_p leaves out.
  double least = 0.0;
  if (manner.top_p < 1.0) least = 0.999 * total * (1.0 - manner.top_p) / static_cast<double>(size);
  if (manner.min_p > 0.0 && manner.top_p >= 1.0) least = std::max(least, 0.999 * manner.min_p);
  for (size_t i = 0; i < size; ++i)
    if (weights_[i] >= least && logits_[i] > kBarred)
      kept_.push_back({logits_[i], static_cast<int32_t>(i), 0.0, 0.0});
  std::sort(kept_.begin(), kept_.end(), [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
  });
  if (manner.top_p >= 1.0) return;
  // Their sum is that of all tokens, not only of those here.
  double before = 0.0;
  for (size_t i = 0; i < kept_.size(); ++i) {
    if (i > 0 && before / total >= manner.top_p) {
      kept_.resize(i);
      break;
    }
    before += weights_[static_cast<size_t>(kept_[i].token)];
  }
}

// Values and weights of the kept tokens, which stand in falling order; top_p behind top_k, then min_p.
void Drawer::weigh(const Manner& manner) {
  const double largest = static_cast<double>(kept_[0].logit) / manner.temperature;
  double total = 0.0;
  for (Candidate& one : kept_) {
    one.value = static_cast<double>(one.logit) / manner.temperature - largest;
    one.weight = exp(one.value);
    total += one.weight;
  }
  if (manner.top_p < 1.0 && manner.top_k > 0 && manner.top_k < vocabulary_) {
    double before = 0.0;
    for (size_t i = 0; i < kept_.size(); ++i) {
      if (i > 0 && before / total >= manner.top_p) {
        kept_.resize(i);
        break;
      }
      before += kept_[i].weight;
    }
  }
  if (manner.min_p > 0.0) {
    size_t count = 1;
    while (count < kept_.size() && kept_[count].weight >= manner.min_p) ++count;
    kept_.resize(count);
  }
}

// The locally typical set (Meister et al. 2022).
void Drawer::keep_typical(double mass) {
  double total = 0.0, entropy = 0.0, sum = 0.0;
  for (const Candidate& one : kept_) total += one.weight;
  const double logarithm = log(total);
  for (const Candidate& one : kept_) entropy -= one.weight / total * (one.value - logarithm);
  order_.clear();
  for (size_t i = 0; i < kept_.size(); ++i)
    order_.emplace_back(fabs(-(kept_[i].value - logarithm) - entropy), i);
  std::sort(order_.begin(), order_.end());
  size_t count = 0;
  while (count < order_.size() && (count == 0 || sum < mass)) sum += kept_[order_[count++].second].weight / total;
  chosen_.clear();
  for (size_t i = 0; i < count; ++i) chosen_.push_back(kept_[order_[i].second]);
  kept_.swap(chosen_);
}

}  // namespace inkwell
