// Products of attention for narrow heads: their few columns are kept in registers, one query in
// each lane; or where queries are added up, all columns of a row in one short register. Every
// element is the chain of fused multiply-adds that the general product makes of it.
#pragma once
#include <type_traits>

#include "backtrail/simd.h"
#include "kernels/attention_table.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

// D elements of T in one register.
template <class T, int D>
struct Short {
  static constexpr bool exists = false;
};
#if defined(__AVX__)
template <>
struct Short<float, 4> {
  static constexpr bool exists = true;
  using Reg = __m128;
  static Reg zero() { return _mm_setzero_ps(); }
  static Reg load(const float* p) { return _mm_loadu_ps(p); }
  static void store(Reg x, float* p) { _mm_storeu_ps(p, x); }
  static Reg fma(float a, Reg x, Reg y) { return _mm_fmadd_ps(_mm_set1_ps(a), x, y); }
};
template <>
struct Short<float, 8> {
  static constexpr bool exists = true;
  using Reg = __m256;
  static Reg zero() { return _mm256_setzero_ps(); }
  static Reg load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(Reg x, float* p) { _mm256_storeu_ps(p, x); }
  static Reg fma(float a, Reg x, Reg y) { return _mm256_fmadd_ps(_mm256_set1_ps(a), x, y); }
};
template <>
struct Short<double, 4> {
  static constexpr bool exists = true;
  using Reg = __m256d;
  static Reg zero() { return _mm256_setzero_pd(); }
  static Reg load(const double* p) { return _mm256_loadu_pd(p); }
  static void store(Reg x, double* p) { _mm256_storeu_pd(p, x); }
  static Reg fma(double a, Reg x, Reg y) { return _mm256_fmadd_pd(_mm256_set1_pd(a), x, y); }
};
#endif

// Calls f with the width as a constant; false when it is not a narrow one.
template <class T, class F>
BACKTRAIL_INLINE bool if_narrow(int64_t width, F f) {
  if constexpr (Short<T, 4>::exists)
    if (width == 4) return f(Short<T, 4>{}, std::integral_constant<int, 4>{}), true;
  if constexpr (Short<T, 8>::exists)
    if (width == 8) return f(Short<T, 8>{}, std::integral_constant<int, 8>{}), true;
  return false;
}

// out[keys, lanes] = scale * x[keys, D] @ y[rows, D].T, with 0 in the lanes past `rows`.
template <int D, class T>
void narrow_outer(int64_t keys, int64_t rows, Rows<const T> x, Rows<const T> y, T scale, T* out,
                  int64_t stride) {
  using V = Vec<T>;
  alignas(64) T columns[D][V::lanes];
  for (int c = 0; c < D; ++c) V(T(0)).store(columns[c]);
  for (int64_t r = 0; r < rows; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < D; ++c) columns[c][r] = y[r][c];
  V yt[D];
#pragma GCC unroll 8
  for (int c = 0; c < D; ++c) {
    yt[c] = V::load(columns[c]);
    if (scale != T(1)) yt[c] = yt[c] * V(scale);
  }
  for (int64_t j = 0; j < keys; ++j) {
    const T* row = x[j];
    V sum(T(0));
#pragma GCC unroll 8
    for (int c = 0; c < D; ++c) sum = fma(V(row[c]), yt[c], sum);
    sum.store(out + j * stride);
  }
}

// out[rows, D] = weights[keys, rows].T @ x[keys, D]
template <int D, class T>
void narrow_over_keys(int64_t keys, int64_t rows, const T* weights, int64_t stride, Rows<const T> x,
                      T* out, int64_t out_stride) {
  using V = Vec<T>;
  V sums[D];
#pragma GCC unroll 8
  for (int c = 0; c < D; ++c) sums[c] = V(T(0));
  for (int64_t j = 0; j < keys; ++j) {
    const V w = V::load(weights + j * stride);
    const T* row = x[j];
#pragma GCC unroll 8
    for (int c = 0; c < D; ++c) sums[c] = fma(V(row[c]), w, sums[c]);
  }
  alignas(64) T columns[D][V::lanes];
#pragma GCC unroll 8
  for (int c = 0; c < D; ++c) sums[c].store(columns[c]);
  for (int64_t r = 0; r < rows; ++r, out += out_stride)
#pragma GCC unroll 8
    for (int c = 0; c < D; ++c) out[c] = columns[c][r];
}

// out[begin ... end, D] = weights[begin ... end, rows] @ y[rows, D], added to what is there with
// `accumulate`.
template <int K, class S, class T>
BACKTRAIL_INLINE void narrow_rows(int64_t rows, const T* weights, int64_t stride, Rows<const T> y,
                                  bool accumulate, T* out, int64_t out_stride) {
  typename S::Reg sums[K];
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) sums[k] = accumulate ? S::load(out + k * out_stride) : S::zero();
  for (int64_t r = 0; r < rows; ++r) {
    const auto row = S::load(y[r]);
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) sums[k] = S::fma(weights[k * stride + r], row, sums[k]);
  }
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) S::store(sums[k], out + k * out_stride);
}
template <class S, class T>
void narrow_over_queries(int64_t begin, int64_t end, int64_t rows, const T* weights, int64_t stride,
                         Rows<const T> y, bool accumulate, Rows<T> out) {
  int64_t j = begin;
  for (; j + 8 <= end; j += 8)
    narrow_rows<8, S>(rows, weights + j * stride, stride, y, accumulate, out[j], out.stride);
  for (; j < end; ++j)
    narrow_rows<1, S>(rows, weights + j * stride, stride, y, accumulate, out[j], out.stride);
}

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
