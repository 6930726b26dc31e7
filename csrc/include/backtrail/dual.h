// Dual numbers v + d*eps with eps^2 = 0: run an op's forward expression on them and `d` is its
// derivative. V is any type with the arithmetic of Vec: a SIMD vector in kernels, or Expr, whose
// recorded program Python can differentiate again.
#pragma once
#include <type_traits>

#include "backtrail/expr.h"
#include "backtrail/simd.h"
#include "backtrail/vmath.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

// The slopes of atan2(y, x): x / (x^2 + y^2) and -y / (x^2 + y^2), formed so that no square over-
// or underflows; 0 at the origin, as in PyTorch.
template <class V>
struct Slopes {
  V dy, dx;
};
namespace meta {

// select() and abs() for single numbers too.
template <class M, class V>
V either(M m, V a, V b) {
  if constexpr (std::is_arithmetic_v<V>) {
    return m ? a : b;
  } else {
    return select(m, a, b);
  }
}
template <class V>
V size(V x) {
  if constexpr (std::is_arithmetic_v<V>) {
    return x < V(0) ? -x : x;
  } else {
    return abs(x);
  }
}

}  // namespace meta

template <class V>
Slopes<V> atan2_slopes(V y, V x) {
  auto steep = meta::size(y) > meta::size(x);
  V longer = meta::either(steep, y, x);
  auto origin = longer == V(0);
  V divisor = meta::either(origin, V(1), longer);
  V ratio = meta::either(steep, x, y) / divisor;
  V scale = meta::either(origin, V(0), V(1)) / (divisor * (V(1) + ratio * ratio));
  return {meta::either(steep, ratio, V(1)) * scale, -(meta::either(steep, V(1), ratio) * scale)};
}

template <class V>
struct Dual {
  using Mask = typename V::Mask;
  V v, d;
  bool none;  // no derivative: `d` is 0, and stays 0 whatever it is multiplied by
  Dual(double c) : v(c), d(0.0), none(true) {}
  Dual(V value, V derivative, bool constant = false) : v(value), d(derivative), none(constant) {}
};

// clang-format off
template <class V> Dual<V> operator-(const Dual<V>& a) { return {-a.v, -a.d, a.none}; }
template <class V> Dual<V> operator+(const Dual<V>& a, const Dual<V>& b) {
  return {a.v + b.v, a.none ? b.d : b.none ? a.d : a.d + b.d, a.none && b.none};
}
template <class V> Dual<V> operator-(const Dual<V>& a, const Dual<V>& b) {
  return {a.v - b.v, b.none ? a.d : a.none ? -b.d : a.d - b.d, a.none && b.none};
}
template <class V> Dual<V> operator*(const Dual<V>& a, const Dual<V>& b) {
  return {a.v * b.v, a.none ? b.none ? V(0) : a.v * b.d : b.none ? a.d * b.v : a.d * b.v + a.v * b.d,
          a.none && b.none};
}
template <class V> Dual<V> operator/(const Dual<V>& a, const Dual<V>& b) {
  V q = a.v / b.v;
  if (b.none) return {q, a.none ? V(0) : a.d / b.v, a.none};
  return {q, (a.none ? -(q * b.d) : a.d - q * b.d) / b.v};
}
template <class V> typename V::Mask operator<(const Dual<V>& a, const Dual<V>& b) { return a.v < b.v; }
template <class V> typename V::Mask operator<=(const Dual<V>& a, const Dual<V>& b) { return a.v <= b.v; }
template <class V> typename V::Mask operator>(const Dual<V>& a, const Dual<V>& b) { return a.v > b.v; }
template <class V> typename V::Mask operator>=(const Dual<V>& a, const Dual<V>& b) { return a.v >= b.v; }
template <class V> typename V::Mask operator==(const Dual<V>& a, const Dual<V>& b) { return a.v == b.v; }
template <class V> typename V::Mask operator!=(const Dual<V>& a, const Dual<V>& b) { return a.v != b.v; }

