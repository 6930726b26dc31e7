// Reductions along rows (lanes, then a fixed tree) and along columns (row after row).
#include "ops/reduce.h"
#include "kernels/reduce_table.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace {

// The fixed tree over lanes: lane i meets lane i + width, halving the width.
template <class R, class T>
T combine_lanes(Vec<T> v) {
  T lane[Vec<T>::lanes];
  v.store(lane);
  for (int width = Vec<T>::lanes / 2; width; width /= 2)
    for (int i = 0; i < width; ++i) {
      T pair[Vec<T>::lanes];
      R::combine(Vec<T>(lane[i]), Vec<T>(lane[i + width])).store(pair);
      lane[i] = pair[0];
    }
  return lane[0];
}

template <class R, class T>
T reduce_row(const T* x, int64_t n) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes;
  if (n > 0 && n < 2 * L) return R::chain(x, n);  // rows go on side by side
  V a = R::template neutral<V>(), b = a, c = a, d = a;
  int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    a = R::combine(a, V::load(x + i));
    b = R::combine(b, V::load(x + i + L));
    c = R::combine(c, V::load(x + i + 2 * L));
    d = R::combine(d, V::load(x + i + 3 * L));
  }
  for (; i + L <= n; i += L) a = R::combine(a, V::load(x + i));
  if (int64_t rest = n - i; rest > 0) {
    T padded[L];
    R::template neutral<V>().store(padded);
    for (int64_t j = 0; j < rest; ++j) padded[j] = x[i + j];
    b = R::combine(b, V::load(padded));
  }
  V all = R::combine(R::combine(a, b), R::combine(c, d));
  if constexpr (__is_same(R, ops::SumOf))
    return reduce_add(all);
  else if constexpr (__is_same(R, ops::MaxOf))
    return reduce_max(all);
  else if constexpr (__is_same(R, ops::MinOf))
    return reduce_min(all);
  else
    return combine_lanes<R>(all);
}

template <class R, class T>
void rows(const T* x, int64_t n_rows, int64_t n, T* out) {
  for (int64_t r = 0; r < n_rows; ++r) out[r] = reduce_row<R>(x + r * n, n);
}

template <class R, class T>
void columns(const T* x, int64_t n_rows, int64_t stride, int64_t n, T* out) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes;
  int64_t c = 0;
  for (; c + 4 * L <= n; c += 4 * L) {
    V a = R::template neutral<V>(), b = a, d = a, e = a;
    const T* p = x + c;
    for (int64_t r = 0; r < n_rows; ++r, p += stride) {
      a = R::combine(a, V::load(p));
      b = R::combine(b, V::load(p + L));
      d = R::combine(d, V::load(p + 2 * L));
      e = R::combine(e, V::load(p + 3 * L));
    }
    a.store(out + c), b.store(out + c + L), d.store(out + c + 2 * L), e.store(out + c + 3 * L);
  }
  for (; c < n; c += L) {
    const int64_t width = n - c < L ? n - c : L;
    V a = R::template neutral<V>();
    const T* p = x + c;
    if (width == L) {
      for (int64_t r = 0; r < n_rows; ++r, p += stride) a = R::combine(a, V::load(p));
      a.store(out + c);
    } else {
      for (int64_t r = 0; r < n_rows; ++r, p += stride) a = R::combine(a, V::load(p, width));
      a.store(out + c, width);
    }
  }
}

template <class R, class T>
void arg_extreme(const T* x, int64_t n_rows, int64_t n, int64_t* out) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes;
  for (int64_t r = 0; r < n_rows; ++r, x += n) {
    const T best = reduce_row<R>(x, n);
    const bool nan = best != best;
    int64_t i = 0;
    for (; i + L <= n; i += L) {  // skip blocks without it
      V v = V::load(x + i);
      if (any(nan ? v != v : v == V(best))) break;
    }
    while (i < n && !(nan ? x[i] != x[i] : x[i] == best)) ++i;
    out[r] = i;
  }
}

template <class T>
constexpr ReduceTable<T> table() {
  return {{rows<ops::SumOf, T>, rows<ops::ProductOf, T>, rows<ops::MaxOf, T>, rows<ops::MinOf, T>},
          {columns<ops::SumOf, T>, columns<ops::ProductOf, T>, columns<ops::MaxOf, T>,
           columns<ops::MinOf, T>},
          arg_extreme<ops::MaxOf, T>,
          arg_extreme<ops::MinOf, T>};
}

}  // namespace

extern const ReduceTable<float> reduce_f32;
extern const ReduceTable<double> reduce_f64;
extern const ReduceTable<int64_t> reduce_i64;
const ReduceTable<float> reduce_f32 = table<float>();
const ReduceTable<double> reduce_f64 = table<double>();
const ReduceTable<int64_t> reduce_i64 = table<int64_t>();

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
