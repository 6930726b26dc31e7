// The functions of vmath.h for single numbers, by the same code on one lane; and arithmetic of a
// vector, or a dual number, with a number.
#pragma once
#include <type_traits>

#include "backtrail/dual.h"
#include "backtrail/vmath.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace meta {

template <class T>
using IfFloating = std::enable_if_t<std::is_same_v<T, float> || std::is_same_v<T, double>>;
template <class... T>
using IfNumbers = std::enable_if_t<(std::is_arithmetic_v<T> && ...)>;

}  // namespace meta

// Templates, so that a function of <math.h> with the same name never makes a call ambiguous.
// Not inlined: each is compiled once, however often it is called.
#define BACKTRAIL_SCALAR(f)                       \
  template <class T, class = meta::IfFloating<T>> \
  __attribute__((noinline)) T f(T x) {            \
    return f(Vec<T>(x)).r[0][0];                  \
  }
BACKTRAIL_SCALAR(exp)
BACKTRAIL_SCALAR(exp2)
BACKTRAIL_SCALAR(expm1)
BACKTRAIL_SCALAR(log)
BACKTRAIL_SCALAR(log2)
BACKTRAIL_SCALAR(log10)
BACKTRAIL_SCALAR(log1p)
BACKTRAIL_SCALAR(sin)
BACKTRAIL_SCALAR(cos)
BACKTRAIL_SCALAR(tan)
BACKTRAIL_SCALAR(asin)
BACKTRAIL_SCALAR(acos)
BACKTRAIL_SCALAR(atan)
BACKTRAIL_SCALAR(sinh)
BACKTRAIL_SCALAR(cosh)
BACKTRAIL_SCALAR(tanh)
BACKTRAIL_SCALAR(asinh)
BACKTRAIL_SCALAR(acosh)
BACKTRAIL_SCALAR(atanh)
BACKTRAIL_SCALAR(erf)
BACKTRAIL_SCALAR(erfc)
BACKTRAIL_SCALAR(sigmoid)
BACKTRAIL_SCALAR(logsigmoid)
#undef BACKTRAIL_SCALAR
#define BACKTRAIL_SCALAR(f)                       \
  template <class T, class = meta::IfFloating<T>> \
  inline T f(T x) {                               \
    return f(Vec<T>(x)).r[0][0];                  \
  }
BACKTRAIL_SCALAR(sqrt)
BACKTRAIL_SCALAR(rsqrt)
BACKTRAIL_SCALAR(abs)
BACKTRAIL_SCALAR(floor)
BACKTRAIL_SCALAR(ceil)
BACKTRAIL_SCALAR(trunc)
BACKTRAIL_SCALAR(round)
#undef BACKTRAIL_SCALAR

// Of two numbers: in the type that arithmetic with both has. Of two types no templates, which would
// be as good as those of a standard library that has them.
#define BACKTRAIL_MIXED(f, T, A, B) \
  inline T f(A a, B b) { return f(T(a), T(b)); }
#define BACKTRAIL_SCALAR(f)                       \
  template <class T, class = meta::IfFloating<T>> \
  __attribute__((noinline)) T f(T a, T b) {       \
    return f(Vec<T>(a), Vec<T>(b)).r[0][0];       \
  }                                               \
  BACKTRAIL_MIXED(f, double, double, float)       \
  BACKTRAIL_MIXED(f, double, float, double)       \
  BACKTRAIL_MIXED(f, double, double, int)         \
  BACKTRAIL_MIXED(f, double, int, double)         \
  BACKTRAIL_MIXED(f, double, double, long)        \
  BACKTRAIL_MIXED(f, double, long, double)        \
  BACKTRAIL_MIXED(f, float, float, int)           \
  BACKTRAIL_MIXED(f, float, int, float)           \
  BACKTRAIL_MIXED(f, float, float, long)          \
  BACKTRAIL_MIXED(f, float, long, float)
BACKTRAIL_SCALAR(pow)
BACKTRAIL_SCALAR(atan2)
BACKTRAIL_SCALAR(copysign)
BACKTRAIL_SCALAR(fmod)
#undef BACKTRAIL_SCALAR
#undef BACKTRAIL_MIXED

