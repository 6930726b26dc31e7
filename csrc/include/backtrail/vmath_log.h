// Logarithms, inverse hyperbolic functions and powers of vmath.h.
#pragma once

#include "backtrail/vmath_exp.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace math {

// x = m 2^e with m in [3/4, 3/2), for x positive and finite, denormals included.
template <class T>
struct Split {
  Vec<T> m, e;
};
template <class T>
BACKTRAIL_INLINE Split<T> split_exponent(Vec<T> x) {
#if defined(BACKTRAIL_AVX512)
  Split<T> s;
  if constexpr (sizeof(T) == 4) {
    s.m.r[0] = _mm512_getmant_ps(x.r[0], _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_nan);
    s.e.r[0] = _mm512_sub_ps(_mm512_getexp_ps(x.r[0]), _mm512_getexp_ps(s.m.r[0]));
  } else {
    s.m.r[0] = _mm512_getmant_pd(x.r[0], _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_nan);
    s.e.r[0] = _mm512_sub_pd(_mm512_getexp_pd(x.r[0]), _mm512_getexp_pd(s.m.r[0]));
  }
  return s;
#else
  using R = Real<T>;
  using I = Vec<typename R::Bits>;
  constexpr typename R::Bits kFraction = (typename R::Bits(1) << R::kMantissa) - 1;
  constexpr double kLift = typename R::Bits(1) << R::kMantissa;  // makes every denormal normal
  auto denormal = x < Vec<T>(R::kNormal);
  x = select(denormal, x * Vec<T>(kLift), x);
  const I low = Vec<T>(0.75).template bits_as<typename R::Bits>();
  I i =
      x.template bits_as<typename R::Bits>() - low + Vec<T>(1).template bits_as<typename R::Bits>();
  Vec<T> m = ((i & I(kFraction)) + low).template bits_as<T>();
  // The biased exponent as the low bits of 2^kMantissa, subtracted as a number.
  const double bias = sizeof(T) == 4 ? 127 : 1023;
  I biased =
      shift_right_logical(i, R::kMantissa) | Vec<T>(kLift).template bits_as<typename R::Bits>();
  Vec<T> e = biased.template bits_as<T>() -
             select(denormal, Vec<T>(kLift + bias + R::kMantissa), Vec<T>(kLift + bias));
  return {m, e};
#endif
}

// log(1 + f) = f - half_square + tail, half_square = f^2 / 2, for f in [-1/4, 1/2].
template <class T>
struct Log1p {
  Vec<T> half_square, tail;
};
// tail = f^3 p(f), to 2^-27.6 of the logarithm.
BACKTRAIL_INLINE Log1p<float> log1p_near_0(Vec<float> f) {
  Vec<float> square = f * f;
  Vec<float> p = polynomial(f, 0.3333345, -0.25000104, 0.199908, -0.16646867, 0.1447841,
                            -0.13166216, 0.10474485, -0.04515248);
  return {Vec<float>(0.5) * square, f * square * p};
}
// With s = f / (2 + f): log(1 + f) = 2 s + s z p(z), z = s^2, to 2^-61.6; and 2 s = f - s f.
BACKTRAIL_INLINE Log1p<double> log1p_near_0(Vec<double> f) {
  using V = Vec<double>;
  V s = f / (V(2) + f), z = s * s, half_square = V(0.5) * f * f;
  V p = polynomial(z, 0.666666666666666, 0.40000000000056735, 0.2857142855580719,
                   0.2222222429932371, 0.18181665686611093, 0.15391118536495102,
                   0.13173483363080193, 0.13843851457508716);
  return {half_square, s * fma(z, p, half_square)};
}

// y, the logarithm of a positive finite x, completed for the other x.
template <class T>
BACKTRAIL_INLINE Vec<T> log_special(Vec<T> x, Vec<T> y) {
  y = select(x < Vec<T>(kInf), y, x + x);
  y = select(x < Vec<T>(0), Vec<T>(-__builtin_nan("")), y);
  return select(x == Vec<T>(0), Vec<T>(-kInf), y);
}

