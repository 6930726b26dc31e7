// Comparisons, logic and bits: results that have no slope, and the choices made by a mask.
#pragma once
#include "backtrail/pointwise.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace ops {

struct Eq {
  static constexpr auto name = "eq";
  static constexpr auto doc = "True where input is equal to other.";
  static constexpr bool integers = true;
  template <class V> static typename V::Mask forward(V a, V b) { return a == b; }
};

struct Ne {
  static constexpr auto name = "ne";
  static constexpr auto doc = "True where input is different from other.";
  static constexpr bool integers = true;
  template <class V> static typename V::Mask forward(V a, V b) { return a != b; }
};

struct Lt {
  static constexpr auto name = "lt";
  static constexpr auto doc = "True where input is less than other.";
  static constexpr bool integers = true;
  template <class V> static typename V::Mask forward(V a, V b) { return a < b; }
};

struct Le {
  static constexpr auto name = "le";
  static constexpr auto doc = "True where input is at most other.";
  static constexpr bool integers = true;
  template <class V> static typename V::Mask forward(V a, V b) { return a <= b; }
};

struct Gt {
  static constexpr auto name = "gt";
  static constexpr auto doc = "True where input is greater than other.";
  static constexpr bool integers = true;
  template <class V> static typename V::Mask forward(V a, V b) { return a > b; }
};

struct Ge {
  static constexpr auto name = "ge";
  static constexpr auto doc = "True where input is at least other.";
  static constexpr bool integers = true;
  template <class V> static typename V::Mask forward(V a, V b) { return a >= b; }
};

struct Isnan {
  static constexpr auto name = "isnan";
  static constexpr auto doc = "True where input is not a number.";
  template <class V> static typename V::Mask forward(V x) { return isnan(x); }
};

struct Isinf {
  static constexpr auto name = "isinf";
  static constexpr auto doc = "True where input is plus or minus infinity.";
  template <class V> static typename V::Mask forward(V x) { return isinf(x); }
};

struct Isfinite {
  static constexpr auto name = "isfinite";
  static constexpr auto doc = "True where input is neither infinite nor NaN.";
  template <class V> static typename V::Mask forward(V x) { return !(isnan(x) | isinf(x)); }
};

struct LogicalAnd {
  static constexpr auto name = "logical_and";
  static constexpr auto doc = "True where both are true (not 0).";
  template <class V> static typename V::Mask forward(typename V::Mask a, typename V::Mask b) {
    return a & b;
  }
};

struct LogicalOr {
  static constexpr auto name = "logical_or";
  static constexpr auto doc = "True where at least one is true (not 0).";
  template <class V> static typename V::Mask forward(typename V::Mask a, typename V::Mask b) {
    return a | b;
  }
};

struct LogicalXor {
  static constexpr auto name = "logical_xor";
  static constexpr auto doc = "True where exactly one is true (not 0).";
  template <class V> static typename V::Mask forward(typename V::Mask a, typename V::Mask b) {
    return a ^ b;
  }
};

struct LogicalNot {
  static constexpr auto name = "logical_not";
  static constexpr auto doc = "True where input is false (0).";
  template <class V> static typename V::Mask forward(typename V::Mask a) { return !a; }
};

struct BitwiseAnd {
  static constexpr auto name = "bitwise_and";
  static constexpr auto doc = "Bitwise and of two integers or bools.";
  static constexpr bool integers = true, floats = false;
  template <class V> static V forward(V a, V b) { return a & b; }
};

struct BitwiseOr {
  static constexpr auto name = "bitwise_or";
  static constexpr auto doc = "Bitwise or of two integers or bools.";
  static constexpr bool integers = true, floats = false;
  template <class V> static V forward(V a, V b) { return a | b; }
};

struct BitwiseXor {
  static constexpr auto name = "bitwise_xor";
  static constexpr auto doc = "Bitwise exclusive or of two integers or bools.";
  static constexpr bool integers = true, floats = false;
  template <class V> static V forward(V a, V b) { return a ^ b; }
};

struct BitwiseLeftShift {
  static constexpr auto name = "bitwise_left_shift";
  static constexpr auto doc = "The bits of input moved up by other places; 0 once all have left.";
  static constexpr bool integers = true, floats = false;
  template <class V> static V forward(V a, V b) { return a << b; }
};

struct BitwiseRightShift {
  static constexpr auto name = "bitwise_right_shift";
  static constexpr auto doc = "The bits of input moved down by other places, its sign kept.";
  static constexpr bool integers = true, floats = false;
  template <class V> static V forward(V a, V b) { return a >> b; }
};

struct Where {
  static constexpr auto name = "where";
  static constexpr auto doc = "input where condition is true, other elsewhere.";
  static constexpr auto reads = Reads::inputs;
  static constexpr bool integers = true;
  template <class V> static V forward(typename V::Mask condition, V a, V b) {
    return select(condition, a, b);
  }
  template <class V> static Grads<V, 3> backward(V g, typename V::Mask condition, V, V) {
    return {{V(0), select(condition, g, V(0)), select(condition, V(0), g)}};
  }
};

using Comparison = meta::List<Eq, Ne, Lt, Le, Gt, Ge, Isnan, Isinf, Isfinite, LogicalAnd, LogicalOr,
                              LogicalXor, LogicalNot, BitwiseAnd, BitwiseOr, BitwiseXor,
                              BitwiseLeftShift, BitwiseRightShift, Where>;

}  // namespace ops
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
