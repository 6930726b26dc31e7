// Conversions between the lanes of Vecs, and bfloat16 in memory. Part of simd.h.
#pragma once

#include "backtrail/simd.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

// Conversion between lanes of one size: float and int32_t, double and int64_t. To integers: toward
// 0.
template <class To, class From>
BACKTRAIL_INLINE Vec<To> convert(Vec<From> x) {
  Vec<To> y;
  BACKTRAIL_EACH_REG(y.r[i] = __builtin_convertvector(x.r[i], native::Reg<To>);)
  return y;
}
// Lanes [0, 8) and [8, 16) of floats as doubles, and both rounded back.
BACKTRAIL_INLINE Vec<double> low_as_double(Vec<float> x) {
  Vec<double> y;
  BACKTRAIL_EACH_REG(y.r[i] =
                         i % 2 ? native::widen_high(x.r[i / 2]) : native::widen_low(x.r[i / 2]);)
  return y;
}
BACKTRAIL_INLINE Vec<double> high_as_double(Vec<float> x) {
  Vec<double> y;
  BACKTRAIL_EACH_REG(const int from = kRegs + i; y.r[i] = from % 2
                                                              ? native::widen_high(x.r[from / 2])
                                                              : native::widen_low(x.r[from / 2]);)
  return y;
}
BACKTRAIL_INLINE Vec<float> to_float(Vec<double> low, Vec<double> high) {
  Vec<float> y;
  if constexpr (kRegs == 1) {
    y.r[0] = native::narrow(low.r[0], high.r[0]);
  } else {
    _Pragma("GCC unroll 2") for (int i = 0; i < kRegs / 2; ++i) {
      y.r[i] = native::narrow(low.r[2 * i], low.r[2 * i + 1]);
      y.r[kRegs / 2 + i] = native::narrow(high.r[2 * i], high.r[2 * i + 1]);
    }
  }
  return y;
}

// bfloat16: the upper half of a float's bits.
BACKTRAIL_INLINE Vec<float> load_bf16(const uint16_t* p) {
  Vec<int32_t> bits;
  BACKTRAIL_EACH_REG(bits.r[i] = native::load_u16(p + i * Vec<float>::kLanesPerReg);)
  return (bits << 16).bits_as<float>();
}
// Rounds to the nearest even; NaN stays NaN, made quiet.
BACKTRAIL_INLINE void store_bf16(Vec<float> x, uint16_t* p) {
  using I = Vec<int32_t>;
  I bits = x.bits_as<int32_t>(), odd = (bits >> 16) & I(1);
  I y = select(isnan(x), bits | I(1 << 22), bits + odd + I(0x7FFF)) >> 16;
  BACKTRAIL_EACH_REG(native::store_u16(p + i * Vec<float>::kLanesPerReg, y.r[i]);)
}
BACKTRAIL_INLINE Vec<float> load_bf16(const uint16_t* p, int64_t n) {
  uint16_t all[Vec<float>::lanes] = {};
  for (int64_t i = 0; i < n; ++i) all[i] = p[i];
  return load_bf16(all);
}
BACKTRAIL_INLINE void store_bf16(Vec<float> x, uint16_t* p, int64_t n) {
  uint16_t all[Vec<float>::lanes];
  store_bf16(x, all);
  for (int64_t i = 0; i < n; ++i) p[i] = all[i];
}

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
