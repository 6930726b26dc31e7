// Arithmetic of one to three inputs.
#pragma once
#include "backtrail/pointwise.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace ops {

struct Add {
  static constexpr auto name = "add";
  static constexpr auto doc = "Sum, input + alpha * other.";
  static constexpr auto reads = Reads::nothing;
  static constexpr bool integers = true;
  static constexpr Attr attrs[] = {{"alpha", 1}};
  template <class V> static V forward(V a, V b, V alpha) { return a + alpha * b; }
  template <class V> static Grads<V, 2> backward(V g, V alpha) { return {{g, alpha * g}}; }
};

struct Sub {
  static constexpr auto name = "sub";
  static constexpr auto doc = "Difference, input - alpha * other.";
  static constexpr auto reads = Reads::nothing;
  static constexpr bool integers = true;
  static constexpr Attr attrs[] = {{"alpha", 1}};
  template <class V> static V forward(V a, V b, V alpha) { return a - alpha * b; }
  template <class V> static Grads<V, 2> backward(V g, V alpha) { return {{g, -alpha * g}}; }
};

struct Mul {
  static constexpr auto name = "mul";
  static constexpr auto doc = "Product, input * other.";
  static constexpr auto reads = Reads::inputs;
  static constexpr bool integers = true;
  template <class V> static V forward(V a, V b) { return a * b; }
  template <class V> static Grads<V, 2> backward(V g, V a, V b) { return {{g * b, g * a}}; }
};

struct Div {
  static constexpr auto name = "div";
  static constexpr auto doc =
      "Quotient, input / other; of integers too it is a floating point number.";
  static constexpr auto range = Range{0.5, 3};
  template <class V> static V forward(V a, V b) { return a / b; }
  template <class V> static Grads<V, 2> backward(V g, V a, V b) {
    return {{g / b, -g * ((a / b) / b)}};
  }
};

struct Fmod {
  static constexpr auto name = "fmod";
  static constexpr auto doc = "The remainder of input / other that has input's sign.";
  static constexpr auto reads = Reads::inputs;
  static constexpr bool integers = true;
  static constexpr auto range = Range{0.5, 3};
  static constexpr double cost = 1;
  template <class V> static V forward(V a, V b) { return fmod(a, b); }
  template <class V> static Grads<V, 2> backward(V g, V a, V b) {
    return {{g, -g * trunc_divide(a, b)}};
  }
};

template <class V> Dual<V> remainder(const Dual<V>& a, const Dual<V>& b) {
  Dual<V> r = fmod(a, b);
  return select((r != Dual<V>(0)) & ((r < Dual<V>(0)) ^ (b < Dual<V>(0))), r + b, r);
}

struct Remainder {
  static constexpr auto name = "remainder";
  static constexpr auto doc = "The remainder of input / other that has other's sign.";
  static constexpr auto reads = Reads::inputs;
  static constexpr bool integers = true;
  static constexpr auto range = Range{0.5, 3};
  static constexpr double cost = 1;
  template <class V> static V forward(V a, V b) { return remainder(a, b); }
  template <class V> static Grads<V, 2> backward(V g, V a, V b) {
    return {{g, -g * floor_divide(a, b)}};
  }
};

struct FloorDivide {
  static constexpr auto name = "floor_divide";
  static constexpr auto doc = "Largest integer not above input / other.";
  static constexpr auto reads = Reads::nothing;
  static constexpr bool integers = true;
  static constexpr auto range = Range{0.5, 3};
  static constexpr double cost = 1;
  template <class V> static V forward(V a, V b) { return floor_divide(a, b); }
  template <class V> static Grads<V, 2> backward(V g) { return {{V(0) * g, V(0) * g}}; }
};

struct TruncDivide {
  static constexpr auto name = "trunc_divide";
  static constexpr auto doc = "input / other without its fraction.";
  static constexpr auto reads = Reads::nothing;
  static constexpr bool integers = true;
  static constexpr auto range = Range{0.5, 3};
  static constexpr double cost = 1;
  template <class V> static V forward(V a, V b) { return trunc_divide(a, b); }
  template <class V> static Grads<V, 2> backward(V g) { return {{V(0) * g, V(0) * g}}; }
};

struct Neg {
  static constexpr auto name = "neg";
  static constexpr auto doc = "Negation, -input.";
  static constexpr auto reads = Reads::nothing;
  static constexpr bool integers = true;
  template <class V> static V forward(V x) { return -x; }
  template <class V> static V backward(V g) { return -g; }
};

struct Reciprocal {
  static constexpr auto name = "reciprocal";
  static constexpr auto doc = "1 / input.";
  static constexpr auto reads = Reads::output;
  static constexpr auto range = Range{0.5, 3};
  template <class V> static V forward(V x) { return V(1) / x; }
  template <class V> static V backward(V g, V y) { return -g * y * y; }
};

