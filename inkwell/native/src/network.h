// What recurrent networks and transformers have in common: quantised layers, buffers, threads.
#pragma once

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <new>
#include <vector>

#include "draws.h"
#include "kernels.h"
#include "pool.h"

namespace inkwell {

// Zeroed memory that begins at a cache line.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t count) { resize(count); }
  ~Buffer() { free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Buffer(Buffer&& other) noexcept : data_(other.data_) { other.data_ = nullptr; }

  // Forgets what was in it.
  void resize(size_t count) {
    free(data_);
    data_ = nullptr;
    const size_t bytes = padded(count * sizeof(T) + 1, 64);
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, bytes) != 0) throw std::bad_alloc();
    data_ = static_cast<T*>(memset(memory, 0, bytes));
  }
  T* get() { return data_; }
  const T* get() const { return data_; }

 private:
  T* data_ = nullptr;
};

// int8 weights with one scale per output channel, the largest magnitude of the channel being 127.
class Linear {
 public:
  void set(const Kernels& kernels, const float* weights, const float* bias, int in, int out) {
    const size_t wide = static_cast<size_t>(in);
    Buffer<int8_t> whole(wide * static_cast<size_t>(out));
    scale_.resize(padded(static_cast<size_t>(out)));
    bias_.resize(padded(static_cast<size_t>(out)));
    for (size_t row = 0; row < static_cast<size_t>(out); ++row) {
      float peak = 0.0f;
      for (size_t i = 0; i < wide; ++i) peak = fmaxf(peak, fabsf(weights[row * wide + i]));
      const float factor = peak > 1e-30f ? 127.0f / peak : 0.0f;
      for (size_t i = 0; i < wide; ++i)
        whole.get()[row * wide + i] = static_cast<int8_t>(lrintf(weights[row * wide + i] * factor));
      scale_.get()[row] = peak > 1e-30f ? peak / 127.0f : 0.0f;
      if (bias != nullptr) bias_.get()[row] = bias[row];
    }
    packed_.resize(kernels.packed_bytes(in, out));
    kernels.pack(whole.get(), in, out, packed_.get());
    matrix_ = {in, out, packed_.get(), scale_.get(), bias_.get()};
  }
  const Matrix& matrix() const { return matrix_; }
  size_t work() const { return static_cast<size_t>(matrix_.in) * static_cast<size_t>(matrix_.out); }

 private:
  Buffer<uint8_t> packed_;
  Buffer<float> scale_, bias_;
  Matrix matrix_;
};

// Room for quantised rows.
class Codes {
 public:
  void resize(const Kernels& kernels, int width, int rows) {
    const size_t stride = kernels.row_bytes(width), count = static_cast<size_t>(rows);
    data_.resize(stride * count);
    scale_.resize(count);
    sum_.resize(count);
    view_ = {data_.get(), stride, scale_.get(), sum_.get()};
  }
  const Quantised& view() const { return view_; }
  void set(const Kernels& kernels, int row, const float* x, int width) {
    const size_t r = static_cast<size_t>(row);
    kernels.quantise(x, width, view_.data + r * view_.stride, view_.scale + r, view_.sum + r);
  }

 private:
  Buffer<uint8_t> data_;
  Buffer<float> scale_;
  Buffer<int32_t> sum_;
  Quantised view_;
};

struct Range {
  int first, last;
};

// Thread `index` of `threads` takes this part of `count` things.
inline Range share(int count, int index, int threads) {
  return {static_cast<int>(static_cast<int64_t>(count) * index / threads),
          static_cast<int>(static_cast<int64_t>(count) * (index + 1) / threads)};
}

enum Status : int { kDone = 0, kBadToken = 1, kBadRow = 2, kNoMemory = 3 };

// Several steps in one call, with the drawing of tokens between them.
struct Course {
  const Manner* manners;  // (rows)
  Cursor* cursors;        // (rows), moved on
  const int64_t* feed;    // what is pending of all rows
  Tallies tallies;
  int rows, steps;
  int64_t* drawn;  // (rows, steps); what was drawn in a step, and of rows that only read anything
  double* logs;    // (rows, steps): log-probabilities, of rows whose manner wants them; or nullptr
};

class Network {
 public:
  Network(const Kernels& kernels, int threads, int vocabulary);
  virtual ~Network() = default;

  // Room for steps of up to `rows` rows.
  virtual void reserve(int rows) = 0;

  // One step; `memory` are the addresses of what the rows remember.
  virtual Status step(const int64_t* tokens, int count, void* const* memory, float* logits) = 0;

  // Up to `course.steps` steps, fewer when a text ends: their number, or a Status, negated. A row draws in every
  // step but those that only read what is pending.
  int run(const Course& course, void* const* memory);

  // Draws for rows which[0 .. count-1] of logits (rows, V). `allowed` (count, V) bars where it is 0, or is nullptr.
  Status draw(const float* logits, const Manner* manners, const Cursor* cursors, const Tallies& tallies,
              const int32_t* which, int count, const uint8_t* allowed, int64_t* drawn, double* logs);

 protected:
  // A thread more costs some microseconds at the barriers: each has to have that much to do.
  static constexpr size_t kWorthAThread = 1'000'000;

  int threads_for(size_t products) const {
    const size_t most = products / kWorthAThread + 1, all = static_cast<size_t>(pool_.threads());
    return static_cast<int>(most < all ? most : all);
  }

  bool known(const int64_t* tokens, int count) const {
    for (int i = 0; i < count; ++i)
      if (tokens[i] < 0 || tokens[i] >= vocabulary_) return false;
    return true;
  }

  void multiply(const Linear& layer, const Codes& rows, int count, Start start, float* out, size_t stride, int thread,
                int threads) const {
    const Range tiles = share(layer.matrix().tiles(), thread, threads);
    kernels_.multiply(layer.matrix(), rows.view(), count, start, out, stride, tiles.first, tiles.last);
  }

  const Kernels& kernels_;
  Pool pool_;
  int vocabulary_;
  int capacity_ = 0;

 private:
  struct Draws {
    const float* logits;
    const Manner* manners;
    const Cursor* cursors;
    Tallies tallies;
    const int32_t* which;
    int count;
    const uint8_t* allowed;
    int64_t* drawn;
    double* logs;
    size_t stride;  // of drawn and logs by row; 0: in the order of `which`
  };

  void draw_all(const Draws& draws);
  static void draw_some(void* self, int thread, int threads);

  std::vector<Drawer> drawers_;  // one per thread
  std::vector<int64_t> fed_;
  std::vector<int32_t> drawing_;
  std::vector<float> run_logits_;
  Draws draws_{};
};

}  // namespace inkwell
