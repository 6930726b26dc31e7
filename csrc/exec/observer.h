// Whoever is told of all that is executed on a thread: a capture (plan/capture.h), which this
// folder does not know.
#pragma once
#include "exec/loop.h"
#include "exec/op.h"

namespace backtrail {

class Observer {
 public:
  // A run_pointwise() about to begin, with its arguments.
  virtual void saw_pointwise(const PointwiseKernels& kernels, DType compute, unsigned masks,
                             bool mask_output, const Operand* in, int n_in, const Array& out,
                             const double* attrs, double cost, const char* name) = 0;
  virtual void saw_op(const Op& op, const Call& call) = 0;  // op.execute(call), likewise

 protected:
  ~Observer() = default;
};

// That of this thread, or null. What an op executes inside is not told.
extern thread_local Observer* observer;

// Nothing is told on this thread while one lives.
class Unobserved {
 public:
  Unobserved() : before_(observer) { observer = nullptr; }
  ~Unobserved() { observer = before_; }
  Unobserved(const Unobserved&) = delete;
  Unobserved& operator=(const Unobserved&) = delete;

 private:
  Observer* before_;
};

// op.execute(call), told.
void run_op(const Op& op, const Call& call);

}  // namespace backtrail
