#include "recurrent.h"

namespace inkwell {

Recurrent::Recurrent(const Kernels& kernels, int threads, const RecurrentShape& shape, const float* table,
                     const float* const* weights)
    : Network(kernels, threads, shape.vocabulary), shape_(shape), layers_(static_cast<size_t>(shape.layers)) {
  const size_t blocks[] = {1, 3, 4};
  gates_ = blocks[static_cast<int>(shape.cell)] * static_cast<size_t>(shape.hidden);
  stride_ = padded(gates_);
  const size_t words = static_cast<size_t>(shape.vocabulary);
  table_.resize(words * stride_);
  for (size_t word = 0; word < words; ++word)
    memcpy(table_.get() + word * stride_, table + word * gates_, gates_ * sizeof(float));
  const int gates = static_cast<int>(gates_);
  for (Layer& layer : layers_) {
    if (weights[0] != nullptr) layer.input.set(kernels, weights[0], weights[1], shape.hidden, gates);
    layer.recurrent.set(kernels, weights[2], weights[3], shape.hidden, gates);
    products_ += layer.input.work() + layer.recurrent.work();
    weights += 4;
  }
  head_.set(kernels, weights[0], weights[1], shape.hidden, shape.vocabulary);
  products_ += head_.work();
}

void Recurrent::reserve(int rows) {
  if (rows <= capacity_) return;
  for (Layer& layer : layers_) layer.old.resize(kernels_, shape_.hidden, rows);
  fresh_.resize(kernels_, shape_.hidden, rows);
  inputs_.resize(static_cast<size_t>(rows) * stride_);
  recurrent_.resize(static_cast<size_t>(rows) * stride_);
  capacity_ = rows;
}

Status Recurrent::step(const int64_t* tokens, int count, float* hidden, float* cell, float* logits) {
  if (!known(tokens, count)) return kBadToken;
  if (count > capacity_) return kBadRow;
  tokens_ = tokens;
  count_ = count;
  hidden_ = hidden;
  cell_ = cell;
  logits_ = logits;
  pool_.run(work, this, threads_for(products_ * static_cast<size_t>(count)));
  return kDone;
}

void Recurrent::work(void* self, int thread, int threads) { static_cast<Recurrent*>(self)->run(thread, threads); }

void Recurrent::run(int thread, int threads) {
  const Range rows = share(count_, thread, threads);
  for (int layer = 0; layer < shape_.layers; ++layer)
    for (int row = rows.first; row < rows.last; ++row)
      layers_[static_cast<size_t>(layer)].old.set(kernels_, row, hidden_of(row, layer), shape_.hidden);
  pool_.barrier(threads);
  const bool apart = shape_.cell == Cell::gru;  // whose reset gate stands between the two products
  const Start looked_up{table_.get(), stride_, tokens_}, computed{inputs_.get(), stride_, nullptr};
  for (int index = 0; index < shape_.layers; ++index) {
    Layer& layer = layers_[static_cast<size_t>(index)];
    if (index > 0) multiply(layer.input, fresh_, count_, {}, inputs_.get(), stride_, thread, threads);
    const Start inputs = index == 0 ? looked_up : computed;
    float* sums = apart ? recurrent_.get() : inputs_.get();
    multiply(layer.recurrent, layer.old, count_, apart ? Start{} : inputs, sums, stride_, thread, threads);
    pool_.barrier(threads);
    for (int row = rows.first; row < rows.last; ++row) {
      const size_t r = static_cast<size_t>(row);
      advance(index, row, apart ? inputs.row(r) : computed.row(r), recurrent_.get() + r * stride_);
      fresh_.set(kernels_, row, hidden_of(row, index), shape_.hidden);
    }
    pool_.barrier(threads);
  }
  multiply(head_, fresh_, count_, {}, logits_, static_cast<size_t>(vocabulary_), thread, threads);
}

void Recurrent::advance(int layer, int row, const float* inputs, const float* recurrent) {
  float* hidden = hidden_of(row, layer);
  switch (shape_.cell) {
    case Cell::rnn:
      kernels_.rnn(inputs, shape_.hidden, hidden);
      break;
    case Cell::gru:
      kernels_.gru(inputs, recurrent, shape_.hidden, hidden);
      break;
    case Cell::lstm:
      kernels_.lstm(inputs, shape_.hidden, hidden, cell_ + offset(row, layer));
      break;
  }
}

}  // namespace inkwell
