// The loops over the tiles of a block, and the table of a way to multiply and add.
#pragma once
#include "kernels/gemm_pack.h"
#include "kernels/gemm_thin.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

template <class T>
using Tile = void (*)(const GemmBlock<T>&, const T*, int64_t, int64_t, const T*, T*, const T*,
                      const T*, int64_t);

// Every tile that fits, by rows - 1, log2(vectors) and whether the last vector is short.
template <class T, class M>
struct Tiles {
  Tile<T> at[M::kRows][4][2];
  int most[M::kRows];  // log2 of the widest

  template <int R, int L>
  constexpr void fill() {
    constexpr int N = 1 << L;
    if constexpr (N <= tile_vectors<M>(R)) {
      at[R - 1][L][0] = tile<T, M, R, N, false>;
      at[R - 1][L][1] = tile<T, M, R, N, true>;
      most[R - 1] = L;
      if constexpr (L < 3) fill<R, L + 1>();
    }
    if constexpr (L == 0 && R < M::kRows) fill<R + 1, 0>();
  }
  constexpr Tiles() : at{}, most{} { fill<1, 0>(); }
};
template <class T, class M>
constexpr Tiles<T, M> kTiles;

constexpr int64_t kFinishedAtOnce = 16384;  // elements: half of the L2 cache is left to b
constexpr int64_t kPrefetchDepth = 64;      // below this a tile is too short to hide a fetch

// A row of an outer product, all of its columns one after another: a tile would have too little to
// do.
template <class T, class M>
void outer_row(const GemmBlock<T>& g, T a, T* c) {
  using V = Vec<T>;
  const V x(a), zero(T(0));
  const T* b = g.b;
  int64_t j = 0;
  for (; j + V::lanes <= g.n; j += V::lanes) M::add(x, V::load(b + j), zero).store(c + j);
  if (int64_t rest = g.n - j; rest > 0) M::add(x, V::load(b + j, rest), zero).store(c + j, rest);
}

template <class T, class M>
void block(const GemmBlock<T>& g) {
  static_assert(M::kRows <= kPackRows, "pack_a copies kPackRows at once");
  constexpr int64_t lanes = Vec<T>::lanes;
  const bool outer =
      g.k == 1 && g.b_vs == lanes && g.start == Start::zero && !g.first && !g.bias && !g.a_runs;
  int64_t finished = 0;  // rows of c that `after` has seen
  for (int64_t i = 0, rows; i < g.m; i += rows) {
    rows = g.m - i;
    if (rows > M::kRows) {  // even panels: no thin one at the end
      const int64_t panels = (rows + M::kRows - 1) / M::kRows;
      rows = (rows + panels - 1) / panels;
    }
    const T* a = g.a + i * g.a_rs;
    int64_t a_rs = g.a_rs, a_cs = g.a_cs;
    if (g.a_panel) {
      pack_a(rows, g.k, a, a_rs, a_cs, g.a_panel);
      a = g.a_panel;
    }
    T* c = g.c + i * g.c_rs;
    for (int64_t r = 0; outer && r < rows; ++r) outer_row<T, M>(g, a[r * a_rs], c + r * g.c_rs);
    const auto& tiles = kTiles<T, M>.at[rows - 1];
    const int most = kTiles<T, M>.most[rows - 1];
    for (int64_t j = 0; !outer && j < g.n;) {
      const int64_t left = g.n - j;
      int log = most;
      while (log > 0 && ((int64_t(1) << log) - 1) * lanes >= left) --log;
      const int64_t width = lanes << log;
      if (g.k >= kPrefetchDepth)  // the next tile of c, while this one is computed
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t v = 0; v < width; v += lanes)
            __builtin_prefetch(c + r * g.c_rs + j + width + v, 1);
      const bool partial = width > left;
      tiles[log][partial](g, a, a_rs, a_cs, g.b + j / lanes * g.b_vs, c + j,
                          g.first ? g.first + i : nullptr, g.bias ? g.bias + j : nullptr,
                          partial ? left - (width - lanes) : lanes);
      j += width;
    }
    const int64_t done = i + rows;
    if (g.after && (done == g.m || (done - finished) * g.n >= kFinishedAtOnce)) {
      g.after(g.context, g.c + finished * g.c_rs, g.c_rs, done - finished, g.n);
      finished = done;
    }
  }
}

template <class T, class M>
T dot(int64_t k, const T* a, int64_t as, const T* b, int64_t bs) {
  using V = Vec<T>;
  constexpr int64_t lanes = V::lanes;
  V sum[4] = {V(T(0)), V(T(0)), V(T(0)), V(T(0))};
  T gathered[2][4 * lanes];
  for (int64_t p = 0; p < k; p += 4 * lanes) {
    int64_t left = k - p < 4 * lanes ? k - p : 4 * lanes;
    const T *x = a + p * as, *y = b + p * bs;
    if (as != 1) {
      for (int64_t i = 0; i < left; ++i) gathered[0][i] = x[i * as];
      x = gathered[0];
    }
    if (bs != 1) {
      for (int64_t i = 0; i < left; ++i) gathered[1][i] = y[i * bs];
      y = gathered[1];
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      int64_t rest = left - i * lanes;
      if (rest >= lanes)
        sum[i] = M::add(V::load(x + i * lanes), V::load(y + i * lanes), sum[i]);
      else if (rest > 0)
        sum[i] = M::add(V::load(x + i * lanes, rest), V::load(y + i * lanes, rest), sum[i]);
    }
  }
  return reduce_add((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

template <class T, class M = Fused<T>>
constexpr GemmTable<T> make_table() {
  GemmTable<T> t{};
  t.lanes = Vec<T>::lanes;
  t.mr = M::kRows;
  t.nr = tile_vectors<M>(M::kRows) * t.lanes;
  t.nc = 48 * t.lanes;
#if defined(__AVX__)
  t.flops_per_ns = 400.0 / sizeof(T);
#else
  t.flops_per_ns = 120.0 / sizeof(T);
#endif
  t.block = block<T, M>;
  t.pack_b = pack_b<T>;
  t.thin_rows = kThinRows;
  t.dots = dots<T, M>;
  t.row_sums = row_sums<T, M>;
  t.dot = dot<T, M>;
  return t;
}

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