struct Square {
  static constexpr auto name = "square";
  static constexpr auto doc = "input * input.";
  static constexpr bool integers = true;
  template <class V> static V forward(V x) { return x * x; }
};

struct Pow {
  static constexpr auto name = "pow";
  static constexpr auto doc = "input raised to the power other.";
  static constexpr auto reads = Reads::inputs;
  static constexpr auto range = Range{0.5, 3};
  static constexpr double cost = 4;
  static constexpr bool integers = true;
  template <class V> static V forward(V a, V b) {
    if constexpr (std::is_same_v<V, Vec<int64_t>>) {
      V result(1), base = a;  // by squaring
      for (V rest = b; any(rest > V(0)); rest = rest >> 1, base = base * base)
        result = select((rest > V(0)) & ((rest & V(1)) == V(1)), result * base, result);
      // A negative power is 1 / a^-b without its fraction.
      V sign = select((b & V(1)) == V(0), V(1), a);
      return select(b < V(0), select((a == V(1)) | (a == V(-1)), sign, V(0)), result);
    } else {
      return pow(a, b);
    }
  }
  // d/da is 0 for a power of 0, d/db is 0 for a base of 0 and a power >= 0, as in PyTorch.
  template <class V> static Grads<V, 2> backward(V g, V a, V b) {
    V da = select(b == V(0), V(0), g * (b * pow(a, b - V(1))));
    V db = select((a == V(0)) & (b >= V(0)), V(0), g * pow(a, b) * log(a));
    return {{da, db}};
  }
};

struct Abs {
  static constexpr auto name = "abs";
  static constexpr auto doc = "Absolute value; its slope at 0 is taken as 0.";
  static constexpr bool integers = true;
  static constexpr auto range = Range{0.1, 3};
  template <class V> static V forward(V x) { return abs(x); }
};

struct Sign {
  static constexpr auto name = "sign";
  static constexpr auto doc = "-1, 0 or 1 by the sign of input; 0 for NaN.";
  static constexpr auto reads = Reads::nothing;
  static constexpr bool integers = true;
  static constexpr auto range = Range{0.1, 3};
  template <class V> static V forward(V x) {
    return select(x > V(0), V(1), select(x < V(0), V(-1), V(0)));
  }
  template <class V> static V backward(V g) { return V(0) * g; }
};

struct Maximum {
  static constexpr auto name = "maximum";
  static constexpr auto doc =
      "The larger of input and other; NaN when either is. Equal ones share the slope.";
  static constexpr bool integers = true;
  template <class V> static V forward(V a, V b) { return max(a, b); }
};

struct Minimum {
  static constexpr auto name = "minimum";
  static constexpr auto doc =
      "The smaller of input and other; NaN when either is. Equal ones share the slope.";
  static constexpr bool integers = true;
  template <class V> static V forward(V a, V b) { return min(a, b); }
};

struct Clamp {
  static constexpr auto name = "clamp";
  static constexpr auto doc = "input limited to [min, max].";
  static constexpr auto reads = Reads::inputs;
  static constexpr Attr attrs[] = {{"min", -__builtin_inf()}, {"max", __builtin_inf()}};
  template <class V> static V forward(V x, V low, V high) { return min(max(x, low), high); }
  template <class V> static V backward(V g, V x, V low, V high) {
    return select((x >= low) & (x <= high), g, V(0));
  }
};

// A bound that is a tensor: input has the slope where it equals the bound.
struct ClampMin {
  static constexpr auto name = "clamp_min";
  static constexpr auto doc = "input, at least min.";
  static constexpr auto reads = Reads::inputs;
  static constexpr bool integers = true;
  template <class V> static V forward(V x, V low) { return max(x, low); }
  template <class V> static Grads<V, 2> backward(V g, V x, V low) {
    return {{select(x >= low, g, V(0)), select(x < low, g, V(0))}};
  }
};

struct ClampMax {
  static constexpr auto name = "clamp_max";
  static constexpr auto doc = "input, at most max.";
  static constexpr auto reads = Reads::inputs;
  static constexpr bool integers = true;
  template <class V> static V forward(V x, V high) { return min(x, high); }
  template <class V> static Grads<V, 2> backward(V g, V x, V high) {
    return {{select(x <= high, g, V(0)), select(x > high, g, V(0))}};
  }
};

struct Floor {
  static constexpr auto name = "floor";
  static constexpr auto doc = "Largest integer not above input.";
  static constexpr auto reads = Reads::nothing;
  static constexpr bool integers = true;
  template <class V> static V forward(V x) {
    if constexpr (std::is_same_v<V, Vec<int64_t>>)
      return x;
    else
      return floor(x);
  }
  template <class V> static V backward(V g) { return V(0) * g; }
};

