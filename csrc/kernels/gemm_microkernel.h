// The register tile of a matrix product: R rows by N vectors of c, held in registers over all of k.
#pragma once
#include "backtrail/simd.h"
#include "kernels/gemm_table.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

// How two elements are multiplied and added to a sum, and how large tiles may be for it: so that
// accumulators, one row of b and a broadcast fit the register file.
template <class T>
struct Fused {
#if defined(__AVX512F__)
  static constexpr int kRows = 14, kVectors = 28, kWideVectors = 24;
#elif defined(__AVX__) || defined(__aarch64__)
  static constexpr int kRows = 6, kVectors = 6, kWideVectors = 6;
#else
  static constexpr int kRows = 3, kVectors = 3, kWideVectors = 3;
#endif
  static BACKTRAIL_INLINE Vec<T> add(Vec<T> x, Vec<T> y, Vec<T> sum) { return fma(x, y, sum); }
};
constexpr int kTileCols = 8;  // most vectors across, for few rows

template <class M>
constexpr bool tile_fits(int rows, int vectors) {
  return rows * vectors <= (vectors > 2 ? M::kWideVectors : M::kVectors);
}

// Most vectors across for a tile of this many rows: a power of two.
template <class M>
constexpr int tile_vectors(int rows) {
  int n = 1;
  while (2 * n <= kTileCols && tile_fits<M>(rows, 2 * n)) n *= 2;
  return n;
}

// p + step, hidden from the optimiser: it would compute the address of every row beforehand, and
// spill them.
template <class P>
BACKTRAIL_INLINE P advance(P p, int64_t step) {
  p += step;
  asm("" : "+r"(p));
  return p;
}

// One tile at (a, b, c, first, bias); `last` is the length of its last vector, of `lanes` unless
// Partial.
template <class T, class M, int R, int N, bool Partial>
void tile(const GemmBlock<T>& g, const T* a, int64_t a_rs, int64_t a_cs, const T* b, T* c,
          const T* first, const T* bias, int64_t last) {
  using V = Vec<T>;
  constexpr int kGroup = 3;  // rows that share a pointer: p, p + rs, p + 2 rs are all addressable
  constexpr int kGroups = (R + kGroup - 1) / kGroup;
  const int64_t b_rs = g.b_rs, b_vs = g.b_vs, c_rs = g.c_rs;
  auto load = [last](const T* p, int v) __attribute__((always_inline)) {
    return Partial && v == N - 1 ? V::load(p, last) : V::load(p);
  };

  V acc[R][N];
  if (g.start == Start::chain) {
    const T* row = c;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r, row = advance(row, c_rs))
#pragma GCC unroll 16
      for (int v = 0; v < N; ++v) acc[r][v] = load(row + v * V::lanes, v);
  } else {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int v = 0; v < N; ++v) acc[r][v] = first ? V(first[r]) : V(T(0));
  }

  const int64_t run = g.a_runs ? g.run : g.k, *next = g.a_runs;
  for (int64_t p = 0; p < g.k; p += run) {
    const T* rows[kGroups];
    rows[0] = next ? a + *next++ : a;
#pragma GCC unroll 16
    for (int i = 1; i < kGroups; ++i) rows[i] = rows[0] + i * kGroup * a_rs;
    for (int64_t left = run; left > 0; --left) {
      V x[N];
#pragma GCC unroll 16
      for (int v = 0; v < N; ++v) x[v] = load(b + v * b_vs, v);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        V y(rows[r / kGroup][r % kGroup * a_rs]);
#pragma GCC unroll 16
        for (int v = 0; v < N; ++v) acc[r][v] = M::add(y, x[v], acc[r][v]);
      }
      b += b_rs;
#pragma GCC unroll 16
      for (int i = 0; i < kGroups; ++i) rows[i] += a_cs;
    }
  }

  if (g.start == Start::sum) {
    const T* row = c;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r, row = advance(row, c_rs))
#pragma GCC unroll 16
      for (int v = 0; v < N; ++v) acc[r][v] = load(row + v * V::lanes, v) + acc[r][v];
  }
  if (bias) {
#pragma GCC unroll 16
    for (int v = 0; v < N; ++v) {
      V x = load(bias + v * V::lanes, v);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) acc[r][v] = acc[r][v] + x;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r, c = advance(c, c_rs))
#pragma GCC unroll 16
    for (int v = 0; v < N; ++v) {
      if (Partial && v == N - 1)
        acc[r][v].store(c + v * V::lanes, last);
      else
        acc[r][v].store(c + v * V::lanes);
    }
}

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
