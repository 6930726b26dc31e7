#include <backtrail/op.h>
struct Snake {
  static constexpr auto name = "snake";
  static constexpr auto doc = "x + sin(a x)^2 / a (Ziyin et al., 2020).";
  float a = 1.0f;
  template <class V> V forward(V x) const { V s = sin(V(a) * x); return x + s * s / V(a); }
};
BACKTRAIL_OPS(Snake)
