#include "exec/observer.h"

namespace backtrail {

thread_local Observer* observer = nullptr;

void run_op(const Op& op, const Call& call) {
  if (observer) observer->saw_op(op, call);
  Unobserved inside;
  op.execute(call);
  throw_kept_error();
}

}  // namespace backtrail