// log(1 + high + low), |low| far below |high|, 1 + high positive and finite.
template <class T>
BACKTRAIL_INLINE Vec<T> log1p_sum(Vec<T> high, Vec<T> low) {
  using V = Vec<T>;
  V u = V(1) + high;
  low = low + select(high > V(1), V(1) - (u - high), high - (u - V(1)));
  auto [m, e] = split_exponent(u);
  V f = fma(low, power_of_2(above(V(Real<T>::kLeastExponent), -e)), m - V(1));
  auto [half_square, tail] = log1p_near_0(f);
  return fma(e, V(Ln2<T>::high), f - (half_square - fma(e, V(Ln2<T>::low), tail)));
}

// log(x) / log(base) = e * base_high + e * base_low + log(m) * (c + c_low), with log(m) in two
// parts.
template <class T>
BACKTRAIL_INLINE Vec<T> log_to_base(Vec<T> x, T base_high, T base_low, T c, T c_low) {
  using V = Vec<T>;
  auto [m, e] = split_exponent(x);
  V f = m - V(1);
  auto [half_square, tail] = log1p_near_0(f);
  V high = f - half_square, low = ((f - high) - half_square) + tail;
  V p = high * V(c), a = e * V(base_high), sum = a + p;
  V rest = product_error(high, V(c), p) + fma(high, V(c_low), low * V(c));
  return log_special(x, sum + ((p - (sum - a)) + fma(e, V(base_low), rest)));
}

// a^y for a >= 0, but for a = 1 with infinite y and NaN with y = 0. In double, where 2^-50 is
// enough.
BACKTRAIL_INLINE Vec<float> power_of_positive(Vec<float> a, Vec<float> y) {
  auto power = [](Vec<double> a, Vec<double> y) BACKTRAIL_ALWAYS_INLINE {
    using V = Vec<double>;
    auto [m, e] = split_exponent(a);
    V f = m - V(1);
    auto [half_square, tail] = log1p_near_0(f);
    V exponent = y * log_special(a, fma(f - (half_square - tail), V(kLog2E), e));
    exponent = clamp(exponent, -200, 200);
    const V integer(Real<double>::kInteger);
    V n = (exponent + integer) - integer;
    return scale_normal(exp_near_0((exponent - n) * V(kLn2)), n);
  };
  return in_double(power, a, y);
}

