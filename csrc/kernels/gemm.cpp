// Matrix-product kernels of one instruction set: rows of tiles, products with
// few rows, and the dot product.
#include "kernels/gemm_pack.h"
#include "kernels/gemm_thin.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace {

template <class T>
using Tile = void (*)(const GemmBlock<T>&, const T*, int64_t, int64_t, const T*, T*, const T*,
                      const T*, int64_t);

// Every tile that fits, by rows - 1, log2(vectors) and whether the last vector is short.
template <class T>
struct Tiles {
  Tile<T> at[kTileRows][4][2];
  int most[kTileRows];  // log2 of the widest

  template <int R, int L>
  constexpr void fill() {
    constexpr int N = 1 << L;
    if constexpr (N <= tile_vectors(R)) {
      at[R - 1][L][0] = tile<T, R, N, false>;
      at[R - 1][L][1] = tile<T, R, N, true>;
      most[R - 1] = L;
      if constexpr (L < 3) fill<R, L + 1>();
    }
    if constexpr (L == 0 && R < kTileRows) fill<R + 1, 0>();
  }
  constexpr Tiles() : at{}, most{} { fill<1, 0>(); }
};
template <class T>
constexpr Tiles<T> kTiles;

constexpr int64_t kFinishedAtOnce = 16384;  // elements: half of the L2 cache is left to b
constexpr int64_t kPrefetchDepth = 64;      // below this a tile is too short to hide a fetch

// A row of an outer product, all of its columns one after another: a tile would have too little to
// do.
template <class T>
void outer_row(const GemmBlock<T>& g, T a, T* c) {
  using V = Vec<T>;
  const V x(a), zero(T(0));
  const T* b = g.b;
  int64_t j = 0;
  for (; j + V::lanes <= g.n; j += V::lanes) fma(x, V::load(b + j), zero).store(c + j);
  if (int64_t rest = g.n - j; rest > 0) fma(x, V::load(b + j, rest), zero).store(c + j, rest);
}

template <class T>
void block(const GemmBlock<T>& g) {
  constexpr int64_t lanes = Vec<T>::lanes;
  const bool outer =
      g.k == 1 && g.b_vs == lanes && g.start == Start::zero && !g.first && !g.bias && !g.a_runs;
  int64_t finished = 0;  // rows of c that `after` has seen
  for (int64_t i = 0, rows; i < g.m; i += rows) {
    rows = g.m - i;
    if (rows > kTileRows) {  // even panels: no thin one at the end
      const int64_t panels = (rows + kTileRows - 1) / kTileRows;
      rows = (rows + panels - 1) / panels;
    }
    const T* a = g.a + i * g.a_rs;
    int64_t a_rs = g.a_rs, a_cs = g.a_cs;
    if (g.a_panel) {
      pack_a(rows, g.k, a, a_rs, a_cs, g.a_panel);
      a = g.a_panel;
    }
    T* c = g.c + i * g.c_rs;
    for (int64_t r = 0; outer && r < rows; ++r) outer_row(g, a[r * a_rs], c + r * g.c_rs);
    const auto& tiles = kTiles<T>.at[rows - 1];
    const int most = kTiles<T>.most[rows - 1];
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

template <class T>
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
        sum[i] = fma(V::load(x + i * lanes), V::load(y + i * lanes), sum[i]);
      else if (rest > 0)
        sum[i] = fma(V::load(x + i * lanes, rest), V::load(y + i * lanes, rest), sum[i]);
    }
  }
  return reduce_add((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

// R rows of c by `cols` columns, at most two vectors of them.
template <int R>
void integer_tile(int64_t cols, int64_t k, const int64_t* a, int64_t a_rs, int64_t a_cs,
                  const int64_t* b, int64_t b_rs, int64_t* c, int64_t c_rs) {
  using V = Vec<int64_t>;
  const int64_t width[2] = {cols < V::lanes ? cols : V::lanes, cols - V::lanes};
  auto load = [](const int64_t* p, int64_t n) {
    return n >= V::lanes ? V::load(p) : n > 0 ? V::load(p, n) : V(0);
  };
  V sum[R][2];
  for (auto& row : sum) row[0] = row[1] = V(0);
  for (int64_t p = 0; p < k; ++p) {
    const V x = load(b + p * b_rs, width[0]), y = load(b + p * b_rs + V::lanes, width[1]);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const V z(a[r * a_rs + p * a_cs]);
      sum[r][0] += z * x;
      sum[r][1] += z * y;
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < 2; ++v) {
      int64_t* to = c + r * c_rs + v * V::lanes;
      if (width[v] >= V::lanes)
        sum[r][v].store(to);
      else if (width[v] > 0)
        sum[r][v].store(to, width[v]);
    }
}

template <class T>
constexpr GemmTable<T> make_table() {
  GemmTable<T> t{};
  t.lanes = Vec<T>::lanes;
  t.mr = kTileRows;
  t.nr = tile_vectors(kTileRows) * t.lanes;
  t.nc = 48 * t.lanes;
#if defined(__AVX__)
  t.flops_per_ns = 400.0 / sizeof(T);
#else
  t.flops_per_ns = 120.0 / sizeof(T);
#endif
  t.block = block<T>;
  t.pack_b = pack_b<T>;
  t.thin_rows = kThinRows;
  t.dots = dots<T>;
  t.row_sums = row_sums<T>;
  t.dot = dot<T>;
  return t;
}

}  // namespace

void integer_product(int64_t m, int64_t n, int64_t k, const int64_t* a, int64_t a_rs, int64_t a_cs,
                     const int64_t* b, int64_t b_rs, int64_t* c, int64_t c_rs) {
  constexpr int64_t kRows = 4, kCols = 2 * Vec<int64_t>::lanes;
  for (int64_t j = 0; j < n; j += kCols) {
    const int64_t cols = n - j < kCols ? n - j : kCols;
    int64_t i = 0;
    for (; i + kRows <= m; i += kRows)
      integer_tile<kRows>(cols, k, a + i * a_rs, a_rs, a_cs, b + j, b_rs, c + i * c_rs + j, c_rs);
    for (; i < m; ++i)
      integer_tile<1>(cols, k, a + i * a_rs, a_rs, a_cs, b + j, b_rs, c + i * c_rs + j, c_rs);
  }
}

extern const GemmTable<float> gemm_f32;
extern const GemmTable<double> gemm_f64;
const GemmTable<float> gemm_f32 = make_table<float>();
const GemmTable<double> gemm_f64 = make_table<double>();

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
