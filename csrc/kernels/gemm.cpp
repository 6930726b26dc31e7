// Matrix-product kernels of one instruction set: rows of tiles, packing, and the dot product.
#include <cstddef>
#include <utility>

#include "kernels/gemm_microkernel.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace {

template <class T>
using Tile = void (*)(const GemmBlock<T>&, const T*, int64_t, int64_t, const T*, T*, const T*,
                      int64_t);

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

constexpr int kPackRows = 16;  // at least kTileRows, in whole vectors
static_assert(kTileRows <= kPackRows, "pack_a copies kPackRows at once");

// The rows of one tile brought close together: as they lie if a row is contiguous (padded, so that
// rows fall into different cache sets), else with k outermost.
template <class T>
void pack_a(int64_t rows, int64_t k, const T* a, int64_t& rs, int64_t& cs, T* out) {
  using V = Vec<T>;
  if (cs == 1) {
    const int64_t stride = (k + 15) / 16 * 16 + 16;
    for (int64_t i = 0; i < rows; ++i)
      __builtin_memcpy(out + i * stride, a + i * rs, k * sizeof(T));
    rs = stride;
    return;
  }
  int64_t p = 0;
  if (rs == 1)  // whole vectors, while they end inside of a; the next one covers what is too much
    for (; (k - 1 - p) * cs >= kPackRows; ++p)
#pragma GCC unroll 2
      for (int v = 0; v < kPackRows; v += V::lanes)
        V::load(a + p * cs + v).store(out + p * rows + v);
  for (; p < k; ++p)
    for (int64_t i = 0; i < rows; ++i) out[p * rows + i] = a[i * rs + p * cs];
  rs = 1;
  cs = rows;
}

constexpr int64_t kPrefetchDepth = 64;  // below this a tile is too short to hide a fetch

template <class T>
void block(const GemmBlock<T>& g) {
  constexpr int64_t lanes = Vec<T>::lanes;
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
    const auto& tiles = kTiles<T>.at[rows - 1];
    const int most = kTiles<T>.most[rows - 1];
    for (int64_t j = 0; j < g.n;) {
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
                          g.bias ? g.bias + j : nullptr, partial ? left - (width - lanes) : lanes);
      j += width;
    }
  }
}

// Native registers for transposing, as rows of 16-byte quarters.
#if defined(__AVX__)
constexpr int kRegBytes = 32;
#else
constexpr int kRegBytes = 16;
#endif
template <class T>
struct Native {
  static constexpr int lanes = kRegBytes / sizeof(T), quarter = 16 / sizeof(T);
  typedef T Reg __attribute__((vector_size(kRegBytes)));
  typedef T Store __attribute__((vector_size(kRegBytes), aligned(sizeof(T)), may_alias));
  typedef T Quarter __attribute__((vector_size(16), aligned(sizeof(T)), may_alias));
  using Index = std::make_index_sequence<lanes>;

  // Alternate elements of x and y, from the first (or second) half of every quarter.
  template <bool Second, size_t... I>
  static Reg interleave(Reg x, Reg y, std::index_sequence<I...>) {
    constexpr size_t q = quarter;
    return __builtin_shufflevector(
        x, y, (I / q * q + I % q / 2 + (Second ? q / 2 : 0) + I % 2 * lanes)...);
  }
  // The quarter at p; with the one at p + step behind it when a register holds two.
  template <size_t... I>
  static Reg load_quarters(const T* p, int64_t step, std::index_sequence<I...>) {
    return __builtin_shufflevector(*reinterpret_cast<const Quarter*>(p),
                                   *reinterpret_cast<const Quarter*>(p + step), I...);
  }
};