// The same in two doubles: y log(a) is needed to 2^-64 of itself. With u = 2 f / (2 + f),
// log(1 + f) = u (1 + v / 12 + v^2 p(v)), v = u^2, and all but v^2 p(v) in two parts; p to 2^-66.3
// of the sum.
BACKTRAIL_INLINE Vec<double> power_of_positive(Vec<double> a, Vec<double> y) {
  using V = Vec<double>;
  auto [m, e] = split_exponent(a);
  // Move m to [sqrt(1/2), sqrt(2)), where v is smallest.
  auto large = m > V(1.4142135623730951);
  m = select(large, V(0.5) * m, m), e = select(large, e + V(1), e);
  V f = m - V(1), d = V(2) + f, d_low = f - (d - V(2));
  V u = (f + f) / d, ud = u * d;
  V u_low = (((f + f) - ud) - product_error(u, d, ud) - u * d_low) / d;
  V v = u * u, v_low = product_error(u, u, v) + V(2) * u * u_low;
  V p = polynomial(v, 0.012500000000000715, 0.0022321428570377193, 0.0004340277836533919,
                   8.877824258817876e-05, 1.8782679366263983e-05, 4.045559893976189e-06,
                   1.0070383830024565e-06);
  const V twelfth(0.08333333333333333), twelfth_low(4.625929269271485e-18);
  V w = v * twelfth;
  V w_low = fma(v * v, p, product_error(v, twelfth, w) + fma(v, twelfth_low, v_low * twelfth));
  V uw = u * w, uw_low = product_error(u, w, uw) + fma(u, w_low, u_low * w);
  // log(a) = e ln 2 + u + uw, the large parts first.
  V big = e * V(Ln2<double>::high), log_high = big + u, log_low = u - (log_high - big);
  V partial = log_high + uw;
  log_low = log_low + (uw - (partial - log_high));
  log_low = log_low + fma(e, V(Ln2<double>::low), u_low + uw_low);
  log_high = partial + log_low;
  log_low = log_low - (log_high - partial);
  log_high = log_special(a, log_high);
  log_low = select(abs(log_high) < V(kInf), log_low, V(0));
  // Beyond 2^66 the result is 0, 1 or infinite; larger y would overflow in product_error().
  V z = clamp(y, -0x1p66, 0x1p66), high = z * log_high;
  V low = product_error(z, log_high, high) + z * log_low;
  low = select(abs(high) < V(1100), low, V(0));
  high = clamp(high, -800, 800);
  const V integer(Real<double>::kInteger);
  V n = fma(high, V(kLog2E), integer) - integer;
  V first = fma(n, V(-Ln2<double>::high), high), second = fma(n, V(-Ln2<double>::low), low);
  V r = first + second, rest = second - (r - first);
  V q = V(1) + (r + fma(r * r, exp_polynomial(r), fma(rest, r, rest)));
  return scale(q, n);
}

}  // namespace math

// log: largest error 0.9 ULP.
template <class T>
BACKTRAIL_INLINE Vec<T> log(Vec<T> x) {
  using V = Vec<T>;
  auto [m, e] = math::split_exponent(x);
  V f = m - V(1);
  auto [half_square, tail] = math::log1p_near_0(f);
  V y = fma(e, V(math::Ln2<T>::high), f - (half_square - fma(e, V(math::Ln2<T>::low), tail)));
#if defined(BACKTRAIL_AVX512)
  return y;  // getexp and getmant have carried 0, inf, NaN and negative x this far
#else
  return math::log_special(x, y);
#endif
}

// log2: largest error 0.9 ULP (float), 1.0 (double).
BACKTRAIL_INLINE Vec<float> log2(Vec<float> x) {
  return math::log_to_base(x, 1.0f, 0.0f, 1.4426950216293335f, 1.9259629911266175e-08f);
}
BACKTRAIL_INLINE Vec<double> log2(Vec<double> x) {
  return math::log_to_base(x, 1.0, 0.0, 1.4426950408889634, 2.0355273740931033e-17);
}

// log10: largest error 0.9 ULP.
BACKTRAIL_INLINE Vec<float> log10(Vec<float> x) {
  return math::log_to_base(x, 0.301025390625f, 4.605038981195214e-06f, 0.4342944920063019f,
                           -1.0103050052231683e-08f);
}
BACKTRAIL_INLINE Vec<double> log10(Vec<double> x) {
  return math::log_to_base(x, 0.3010299955494702, 1.1451100898021838e-10, 0.4342944819032518,
                           1.098319650216765e-17);
}

// log1p: largest error 1.3 ULP.
template <class T>
BACKTRAIL_INLINE Vec<T> log1p(Vec<T> x) {
  using V = Vec<T>;
  V y = math::log1p_sum(x, V(0));
  y = select(x < V(math::kInf), y, x + x);
  y = select(x < V(-1), V(-__builtin_nan("")), y);
  y = select(x == V(-1), V(-math::kInf), y);
  return select(abs(x) < V(math::Real<T>::kTiny), x, y);
}

