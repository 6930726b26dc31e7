#include "core/parallel.h"

#include <omp.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "core/error.h"

namespace backtrail {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double kSerialNs = 12e3;    // below this a second thread costs more than it saves
constexpr double kNsPerThread = 6e3;  // least work worth waking a thread for
constexpr auto kCheckEvery = std::chrono::milliseconds(50);

std::atomic<InterruptCheck> interrupt_check{nullptr};
thread_local int uninterruptible = 0;
// 1 while a signal handler runs in the middle of a kernel: what it computes gets buffers of its
// own.
thread_local int handling = 0;
std::atomic<int> requested{0};
bool forked_child = false;

// The cgroup's CPU quota (v2, then v1) in whole CPUs; 0 when there is none.
int quota_cpus() {
  double quota = -1, period = 0;
  if (FILE* f = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
    if (std::fscanf(f, "%lf %lf", &quota, &period) != 2) quota = -1;
    std::fclose(f);
  } else {
    auto read = [](const char* path, double& value) {
      FILE* file = std::fopen(path, "r");
      if (!file) return;
      if (std::fscanf(file, "%lf", &value) != 1) value = -1;
      std::fclose(file);
    };
    read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota);
    read("/sys/fs/cgroup/cpu/cpu.cfs_period_us", period);
  }
  return quota > 0 && period > 0 ? std::max(1, int(std::ceil(quota / period))) : 0;
}

int default_threads() {
  static const int n = [] {
    int threads = std::min(omp_get_max_threads(), omp_get_thread_limit());
    if (!std::getenv("OMP_NUM_THREADS")) {
      threads = std::min(threads, omp_get_num_procs());  // honours affinity
      if (int quota = quota_cpus()) threads = std::min(threads, quota);
    }
    return std::max(1, threads);
  }();
  return n;
}

// libgomp's pool does not survive a fork and would be waited for in vain: a child stays on its own
// thread.
const bool fork_handler = pthread_atfork(nullptr, nullptr, [] { forked_child = true; }) == 0;

struct Scratch {
  void* data = nullptr;
  size_t bytes = 0;
  ~Scratch() { std::free(data); }
};

}  // namespace

int num_threads() {
  if (forked_child) return 1;
  int n = requested.load(std::memory_order_relaxed);
  return n > 0 ? n : default_threads();
}

void set_num_threads(int n) {
  if (n < 1) fail(ErrorKind::value, "set_num_threads: got %d; expected at least 1", n);
  requested = n;
}

void* scratch(size_t bytes, int slot) {
  thread_local Scratch buffers[2][4];
  Scratch& s = buffers[handling][slot];
  if (s.bytes < bytes) {
    std::free(s.data);
    size_t rounded = (bytes + bytes / 4 + 4095) / 4096 * 4096;
    s.data = std::aligned_alloc(4096, rounded);
    s.bytes = s.data ? rounded : 0;
    if (!s.data) fail(ErrorKind::memory, "out of memory: cannot allocate %zu bytes", bytes);
  }
  return s.data;
}

void set_interrupt_check(InterruptCheck check) { interrupt_check = check; }
Uninterruptible::Uninterruptible() { ++uninterruptible; }
Uninterruptible::~Uninterruptible() { --uninterruptible; }

namespace detail {

void run_tasks(int64_t tasks, double cost_ns, void (*body)(void*, int64_t), void* context) {
  if (tasks <= 0) return;
  InterruptCheck check = nullptr;
  if (cost_ns > 50e6 && !uninterruptible && !handling && !omp_in_parallel())
    check = interrupt_check.load();
  int threads = 1;
  if (cost_ns > kSerialNs && tasks > 1 && !omp_in_parallel())
    threads = int(std::min<double>(std::min<double>(num_threads(), double(tasks)),
                                   std::ceil(cost_ns / kNsPerThread)));
  if (threads <= 1 && !check) {
    for (int64_t i = 0; i < tasks; ++i) body(context, i);
    return;
  }
  std::atomic<int64_t> next{0};
  std::atomic<bool> cancelled{false};
  auto work = [&](bool caller) {
    auto checked = Clock::now();
    for (int64_t i; !cancelled.load(std::memory_order_relaxed) &&
                    (i = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) {
      body(context, i);
      if (caller && check && Clock::now() - checked > kCheckEvery) {
        handling = 1;
        if (check()) cancelled = true;
        handling = 0;
        checked = Clock::now();
      }
    }
  };
  if (threads <= 1) {
    work(true);
  } else {
#pragma omp parallel num_threads(threads)
    work(omp_get_thread_num() == 0);
  }
  if (cancelled) throw Error(ErrorKind::interrupted, "interrupted");
}

}  // namespace detail
}  // namespace backtrail
