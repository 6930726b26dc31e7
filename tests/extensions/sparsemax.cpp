// The nearest point of the simplex: like softmax, but with zeros (Martins and Astudillo, 2016).
#include <backtrail/op.h>

#include <algorithm>
#include <functional>
#include <vector>
using namespace backtrail;

struct Sparsemax {
  static constexpr auto name = "sparsemax";
  static constexpr auto doc = "max(input - tau, 0), with the tau at which the sum is 1.";

  template <class T>
  void forward(Row<const T> x, Row<T> y) const {
    std::vector<T> sorted(x.begin(), x.end());
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    T sum = 0, tau = 0;
    for (int64_t k = 0; k < x.size(); ++k) {
      sum = sum + sorted[k];
      T next = (sum - T(1)) / T(double(k + 1));
      if (!(sorted[k] > next)) break;
      tau = next;
    }
    map(
        y, [&](auto v) { return max(v - tau, decltype(v)(0)); }, x);
  }
};
BACKTRAIL_OPS(Sparsemax)
