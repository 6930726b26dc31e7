// The loss whose smallest mean is at a quantile (Koenker and Bassett, 1978).
#include <backtrail/op.h>

struct QuantileLoss {
  static constexpr auto name = "quantile_loss";
  static constexpr auto doc = "q (target - input) where that is positive, else (q - 1) times it.";
  static constexpr const char* inputs[] = {"input", "target"};
  float q = 0.5f;

  template <class V>
  V forward(V input, V target) const {
    if (!(q > 0 && q < 1)) throw std::invalid_argument("q must lie between 0 and 1");
    V short_of = target - input;
    return max(V(q) * short_of, V(q - 1) * short_of);
  }
};
BACKTRAIL_OPS(QuantileLoss)
