// Trigonometric functions of vmath.h and their inverses.
#pragma once

#include "backtrail/vmath_core.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace math {

// pi in parts: n * kPi1 and n * kPi2 are exact for |n| < 2^21; the sum is pi to 2^-117.
constexpr double kPi1 = 0x1.921fb544p+1, kPi2 = 0x1.0b4611a6p-33, kPi3 = 4.044532497591901e-21;
// The same in two parts for floats, |n| < 2^23; to 2^-82.
constexpr double kPiHigh = 3.141592651605606, kPiLow = 1.984187159361081e-09;
constexpr double kPi = 3.141592653589793, kPiRest = 1.2246467991473532e-16,
                 kInvPi = 0.3183098861837907;

// What an angle is reduced by: multiples of pi, odd multiples of pi / 2, or multiples of pi / 2.
enum class Step { pi, odd_half_pi, half_pi };

// x = k pi + r + rest for finite |x| >= 2^-20, from the binary digits of 1 / pi (Payne and Hanek,
// 1983); of k only its remainder by 1024. NaN for infinite x.
inline __attribute__((noinline)) void reduce_exactly(double x, Step step, double* k, double* r,
                                                     double* rest) {
  static constexpr uint64_t kDigits[20] = {
      0x517CC1B727220A94, 0xFE13ABE8FA9A6EE0, 0x6DB14ACC9E21C820, 0xFF28B1D5EF5DE2B0,
      0xDB92371D2126E970, 0x0324977504E8C90E, 0x7F0EF58E5894D39F, 0x74411AFA975DA242,
      0x74CE38135A2FBF20, 0x9CC8EB1CC1A99CFA, 0x4E422FC5DEFC941D, 0x8FFC4BFFEF02CC07,
      0xF79788C5AD05368F, 0xB69B3F6793E584DB, 0xA7A31FB34F2FF516, 0xBA93DD63F5F2F8BD,
      0x9E839CFBC5294975, 0x35FDAFD88FC6AE84, 0x2B0198237E3DB5D5, 0xF867DE104D7A1B0E};
  __extension__ typedef unsigned __int128 Wide;
  uint64_t bits;
  __builtin_memcpy(&bits, &x, 8);
  const int biased = int(bits >> 52 & 0x7FF);
  if (biased == 0x7FF) {
    *k = *r = *rest = x - x;
    return;
  }
  // |x| = mantissa * 2^e. Digits of 1 / pi before `word` would add even numbers and are left out.
  const uint64_t mantissa = (bits & 0xFFFFFFFFFFFFF) | 0x10000000000000;
  const int e = biased - 1075, word = e > 0 ? (e - 1) / 64 : 0;
  uint64_t product[6] = {};  // mantissa * (four words of digits), lowest word first
  for (int i = 0; i < 4; ++i) {
    Wide p = Wide(mantissa) * kDigits[word + 3 - i] + product[i];
    product[i] = uint64_t(p);
    product[i + 1] = uint64_t(p >> 64);
  }
  // |x| / pi = product * 2^(e - 64 word - 256): cut out the whole part and 128 bits of fraction.
  auto cut = [&](int from) {
    const int w = from / 64, shift = from % 64;
    if (w > 4) return uint64_t(0);
    return shift ? product[w] >> shift | product[w + 1] << (64 - shift) : product[w];
  };
  const int from = 128 - (e - 64 * word) - (step == Step::half_pi);
  Wide fraction = Wide(cut(from + 64)) << 64 | cut(from);
  uint64_t whole = cut(from + 128);
  const Wide half = Wide(1) << 127;
  if (step == Step::odd_half_pi) {
    whole -= fraction < half;
    fraction -= half;
  }
  const bool up = fraction >= half;  // round to the nearest: what is left is negative
  whole += up;
  if (up) fraction = -fraction;
  // The fraction's first 53 bits and the next, as doubles.
  double high = 0, low = 0;
  if (fraction) {
    const uint64_t top = uint64_t(fraction >> 64);
    const int zeros = top ? __builtin_clzll(top) : 64 + __builtin_clzll(uint64_t(fraction));
    fraction <<= zeros;
    const uint64_t unit_bits = uint64_t(1023 - 53 - zeros) << 52;
    double unit;
    __builtin_memcpy(&unit, &unit_bits, 8);
    high = double(uint64_t(fraction >> 75)) * unit;
    low = double(uint64_t(fraction >> 22) & 0x1FFFFFFFFFFFFF) * (unit * 0x1p-53);
  }
  // (high + low) * pi; the error of high * pi by Dekker's splitting.
  const double p = high * kPi, t = high * 134217729.0, a = t - (t - high), b = high - a;
  const double c = 0x1.921fb54p+1, d = kPi - c;
  const double tail = ((a * c - p) + a * d + b * c) + b * d + (high * kPiRest + low * kPi);
  const double sign = x < 0 ? -1 : 1,
               scale = (up ? -sign : sign) * (step == Step::half_pi ? 0.5 : 1);
  *r = (p + tail) * scale;
  *rest = ((p - (p + tail)) + tail) * scale;
  const double n = double(whole % 1024);
  *k = sign * (step == Step::half_pi ? 0.5 * n : step == Step::odd_half_pi ? n + 0.5 : n);
}

