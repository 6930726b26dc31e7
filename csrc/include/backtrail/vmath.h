// Elementary functions of Vec<float> and Vec<double>, branch-free, right for NaN, infinities,
// denormals and -0.
//
// Each states its largest error in ULP over its whole range where fma() is fused (AVX2, AVX-512,
// NEON). The same bits on all of those; without FMA the error may be larger by up to half an ULP.
#pragma once

#include "backtrail/vmath_erf.h"
#include "backtrail/vmath_exp.h"
#include "backtrail/vmath_log.h"
#include "backtrail/vmath_trig.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

// rsqrt = 1 / sqrt(x): largest error 1 ULP.
template <class T>
BACKTRAIL_INLINE Vec<T> rsqrt(Vec<T> x) {
  return Vec<T>(1) / sqrt(x);
}

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
