// Threads: the only OpenMP of the project is here and in team.cpp. Work is cut into tasks by its
// shape, never by the number of threads, so that results cannot depend on it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace backtrail {

// Threads that large work may use: OMP_NUM_THREADS, CPU affinity and the cgroup's CPU quota are
// respected.
int num_threads();
void set_num_threads(int64_t n);
constexpr int kMostThreads = 1024;

// Threads that work which takes one of them `cost_ns` is worth at this moment.
int threads_for(double cost_ns);

// For tests of ops: `spread` gives all threads a part of even the smallest work, `reversed` runs
// the last task first, on the caller. Results must not show either.
enum class TaskOrder { usual, spread, reversed };
void set_task_order(TaskOrder order);

// A 64-byte aligned buffer of this thread, valid until its next scratch() with the same slot
// (0..3).
void* scratch(size_t bytes, int slot = 0);

// Installed by the bindings; called on the thread that started a long parallel_for, every 50 ms.
// Returning true cancels the tasks not yet begun and makes parallel_for throw Error(python).
using InterruptCheck = bool (*)();
void set_interrupt_check(InterruptCheck check);

// Inside the scope, parallel_for is not interrupted: for updates in place.
class Uninterruptible {
 public:
  Uninterruptible();
  ~Uninterruptible();
  Uninterruptible(const Uninterruptible&) = delete;
  Uninterruptible& operator=(const Uninterruptible&) = delete;
};

namespace detail {
void run_tasks(int64_t tasks, double cost_ns, void (*body)(void*, int64_t), void* context);
}

// Run body(0) ... body(tasks - 1), each independent of the others and none throwing. `cost_ns` is
// the estimated time of all tasks together on one thread; small work stays on the caller's thread.
template <class F>
void parallel_for(int64_t tasks, double cost_ns, F&& body) {
  using Body = std::remove_reference_t<F>;
  detail::run_tasks(
      tasks, cost_ns, [](void* f, int64_t i) { (*static_cast<Body*>(f))(i); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace backtrail