struct Angle {
  Vec<double> k, r, rest;  // k pi + r + rest
};
template <Step S>
BACKTRAIL_INLINE Vec<double> nearest_step(Vec<double> x) {
  using V = Vec<double>;
  const V integer(Real<double>::kInteger);
  if constexpr (S == Step::pi) return fma(x, V(kInvPi), integer) - integer;
  if constexpr (S == Step::odd_half_pi)
    return (fma(x, V(kInvPi), V(-0.5)) + integer) - integer + V(0.5);
  if constexpr (S == Step::half_pi) return (fma(x, V(2 * kInvPi), integer) - integer) * V(0.5);
}
// Replaces the lanes of `angle` where `hard`; rare.
template <Step S>
BACKTRAIL_INLINE void reduce_hard_lanes(Vec<double> x, Vec<double>::Mask hard, Angle* angle) {
  if (__builtin_expect(!any(hard), 1)) return;
  double xs[8], k[8], r[8], rest[8];
  bool lanes[8];
  x.store(xs), hard.store(lanes), angle->k.store(k), angle->r.store(r), angle->rest.store(rest);
  for (int i = 0; i < 8; ++i) {
    if (lanes[i]) reduce_exactly(xs[i], S, &k[i], &r[i], &rest[i]);
  }
  *angle = {Vec<double>::load(k), Vec<double>::load(r), Vec<double>::load(rest)};
}
// r and rest together right to about 2^-56 of r. Fast while k has 20 bits and r is not so near 0
// that the parts of pi run out.
template <Step S>
BACKTRAIL_INLINE Angle reduce_pi(Vec<double> x) {
  using V = Vec<double>;
  V k = nearest_step<S>(x);
  V first = fma(k, V(-kPi1), x), second = k * V(-kPi2), sum = first + second;
  V tail = fma(k, V(-kPi3), sum_error(first, second, sum));
  V r = sum + tail;
  Angle angle{k, r, (sum - r) + tail};
  reduce_hard_lanes<S>(x, (abs(x) > V(0x1p21)) | (abs(r) < abs(k) * V(0x1p-59)), &angle);
  return angle;
}
// The same for x that came from floats: r to 2^-28 of itself is enough.
template <Step S>
BACKTRAIL_INLINE Angle reduce_pi_of_float(Vec<double> x) {
  using V = Vec<double>;
  V k = nearest_step<S>(x);
  Angle angle{k, fma(k, V(-kPiLow), fma(k, V(-kPiHigh), x)), V(0)};
  reduce_hard_lanes<S>(x, abs(x) > V(0x1p23), &angle);
  return angle;
}

