// Elementary functions of Vec<float> and Vec<double>, right for NaN, infinities, denormals and -0.
//
// Branch-free, but for sin, cos and tan of huge angles. Each function states its largest error in
// ULP over its whole range, found by comparing all floats (or every ninth) and 20 million doubles
// with wider arithmetic. The bits are the same on AVX2, AVX-512 and NEON; without FMA they differ,
// and the error is stated apart where it is larger.
#pragma once

#include "backtrail/logistic.h"
#include "backtrail/vmath_divide.h"
#include "backtrail/vmath_erf.h"
#include "backtrail/vmath_exp.h"
#include "backtrail/vmath_log.h"
#include "backtrail/vmath_trig.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

// rsqrt = 1 / sqrt(x): largest error 1.5 ULP.
template <class T>
BACKTRAIL_INLINE Vec<T> rsqrt(Vec<T> x) {
  return Vec<T>(1) / sqrt(x);
}

template <class T>
BACKTRAIL_INLINE Vec<T> sigmoid(Vec<T> x) {
  return meta::logistic(x);
}
template <class T>
BACKTRAIL_INLINE Vec<T> logsigmoid(Vec<T> x) {
  return meta::log_logistic(x);
}

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
