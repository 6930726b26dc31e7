// Convolution by filters of one channel: too thin for matrix products.
#pragma once
#include "backtrail/simd.h"
#include "kernels/conv_table.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

// R rows of outputs at once, so that their chains of multiply-adds overlap.
template <class T, int R>
BACKTRAIL_INLINE void depthwise_rows(const ConvWindow& w, const ConvTaps& t, const T* window,
                                     const T* filter, T first, bool accumulate, T* y, int64_t ld) {
  using V = Vec<T>;
  const int64_t step = t.row_step(w);
  for (int64_t x = 0; x < t.out_cols; x += V::lanes) {
    const int64_t n = t.out_cols - x;
    V sum[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const T* from = y + r * ld + x;
      sum[r] = !accumulate ? V(first) : n < V::lanes ? V::load(from, n) : V::load(from);
    }
    const T* f = filter;
    for (int64_t i = 0; i < t.kernel_h; ++i)
      for (int64_t j = 0; j < t.kernel_w; ++j, ++f) {
        const T* from = window + t.at(w, i, j) + x;
        const V factor(*f);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) sum[r] = fma(factor, V::load(from + r * step), sum[r]);
      }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      if (n < V::lanes)
        sum[r].store(y + r * ld + x, n);
      else
        sum[r].store(y + r * ld + x);
    }
  }
}

template <class T>
void depthwise(const ConvWindow& w, const ConvTaps& t, const T* window, const T* filter, T first,
               bool accumulate, T* y, int64_t ld) {
  constexpr int kRows = 4;
  int64_t r = 0;
  for (; r + kRows <= t.out_rows; r += kRows)
    depthwise_rows<T, kRows>(w, t, window + r * t.row_step(w), filter, first, accumulate,
                             y + r * ld, ld);
  for (; r < t.out_rows; ++r)
    depthwise_rows<T, 1>(w, t, window + r * t.row_step(w), filter, first, accumulate, y + r * ld,
                         ld);
}

template <class T>
void depthwise_scatter(const ConvWindow& w, const ConvTaps& t, const T* g, int64_t ld,
                       const T* filter, T* window) {
  using V = Vec<T>;
  for (int64_t i = 0; i < t.kernel_h; ++i)
    for (int64_t j = 0; j < t.kernel_w; ++j, ++filter) {
      const V factor(*filter);
      for (int64_t r = 0; r < t.out_rows; ++r) {
        T* to = window + t.at(w, i, j) + r * t.row_step(w);
        const T* from = g + r * ld;
        int64_t x = 0;
        for (; x + V::lanes <= t.out_cols; x += V::lanes)
          fma(factor, V::load(from + x), V::load(to + x)).store(to + x);
        if (const int64_t n = t.out_cols - x)
          fma(factor, V::load(from + x, n), V::load(to + x, n)).store(to + x, n);
      }
    }
}

// N taps from the `tap`-th on.
template <class T, int N>
BACKTRAIL_INLINE void depthwise_taps(const ConvWindow& w, const ConvTaps& t, const T* window,
                                     const T* g, int64_t ld, int64_t tap, T* sums) {
  using V = Vec<T>;
  const T* from[N];
  V sum[N];
#pragma GCC unroll 9
  for (int k = 0; k < N; ++k) {
    from[k] = window + t.at(w, (tap + k) / t.kernel_w, (tap + k) % t.kernel_w);
    sum[k] = V(T(0));
  }
  for (int64_t r = 0, row = 0; r < t.out_rows; ++r, row += t.row_step(w), g += ld) {
    int64_t x = 0;
    for (; x + V::lanes <= t.out_cols; x += V::lanes) {
      const V grad = V::load(g + x);
#pragma GCC unroll 9
      for (int k = 0; k < N; ++k) sum[k] = fma(grad, V::load(from[k] + row + x), sum[k]);
    }
    if (const int64_t n = t.out_cols - x) {
      const V grad = V::load(g + x, n);
#pragma GCC unroll 9
      for (int k = 0; k < N; ++k) sum[k] = fma(grad, V::load(from[k] + row + x, n), sum[k]);
    }
  }
#pragma GCC unroll 9
  for (int k = 0; k < N; ++k) sums[tap + k] += reduce_add(sum[k]);
}

template <class T>
void depthwise_weight(const ConvWindow& w, const ConvTaps& t, const T* window, const T* g,
                      int64_t ld, T* sums) {
  int64_t tap = 0;
  for (; tap + 9 <= t.count(); tap += 9) depthwise_taps<T, 9>(w, t, window, g, ld, tap, sums);
  for (; tap + 3 <= t.count(); tap += 3) depthwise_taps<T, 3>(w, t, window, g, ld, tap, sums);
  for (; tap < t.count(); ++tap) depthwise_taps<T, 1>(w, t, window, g, ld, tap, sums);
}

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
