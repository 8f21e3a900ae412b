#include "network.h"

namespace inkwell {
namespace {

constexpr size_t kProductsPerToken = 24;  // what looking at a token of the vocabulary costs, in int8 products

}  // namespace

Network::Network(const Kernels& kernels, int threads, int vocabulary)
    : kernels_(kernels), pool_(threads), vocabulary_(vocabulary) {
  drawers_.resize(static_cast<size_t>(pool_.threads()));
  for (Drawer& drawer : drawers_) drawer.reserve(vocabulary);
}

int Network::run(const Course& course, void* const* memory) {
  const size_t rows = static_cast<size_t>(course.rows), words = static_cast<size_t>(vocabulary_);
  if (course.rows < 1 || course.rows > capacity_ || course.steps < 1) return -kBadRow;
  if (fed_.size() < rows) {
    fed_.resize(rows);
    drawing_.resize(rows);
    run_logits_.resize(rows * words);
  }
  for (int step = 0; step < course.steps; ++step) {
    int drawing = 0;
    for (size_t row = 0; row < rows; ++row) {
      Cursor& cursor = course.cursors[row];
      fed_[row] = cursor.pending > 0 ? course.feed[cursor.feed] : cursor.token;
      if (cursor.pending > 0) {
        ++cursor.feed;
        --cursor.pending;
      }
      if (cursor.pending == 0) drawing_[static_cast<size_t>(drawing++)] = static_cast<int32_t>(row);
    }
    const Status status = this->step(fed_.data(), course.rows, memory, run_logits_.data());
    if (status != kDone) return -status;
    if (drawing == 0) continue;
    draw_all({run_logits_.data(), course.manners, course.cursors, course.tallies, drawing_.data(), drawing, nullptr,
              course.drawn + step, course.logs == nullptr ? nullptr : course.logs + step,
              static_cast<size_t>(course.steps)});
    bool ended = false;
    for (int i = 0; i < drawing; ++i) {
      const size_t row = static_cast<size_t>(drawing_[static_cast<size_t>(i)]);
      Cursor& cursor = course.cursors[row];
      cursor.token = course.drawn[row * static_cast<size_t>(course.steps) + static_cast<size_t>(step)];
      ++cursor.position;
      if (cursor.least > 0) --cursor.least;
      if (course.manners[row].penalised) course.tallies.text[row * words + static_cast<size_t>(cursor.token)] += 1.0f;
      ended |= --cursor.left <= 0 || (cursor.token == 0 && course.manners[row].stops);
    }
    if (ended) return step + 1;
  }
  return course.steps;
}

Status Network::draw(const float* logits, const Manner* manners, const Cursor* cursors, const Tallies& tallies,
                     const int32_t* which, int count, const uint8_t* allowed, int64_t* drawn, double* logs) {
  if (count < 1) return kBadRow;
  draw_all({logits, manners, cursors, tallies, which, count, allowed, drawn, logs, 0});
  return kDone;
}

void Network::draw_all(const Draws& draws) {
  draws_ = draws;
  const size_t work = static_cast<size_t>(draws.count) * static_cast<size_t>(vocabulary_) * kProductsPerToken;
  pool_.run(draw_some, this, threads_for(work));
}

// In `run` a row's token goes to its own place, in `draw` tokens stand in the order in which they were asked for.
void Network::draw_some(void* self, int thread, int threads) {
  Network& network = *static_cast<Network*>(self);
  const Draws& draws = network.draws_;
  const size_t words = static_cast<size_t>(network.vocabulary_);
  const Range own = share(draws.count, thread, threads);
  for (int i = own.first; i < own.last; ++i) {
    const size_t index = static_cast<size_t>(i), row = static_cast<size_t>(draws.which[index]);
    const bool penalised = draws.manners[row].penalised != 0;
    const float* prompt = penalised ? draws.tallies.prompt + row * words : nullptr;
    const float* text = penalised ? draws.tallies.text + row * words : nullptr;
    const uint8_t* allowed = draws.allowed == nullptr ? nullptr : draws.allowed + index * words;
    const int64_t token = network.drawers_[static_cast<size_t>(thread)].draw(
        draws.logits + row * words, draws.manners[row], draws.cursors[row], prompt, text, allowed);
    const size_t place = draws.stride > 0 ? row * draws.stride : index;
    draws.drawn[place] = token;
    if (draws.logs != nullptr && draws.manners[row].logs)
      draws.logs[place] =
          network.drawers_[static_cast<size_t>(thread)].log_probability(draws.logits + row * words, token);
  }
}

}  // namespace inkwell
