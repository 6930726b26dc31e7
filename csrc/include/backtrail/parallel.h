// Threads for opaque ops: those of backtrail.
#pragma once
#include <exception>

#include "backtrail/host.h"
#include "backtrail/tape.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

// Run body(0) ... body(tasks - 1), in any order and on several threads at once. `cost_ns` is about
// how long all of them take on one thread: small work stays on the caller's. The tasks must not
// write to the same memory, and should be cut by the shapes of the arrays, so that results are the
// same on any number of threads. An exception of a task is thrown again here. Where a derivative is
// recorded, and inside of another parallel_for, the tasks run one after the other.
template <class F>
void parallel_for(int64_t tasks, double cost_ns, F&& body) {
  if (taped::tape() || !library::host()) {
    for (int64_t i = 0; i < tasks; ++i) body(i);
    return;
  }
  struct Job {
    std::remove_reference_t<F>& body;
    int failed = 0;  // <atomic> takes long to compile
    std::exception_ptr problem;
    static void run(void* self, int64_t task) {
      Job& job = *static_cast<Job*>(self);
      if (__atomic_load_n(&job.failed, __ATOMIC_RELAXED)) return;
      try {
        job.body(task);
      } catch (...) {
        if (!__atomic_exchange_n(&job.failed, 1, __ATOMIC_RELAXED))
          job.problem = std::current_exception();
      }
    }
  } job{body, 0, {}};
  const int stopped = library::host()->parallel_for(tasks, cost_ns, Job::run, &job);
  if (job.problem) std::rethrow_exception(job.problem);
  if (stopped) throw library::Stopped();
}

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