// out[p * stride + j] = b[p + j * cs] for `quarter` rows p and `lanes` columns j.
template <class T>
inline void transpose(const T* b, int64_t cs, T* out, int64_t stride) {
  using N = Native<T>;
  constexpr int q = N::quarter;
  typename N::Reg x[q], y[q];
#pragma GCC unroll 4
  for (int i = 0; i < q; ++i)
    x[i] = N::load_quarters(b + i * cs, N::lanes > q ? q * cs : 0, typename N::Index());
#pragma GCC unroll 2
  for (int n = 1; n < q; n *= 2) {
#pragma GCC unroll 4
    for (int i = 0; i < q / 2; ++i) {
      y[2 * i] = N::template interleave<false>(x[i], x[i + q / 2], typename N::Index());
      y[2 * i + 1] = N::template interleave<true>(x[i], x[i + q / 2], typename N::Index());
    }
#pragma GCC unroll 4
    for (int i = 0; i < q; ++i) x[i] = y[i];
  }
#pragma GCC unroll 4
  for (int i = 0; i < q; ++i) *reinterpret_cast<typename N::Store*>(out + i * stride) = x[i];
}

// Rows of b are contiguous: a strip of several panels at a time, to read whole runs of memory.
template <class T>
void pack_rows(int64_t k, int64_t n, const T* b, int64_t rs, T* out, int64_t panel) {
  using V = Vec<T>;
  constexpr int kStrip = 8;
  int64_t j = 0;
  for (; j + kStrip * V::lanes <= n; j += kStrip * V::lanes, out += kStrip * panel)
    for (int64_t p = 0; p < k; ++p)
#pragma GCC unroll 8
      for (int v = 0; v < kStrip; ++v)
        V::load(b + p * rs + j + v * V::lanes).store(out + v * panel + p * V::lanes);
  for (; j < n; j += V::lanes, out += panel)
    for (int64_t p = 0; p < k; ++p) {
      const T* from = b + p * rs + j;
      (n - j < V::lanes ? V::load(from, n - j) : V::load(from)).store(out + p * V::lanes);
    }
}

template <class T>
void pack_b(int64_t k, int64_t n, const T* b, int64_t rs, int64_t cs, T* out, int64_t panel) {
  constexpr int64_t lanes = Vec<T>::lanes, strip = Native<T>::lanes, quarter = Native<T>::quarter;
  if (cs == 1) return pack_rows(k, n, b, rs, out, panel);
  for (int64_t j = 0; j < n; j += lanes, out += panel, b += lanes * cs) {
    const int64_t width = n - j < lanes ? n - j : lanes;
    int64_t done = 0;
    if (rs == 1)
      for (; done + strip <= width; done += strip) {
        const T* from = b + done * cs;
        T* to = out + done;
        int64_t p = 0;
        for (; p + quarter <= k; p += quarter) transpose(from + p, cs, to + p * lanes, lanes);
        for (; p < k; ++p)
          for (int64_t i = 0; i < strip; ++i) to[p * lanes + i] = from[p + i * cs];
      }
    for (int64_t p = 0; p < k && done < lanes; ++p) {
      T* to = out + p * lanes;
      for (int64_t i = done; i < width; ++i) to[i] = b[p * rs + i * cs];
      for (int64_t i = width; i < lanes; ++i) to[i] = 0;
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

template <class T>
constexpr GemmTable<T> make_table() {
  GemmTable<T> t{};
  t.lanes = Vec<T>::lanes;
  t.mr = kTileRows;
  t.nr = tile_vectors(kTileRows) * t.lanes;
  t.nc = 48 * t.lanes;
  t.kc = 512;
#if defined(__AVX__)
  t.flops_per_ns = 400.0 / sizeof(T);
#else
  t.flops_per_ns = 120.0 / sizeof(T);
#endif
  t.block = block<T>;
  t.pack_b = pack_b<T>;
  t.dot = dot<T>;
  return t;
}

}  // namespace

extern const GemmTable<float> gemm_f32;
extern const GemmTable<double> gemm_f64;
const GemmTable<float> gemm_f32 = make_table<float>();
const GemmTable<double> gemm_f64 = make_table<double>();

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
