// What ops over rows share: how rows are cut into tasks, and the labels of a cross entropy.
#pragma once
#include <algorithm>

#include "core/parallel.h"
#include "exec/op.h"
#include "kernels/rowwise_table.h"

namespace backtrail {

constexpr int64_t kTaskElements = 4096;  // of a task with several rows

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// f(begin, end) for tasks of whole rows.
template <class F>
void each_rows(int64_t rows, int64_t n, double ns_per_element, F f) {
  const int64_t size = std::max<int64_t>(1, kTaskElements / std::max<int64_t>(1, n));
  const double cost = double(rows) * (double(n) * ns_per_element + 10);
  if (rows <= size) {
    if (rows > 0) f(int64_t(0), rows);
    return;
  }
  parallel_for(ceil_div(rows, size), cost,
               [&](int64_t task) { f(task * size, std::min(rows, (task + 1) * size)); });
}

enum LossReduction : int64_t { kNone, kMean, kSum };

// Fails for a label out of range.
template <class T>
void check_labels(const Call& c, const CrossEntropyRows<T>& r, int64_t rows) {
  for (int64_t i = 0; i < rows; ++i)
    if (uint64_t(r.targets[i]) >= uint64_t(r.classes) && r.targets[i] != r.ignore_index)
      fail(ErrorKind::index,
           "%s: target[%lld] is %lld, but there are %lld classes: a label must be in [0, %lld) or "
           "equal ignore_index (%lld)",
           c.name, (long long)i, (long long)r.targets[i], (long long)r.classes,
           (long long)r.classes, (long long)r.ignore_index);
}

// The sum of the labels' weights, or the number of labels, but for those ignored.
template <class T>
T total_weight(const CrossEntropyRows<T>& r, int64_t rows) {
  double sum = 0;
  int64_t count = 0;
  for (int64_t i = 0; i < rows; ++i) {
    if (r.targets[i] == r.ignore_index) continue;
    ++count;
    if (r.weight) sum += double(r.weight[r.targets[i]]);
  }
  return T(r.weight ? sum : double(count));
}

}  // namespace backtrail