struct Ceil {
  static constexpr auto name = "ceil";
  static constexpr auto doc = "Smallest integer not below input.";
  static constexpr auto reads = Reads::nothing;
  static constexpr bool integers = true;
  template <class V> static V forward(V x) {
    if constexpr (std::is_same_v<V, Vec<int64_t>>)
      return x;
    else
      return ceil(x);
  }
  template <class V> static V backward(V g) { return V(0) * g; }
};

struct Trunc {
  static constexpr auto name = "trunc";
  static constexpr auto doc = "input without its fraction.";
  static constexpr auto reads = Reads::nothing;
  static constexpr bool integers = true;
  template <class V> static V forward(V x) {
    if constexpr (std::is_same_v<V, Vec<int64_t>>)
      return x;
    else
      return trunc(x);
  }
  template <class V> static V backward(V g) { return V(0) * g; }
};

struct Round {
  static constexpr auto name = "round";
  static constexpr auto doc = "Nearest integer; halves go to the even one.";
  static constexpr auto reads = Reads::nothing;
  static constexpr bool integers = true;
  template <class V> static V forward(V x) {
    if constexpr (std::is_same_v<V, Vec<int64_t>>)
      return x;
    else
      return round(x);
  }
  template <class V> static V backward(V g) { return V(0) * g; }
};

struct Sqrt {
  static constexpr auto name = "sqrt";
  static constexpr auto doc = "Square root.";
  static constexpr auto reads = Reads::output;
  static constexpr auto range = Range{0.3, 3};
  template <class V> static V forward(V x) { return sqrt(x); }
  template <class V> static V backward(V g, V y) { return g / (V(2) * y); }
};

struct Rsqrt {
  static constexpr auto name = "rsqrt";
  static constexpr auto doc = "1 / sqrt(input).";
  static constexpr auto reads = Reads::output;
  static constexpr auto range = Range{0.3, 3};
  template <class V> static V forward(V x) { return rsqrt(x); }
  template <class V> static V backward(V g, V y) { return V(-0.5) * g * (y * y * y); }
};

struct Copysign {
  static constexpr auto name = "copysign";
  static constexpr auto doc = "The magnitude of input with the sign of other.";
  static constexpr auto range = Range{0.1, 3};
  template <class V> static V forward(V a, V b) { return copysign(a, b); }
};

struct Lerp {
  static constexpr auto name = "lerp";
  static constexpr auto doc = "input + weight * (end - input), exact at both ends.";
  template <class V> static V forward(V start, V end, V weight) {
    V way = end - start;
    return select(abs(weight) < V(0.5), start + weight * way, end - way * (V(1) - weight));
  }
  template <class V> static Grads<V, 3> backward(V g, V start, V end, V weight) {
    return {{g * (V(1) - weight), g * weight, g * (end - start)}};
  }
};

struct Addcmul {
  static constexpr auto name = "addcmul";
  static constexpr auto doc = "input + value * tensor1 * tensor2.";
  static constexpr bool integers = true;
  static constexpr Attr attrs[] = {{"value", 1}};
  template <class V> static V forward(V x, V a, V b, V value) { return x + value * a * b; }
};

struct Addcdiv {
  static constexpr auto name = "addcdiv";
  static constexpr auto doc = "input + value * tensor1 / tensor2.";
  static constexpr auto range = Range{0.5, 3};
  static constexpr Attr attrs[] = {{"value", 1}};
  template <class V> static V forward(V x, V a, V b, V value) { return x + value * (a / b); }
};

struct NanToNum {
  static constexpr auto name = "nan_to_num";
  static constexpr auto doc = "input with NaN and the infinities replaced.";
  static constexpr Attr attrs[] = {
      {"nan", 0}, {"posinf", 3.4028234663852886e38}, {"neginf", -3.4028234663852886e38}};
  template <class V> static V forward(V x, V nan, V high, V low) {
    return select(isnan(x), nan, select(isinf(x), select(x > V(0), high, low), x));
  }
};

struct Fill {
  static constexpr auto name = "fill";
  static constexpr auto doc = "value in the shape of input.";
  static constexpr auto reads = Reads::nothing;
  static constexpr bool integers = true;
  template <class V> static V forward(V, V value) { return value; }
  template <class V> static Grads<V, 2> backward(V g) { return {{V(0), g}}; }
};

using Arithmetic =
    meta::List<Add, Sub, Mul, Div, FloorDivide, TruncDivide, Remainder, Fmod, Neg, Reciprocal,
               Square, Pow, Abs, Sign, Maximum, Minimum, Clamp, ClampMin, ClampMax, Floor, Ceil,
               Trunc, Round, Sqrt, Rsqrt, Copysign, Lerp, Addcmul, Addcdiv, NanToNum, Fill>;

}  // namespace ops
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
