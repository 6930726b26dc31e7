// Tasks that need a workspace on the thread that runs them.
#pragma once
#include <atomic>

#include "core/error.h"
#include "core/parallel.h"

namespace backtrail {

// parallel_for whose tasks get room for `elements` of T in scratch slot 0: body(task, work). They
// may throw Error, for want of memory; `what` needed it.
template <class T, class F>
void parallel_for_with(const char* what, int64_t elements, int64_t tasks, double cost_ns,
                       F&& body) {
  std::atomic<bool> failed{false};  // a task of parallel_for may not throw
  parallel_for(tasks, cost_ns, [&](int64_t task) {
    try {
      body(task, static_cast<T*>(scratch(size_t(elements) * sizeof(T))));
    } catch (const Error&) {
      failed = true;
    }
  });
  if (failed) fail(ErrorKind::memory, "out of memory: %s needs a workspace", what);
}

}  // namespace backtrail
