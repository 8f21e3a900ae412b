// Runs the core without Python, for sanitizers: random networks of many shapes, on every path, by several threads.
// Every buffer that the core is given has exactly the size that it may touch. Prints how many steps were taken;
// fails when two paths or thread counts do not agree to the bit.
#include <stdio.h>

#include <memory>
#include <vector>

#include "recurrent.h"
#include "transformer.h"

using namespace inkwell;

namespace {

uint64_t state = 1;
int steps = 0;

uint64_t draw() {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return state >> 33;
}

std::vector<float> numbers(size_t count, float size) {
  std::vector<float> values(count);
  for (float& value : values) value = (static_cast<float>(draw() % 20001) / 10000.0f - 1.0f) * size;
  return values;
}

void check(bool right, const char* what) {
  if (right) return;
  fprintf(stderr, "not so: %s\n", what);
  exit(1);
}

std::vector<const Kernels*> paths() {
  std::vector<const Kernels*> found;
  for (const Kernels* path : {avx512_kernels(), avx2_kernels(), portable_kernels()})
    if (path != nullptr) found.push_back(path);
  return found;
}

std::vector<int64_t> tokens(int rows, int vocabulary) {
  std::vector<int64_t> ids(static_cast<size_t>(rows));
  for (int64_t& id : ids) id = static_cast<int64_t>(draw() % static_cast<uint64_t>(vocabulary));
  return ids;
}

// Courses of several steps with draws of every kind; what was drawn, as numbers.
std::vector<float> courses(Network& network, int rows, int vocabulary, void* const* memory) {
  const size_t n = static_cast<size_t>(rows), v = static_cast<size_t>(vocabulary);
  const Bias bias{vocabulary - 1, 1.5f};
  std::vector<Manner> manners(n);
  std::vector<Cursor> cursors(n);
  std::vector<float> prompt(n * v), text(n * v), said;
  for (size_t i = 0; i < n; ++i) {
    const double shares[] = {1.0, 0.9, 0.4};
    manners[i] = {static_cast<int64_t>(draw()), draw() % 3 ? nullptr : &bias, i % 7 ? 0.9 : 0.0, shares[draw() % 3],
                  draw() % 4 ? 0.0 : 0.1, shares[draw() % 3], 1.2f, 0.3f, 0.1f, static_cast<int32_t>(draw() % 9),
                  0, draw() % 2 == 0, draw() % 2 == 0, draw() % 2 == 0};
    manners[i].bias_count = manners[i].biases != nullptr;
    prompt[i * v + draw() % v] = 1.0f;
  }
  for (int turn = 0; turn < 3; ++turn) {
    std::vector<int64_t> feed;
    for (size_t i = 0; i < n; ++i) {
      const int64_t pending = static_cast<int64_t>(draw() % 4);
      cursors[i] = {static_cast<int64_t>(draw()), static_cast<int64_t>(draw() % v), pending,
                    static_cast<int64_t>(feed.size()), 30, static_cast<int64_t>(draw() % 3)};
      for (int64_t one : tokens(static_cast<int>(pending), vocabulary)) feed.push_back(one);
    }
    std::vector<int64_t> drawn(n * 5);
    std::vector<double> logs(n * 5);
    const int done = network.run({manners.data(), cursors.data(), feed.data(), {prompt.data(), text.data()}, rows, 5,
                                  drawn.data(), logs.data()}, memory);
    check(done >= 1 && done <= 5, "steps are made");
    steps += done;
    for (double log : logs) said.push_back(static_cast<float>(log));
    for (const Cursor& cursor : cursors) said.push_back(static_cast<float>(cursor.token));
  }
  const auto logits = numbers(n * v, 4.0f);
  std::vector<uint8_t> allowed(n * v);
  for (uint8_t& one : allowed) one = draw() % 3 != 0;
  std::vector<int32_t> which(n);
  for (size_t i = 0; i < n; ++i) which[i] = static_cast<int32_t>(n - 1 - i);
  std::vector<int64_t> found(n);
  check(network.draw(logits.data(), manners.data(), cursors.data(), {prompt.data(), text.data()}, which.data(), rows,
                     allowed.data(), found.data(), nullptr) == kDone, "rows are drawn");
  for (int64_t token : found) {
    check(token >= 0 && token < vocabulary, "a token is drawn");
    said.push_back(static_cast<float>(token));
  }
  Cursor bad{0, vocabulary, 0, 0, 3, 0};
  int64_t none = 0;
  check(network.run({manners.data(), &bad, nullptr, {}, 1, 1, &none, nullptr}, memory) == -kBadToken, "a bad token is refused");
  return said;
}

template <class Run>
void everywhere(const std::vector<int>& thread_counts, Run run) {
  std::vector<float> first;
  for (const Kernels* path : paths())
    for (int threads : thread_counts) {
      const uint64_t before = state;
      const std::vector<float> logits = run(*path, threads);
      if (first.empty()) first = logits;
      check(memcmp(first.data(), logits.data(), first.size() * sizeof(float)) == 0, "all paths give the same bits");
      state = before;
    }
  draw();
}

void recurrent(Cell cell, int hidden, int layers, int vocabulary, int rows, const std::vector<int>& threads) {
  const RecurrentShape shape{cell, vocabulary, hidden, layers};
  const size_t h = static_cast<size_t>(hidden), v = static_cast<size_t>(vocabulary), l = static_cast<size_t>(layers);
  const size_t gates = (cell == Cell::rnn ? 1u : cell == Cell::gru ? 3u : 4u) * h;
  const auto table = numbers(v * gates, 0.5f);
  std::vector<std::vector<float>> kept;
  std::vector<const float*> weights;
  const auto add = [&](size_t count) {
    kept.push_back(numbers(count, 0.3f));
    weights.push_back(kept.back().data());
  };
  kept.reserve(4 * l + 2);
  for (size_t layer = 0; layer < l; ++layer) {
    if (layer == 0) {
      weights.insert(weights.end(), 2, nullptr);
    } else {
      add(gates * h);
      add(gates);
    }
    add(gates * h);
    add(gates);
  }
  add(v * h);
  add(v);
  everywhere(threads, [&](const Kernels& path, int count) {
    Recurrent network(path, count, shape, table.data(), weights.data());
    network.reserve(rows);
    const size_t n = static_cast<size_t>(rows);
    std::vector<float> hidden_state(n * l * h), cells(n * l * h), logits(n * v);
    for (int i = 0; i < 4; ++i, ++steps)
      check(network.step(tokens(rows, vocabulary).data(), rows, hidden_state.data(),
                         cell == Cell::lstm ? cells.data() : nullptr, logits.data()) == kDone, "the step is done");
    void* const memory[] = {hidden_state.data(), cells.data()};
    for (float token : courses(network, rows, vocabulary, memory)) logits.push_back(token);
    const int64_t bad = vocabulary;
    check(network.step(&bad, 1, hidden_state.data(), cells.data(), logits.data()) == kBadToken, "a bad token is");
    return logits;
  });
}

void transformer(const TransformerShape& shape, bool steered, int rows, const std::vector<int>& threads) {
  const size_t c = static_cast<size_t>(shape.width), v = static_cast<size_t>(shape.vocabulary);
  const size_t f = static_cast<size_t>(shape.feed), l = static_cast<size_t>(shape.layers);
  std::vector<std::vector<float>> kept;
  std::vector<const float*> weights;
  kept.reserve(4 + 12 * l);
  const auto add = [&](size_t count) {
    kept.push_back(numbers(count, 0.3f));
    weights.push_back(kept.back().data());
  };
  add(v * c);
  for (size_t layer = 0; layer < l; ++layer)
    for (size_t count : {c, c, 3 * c * c, 3 * c, c * c, c, c, c, f * c, f, c * f, c}) add(count);
  for (size_t count : {c, c, v * c}) add(count);
  const size_t n = static_cast<size_t>(rows), heads = static_cast<size_t>(shape.heads), depth = c / heads;
  const auto mods = numbers(n * l * 4 * c, 0.3f);
  everywhere(threads, [&](const Kernels& path, int count) {
    Transformer network(path, count, shape, weights.data());
    network.reserve(rows < 9 ? 9 : rows);
    const size_t window = static_cast<size_t>(shape.window);
    std::vector<int64_t> positions(n);
    std::vector<uint16_t> keys(n * l * heads * padded(window) * padded(depth, 4));
    std::vector<uint16_t> values(n * l * heads * window * padded(depth));
    std::vector<float> logits(n * v);
    const Memory memory{positions.data(), keys.data(), values.data(), steered ? mods.data() : nullptr};
    // A prompt of nine tokens for the last row, and a position beyond the table of angles.
    const std::vector<int64_t> prompt(9, rows - 1);
    check(network.step(tokens(9, shape.vocabulary).data(), prompt.data(), 9, memory, nullptr) == kDone, "a prompt is read");
    check(positions.back() == 9, "a prompt moves its row");
    if (rows > 1) positions[0] = 5000;
    for (int i = 0; i < 5; ++i, ++steps)
      check(network.step(tokens(rows, shape.vocabulary).data(), nullptr, rows, memory, logits.data()) == kDone, "a step is");
    void* const addresses[] = {positions.data(), keys.data(), values.data(),
                               steered ? const_cast<float*>(mods.data()) : nullptr};
    for (float token : courses(network, rows, shape.vocabulary, addresses)) logits.push_back(token);
    const int64_t bad = -1;
    check(network.step(&bad, nullptr, 1, memory, logits.data()) == kBadToken, "a bad token is refused");
    return logits;
  });
}

}  // namespace

int main(int count, char**) {
  if (count > 1) {  // a few large ones, whose work is divided: for the sanitizer of threads
    recurrent(Cell::lstm, 260, 2, 90, 64, {2, 3});
    recurrent(Cell::gru, 300, 2, 90, 33, {3});
    transformer({90, 2, 3, 192, 6, 768, Activation::gelu}, true, 40, {2, 3});
  } else {
    const int sizes[] = {1, 5, 16, 31, 64, 67};
    for (Cell cell : {Cell::rnn, Cell::gru, Cell::lstm})
      for (int hidden : sizes)
        for (int rows : {1, 2, 7, 17}) recurrent(cell, hidden, 1 + hidden % 3, 2 + hidden + rows, rows, {1, 2});
    for (int heads : {1, 2, 3})
      for (int depth : {2, 6, 16, 20, 66})
        for (int rows : {1, 2, 5, 13})
          transformer({30 + rows, 1 + rows % 2, heads, heads * depth, 1 + 4 * rows, 2 * depth + rows,
                       rows % 2 ? Activation::gelu : Activation::swish}, heads == 2, rows, {1, 2});
  }
  printf("%d steps\n", steps);
  return 0;
}
