// Attention kernels of one instruction set.
//
// The scores are never stored whole: a block of queries at a time meets all the keys it sees. Under
// a causal mask a block is cut into strips of the height of a matrix tile, and what no query of a
// strip sees is not calculated. Every product is a chain of fused multiply-adds in the order of
// queries or keys, so that blocks and strips do not change a bit.
#include "kernels/attention_table.h"

#include "kernels/gemm_table.h"
#include "ops/attention.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

extern const GemmTable<float> gemm_f32;
extern const GemmTable<double> gemm_f64;

namespace {

constexpr int64_t kBlockElements = 64 << 10;  // of scores: they stay in L2
constexpr int64_t kMostStrips = 4;            // in a block of queries

template <class T> const GemmTable<T>& gemm();
template <> const GemmTable<float>& gemm<float>() { return gemm_f32; }
template <> const GemmTable<double>& gemm<double>() { return gemm_f64; }

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t round_up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }

// How a head is cut, and where its parts lie in the workspace.
template <class T>
struct Layout {
  static constexpr int64_t lanes = Vec<T>::lanes;
  int64_t strip, block;  // queries
  int64_t row;           // stride of scores; an odd number of cache lines, to use all cache sets
  int64_t kt, vt, q, scores, dscores, max, sum;  // offsets
  int64_t total;

  Layout(const AttentionHead<T>& h, bool backward) {
    const int64_t tile = gemm<T>().mr;
    row = round_up(h.keys, 2 * lanes) + lanes;
    int64_t strips = kBlockElements / (row * tile);
    strips = strips < 1 ? 1 : least(strips, kMostStrips);
    strips = least(strips, (h.queries + tile - 1) / tile);
    block = least(strips * tile, h.queries);
    strip = strips ? (block + strips - 1) / strips : 1;
    const int64_t panels = round_up(h.keys, lanes), rows = round_up(block, lanes);
    total = 0;
    kt = take(panels * h.width);
    vt = take(backward ? panels * h.value_width : 0);
    q = take(rows * h.width);
    scores = take(rows * row);
    dscores = take(backward ? rows * row : 0);
    max = take(rows);
    sum = take(rows);
  }
  int64_t take(int64_t n) {
    int64_t at = total;
    total += round_up(n, lanes);
    return at;
  }
};

// c[m, n] = a[m, k] @ b[k, n] (+ c), b's rows contiguous or in panels of K.T.
template <class T>
struct Product {
  GemmBlock<T> g{};
  Product(const T* a, int64_t a_rs, int64_t a_cs, const T* b, int64_t b_rs, int64_t b_vs, T* c,
          int64_t c_rs, bool accumulate) {
    g.a = a, g.a_rs = a_rs, g.a_cs = a_cs;
    g.b = b, g.b_rs = b_rs, g.b_vs = b_vs;
    g.c = c, g.c_rs = c_rs;
    g.accumulate = accumulate;
  }
  void run(int64_t m, int64_t n, int64_t k) {
    g.m = m, g.n = n, g.k = k;
    if (m > 0 && n > 0) gemm<T>().block(g);
  }
};

template <class T>
void scale_rows(int64_t n, const T* x, T scale, T* y) {
  ops::each<T>(n, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
    part.store(part.load(x + i) * Vec<T>(scale), y + i);
  });
}

// Panels of x.T for x[rows, width]: see GemmTable::pack_b.
template <class T>
void pack_transposed(int64_t rows, int64_t width, const T* x, T* out) {
  gemm<T>().pack_b(width, rows, x, 1, width, out, width * Vec<T>::lanes);
}

// Calls f(i, rows, keys) for the strips of queries [begin, end): those rows see the first `keys`.
template <class T, class F>
void each_strip(const AttentionHead<T>& h, const Layout<T>& at, int64_t begin, int64_t end, F f) {
  const int64_t step = h.causal ? at.strip : at.block;
  for (int64_t i = begin; i < end; i += step) {
    const int64_t rows = least(step, end - i);
    f(i, rows, h.causal ? least(h.keys, i + rows) : h.keys);
  }
}

// Queries [i, i + Q) of a strip that sees the first `keys`.
template <int Q, class T>
ops::AttentionRows<Q, T> score_rows(const AttentionHead<T>& h, const Layout<T>& at, int64_t i,
                                    int64_t keys) {
  ops::AttentionRows<Q, T> r;
  for (int q = 0; q < Q; ++q) r.seen[q] = h.causal ? least(keys, i + q + 1) : keys;
  r.end = keys;
  r.stride = at.row;
  r.mask = h.mask ? h.mask + i * h.keys : nullptr;
  r.mask_stride = h.keys;
  return r;
}

