// The error functions of vmath.h.
#pragma once

#include "backtrail/vmath_exp.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace math {

// erf(x) = x + x p(x^2) for |x| <= 1, to 2^-29.4 and 2^-56.0.
BACKTRAIL_INLINE Vec<float> erf_polynomial(Vec<float> z) {
  return polynomial(z, 0.12837917, -0.37612626, 0.11283579, -0.026853347, 0.005187162,
                    -0.0007997853, 7.806903e-05);
}
BACKTRAIL_INLINE Vec<double> erf_polynomial(Vec<double> z) {
  return polynomial(z, 0.12837916709551256, -0.37612638903183415, 0.11283791670942495,
                    -0.026866170643154354, 0.005223977608244308, -0.0008548326088073679,
                    0.0001205529944354648, -1.4924838919061357e-05, 1.6448802210815473e-06,
                    -1.6219607553185631e-07, 1.3769661171613208e-08, -7.889942047952855e-10);
}

// erfc(y) for y in [0.645, 28]: exp(-y^2) r p(t) with r = 1 / (y + 1), t = 3.5 r - 1.125; p to
// 2^-54.9. The factor r p(t) is erfc's scaled form, smooth in r from 0.04 to 0.6.
BACKTRAIL_INLINE Vec<double> erfc_far(Vec<double> y) {
  using V = Vec<double>;
  V square = y * y, square_low = product_error(y, y, square);
  const V integer(Real<double>::kInteger);
  V n = fma(square, V(-kLog2E), integer) - integer;
  V first = fma(n, V(-Ln2<double>::high), -square);
  V second = fma(n, V(Ln2<double>::low), square_low);
  V s = first - second, rest = (first - s) - second;
  V e_tail = s + fma(s * s, exp_polynomial(s), fma(rest, s, rest)), e = V(1) + e_tail;
  V d = y + V(1), d_low = V(1) - (d - y), r = V(1) / d;
  V r_error = fma(-d_low, r, fma(-d, r, V(1)));  // of 1 / (y + 1), relative to r
  const V p0(0.7591891298174532);
  V t = fma(r, V(3.5), V(-1.125));
  V p_tail = t * polynomial(t, 0.16875405609764516, -0.018859448005624915, -0.010893416276349509,
                            0.0033683189740372093, 0.0005215208732193081, -0.0006005181845104498,
                            0.00012633599412315951, 4.92424587070828e-05, -4.3519943850603524e-05,
                            1.1197172617728462e-05, 2.972959840513369e-06, -3.915139560051085e-06,
                            1.5635222388945101e-06, -4.005500365290455e-08, -3.370549726852965e-07,
                            2.1682183785764677e-07, -6.243765000350473e-08, -2.2919993624562102e-09,
                            2.2140254002142788e-08, -2.4629887675834625e-08, 7.3824014659777646e-09,
                            6.962360834631175e-09, -4.333101563566961e-09, -6.270984767678275e-10,
                            6.177448878368941e-10);
  V p = p0 + p_tail;
  // e p r, the first product with its error and those of its factors.
  V ep = e * p, ep_low = product_error(e, p, ep);
  ep_low = ep_low + fma(e, (p0 - p) + p_tail, ((V(1) - e) + e_tail) * p);
  return scale(fma(r, ep, r * fma(ep, r_error, ep_low)), n);
}

}  // namespace math

// erf: largest error 1.1 ULP; without FMA 1.4.
BACKTRAIL_INLINE Vec<float> erf(Vec<float> x) {
  using V = Vec<float>;
  V y = below(V(4), abs(x));
  V near = fma(y, math::erf_polynomial(y * y), y);
  // 1 - exp(-p(y)) for y in [1, 4], to 2^-29.8.
  V p = math::polynomial(y, 0.00035373785, 1.1270399, 0.638226, 0.10303704, -0.02180512,
                         0.0029395467, -0.00018556647);
  auto [n, r] = math::reduce_ln2(-p);
  V far = V(1) - math::scale_normal(math::exp_near_0(r), n);
  return copysign(select(y < V(1), near, far), x);
}
BACKTRAIL_INLINE Vec<double> erf(Vec<double> x) {
  using V = Vec<double>;
  V y = below(V(6), abs(x));
  V near = fma(y, math::erf_polynomial(y * y), y);
  return copysign(select(y < V(1), near, V(1) - math::erfc_far(y)), x);
}

// erfc: largest error 0.51 ULP (float), 1.8 (double); without FMA 0.51, 2.6.
BACKTRAIL_INLINE Vec<double> erfc(Vec<double> x) {
  using V = Vec<double>;
  V y = below(V(28), abs(x));
  V near = (V(1) - x) - x * math::erf_polynomial(x * x);
  V far = math::erfc_far(y);
  return select(y < V(0.65), near, select(x < V(0), V(2) - far, far));
}
BACKTRAIL_INLINE Vec<float> erfc(Vec<float> x) {
  return math::in_double([](auto v) BACKTRAIL_ALWAYS_INLINE { return erfc(v); }, x);
}

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
