// Products with few rows: every element is a dot product of `lanes` interleaved chains of fused
// multiply-adds, number l over the p of k with p % lanes == l, joined by the tree of reduce_add.
#pragma once
#include <cstddef>

#include "backtrail/simd.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

constexpr int kThinRows = 4;
// Columns of b at once, for 1 to 4 rows of a: what the register file holds.
#if defined(__AVX512F__)
constexpr int kThinColumns[kThinRows] = {8, 8, 8, 4};
#elif defined(__AVX__) || defined(__aarch64__)
constexpr int kThinColumns[kThinRows] = {4, 2, 2, 1};
#else
constexpr int kThinColumns[kThinRows] = {2, 1, 1, 1};
#endif

// out[r][c] for R rows of a and C columns of b, both contiguous.
template <class T, class M, int R, int C>
BACKTRAIL_INLINE void dots_tile(int64_t k, const T* a, int64_t a_rs, const T* b, int64_t b_cs,
                                T* out, int64_t out_rs) {
  using V = Vec<T>;
  V sum[R][C];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) sum[r][c] = V(T(0));
  auto add = [&](auto load) __attribute__((always_inline)) {
    V x[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) x[r] = load(a + r * a_rs);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      const V y = load(b + c * b_cs);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) sum[r][c] = M::add(x[r], y, sum[r][c]);
    }
  };
  int64_t p = 0;
  for (; p + V::lanes <= k; p += V::lanes)
    add([p](const T* from) __attribute__((always_inline)) { return V::load(from + p); });
  if (p < k)
    add([ p, k ](const T* from)
            __attribute__((always_inline)) { return V::load(from + p, k - p); });
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) out[r * out_rs + c] = reduce_add(sum[r][c]) + T(0);  // no -0
}

template <class T, class M, int R>
void dots_of(int64_t n, int64_t k, const T* a, int64_t a_rs, const T* b, int64_t b_cs, T* out,
             int64_t out_rs) {
  constexpr int C = kThinColumns[R - 1];
  int64_t j = 0;
  for (; j + C <= n; j += C) dots_tile<T, M, R, C>(k, a, a_rs, b + j * b_cs, b_cs, out + j, out_rs);
  for (; j < n; ++j) dots_tile<T, M, R, 1>(k, a, a_rs, b + j * b_cs, b_cs, out + j, out_rs);
}

template <class T, class M>
void dots(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_rs, const T* b, int64_t b_cs,
          T* out, int64_t out_rs) {
  switch (m) {
    case 1: return dots_of<T, M, 1>(n, k, a, a_rs, b, b_cs, out, out_rs);
    case 2: return dots_of<T, M, 2>(n, k, a, a_rs, b, b_cs, out, out_rs);
    case 3: return dots_of<T, M, 3>(n, k, a, a_rs, b, b_cs, out, out_rs);
    default: return dots_of<T, M, 4>(n, k, a, a_rs, b, b_cs, out, out_rs);
  }
}

// sums[r][l][v] += a[r][l + i * lanes] * b[l + i * lanes][v] for i < U, l < count and the vectors
// v.
template <class T, class M, int R, int U>
BACKTRAIL_INLINE void add_rows(int64_t count, int64_t n, const T* a, int64_t a_rs, const T* b,
                               int64_t b_rs, T* sums, int64_t width) {
  using V = Vec<T>;
  constexpr int64_t lanes = V::lanes;
  for (int64_t l = 0; l < count; ++l, b += b_rs, sums += width) {
    V x[R][U];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int i = 0; i < U; ++i) x[r][i] = V(a[r * a_rs + l + i * lanes]);
    for (int64_t j = 0; j < n; j += lanes) {
      V y[U];
#pragma GCC unroll 4
      for (int i = 0; i < U; ++i) {
        const T* from = b + i * lanes * b_rs + j;
        y[i] = n - j < lanes ? V::load(from, n - j) : V::load(from);
      }
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        T* to = sums + r * lanes * width + j;
        V s = V::load(to);
#pragma GCC unroll 4
        for (int i = 0; i < U; ++i) s = M::add(x[r][i], y[i], s);
        s.store(to);
      }
    }
  }
}

// The same for a b whose rows are contiguous: the chains of `width` columns are kept in `sums`; for
// a single row as many as fit the L2 cache, as memory is read best in long runs.
template <class T, class M, int R>
void row_sums_of(int64_t n, int64_t k, const T* a, int64_t a_rs, const T* b, int64_t b_rs, T* out,
                 int64_t out_rs, T* sums) {
  using V = Vec<T>;
  constexpr int64_t lanes = V::lanes, most = (R == 1 ? 256 : 16 / R) * lanes, unroll = 4;
  const int64_t width = n < most ? (n + lanes - 1) / lanes * lanes : most;
  for (int64_t j = 0; j < n; j += width, b += width) {
    const int64_t cols = n - j < width ? n - j : width;
    __builtin_memset(sums, 0, size_t(R * lanes * width) * sizeof(T));
    int64_t p = 0;
    for (; p + unroll * lanes <= k; p += unroll * lanes)
      add_rows<T, M, R, unroll>(lanes, cols, a + p, a_rs, b + p * b_rs, b_rs, sums, width);
    for (; p < k; p += lanes)
      add_rows<T, M, R, 1>(k - p < lanes ? k - p : lanes, cols, a + p, a_rs, b + p * b_rs, b_rs,
                           sums, width);
    for (int r = 0; r < R; ++r)
      for (int64_t v = 0; v < cols; v += lanes) {
        const T* from = sums + r * lanes * width + v;
        V s[lanes];
#pragma GCC unroll 16
        for (int l = 0; l < lanes; ++l) s[l] = V::load(from + l * width);
#pragma GCC unroll 4
        for (int half = lanes / 2; half > 0; half /= 2)
#pragma GCC unroll 8
          for (int l = 0; l < half; ++l) s[l] = s[l] + s[l + half];
        s[0] = s[0] + V(T(0));
        T* to = out + r * out_rs + j + v;
        if (cols - v < lanes)
          s[0].store(to, cols - v);
        else
          s[0].store(to);
      }
  }
}

template <class T, class M>
void row_sums(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_rs, const T* b, int64_t b_rs,
              T* out, int64_t out_rs, T* sums) {
  switch (m) {
    case 1: return row_sums_of<T, M, 1>(n, k, a, a_rs, b, b_rs, out, out_rs, sums);
    case 2: return row_sums_of<T, M, 2>(n, k, a, a_rs, b, b_rs, out, out_rs, sums);
    case 3: return row_sums_of<T, M, 3>(n, k, a, a_rs, b, b_rs, out, out_rs, sums);
    default: return row_sums_of<T, M, 4>(n, k, a, a_rs, b, b_rs, out, out_rs, sums);
  }
}

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