// NaN when either is NaN.
template <class A, class B, class = meta::IfNumbers<A, B>, class T = std::common_type_t<A, B>>
inline T max(A a, B b) {
  return T(a) != T(a) || T(a) > T(b) ? T(a) : T(b);
}
template <class A, class B, class = meta::IfNumbers<A, B>, class T = std::common_type_t<A, B>>
inline T min(A a, B b) {
  return T(a) != T(a) || T(a) < T(b) ? T(a) : T(b);
}
template <class A, class B, class = meta::IfNumbers<A, B>>
inline std::common_type_t<A, B> select(bool condition, A a, B b) {
  return condition ? a : b;
}
template <class T, class = meta::IfFloating<T>>
inline T fma(T a, T b, T c) {
  return fma(Vec<T>(a), Vec<T>(b), Vec<T>(c)).r[0][0];
}
template <class T, class = meta::IfFloating<T>>
inline bool isnan(T x) {
  return x != x;
}
template <class T, class = meta::IfFloating<T>>
inline bool isinf(T x) {
  return abs(x) == T(__builtin_inf());
}
// What a number is worth, for code that also runs on variables (tape.h).
template <class T, class = meta::IfNumbers<T>>
inline double value(T x) {
  return double(x);
}

// clang-format off
#define BACKTRAIL_MIXED(op)                                                                            \
  template <class T, class S, class = meta::IfNumbers<S>> BACKTRAIL_INLINE auto operator op(Vec<T> a, S b) { return a op Vec<T>(b); }  \
  template <class T, class S, class = meta::IfNumbers<S>> BACKTRAIL_INLINE auto operator op(S a, Vec<T> b) { return Vec<T>(a) op b; }  \
  template <class V, class S, class = meta::IfNumbers<S>> inline auto operator op(const Dual<V>& a, S b) { return a op Dual<V>(double(b)); } \
  template <class V, class S, class = meta::IfNumbers<S>> inline auto operator op(S a, const Dual<V>& b) { return Dual<V>(double(a)) op b; }
BACKTRAIL_MIXED(+) BACKTRAIL_MIXED(-) BACKTRAIL_MIXED(*) BACKTRAIL_MIXED(/)
BACKTRAIL_MIXED(<) BACKTRAIL_MIXED(<=) BACKTRAIL_MIXED(>) BACKTRAIL_MIXED(>=) BACKTRAIL_MIXED(==) BACKTRAIL_MIXED(!=)
#undef BACKTRAIL_MIXED
#define BACKTRAIL_MIXED(f)                                                                             \
  template <class T, class S, class = meta::IfNumbers<S>> BACKTRAIL_INLINE Vec<T> f(Vec<T> a, S b) { return f(a, Vec<T>(b)); }  \
  template <class T, class S, class = meta::IfNumbers<S>> BACKTRAIL_INLINE Vec<T> f(S a, Vec<T> b) { return f(Vec<T>(a), b); }  \
  template <class V, class S, class = meta::IfNumbers<S>> inline Dual<V> f(const Dual<V>& a, S b) { return f(a, Dual<V>(double(b))); } \
  template <class V, class S, class = meta::IfNumbers<S>> inline Dual<V> f(S a, const Dual<V>& b) { return f(Dual<V>(double(a)), b); }
BACKTRAIL_MIXED(max) BACKTRAIL_MIXED(min) BACKTRAIL_MIXED(pow) BACKTRAIL_MIXED(atan2) BACKTRAIL_MIXED(copysign) BACKTRAIL_MIXED(fmod)
#undef BACKTRAIL_MIXED
template <class T, class S, class = meta::IfNumbers<S>> BACKTRAIL_INLINE Vec<T> select(typename Vec<T>::Mask m, Vec<T> a, S b) { return select(m, a, Vec<T>(b)); }
template <class T, class S, class = meta::IfNumbers<S>> BACKTRAIL_INLINE Vec<T> select(typename Vec<T>::Mask m, S a, Vec<T> b) { return select(m, Vec<T>(a), b); }
template <class V, class S, class = meta::IfNumbers<S>> inline Dual<V> select(const typename V::Mask& m, const Dual<V>& a, S b) { return select(m, a, Dual<V>(double(b))); }
template <class V, class S, class = meta::IfNumbers<S>> inline Dual<V> select(const typename V::Mask& m, S a, const Dual<V>& b) { return select(m, Dual<V>(double(a)), b); }

#define BACKTRAIL_ASSIGN(op)                                                                                                \
  template <class T, class S, class = meta::IfNumbers<S>> BACKTRAIL_INLINE Vec<T>& operator op##=(Vec<T>& a, S b) { return a = a op Vec<T>(b); } \
  template <class V> inline Dual<V>& operator op##=(Dual<V>& a, const Dual<V>& b) { return a = a op b; }                    \
  template <class V, class S, class = meta::IfNumbers<S>> inline Dual<V>& operator op##=(Dual<V>& a, S b) { return a = a op b; } \
  inline Expr& operator op##=(Expr& a, Expr b) { return a = a op b; }
BACKTRAIL_ASSIGN(+) BACKTRAIL_ASSIGN(-) BACKTRAIL_ASSIGN(*) BACKTRAIL_ASSIGN(/)
#undef BACKTRAIL_ASSIGN
// clang-format on

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
