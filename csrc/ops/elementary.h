// Elementary functions. Where no derivative is written it is the one that dual.h derives.
#pragma once
#include "backtrail/pointwise.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace ops {

struct Exp {
  static constexpr auto name = "exp";
  static constexpr auto doc = "e raised to the power input.";
  static constexpr auto reads = Reads::output;
  static constexpr double cost = 1;
  template <class V> static V forward(V x) { return exp(x); }
  template <class V> static V backward(V g, V y) { return g * y; }
};

struct Exp2 {
  static constexpr auto name = "exp2";
  static constexpr auto doc = "2 raised to the power input.";
  static constexpr auto reads = Reads::output;
  static constexpr double cost = 1;
  template <class V> static V forward(V x) { return exp2(x); }
  template <class V> static V backward(V g, V y) { return g * y * V(0.69314718055994530942); }
};

struct Expm1 {
  static constexpr auto name = "expm1";
  static constexpr auto doc = "exp(input) - 1, exact near 0.";
  static constexpr auto reads = Reads::output;
  static constexpr double cost = 1;
  template <class V> static V forward(V x) { return expm1(x); }
  template <class V> static V backward(V g, V y) { return g * (y + V(1)); }
};

struct Log {
  static constexpr auto name = "log";
  static constexpr auto doc = "Natural logarithm.";
  static constexpr auto range = Range{0.3, 3};
  static constexpr double cost = 1;
  template <class V> static V forward(V x) { return log(x); }
};

struct Log2 {
  static constexpr auto name = "log2";
  static constexpr auto doc = "Logarithm to base 2.";
  static constexpr auto range = Range{0.3, 3};
  static constexpr double cost = 1;
  template <class V> static V forward(V x) { return log2(x); }
};

struct Log10 {
  static constexpr auto name = "log10";
  static constexpr auto doc = "Logarithm to base 10.";
  static constexpr auto range = Range{0.3, 3};
  static constexpr double cost = 1;
  template <class V> static V forward(V x) { return log10(x); }
};

struct Log1p {
  static constexpr auto name = "log1p";
  static constexpr auto doc = "log(1 + input), exact near 0.";
  static constexpr auto range = Range{-0.6, 3};
  static constexpr double cost = 1;
  template <class V> static V forward(V x) { return log1p(x); }
};

struct Sin {
  static constexpr auto name = "sin";
  static constexpr auto doc = "Sine of an angle in radians.";
  static constexpr double cost = 2;
  template <class V> static V forward(V x) { return sin(x); }
};

struct Cos {
  static constexpr auto name = "cos";
  static constexpr auto doc = "Cosine of an angle in radians.";
  static constexpr double cost = 2;
  template <class V> static V forward(V x) { return cos(x); }
};

struct Tan {
  static constexpr auto name = "tan";
  static constexpr auto doc = "Tangent of an angle in radians.";
  static constexpr auto reads = Reads::output;
  static constexpr auto range = Range{-1.2, 1.2};
  static constexpr double cost = 3;
  template <class V> static V forward(V x) { return tan(x); }
  template <class V> static V backward(V g, V y) { return g * (V(1) + y * y); }
};

struct Asin {
  static constexpr auto name = "asin";
  static constexpr auto doc = "Angle in radians whose sine is input.";
  static constexpr auto range = Range{-0.8, 0.8};
  static constexpr double cost = 2;
  template <class V> static V forward(V x) { return asin(x); }
};

struct Acos {
  static constexpr auto name = "acos";
  static constexpr auto doc = "Angle in radians whose cosine is input.";
  static constexpr auto range = Range{-0.8, 0.8};
  static constexpr double cost = 2;
  template <class V> static V forward(V x) { return acos(x); }
};

struct Atan {
  static constexpr auto name = "atan";
  static constexpr auto doc = "Angle in radians whose tangent is input.";
  static constexpr double cost = 2;
  template <class V> static V forward(V x) { return atan(x); }
};

struct Sinh {
  static constexpr auto name = "sinh";
  static constexpr auto doc = "Hyperbolic sine.";
  static constexpr double cost = 2;
  template <class V> static V forward(V x) { return sinh(x); }
};

struct Cosh {
  static constexpr auto name = "cosh";
  static constexpr auto doc = "Hyperbolic cosine.";
  static constexpr double cost = 2;
  template <class V> static V forward(V x) { return cosh(x); }
};

struct Tanh {
  static constexpr auto name = "tanh";
  static constexpr auto doc = "Hyperbolic tangent.";
  static constexpr auto reads = Reads::output;
  static constexpr double cost = 1;
  template <class V> static V forward(V x) { return tanh(x); }
  template <class V> static V backward(V g, V y) { return g * (V(1) - y * y); }
};

struct Asinh {
  static constexpr auto name = "asinh";
  static constexpr auto doc = "Inverse hyperbolic sine.";
  static constexpr double cost = 3;
  template <class V> static V forward(V x) { return asinh(x); }
};

struct Acosh {
  static constexpr auto name = "acosh";
  static constexpr auto doc = "Inverse hyperbolic cosine.";
  static constexpr auto range = Range{1.5, 4};
  static constexpr double cost = 3;
  template <class V> static V forward(V x) { return acosh(x); }
};

struct Atanh {
  static constexpr auto name = "atanh";
  static constexpr auto doc = "Inverse hyperbolic tangent.";
  static constexpr auto range = Range{-0.8, 0.8};
  static constexpr double cost = 3;
  template <class V> static V forward(V x) { return atanh(x); }
};

struct Erf {
  static constexpr auto name = "erf";
  static constexpr auto doc =
      "Error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to input.";
  static constexpr double cost = 2;
  template <class V> static V forward(V x) { return erf(x); }
};

struct Erfc {
  static constexpr auto name = "erfc";
  static constexpr auto doc = "1 - erf(input), exact where that is small.";
  static constexpr double cost = 3;
  template <class V> static V forward(V x) { return erfc(x); }
};

struct Atan2 {
  static constexpr auto name = "atan2";
  static constexpr auto doc = "Angle in radians of the point (other, input).";
  static constexpr auto range = Range{0.3, 3};
  static constexpr double cost = 3;
  template <class V> static V forward(V y, V x) { return atan2(y, x); }
};

using Elementary = meta::List<Exp, Exp2, Expm1, Log, Log2, Log10, Log1p, Sin, Cos, Tan, Asin, Acos,
                              Atan, Sinh, Cosh, Tanh, Asinh, Acosh, Atanh, Erf, Erfc, Atan2>;

}  // namespace ops
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
