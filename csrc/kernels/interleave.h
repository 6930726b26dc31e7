// Every second element, and two vectors alternately; loads and stores of as much as is left.
#pragma once
#include <cstddef>
#include <utility>

#include "backtrail/simd.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

template <class V>
using LanesOfReg = std::make_index_sequence<V::kLanesPerReg>;

template <int First, class Reg, size_t... I>
BACKTRAIL_INLINE Reg every_other(Reg a, Reg b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, (2 * I + First)...);
}
// Elements First, First + 2, ... of a and b behind each other.
template <int First, class V>
BACKTRAIL_INLINE V every_other(V a, V b) {
  typename V::Reg all[2 * kRegs];
  V y;
  for (int i = 0; i < kRegs; ++i) all[i] = a.r[i], all[kRegs + i] = b.r[i];
  BACKTRAIL_EACH_REG(y.r[i] = every_other<First>(all[2 * i], all[2 * i + 1], LanesOfReg<V>());)
  return y;
}

template <int Half, class Reg, size_t... I>
BACKTRAIL_INLINE Reg alternate(Reg a, Reg b, std::index_sequence<I...>) {
  constexpr size_t n = sizeof...(I);
  return __builtin_shufflevector(a, b, (Half * n / 2 + I / 2 + I % 2 * n)...);
}
// a[0], b[0], a[1], b[1], ... as two vectors.
template <class V>
BACKTRAIL_INLINE void alternate(V a, V b, V& first, V& second) {
  typename V::Reg all[2 * kRegs];
  BACKTRAIL_EACH_REG(all[2 * i] = alternate<0>(a.r[i], b.r[i], LanesOfReg<V>());
                     all[2 * i + 1] = alternate<1>(a.r[i], b.r[i], LanesOfReg<V>());)
  for (int i = 0; i < kRegs; ++i) first.r[i] = all[i], second.r[i] = all[kRegs + i];
}

// The first n elements, all of them when n >= lanes; the others load as 0. n may be 0 or less.
template <class V>
BACKTRAIL_INLINE V load_upto(const typename V::Scalar* p, int64_t n) {
  return n >= V::lanes ? V::load(p) : n > 0 ? V::load(p, n) : V(0);
}
template <class V>
BACKTRAIL_INLINE void store_upto(V x, typename V::Scalar* p, int64_t n) {
  if (n >= V::lanes)
    x.store(p);
  else if (n > 0)
    x.store(p, n);
}

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
