// A few threads that run one function together and meet at barriers.
//
// Waiting is a short spin, then yielding, and between runs sleep: workers of several models share the cores, and a
// thread that spins takes them from others. How work is divided never changes a result.
#pragma once

#include <stdint.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace inkwell {

inline void breathe() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Arithmetic as the standard has it while this lives: nearest even, denormal numbers kept. A caller may have changed
// that for its thread, and threads inherit it.
class PlainArithmetic {
 public:
#if defined(__x86_64__)
  PlainArithmetic() : before_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(0x1F80); }
  ~PlainArithmetic() { __builtin_ia32_ldmxcsr(before_); }

 private:
  unsigned before_;
#endif
};

class Pool {
 public:
  using Work = void (*)(void* data, int thread, int threads);

  explicit Pool(int threads) {
    try {
      for (int thread = 1; thread < threads; ++thread) helpers_.emplace_back([this, thread] { help(thread); });
    } catch (const std::system_error&) {
      // the system gives no more threads: those that there are do the work
    }
  }

  ~Pool() {
    publish(kStop);
    for (std::thread& helper : helpers_) helper.join();
  }

  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return static_cast<int>(helpers_.size()) + 1; }

  // Runs work(data, i, threads) for i below `threads`, the caller being 0; returns when all have.
  void run(Work work, void* data, int threads) {
    const PlainArithmetic plain;
    if (threads > 1) {
      work_ = work;
      data_ = data;
      publish(static_cast<uint64_t>(threads));
    }
    work(data, 0, threads);
    barrier(threads);
  }

  // To be called by every thread of a run, with their number. (Were it kept here, a helper that is slow to leave the
  // last barrier of a run might read that of the next.)
  void barrier(int threads) {
    if (threads == 1) return;
    const unsigned phase = phase_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
      arrived_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; ++spins) {
      if (spins < kSpins)
        breathe();
      else
        std::this_thread::yield();
    }
  }

 private:
  static constexpr int kSpins = 4000;   // some tens of microseconds
  static constexpr uint64_t kStop = 0;  // in the place of a number of threads
  static constexpr int kBits = 16;      // of an order that are its number of threads

  // An order is one word: how many orders there were, and for how many threads this one is. Helpers that have no
  // part in an order look at nothing else, so the next may be published while they still wake up.
  void publish(uint64_t threads) {
    const uint64_t count = (order_.load(std::memory_order_relaxed) >> kBits) + 1;
    order_.store(count << kBits | threads, std::memory_order_seq_cst);
    if (sleeping_.load(std::memory_order_seq_cst) > 0) {
      { std::lock_guard<std::mutex> lock(mutex_); }
      wake_.notify_all();
    }
  }

  void help(int thread) {
    const PlainArithmetic plain;
    uint64_t seen = 0;
    for (;;) {
      seen = next(seen);
      const uint64_t threads = seen & ((1u << kBits) - 1);
      if (threads == kStop) return;
      if (static_cast<uint64_t>(thread) >= threads) continue;
      work_(data_, thread, static_cast<int>(threads));
      barrier(static_cast<int>(threads));
    }
  }

  uint64_t next(uint64_t seen) {
    for (int spins = 0; spins < kSpins; ++spins) {
      const uint64_t order = order_.load(std::memory_order_acquire);
      if (order != seen) return order;
      breathe();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    sleeping_.fetch_add(1, std::memory_order_seq_cst);
    wake_.wait(lock, [&] { return order_.load(std::memory_order_seq_cst) != seen; });
    sleeping_.fetch_sub(1, std::memory_order_seq_cst);
    return order_.load(std::memory_order_acquire);
  }

  std::atomic<uint64_t> order_{0};
  std::atomic<int> sleeping_{0};
  std::atomic<int> arrived_{0};
  std::atomic<unsigned> phase_{0};
  Work work_ = nullptr;
  void* data_ = nullptr;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> helpers_;
};

}  // namespace inkwell
