// Attention kernels of one instruction set.
//
// The scores are never stored whole: a block of queries, one in each lane, meets all the keys that
// it sees. Every product is a chain of fused multiply-adds in the order of queries or keys, so that
// the cut does not change a bit.
#include "ops/attention.h"
#include "kernels/attention_narrow.h"
#include "kernels/gemm_table.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

extern const GemmTable<float> gemm_f32;
extern const GemmTable<double> gemm_f64;

namespace {

template <class T>
const GemmTable<T>& gemm();
template <>
const GemmTable<float>& gemm<float>() {
  return gemm_f32;
}
template <>
const GemmTable<double>& gemm<double>() {
  return gemm_f64;
}

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t round_up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }

// How a head is cut, and where its parts lie in the workspace.
template <class T>
struct Layout {
  static constexpr int64_t lanes = Vec<T>::lanes;
  int64_t block;                           // queries, and the stride of everything below
  int64_t columns, scores, dscores, mask;  // offsets
  int64_t total = 0;

  Layout(const AttentionHead<T>& h, bool backward) {
    block = h.queries <= lanes ? lanes : 2 * lanes;
    columns = take(h.width > h.value_width ? h.width : h.value_width);
    scores = take(h.keys);
    dscores = take(backward ? h.keys : 0);
    mask = take(h.mask ? h.keys : 0);
  }
  int64_t take(int64_t rows) {
    int64_t at = total;
    total += rows * block;
    return at;
  }
};

// c[m, n] = a[m, k] @ b[k, n] (+ c).
template <class T>
struct Product {
  GemmBlock<T> g{};

  Product& a(const T* p, int64_t rs, int64_t cs) {
    g.a = p, g.a_rs = rs, g.a_cs = cs;
    return *this;
  }
  Product& b(const T* p, int64_t rs, int64_t vs = Vec<T>::lanes) {
    g.b = p, g.b_rs = rs, g.b_vs = vs;
    return *this;
  }
  void into(T* c, int64_t rs, int64_t m, int64_t n, int64_t k, bool accumulate = false) {
    g.c = c, g.c_rs = rs, g.m = m, g.n = n, g.k = k,
    g.start = accumulate ? Start::chain : Start::zero;
    if (m > 0 && n > 0) gemm<T>().block(g);
  }
};

template <class T>
void scale_by(T factor, int64_t n, T* x) {
  ops::each<T>(n, [&](int64_t i, auto part)
                      BACKTRAIL_LAMBDA { part.store(part.load(x + i) * Vec<T>(factor), x + i); });
}

// One block of queries of a head: [i, i + rows), in one or two vectors.
template <class T>
struct Block {
  using V = Vec<T>;
  static constexpr int64_t lanes = V::lanes;
  const AttentionHead<T>& h;
  const Layout<T>& at;
  T* work;
  int64_t i, rows;
  int64_t padded;   // rows, in whole vectors
  int64_t seen[2];  // keys before these are seen by some query of the first vector; of the second

  Block(const AttentionHead<T>& head, const Layout<T>& layout, T* workspace, int64_t first,
        int64_t end)
      : h(head), at(layout), work(workspace), i(first), rows(least(layout.block, end - first)) {
    padded = round_up(rows, lanes);
    for (int64_t v = 0; v < 2; ++v)
      seen[v] = h.causal ? least(h.keys, i + least(rows, (v + 1) * lanes)) : h.keys;
  }
  int64_t keys() const { return seen[1]; }
  bool one_vector() const { return padded == lanes; }

  // out[keys, queries] = scale * x @ y.T for x[keys, width], y[queries, width].
  void outer(Rows<const T> x, Rows<const T> y, int64_t width, T scale, T* out) const {
    const bool narrow =
        one_vector() && if_narrow<T>(width, [&](auto, auto columns) BACKTRAIL_LAMBDA {
          narrow_outer<columns.value>(seen[0], rows, x, Rows<const T>{y[i], y.stride}, scale, out,
                                      at.block);
        });
    if (narrow) return;
    T* yt = work + at.columns;
    gemm<T>().pack_b(width, rows, y[i], 1, y.stride, yt, width * lanes);
    if (scale != T(1)) scale_by(scale, width * padded, yt);
    auto product = [&](int64_t v, int64_t from, int64_t to) {
      Product<T>()
          .a(x[from], x.stride, 1)
          .b(yt + v * width * lanes, lanes, width * lanes)
          .into(out + from * at.block + v * lanes, at.block, to - from, padded - v * lanes, width);
    };
    product(0, 0, seen[0]);
    product(1, seen[0], seen[1]);
  }

  // Calls f with the AttentionBlock of these scores.
  template <class F>
  BACKTRAIL_INLINE void softmax(F f) const {
    T* mask = nullptr;
    if (h.mask) {
      mask = work + at.mask;
      gemm<T>().pack_b(keys(), rows, h.mask + i * h.keys, 1, h.keys, mask, keys() * lanes);
    }
    const int64_t query = h.causal ? i : keys();
    if (one_vector())
      f(ops::AttentionBlock<1, T>{keys(), at.block, query, mask, keys() * lanes});
    else
      f(ops::AttentionBlock<2, T>{keys(), at.block, query, mask, keys() * lanes});
  }