template <class T>
int64_t work_size(const AttentionHead<T>& h, bool backward) {
  return Layout<T>(h, backward).total;
}

template <class T>
void forward(const AttentionHead<T>& h, int64_t begin, int64_t end, T* work) {
  using V = Vec<T>;
  const Layout<T> at(h, false);
  T *kt = work + at.kt, *q = work + at.q, *scores = work + at.scores;
  T *max = work + at.max, *sum = work + at.sum;
  const int64_t d = h.width, dv = h.value_width;
  pack_transposed(h.causal ? least(h.keys, end) : h.keys, d, h.k, kt);
  for (int64_t first = begin; first < end; first += at.block) {
    const int64_t last = least(end, first + at.block);
    scale_rows((last - first) * d, h.q + first * d, h.scale, q);
    each_strip(h, at, first, last, [&](int64_t i, int64_t rows, int64_t keys) {
      const int64_t r = i - first;
      T* s = scores + r * at.row;
      Product<T>(q + r * d, d, 1, kt, V::lanes, d * V::lanes, s, at.row, false).run(rows, keys, d);
      int64_t j = 0;
      for (; j + 2 <= rows; j += 2)
        score_rows<2>(h, at, i + j, keys).forward(s + j * at.row, max + r + j, sum + r + j);
      if (j < rows)
        score_rows<1>(h, at, i + j, keys).forward(s + j * at.row, max + r + j, sum + r + j);
      Product<T>(s, at.row, 1, h.v, dv, V::lanes, h.y + i * dv, dv, false).run(rows, dv, keys);
      for (j = 0; j < rows; ++j)
        scale_rows(dv, h.y + (i + j) * dv, sum[r + j] == T(0) ? T(0) : T(1) / sum[r + j],
                   h.y + (i + j) * dv);
    });
    ops::each<T>(last - first, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      V total = part.load(sum + i), lse = part.load(max + i) + log(total);
      part.store(select(total == V(0), V(__builtin_inf()), lse), h.lse + first + i);
    });
  }
}

template <class T>
void backward(const AttentionHead<T>& h, T* work) {
  using V = Vec<T>;
  const Layout<T> at(h, true);
  T *kt = work + at.kt, *vt = work + at.vt, *q = work + at.q;
  T *scores = work + at.scores, *dscores = work + at.dscores;
  const int64_t d = h.width, dv = h.value_width, lanes = V::lanes;
  pack_transposed(h.keys, d, h.k, kt);
  pack_transposed(h.keys, dv, h.v, vt);
  ops::each<T>(h.keys * d,
               [&](int64_t i, auto part) BACKTRAIL_LAMBDA { part.store(V(0), h.dk + i); });
  ops::each<T>(h.keys * dv,
               [&](int64_t i, auto part) BACKTRAIL_LAMBDA { part.store(V(0), h.dv + i); });
  for (int64_t first = 0; first < h.queries; first += at.block) {
    const int64_t last = least(h.queries, first + at.block);
    scale_rows((last - first) * d, h.q + first * d, h.scale, q);
    each_strip(h, at, first, last, [&](int64_t i, int64_t rows, int64_t keys) {
      const int64_t r = i - first;
      T *s = scores + r * at.row, *ds = dscores + r * at.row;
      const T* g = h.g + i * dv;
      Product<T>(q + r * d, d, 1, kt, lanes, d * lanes, s, at.row, false).run(rows, keys, d);
      Product<T>(g, dv, 1, vt, lanes, dv * lanes, ds, at.row, false).run(rows, keys, dv);
      int64_t j = 0;
      for (; j + 2 <= rows; j += 2)
        score_rows<2>(h, at, i + j, keys).backward(s + j * at.row, ds + j * at.row, h.lse + i + j);
      if (j < rows)
        score_rows<1>(h, at, i + j, keys).backward(s + j * at.row, ds + j * at.row, h.lse + i + j);
      T* dq = h.dq + i * d;
      Product<T>(ds, at.row, 1, h.k, d, lanes, dq, d, false).run(rows, d, keys);
      scale_rows(rows * d, dq, h.scale, dq);
      Product<T>(s, 1, at.row, g, dv, lanes, h.dv, dv, true).run(keys, dv, rows);
      Product<T>(ds, 1, at.row, q + r * d, d, lanes, h.dk, d, true).run(keys, d, rows);
    });
  }
}

template <class T>
constexpr AttentionTable<T> make_table() {
  return {work_size<T>, forward<T>, backward<T>};
}

}  // namespace

extern const AttentionTable<float> attention_f32;
extern const AttentionTable<double> attention_f64;
const AttentionTable<float> attention_f32 = make_table<float>();
const AttentionTable<double> attention_f64 = make_table<double>();

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