template <class V> Dual<V> select(const typename V::Mask& m, const Dual<V>& a, const Dual<V>& b) {
  return {select(m, a.v, b.v), select(m, a.d, b.d), a.none && b.none};
}
template <class V> Dual<V> fma(const Dual<V>& a, const Dual<V>& b, const Dual<V>& c) {
  Dual<V> product = a * b;
  return {fma(a.v, b.v, c.v), product.none ? c.d : c.none ? product.d : product.d + c.d,
          product.none && c.none};
}
// Where the arguments are equal each gets half of the slope, where one is NaN each gets all of it,
// as in PyTorch.
template <class V> V shared(const Dual<V>& a, const Dual<V>& b) {
  V sum = (a + b).d;
  return select(a.v == b.v, V(0.5) * sum, sum);
}
template <class V> Dual<V> max(const Dual<V>& a, const Dual<V>& b) {
  V y = max(a.v, b.v);
  if (a.none && b.none) return {y, V(0), true};
  return {y, select(a.v > b.v, a.d, select(a.v < b.v, b.d, shared(a, b)))};
}
template <class V> Dual<V> min(const Dual<V>& a, const Dual<V>& b) {
  V y = min(a.v, b.v);
  if (a.none && b.none) return {y, V(0), true};
  return {y, select(a.v < b.v, a.d, select(a.v > b.v, b.d, shared(a, b)))};
}
// At 0 the slope of abs is 0, that of copysign too, as in PyTorch.
template <class V> Dual<V> abs(const Dual<V>& a) {
  V y = abs(a.v);
  if (a.none) return {y, V(0), true};
  return {y, select(a.v > V(0), a.d, select(a.v < V(0), -a.d, V(0)))};
}
template <class V> Dual<V> copysign(const Dual<V>& a, const Dual<V>& b) {
  V y = copysign(a.v, b.v);
  if (a.none) return {y, V(0), true};
  return {y, select(a.v == V(0), V(0), copysign(V(1), a.v) * copysign(V(1), b.v) * a.d)};
}
template <class V> Dual<V> pow(const Dual<V>& a, const Dual<V>& b) {
  V p = pow(a.v, b.v);
  if (a.none && b.none) return {p, V(0), true};
  V d(0);
  if (!a.none) d = b.v * pow(a.v, b.v - V(1)) * a.d;
  if (!b.none) d = d + p * log(a.v) * b.d;
  return {p, d};
}
template <class V> Dual<V> atan2(const Dual<V>& y, const Dual<V>& x) {
  V angle = atan2(y.v, x.v);
  if (y.none && x.none) return {angle, V(0), true};
  Slopes<V> s = atan2_slopes(y.v, x.v);
  return {angle, x.none ? y.d * s.dy : y.none ? x.d * s.dx : y.d * s.dy + x.d * s.dx};
}
template <class V> Dual<V> fmod(const Dual<V>& a, const Dual<V>& b) {
  V r = fmod(a.v, b.v);
  if (b.none) return {r, a.d, a.none};
  V turns = trunc_divide(a.v, b.v) * b.d;
  return {r, a.none ? -turns : a.d - turns};
}
// Steps: no slope anywhere.
template <class V> Dual<V> trunc_divide(const Dual<V>& a, const Dual<V>& b) {
  return {trunc_divide(a.v, b.v), V(0), true};
}
template <class V> Dual<V> floor_divide(const Dual<V>& a, const Dual<V>& b) {
  return {floor_divide(a.v, b.v), V(0), true};
}

// f(v + d*eps) = f(v) + f'(v)*d*eps; `y` is f(v), `x` is v.
#define BACKTRAIL_CHAIN(f, slope)                         \
  template <class V> Dual<V> f(const Dual<V>& a) {        \
    [[maybe_unused]] V x = a.v;                           \
    [[maybe_unused]] V y = f(x);                          \
    if (a.none) return {y, V(0), true};                   \
    return {y, a.d * (slope)};                            \
  }
BACKTRAIL_CHAIN(exp, y)
BACKTRAIL_CHAIN(exp2, y * V(0.69314718055994530942))
BACKTRAIL_CHAIN(expm1, exp(x))
BACKTRAIL_CHAIN(log, V(1) / x)
BACKTRAIL_CHAIN(log2, V(1.44269504088896340736) / x)
BACKTRAIL_CHAIN(log10, V(0.43429448190325182765) / x)
BACKTRAIL_CHAIN(log1p, V(1) / (V(1) + x))
BACKTRAIL_CHAIN(sin, cos(x))
BACKTRAIL_CHAIN(cos, -sin(x))
BACKTRAIL_CHAIN(tan, V(1) + y * y)
BACKTRAIL_CHAIN(asin, V(1) / sqrt(V(1) - x * x))
BACKTRAIL_CHAIN(acos, V(-1) / sqrt(V(1) - x * x))
BACKTRAIL_CHAIN(atan, V(1) / (V(1) + x * x))
BACKTRAIL_CHAIN(sinh, cosh(x))
BACKTRAIL_CHAIN(cosh, sinh(x))
BACKTRAIL_CHAIN(tanh, V(1) - y * y)
BACKTRAIL_CHAIN(asinh, V(1) / sqrt(x * x + V(1)))
BACKTRAIL_CHAIN(acosh, V(1) / sqrt(x * x - V(1)))
BACKTRAIL_CHAIN(atanh, V(1) / (V(1) - x * x))
BACKTRAIL_CHAIN(erf, V(1.12837916709551257390) * exp(-x * x))
BACKTRAIL_CHAIN(erfc, V(-1.12837916709551257390) * exp(-x * x))
BACKTRAIL_CHAIN(sigmoid, y * sigmoid(-x))
BACKTRAIL_CHAIN(logsigmoid, sigmoid(-x))
BACKTRAIL_CHAIN(sqrt, V(0.5) / y)
BACKTRAIL_CHAIN(rsqrt, V(-0.5) * y * y * y)
#undef BACKTRAIL_CHAIN
template <class V> Dual<V> floor(const Dual<V>& a) { return {floor(a.v), V(0), true}; }
template <class V> Dual<V> ceil(const Dual<V>& a) { return {ceil(a.v), V(0), true}; }
template <class V> Dual<V> trunc(const Dual<V>& a) { return {trunc(a.v), V(0), true}; }
template <class V> Dual<V> round(const Dual<V>& a) { return {round(a.v), V(0), true}; }
template <class V> typename V::Mask isnan(const Dual<V>& a) { return isnan(a.v); }
template <class V> typename V::Mask isinf(const Dual<V>& a) { return isinf(a.v); }
// clang-format on

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