// asinh: largest error 0.51 ULP (float), 1.8 (double).
BACKTRAIL_INLINE Vec<double> asinh(Vec<double> x) {
  using V = Vec<double>;
  // log1p(y + y^2 / (1 + sqrt(1 + y^2))), the sum in two parts; log(y) + ln 2 where y^2 would
  // overflow.
  V y = abs(x);
  auto huge = y > V(0x1p60);
  V square = y * y, extra = select(huge, V(0), square / (V(1) + sqrt(V(1) + square)));
  V high = y + extra, low = math::sum_error(y, extra, high);
  V a = math::log1p_sum(select(huge, y, high), select(huge, V(0), low));
  a = select(huge, a + V(math::kLn2), a);
  a = select(y < V(0x1p-28), y, a);
  return copysign(select(y < V(math::kInf), a, y), x);
}

// acosh: largest error 0.51 ULP (float), 1.6 (double); without FMA 0.51, 2.3.
BACKTRAIL_INLINE Vec<double> acosh(Vec<double> x) {
  using V = Vec<double>;
  // log1p(t + sqrt(2 t + t^2)) with t = x - 1; log(x) + ln 2 where t^2 would overflow.
  auto huge = x > V(0x1p60);
  V t = x - V(1), twice = t + t, square = fma(t, t, twice), root = sqrt(square);
  V high = t + root, low = math::sum_error(root, t, high);
  if constexpr (native::kHasFma) {  // and with what rounding took from the square and from its root
    V lost = fma(-root, root, square) + fma(t, t, twice - square);
    low = low + select(root > V(0), lost * (V(0.5) / root), V(0));
  }
  V y = math::log1p_sum(select(huge, x, high), select(huge, V(0), low));
  y = select(huge, y + V(math::kLn2), y);
  y = select(x < V(math::kInf), y, x);
  return select(x < V(1), V(-__builtin_nan("")), y);
}

// atanh: largest error 0.51 ULP (float), 1.6 (double); without FMA 0.51, 2.1.
BACKTRAIL_INLINE Vec<double> atanh(Vec<double> x) {
  using V = Vec<double>;
  V y = abs(x);
  V d = V(1) - y, w = (y + y) / d, w_low(0);
  if constexpr (native::kHasFma) w_low = (fma(-w, d, y + y) - w * ((V(1) - d) - y)) / d;
  V a = V(0.5) * math::log1p_sum(w, w_low);
  a = select(y < V(1), a, select(y == V(1), V(math::kInf), V(-__builtin_nan(""))));
  a = select(isnan(x), x, a);
  return copysign(select(y < V(0x1p-28), y, a), x);
}

BACKTRAIL_INLINE Vec<float> asinh(Vec<float> x) {
  return math::in_double([](auto v) BACKTRAIL_ALWAYS_INLINE { return asinh(v); }, x);
}
BACKTRAIL_INLINE Vec<float> acosh(Vec<float> x) {
  return math::in_double([](auto v) BACKTRAIL_ALWAYS_INLINE { return acosh(v); }, x);
}
BACKTRAIL_INLINE Vec<float> atanh(Vec<float> x) {
  return math::in_double([](auto v) BACKTRAIL_ALWAYS_INLINE { return atanh(v); }, x);
}

// pow: largest error 0.51 ULP (float), 1.3 (double). IEEE 754's pow: 1 for y = 0 and for x = 1 even
// with NaN, NaN for x < 0 unless y is an integer.
template <class T>
BACKTRAIL_INLINE Vec<T> pow(Vec<T> x, Vec<T> y) {
  using V = Vec<T>;
  V a = abs(x), p = math::power_of_positive(a, y);
  auto integer = round(y) == y;
  V half = V(0.5) * y;
  auto odd = integer & (round(half) != half), negative = copysign(V(1), x) < V(0);
  p = select(negative & odd, -p, p);
  auto undefined = (x < V(0)) & !isinf(x) & !integer;
  p = select(undefined | isnan(p), V(__builtin_nan("")), p);  // one NaN, whatever it came from
  return select((y == V(0)) | (x == V(1)) | ((a == V(1)) & isinf(y)), V(1), p);
}

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