// sin(r) = r + r^3 p(r^2) for |r| <= pi / 2, to 2^-35.3 (enough for floats) and 2^-61.5.
BACKTRAIL_INLINE Vec<double> sin_near_0_of_float(Vec<double> r) {
  Vec<double> z = r * r;
  return fma(r * z,
             polynomial(z, -0.16666666626128054, 0.008333331107651455, -0.00019840868082287652,
                        2.7525377729192397e-06, -2.3888789373287726e-08),
             r);
}
BACKTRAIL_INLINE Vec<double> sin_near_0(Vec<double> r, Vec<double> rest) {
  using V = Vec<double>;
  V z = r * r, cube = r * z;
  // For r near pi / 2 the rounding of r^3 / 6 would show.
  if constexpr (native::kHasFma) {
    V cube_low = fma(r, z, -cube) + r * fma(r, r, -z);
    rest = fma(cube_low, V(-1.0 / 6), rest * fma(z, V(-0.5), V(1)));
  } else {
    rest = rest * fma(z, V(-0.5), V(1));
  }
  V p = polynomial(z, -0.16666666666666666, 0.008333333333333207, -0.0001984126984121248,
                   2.7557319211569525e-06, -2.5052106904429073e-08, 1.6058941002423695e-10,
                   -7.643019357780313e-13, 2.7214190821329956e-15);
  return r + fma(cube, p, rest);
}
// tan(r) = r + r^3 p(r^2) for |r| <= pi / 4, to 2^-60.0.
BACKTRAIL_INLINE Vec<double> tan_near_0(Vec<double> r, Vec<double> rest) {
  using V = Vec<double>;
  V z = r * r;
  V p = polynomial(z, 0.33333333333333376, 0.13333333333326083, 0.05396825397253397,
                   0.021869488408892905, 0.008863237772802216, 0.003592102406351514,
                   0.001456034891556374, 0.000588917071807698, 0.00024356597592945097,
                   8.402830814354447e-05, 6.637298459002729e-05, -2.456567880924512e-05,
                   4.774785655109783e-05, -2.38353966125122e-05, 9.701681083778701e-06);
  return r + fma(r * z, p, fma(rest, z, rest));
}
// asin(x) = x + x z p(z), z = x^2 <= 1/4, to 2^-27.6 and 2^-55.9.
BACKTRAIL_INLINE Vec<float> asin_polynomial(Vec<float> z) {
  return polynomial(z, 0.16666752, 0.074953094, 0.045469154, 0.024184776, 0.042158253);
}
BACKTRAIL_INLINE Vec<double> asin_polynomial(Vec<double> z) {
  return polynomial(z, 0.16666666666665408, 0.07500000000337156, 0.04464285682819991,
                    0.030381959142609164, 0.022371757908552142, 0.01735970697882599,
                    0.013885213078930722, 0.01216936028554527, 0.006527332059919356,
                    0.019530009375087094, -0.016226941335405275, 0.031914066276680794);
}
// atan(x) = x + x z p(z), z = x^2 <= 1, to 2^-28.5 and 2^-57.6.
BACKTRAIL_INLINE Vec<float> atan_polynomial(Vec<float> z) {
  return polynomial(z, -0.333333, 0.1999853, -0.14264016, 0.10950878, -0.08399283, 0.057880532,
                    -0.031095507, 0.0108674755, -0.0017824413);
}
BACKTRAIL_INLINE Vec<double> atan_polynomial(Vec<double> z) {
  return polynomial(z, -0.3333333333333307, 0.19999999999951748, -0.14285714282587977,
                    0.11111111007338581, -0.09090907007737327, 0.07692279888182006,
                    -0.06666404417121156, 0.058805297692995744, -0.05253526600356883,
                    0.04722347722817746, -0.04219241842781042, 0.036643123503045084,
                    -0.029905687649341473, 0.021987001305224397, -0.013902501384815764,
                    0.007197826539776377, -0.002885576209674991, 0.0008315466879939391,
                    -0.00015220810417122905, 1.3229672689977458e-05);
}

// pi as a sum of two numbers of the type.
template <class T>
struct Pi;
template <>
struct Pi<float> {
  static constexpr double high = 3.1415927410125732, low = -8.742278000372485e-08;
};
template <>
struct Pi<double> {
  static constexpr double high = kPi, low = kPiRest;
};

// asin(|x|) as `base_high + base_low + part`, or acos: what both have in common.
template <class T>
struct ArcSine {
  typename Vec<T>::Mask far;  // |x| > 1/2
  Vec<T> y, tail;             // asin(y) = y + tail, y = |x| or sqrt((1 - |x|) / 2)
};
template <class T>
BACKTRAIL_INLINE ArcSine<T> arc_sine(Vec<T> x) {
  using V = Vec<T>;
  V a = abs(x);
  auto far = a > V(0.5);
  V z = select(far, (V(1) - a) * V(0.5), a * a), y = select(far, sqrt(z), a);
  return {far, y, y * z * asin_polynomial(z)};
}

}  // namespace math

// sin: largest error 0.51 ULP (float), 1.5 (double); without FMA 0.51, 2.0.
BACKTRAIL_INLINE Vec<float> sin(Vec<float> x) {
  auto f = [](Vec<double> v) BACKTRAIL_ALWAYS_INLINE {
    auto angle = math::reduce_pi_of_float<math::Step::pi>(v);
    return math::negate_if_odd(math::sin_near_0_of_float(angle.r), angle.k);
  };
  return select(abs(x) < Vec<float>(0x1p-14), x, math::in_double(f, x));
}
BACKTRAIL_INLINE Vec<double> sin(Vec<double> x) {
  auto [k, r, rest] = math::reduce_pi<math::Step::pi>(x);
  Vec<double> y = math::negate_if_odd(math::sin_near_0(r, rest), k);
  return select(abs(x) < Vec<double>(0x1p-28), x, y);
}

