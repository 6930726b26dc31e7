// Pooling for one instruction set. Windows of 2 x 2 side by side, the usual ones, by vectors.
#include <cstddef>
#include <utility>

#include "backtrail/simd.h"
#include "kernels/pool_table.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace {

template <class V>
using Lanes = std::make_index_sequence<V::kLanesPerReg>;

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
  BACKTRAIL_EACH_REG y.r[i] = every_other<First>(all[2 * i], all[2 * i + 1], Lanes<V>());
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
  BACKTRAIL_EACH_REG {
    all[2 * i] = alternate<0>(a.r[i], b.r[i], Lanes<V>());
    all[2 * i + 1] = alternate<1>(a.r[i], b.r[i], Lanes<V>());
  }
  for (int i = 0; i < kRegs; ++i) first.r[i] = all[i], second.r[i] = all[kRegs + i];
}

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

// The larger of two in torch's order: a NaN counts as larger, the first of equals stays.
template <class V, class I>
BACKTRAIL_INLINE void keep_larger(V& best, I& place, V x, I at) {
  const auto larger = (x > best) | isnan(x);
  best = select(larger, x, best);
  place = select(larger, at, place);
}

void max_of_four(const PoolShape& s, const float* x, float* y, int32_t* where) {
  using V = Vec<float>;
  using I = Vec<int32_t>;
  const int64_t width = s.w.size;
  for (int64_t r = 0; r < s.h.out; ++r, y += s.w.out, where += s.w.out) {
    const float* row = x + 2 * r * width;
    for (int64_t j = 0; j < s.w.out; j += V::lanes) {
      const int64_t n = s.w.out - j, left = 2 * n;
      const V a = load_upto<V>(row + 2 * j, left);
      const V b = load_upto<V>(row + 2 * j + V::lanes, left - V::lanes);
      const V c = load_upto<V>(row + width + 2 * j, left);
      const V d = load_upto<V>(row + width + 2 * j + V::lanes, left - V::lanes);
      I at = I(int32_t(2 * r * width + 2 * j)) + I::iota() + I::iota(), place = at;
      V best = every_other<0>(a, b);
      keep_larger(best, place, every_other<1>(a, b), at + I(1));
      at += I(int32_t(width));
      keep_larger(best, place, every_other<0>(c, d), at);
      keep_larger(best, place, every_other<1>(c, d), at + I(1));
      store_upto(best, y + j, n);
      store_upto(place, where + j, n);
    }
  }
}

template <class T>
void max(const PoolShape& s, const T* x, T* y, int32_t* where) {
  if constexpr (sizeof(T) == 4)
    if (s.h.halves() && s.w.halves()) return max_of_four(s, x, y, where);
  for (int64_t r = 0; r < s.h.out; ++r) {
    const int64_t top = s.h.begin(r), bottom = s.h.end(r);
    for (int64_t c = 0; c < s.w.out; ++c) {
      const int64_t left = s.w.begin(c), right = s.w.end(c);
      const bool empty = top >= bottom || left >= right;
      T best = -T(__builtin_inf());
      int64_t place = empty ? -1 : top * s.w.size + left;
      for (int64_t i = top; i < bottom; i += s.h.dilation)
        for (int64_t j = left; j < right; j += s.w.dilation) {
          const int64_t at = i * s.w.size + j;
          const bool larger = x[at] > best || x[at] != x[at];
          best = larger ? x[at] : best;
          place = larger ? at : place;
        }
      *y++ = best;
      *where++ = int32_t(place);
    }
  }
}

template <class T>
void zero(T* x, int64_t n) {
  __builtin_memset(x, 0, size_t(n) * sizeof(T));
}

void max_of_four_backward(const PoolShape& s, const float* g, const int32_t* where, float* dx) {
  using V = Vec<float>;
  using I = Vec<int32_t>;
  const int64_t width = s.w.size;
  for (int64_t r = 0; r < s.h.out; ++r, g += s.w.out, where += s.w.out) {
    float* row = dx + 2 * r * width;
    for (int64_t j = 0; j < s.w.out; j += V::lanes) {
      const int64_t n = s.w.out - j, left = 2 * n;
      const V grad = load_upto<V>(g + j, n);
      const I place = load_upto<I>(where + j, n);
      I at = I(int32_t(2 * r * width + 2 * j)) + I::iota() + I::iota();
      V first, second;
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i, at += I(int32_t(width))) {
        float* to = row + i * width + 2 * j;
        alternate(select(place == at, grad, V(0)), select(place == at + I(1), grad, V(0)), first,
                  second);
        store_upto(first, to, left);
        store_upto(second, to + V::lanes, left - V::lanes);
      }
    }
    if (width > 2 * s.w.out) {
      zero(row + 2 * s.w.out, width - 2 * s.w.out);
      zero(row + width + 2 * s.w.out, width - 2 * s.w.out);
    }
  }
  zero(dx + 2 * s.h.out * width, (s.h.size - 2 * s.h.out) * width);
}

template <class T>
void max_backward(const PoolShape& s, const T* g, const int32_t* where, T* dx) {
  if constexpr (sizeof(T) == 4)
    if (s.h.halves() && s.w.halves()) return max_of_four_backward(s, g, where, dx);
  zero(dx, s.in());
  for (int64_t i = 0; i < s.out(); ++i)
    if (where[i] >= 0) dx[where[i]] += g[i];
}

template <class T>
T divisor(const PoolShape& s, int64_t r, int64_t c) {
  if (s.divisor) return T(s.divisor);
  if (s.count_padding) return T(s.h.length(r) * s.w.length(c));
  return T((s.h.end(r) - s.h.begin(r)) * (s.w.end(c) - s.w.begin(c)));
}

template <class T>
void mean(const PoolShape& s, const T* x, T* y) {
  for (int64_t r = 0; r < s.h.out; ++r) {
    const int64_t top = s.h.begin(r), bottom = s.h.end(r);
    for (int64_t c = 0; c < s.w.out; ++c) {
      const int64_t left = s.w.begin(c), right = s.w.end(c);
      T sum = 0;
      for (int64_t i = top; i < bottom; ++i)
        for (int64_t j = left; j < right; ++j) sum += x[i * s.w.size + j];
      *y++ = sum / divisor<T>(s, r, c);
    }
  }
}

template <class T>
void mean_backward(const PoolShape& s, const T* g, T* dx) {
  zero(dx, s.in());
  for (int64_t r = 0; r < s.h.out; ++r) {
    const int64_t top = s.h.begin(r), bottom = s.h.end(r);
    for (int64_t c = 0; c < s.w.out; ++c) {
      const int64_t left = s.w.begin(c), right = s.w.end(c);
      const T share = *g++ / divisor<T>(s, r, c);
      for (int64_t i = top; i < bottom; ++i)
        for (int64_t j = left; j < right; ++j) dx[i * s.w.size + j] += share;
    }
  }
}

}  // namespace

extern const PoolTable<float> pool_f32;
extern const PoolTable<double> pool_f64;
const PoolTable<float> pool_f32 = {max<float>, max_backward<float>, mean<float>,
                                   mean_backward<float>};
const PoolTable<double> pool_f64 = {max<double>, max_backward<double>, mean<double>,
                                    mean_backward<double>};

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
