// How many threads, whose buffers, when to look for Ctrl-C; the threads themselves are in team.cpp.
#include "core/parallel.h"

#include <omp.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "core/storage.h"
#include "core/team.h"

namespace backtrail {
namespace {

using Clock = std::chrono::steady_clock;
// Below this a second thread costs more than it saves; and the least work of each thread. The lower
// figures hold while all wait for work awake, with a part of the last operation's results in their
// caches.
constexpr double kSerialNs = 4e3, kSerialAwakeNs = 1.5e3;
constexpr double kNsPerThread = 2e3, kNsPerThreadAwake = 0.75e3;
constexpr auto kCheckEvery = std::chrono::milliseconds(50);

std::atomic<InterruptCheck> interrupt_check{nullptr};
thread_local int uninterruptible = 0;
// 1 while a signal handler runs in the middle of a kernel: what it computes gets buffers of its
// own.
thread_local int handling = 0;
std::atomic<int> requested{0};
std::atomic<TaskOrder> task_order{TaskOrder::usual};

// Never deleted: its threads outlive main(). A forked child makes its own.
std::atomic<Team*> team{nullptr};
Team& the_team() {
  static std::mutex making;
  if (Team* t = team.load(std::memory_order_acquire)) return *t;
  std::lock_guard<std::mutex> lock(making);
  if (!team.load()) team = new Team;
  return *team;
}
const bool fork_handler = pthread_atfork(nullptr, nullptr, [] { team = nullptr; }) == 0;

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
    return std::clamp(threads, 1, kMostThreads);
  }();
  return n;
}

struct Scratch {
  void* data = nullptr;
  size_t bytes = 0;
  ~Scratch() { std::free(data); }
};

}  // namespace

int num_threads() {
  int n = requested.load(std::memory_order_relaxed);
  return n > 0 ? n : default_threads();
}

void set_num_threads(int64_t n) {
  if (n < 1 || n > kMostThreads)
    fail(ErrorKind::value, "set_num_threads: got %lld; expected 1 to %d", (long long)n,
         kMostThreads);
  requested = int(n);
}

void set_task_order(TaskOrder order) { task_order = order; }

int threads_for(double cost_ns) {
  const TaskOrder order = task_order.load(std::memory_order_relaxed);
  if (order != TaskOrder::usual)
    return order == TaskOrder::spread && !Team::inside() ? num_threads() : 1;
  if (cost_ns <= kSerialAwakeNs || Team::inside()) return 1;
  const Team* t = cost_ns <= kSerialNs ? team.load(std::memory_order_acquire) : nullptr;
  const bool awake = t && t->awake();
  if (cost_ns <= kSerialNs && !awake) return 1;
  return int(std::min<double>(num_threads(),
                              std::ceil(cost_ns / (awake ? kNsPerThreadAwake : kNsPerThread))));
}

void* scratch(size_t bytes, int slot) {
  thread_local Scratch buffers[2][4];
  Scratch& s = buffers[handling][slot];
  if (s.bytes < bytes || kExactBlocks) {
    std::free(s.data);
    size_t rounded = kExactBlocks ? bytes : (bytes + bytes / 4 + 4095) / 4096 * 4096;
    if (posix_memalign(&s.data, 4096, rounded)) s.data = nullptr;
    s.bytes = s.data ? rounded : 0;
    if (!s.data) fail(ErrorKind::memory, "out of memory: cannot allocate %zu bytes", bytes);
  }
  return s.data;
}

void set_interrupt_check(InterruptCheck check) { interrupt_check = check; }
Uninterruptible::Uninterruptible() { ++uninterruptible; }
Uninterruptible::~Uninterruptible() { --uninterruptible; }

namespace detail {
namespace {

// What every task of a long run does as well: nothing once it is cancelled, and on the thread that
// started it a look for Ctrl-C.
struct Interruptible {
  Team::Body body;
  void* context;
  InterruptCheck check;
  std::thread::id caller = std::this_thread::get_id();
  Clock::time_point checked = Clock::now();
  std::atomic<bool> cancelled{false};

  static void run(void* self, int64_t task) {
    auto& s = *static_cast<Interruptible*>(self);
    if (s.cancelled.load(std::memory_order_relaxed)) return;
    s.body(s.context, task);
    if (std::this_thread::get_id() != s.caller || Clock::now() - s.checked < kCheckEvery) return;
    handling = 1;
    if (s.check()) s.cancelled = true;
    handling = 0;
    s.checked = Clock::now();
  }
};

}  // namespace

void run_tasks(int64_t tasks, double cost_ns, void (*body)(void*, int64_t), void* context) {
  if (tasks <= 0) return;
  const int threads = int(std::min<int64_t>(tasks, threads_for(cost_ns)));
  auto run = [&](Team::Body b, void* c) {
    if (threads > 1 && the_team().run(threads, tasks, b, c)) return;
    const bool reversed = task_order.load(std::memory_order_relaxed) == TaskOrder::reversed;
    for (int64_t i = 0; i < tasks; ++i) b(c, reversed ? tasks - 1 - i : i);
  };
  const InterruptCheck check = cost_ns > 50e6 && !uninterruptible && !handling && !Team::inside()
                                   ? interrupt_check.load()
                                   : nullptr;
  if (!check) return run(body, context);
  Interruptible job{body, context, check};
  run(Interruptible::run, &job);
  if (job.cancelled) throw Error(ErrorKind::python, "interrupted");
}

}  // namespace detail
}  // namespace backtrail
