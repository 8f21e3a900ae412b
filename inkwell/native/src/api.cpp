// The library's C interface, called through ctypes. Nothing is thrown across it: functions that make something
// return nullptr when they cannot, with the reason in inkwell_reason.
#include <exception>

#include "recurrent.h"
#include "transformer.h"

#ifndef INKWELL_SOURCE
#define INKWELL_SOURCE "unknown"
#endif

#define EXPORT extern "C" __attribute__((visibility("default")))

using namespace inkwell;

namespace {

thread_local char reason[256];

void explain(const char* what) {
  strncpy(reason, what, sizeof reason - 1);
  reason[sizeof reason - 1] = '\0';
}

// Fastest first.
const Kernels* path_at(int index) {
  const Kernels* const paths[] = {avx512_kernels(), avx2_kernels(), portable_kernels()};
  for (const Kernels* path : paths)
    if (path != nullptr && index-- == 0) return path;
  return nullptr;
}

const Kernels* path_named(const char* name) {
  for (int i = 0;; ++i) {
    const Kernels* path = path_at(i);
    if (path == nullptr || strcmp(path->name, name) == 0) return path;
  }
}

template <class Make>
Network* guarded(const char* path, Make make) {
  const Kernels* kernels = path_named(path);
  if (kernels == nullptr) {
    explain("this processor has no such path");
    return nullptr;
  }
  try {
    return make(*kernels);
  } catch (const std::bad_alloc&) {
    explain("there is not enough memory");
  } catch (const std::exception& error) {
    explain(error.what());
  }
  return nullptr;
}

struct Bandwidth {
  const uint64_t* data;
  size_t words;
  std::atomic<uint64_t> sum{0};
};

void read_all(void* data, int thread, int threads) {
  Bandwidth& job = *static_cast<Bandwidth*>(data);
  const size_t from = job.words * static_cast<size_t>(thread) / static_cast<size_t>(threads);
  const size_t to = job.words * static_cast<size_t>(thread + 1) / static_cast<size_t>(threads);
  uint64_t sums[8] = {};
  for (size_t i = from; i + 8 <= to; i += 8)
    for (size_t j = 0; j < 8; ++j) sums[j] += job.data[i + j];
  for (uint64_t sum : sums) job.sum += sum;
}

struct Spin {
  const Kernels* kernels;
  int64_t loops;
  std::atomic<int64_t> products{0};
};

void spin_all(void* data, int, int) {
  Spin& job = *static_cast<Spin*>(data);
  job.products += job.kernels->spin(job.loops);
}

}  // namespace

// Hash of the sources that this library was made from.
EXPORT const char* inkwell_source() { return INKWELL_SOURCE; }

// Name of the path at `index` of those that this processor can run, fastest first; nullptr past the last.
EXPORT const char* inkwell_path(int index) {
  const Kernels* path = path_at(index);
  return path == nullptr ? nullptr : path->name;
}

EXPORT const char* inkwell_reason() { return reason; }

EXPORT Network* inkwell_recurrent(const char* path, int threads, int cell, int vocabulary, int hidden, int layers,
                                  const float* table, const float* const* weights) {
  return guarded(path, [&](const Kernels& kernels) {
    const RecurrentShape shape{static_cast<Cell>(cell), vocabulary, hidden, layers};
    return new Recurrent(kernels, threads, shape, table, weights);
  });
}

EXPORT Network* inkwell_transformer(const char* path, int threads, int vocabulary, int layers, int heads, int width,
                                    int window, int feed, int activation, const float* const* weights) {
  return guarded(path, [&](const Kernels& kernels) {
    const TransformerShape shape{vocabulary, layers, heads, width, window, feed, static_cast<Activation>(activation)};
    return new Transformer(kernels, threads, shape, weights);
  });
}

// 0, or -1 when there is not enough memory.
EXPORT int inkwell_reserve(Network* network, int rows) {
  try {
    network->reserve(rows);
    return 0;
  } catch (const std::bad_alloc&) {
    return -1;
  }
}

EXPORT void inkwell_free(Network* network) { delete network; }

EXPORT int inkwell_recurrent_step(Network* network, const int64_t* tokens, int count, float* hidden, float* cell,
                                  float* logits) {
  return static_cast<Recurrent*>(network)->step(tokens, count, hidden, cell, logits);
}

EXPORT int inkwell_transformer_step(Network* network, const int64_t* tokens, const int64_t* rows, int count,
                                    int64_t* positions, uint16_t* keys, uint16_t* values, const float* mods,
                                    float* logits) {
  return static_cast<Transformer*>(network)->step(tokens, rows, count, {positions, keys, values, mods}, logits);
}

// Up to course->steps steps with draws between them: how many were made, or a Status, negated. `memory` are the
// addresses that a step takes.
EXPORT int inkwell_run(Network* network, const Course* course, void* const* memory) {
  try {
    return network->run(*course, memory);
  } catch (const std::bad_alloc&) {
    return -kNoMemory;
  }
}

// One draw for each of `count` rows of logits. Pointers stand in `course` as for inkwell_run.
EXPORT int inkwell_draw(Network* network, const Course* course, const float* logits, const int32_t* which, int count,
                        const uint8_t* allowed) {
  return network->draw(logits, course->manners, course->cursors, course->tallies, which, count, allowed,
                       course->drawn, course->logs);
}

// For benchmarks: int8 products that a path did in `loops` rounds on each of `threads` threads.
EXPORT int64_t inkwell_spin(const char* path, int threads, int64_t loops) {
  const Kernels* kernels = path_named(path);
  if (kernels == nullptr) return 0;
  Pool pool(threads);
  Spin job{kernels, loops};
  pool.run(spin_all, &job, pool.threads());
  return job.products;
}

// For benchmarks: reads `bytes` of `data` `rounds` times by `threads` threads.
EXPORT uint64_t inkwell_read(const void* data, size_t bytes, int threads, int rounds) {
  Pool pool(threads);
  Bandwidth job{static_cast<const uint64_t*>(data), bytes / 8};
  for (int i = 0; i < rounds; ++i) pool.run(read_all, &job, pool.threads());
  return job.sum;
}
