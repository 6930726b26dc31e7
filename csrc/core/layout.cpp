#include "core/layout.h"

#include <utility>

#include "core/error.h"

namespace backtrail {

int64_t checked_numel(const char* op, const Dims& shape) {
  int64_t numel = 1;
  for (int i = 0; i < shape.n; ++i)
    if (__builtin_mul_overflow(numel, shape[i], &numel))
      fail(ErrorKind::runtime, "%s: the shape %s has too many elements to be counted", op,
           to_string(shape).c_str());
  return numel;
}

Dims strides_like(const Array* const* inputs, int n, const Dims& shape) {
  // Below 0: dimension a lies inside of b; above 0: outside; 0: no input tells.
  auto compare = [&](int a, int b) {
    for (int j = 0; j < n; ++j) {
      const Array& x = *inputs[j];
      const int lead = shape.n - x.ndim(), ia = a - lead, ib = b - lead;
      if (ia < 0 || ib < 0 || (x.shape[ia] == 1 && shape[a] != 1) ||
          (x.shape[ib] == 1 && shape[b] != 1))
        continue;
      const int64_t sa = x.strides[ia], sb = x.strides[ib];
      if (sa == 0 || sb == 0) continue;
      if (sa != sb) return sa < sb ? -1 : 1;
      if (shape[a] > shape[b]) return 1;
    }
    return 0;
  };
  int order[kMaxDims];  // the innermost first
  for (int i = 0; i < shape.n; ++i) order[i] = shape.n - 1 - i;
  for (int i = 1; i < shape.n; ++i)
    for (int at = i, k = i - 1; k >= 0; --k) {
      const int found = compare(order[k], order[at]);
      if (found < 0) break;
      if (found > 0) {
        std::swap(order[k], order[at]);
        at = k;
      }
    }
  Dims strides;
  strides.n = shape.n;
  int64_t step = 1;
  for (int i = 0; i < shape.n; ++i) {
    strides[order[i]] = step;
    step *= shape[order[i]] > 0 ? shape[order[i]] : 1;
  }
  return strides;
}

}  // namespace backtrail
