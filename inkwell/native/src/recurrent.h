// Vanilla RNN, GRU and LSTM: one step of all layers and the output layer.
#pragma once

#include <vector>

#include "network.h"

namespace inkwell {

enum class Cell : int { rnn = 0, gru = 1, lstm = 2 };

struct RecurrentShape {
  Cell cell;
  int vocabulary, hidden, layers;
};

class Recurrent : public Network {
 public:
  // `table` (V, gates · H) is the first layer's input product with its bias, one row per token. `weights` are, for
  // each layer, input weights and bias (nullptr for the first), hidden weights and bias; then those of the output.
  Recurrent(const Kernels& kernels, int threads, const RecurrentShape& shape, const float* table,
            const float* const* weights);

  void reserve(int rows) override;

  // Feeds tokens (count) to the first rows of hidden, and of cell where there is one, both (rows, layers, H).
  Status step(const int64_t* tokens, int count, float* hidden, float* cell, float* logits);

  // `memory`: hidden, cell.
  Status step(const int64_t* tokens, int count, void* const* memory, float* logits) override {
    return step(tokens, count, static_cast<float*>(memory[0]), static_cast<float*>(memory[1]), logits);
  }

 private:
  struct Layer {
    Linear input, recurrent;
    Codes old;  // the hidden vectors as they were
  };

  static void work(void* self, int thread, int threads);
  void run(int thread, int threads);
  float* hidden_of(int row, int layer) const { return hidden_ + offset(row, layer); }
  size_t offset(int row, int layer) const {
    return (static_cast<size_t>(row) * static_cast<size_t>(shape_.layers) + static_cast<size_t>(layer)) *
           static_cast<size_t>(shape_.hidden);
  }
  void advance(int layer, int row, const float* inputs, const float* recurrent);

  RecurrentShape shape_;
  size_t gates_, stride_;  // values per row of a layer's gates; the same padded
  Buffer<float> table_;
  std::vector<Layer> layers_;
  Linear head_;
  Codes fresh_;  // the hidden vectors of the layer just done
  Buffer<float> inputs_, recurrent_;
  size_t products_ = 0;  // of one row

  // The step at hand.
  const int64_t* tokens_ = nullptr;
  int count_ = 0;
  float *hidden_ = nullptr, *cell_ = nullptr, *logits_ = nullptr;
};

}  // namespace inkwell