  // out[queries, width] = weights[keys, queries].T @ x[keys, width]
  void over_keys(const T* weights, Rows<const T> x, int64_t width, Rows<T> all) const {
    T* const out = all[i];
    const int64_t rs = all.stride;
    const bool narrow =
        one_vector() && if_narrow<T>(width, [&](auto, auto columns) BACKTRAIL_LAMBDA {
          narrow_over_keys<columns.value>(keys(), rows, weights, at.block, x, out, rs);
        });
    if (narrow) return;
    if (width < lanes) {  // as columns, to fill the lanes
      T* columns = work + at.columns;
      Product<T>()
          .a(x.data, 1, x.stride)
          .b(weights, at.block)
          .into(columns, at.block, width, padded, keys());
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < width; ++c) out[r * rs + c] = columns[c * at.block + r];
      return;
    }
    const int64_t first = seen[0] == seen[1] ? rows : lanes;
    Product<T>().a(weights, 1, at.block).b(x.data, x.stride).into(out, rs, first, width, seen[0]);
    Product<T>()
        .a(weights + first, 1, at.block)
        .b(x.data, x.stride)
        .into(out + first * rs, rs, rows - first, width, seen[1]);
  }

  // out[keys, width] += weights[keys, queries] @ y[queries, width]; `begun`: keys whose row of out
  // holds a sum already.
  void over_queries(const T* weights, Rows<const T> y, int64_t width, int64_t begun,
                    Rows<T> out) const {
    auto product = [&](int64_t v, int64_t from, int64_t to, bool accumulate) {
      Product<T>()
          .a(weights + from * at.block + v * lanes, at.block, 1)
          .b(y[i + v * lanes], y.stride)
          .into(out[from], out.stride, to - from, width, rows - v * lanes, accumulate);
    };
    begun = least(begun, seen[0]);
    const bool narrow =
        one_vector() && if_narrow<T>(width, [&](auto shorts, auto) BACKTRAIL_LAMBDA {
          using S = decltype(shorts);
          const Rows<const T> from{y[i], y.stride};
          narrow_over_queries<S>(0, begun, rows, weights, at.block, from, true, out);
          narrow_over_queries<S>(begun, seen[0], rows, weights, at.block, from, false, out);
        });
    if (narrow) return;
    product(0, 0, begun, true);
    product(0, begun, seen[0], false);
    product(1, seen[0], seen[1], false);
  }
};

template <class T>
int64_t work_size(const AttentionHead<T>& h, bool backward) {
  return Layout<T>(h, backward).total;
}

// The first n lanes of N vectors, (N - 1) * lanes < n <= N * lanes.
template <int N, class T>
BACKTRAIL_INLINE void load_vectors(Vec<T> (&x)[N], const T* p, int64_t n) {
  constexpr int64_t L = Vec<T>::lanes, last = (N - 1) * L;
  for (int v = 0; v < N - 1; ++v) x[v] = Vec<T>::load(p + v * L);
  x[N - 1] = n == N * L ? Vec<T>::load(p + last) : Vec<T>::load(p + last, n - last);
}
template <int N, class T>
BACKTRAIL_INLINE void store_vectors(const Vec<T> (&x)[N], T* p, int64_t n) {
  constexpr int64_t L = Vec<T>::lanes, last = (N - 1) * L;
  for (int v = 0; v < N - 1; ++v) x[v].store(p + v * L);
  if (n == N * L)
    x[N - 1].store(p + last);
  else
    x[N - 1].store(p + last, n - last);
}

template <class T>
void forward(const AttentionHead<T>& h, int64_t begin, int64_t end, T* work) {
  const Layout<T> at(h, false);
  T* p = work + at.scores;
  for (int64_t i = begin; i < end; i += at.block) {
    const Block<T> b(h, at, work, i, end);
    b.outer(h.k, h.q, h.width, h.scale, p);
    b.softmax([&](auto block) BACKTRAIL_LAMBDA {
      Vec<T> lse[block.count];
      block.forward(p, lse);
      store_vectors(lse, h.lse + i, b.rows);
    });
    b.over_keys(p, h.v, h.value_width, h.y);
  }
}

template <class T>
void backward(const AttentionHead<T>& h, T* work) {
  const Layout<T> at(h, true);
  const int64_t d = h.width, dv = h.value_width;
  T *p = work + at.scores, *ds = work + at.dscores;
  int64_t begun = 0;
  for (int64_t i = 0; i < h.queries; i += at.block) {
    const Block<T> b(h, at, work, i, h.queries);
    b.outer(h.k, h.q, d, h.scale, p);
    b.outer(h.v, h.g, dv, T(1), ds);
    b.softmax([&](auto block) BACKTRAIL_LAMBDA {
      Vec<T> lse[block.count];
      load_vectors(lse, h.lse + i, b.rows);
      block.backward(p, ds, lse);
    });
    b.over_keys(ds, h.k, d, h.dq);
    b.over_queries(p, h.g, dv, begun, h.dv);
    b.over_queries(ds, h.q, d, begun, h.dk);
    begun = b.keys();
  }
  for (int64_t i = 0; i < h.queries; ++i) scale_by(h.scale, d, h.dq[i]);
  for (int64_t j = 0; j < begun; ++j) scale_by(h.scale, d, h.dk[j]);
  // Keys that no query sees.
  for (int64_t j = begun; j < h.keys; ++j) {
    for (int64_t c = 0; c < d; ++c) h.dk[j][c] = T(0);
    for (int64_t c = 0; c < dv; ++c) h.dv[j][c] = T(0);
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