// cos: largest error 0.51 ULP (float), 1.5 (double); without FMA 0.51, 2.0.
BACKTRAIL_INLINE Vec<float> cos(Vec<float> x) {
  auto f =
      [](Vec<double> v) BACKTRAIL_ALWAYS_INLINE {  // cos((n + 1/2) pi + r) = (-1)^(n + 1) sin(r)
        auto angle = math::reduce_pi_of_float<math::Step::odd_half_pi>(v);
        return math::negate_if_odd(math::sin_near_0_of_float(angle.r), angle.k + Vec<double>(0.5));
      };
  return math::in_double(f, x);
}
BACKTRAIL_INLINE Vec<double> cos(Vec<double> x) {
  auto [k, r, rest] = math::reduce_pi<math::Step::odd_half_pi>(x);
  return math::negate_if_odd(math::sin_near_0(r, rest), k + Vec<double>(0.5));
}

// tan: largest error 0.51 ULP (float), 1.7 (double).
BACKTRAIL_INLINE Vec<double> tan(Vec<double> x) {
  using V = Vec<double>;
  auto [k, r, rest] = math::reduce_pi<math::Step::half_pi>(x);
  V t = math::tan_near_0(r, rest);
  auto odd = k != round(k);
  return select(abs(x) < V(0x1p-28), x, select(odd, V(-1), t) / select(odd, t, V(1)));
}
BACKTRAIL_INLINE Vec<float> tan(Vec<float> x) {
  return math::in_double([](auto v) BACKTRAIL_ALWAYS_INLINE { return tan(v); }, x);
}

// asin: largest error 1.8 ULP.
template <class T>
BACKTRAIL_INLINE Vec<T> asin(Vec<T> x) {
  using V = Vec<T>;
  auto [far, y, tail] = math::arc_sine(x);
  // Far from 0: pi / 2 - 2 asin(y).
  V a = V(math::Pi<T>::high / 2) - ((y + y) - fma(V(-2), tail, V(math::Pi<T>::low / 2)));
  return copysign(select(far, a, y + tail), x);
}

// acos: largest error 1.2 ULP (float), 1.3 (double).
template <class T>
BACKTRAIL_INLINE Vec<T> acos(Vec<T> x) {
  using V = Vec<T>;
  auto [far, y, tail] = math::arc_sine(x);
  auto negative = x < V(0);
  // 2 asin(y) or pi - 2 asin(y) when far; pi / 2 - asin(x) when near.
  V base = select(far, V(math::Pi<T>::high), V(math::Pi<T>::high / 2));
  V rest = select(far, V(math::Pi<T>::low), V(math::Pi<T>::low / 2));
  V sign = select(far ^ negative, V(-1), V(1));
  V twice = select(far, y + y, y), twice_tail = select(far, tail + tail, tail);
  V a = base - (sign * twice - (rest - sign * twice_tail));
  return select(far & !negative, twice + twice_tail, a);
}

// atan: largest error 1.2 ULP (float), 1.3 (double); without FMA 1.3, 1.4.
template <class T>
BACKTRAIL_INLINE Vec<T> atan(Vec<T> x) {
  using V = Vec<T>;
  V a = abs(x);
  auto far = a > V(1);
  V t = select(far, V(-1), a) / select(far, a, V(1)), z = t * t;
  V tail = fma(t * z, math::atan_polynomial(z), select(far, V(math::Pi<T>::low / 2), V(0)));
  return copysign(select(far, V(math::Pi<T>::high / 2) + (t + tail), t + tail), x);
}

// atan2: largest error 1.5 ULP.
template <class T>
BACKTRAIL_INLINE Vec<T> atan2(Vec<T> y, Vec<T> x) {
  using V = Vec<T>;
  V ax = abs(x), ay = abs(y);
  auto far = ay > ax, left = copysign(V(1), x) < V(0);
  V small = below(ax, ay), large = above(ay, ax);
  V t = select(small == large, V(1), small / large);
  t = select(small == V(0), V(0), t);
  V z = t * t, tail = t * z * math::atan_polynomial(z);
  // t, pi - t, pi / 2 - t, pi / 2 + t.
  V base = select(far, V(0.5), select(left, V(1), V(0))), sign = select(far ^ left, V(-1), V(1));
  V rest = fma(base, V(math::Pi<T>::low), sign * tail);
  V a = fma(base, V(math::Pi<T>::high), fma(sign, t, rest));
  return select(isnan(x) | isnan(y), V(__builtin_nan("")), copysign(a, y));
}

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
