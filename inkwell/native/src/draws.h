// From logits to tokens, row by row: penalties, barred tokens, filters, and a draw by the Gumbel-max trick. The
// meaning and the order of everything are those of inkwell/sampling.py, which is the reference.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <utility>
#include <vector>

namespace inkwell {

struct Bias {
  int32_t token;
  float value;
};

// How one row is drawn. Filled by Python byte for byte (inkwell/native/draws.py).
struct Manner {
  int64_t seed;
  const Bias* biases;
  double temperature, top_p, min_p, typical_p;
  float repetition, frequency, presence;
  int32_t top_k, bias_count;
  int32_t penalised, stops;  // whether it has counts; whether token 0 ends its text
  int32_t logs;              // whether somebody wants to know how likely its tokens were
};

// Where one row stands. Filled by Python, advanced here.
struct Cursor {
  int64_t position;  // of the token to be drawn, for its noise
  int64_t token;     // to be fed when nothing is pending
  int64_t pending;   // tokens that are to be fed first
  int64_t feed;      // where they begin
  int64_t left;      // tokens that may still be drawn, 1 at least
  int64_t least;     // tokens before token 0 may be drawn
};

// What rows have been given and have written, (rows, V) each, or nullptr where no row is penalised.
struct Tallies {
  const float* prompt;
  float* text;
};

// The number for (seed, position) to which a token id is added.
uint64_t noise_of(int64_t seed, int64_t position);

// Draws for rows, one at a time; each thread has one.
class Drawer {
 public:
  void reserve(int vocabulary);

  // A token of 0 .. V-1, whatever the logits are. `allowed` (V) bars where it is 0; nullptr bars nothing.
  int64_t draw(const float* logits, const Manner& manner, const Cursor& cursor, const float* prompt, const float* text,
               const uint8_t* allowed);

  // Natural log-probability of a token under the model's own logits.
  double log_probability(const float* logits, int64_t token) const;

 private:
  struct Candidate {
    float logit;
    int32_t token;
    double value;   // logit / temperature, less the largest of them
    double weight;  // e to the power of value
  };

  void adjust(const float* logits, const Manner& manner, const Cursor& cursor, const float* prompt, const float* text,
              const uint8_t* allowed);
  int most_likely() const;
  int64_t plain(const Manner& manner, uint64_t noise) const;
  int64_t filtered(const Manner& manner, uint64_t noise);
  void take_top(size_t count);
  void take_all(const Manner& manner);
  void weigh(const Manner& manner);
  void keep_typical(double mass);

  int vocabulary_ = 0;
  std::vector<float> logits_;  // adjusted
  std::vector<double> weights_;
  std::vector<Candidate> kept_, chosen_;
  std::vector<std::pair<double, size_t>> order_;
};

}  // namespace inkwell
