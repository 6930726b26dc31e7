// Softmax, norms and cross entropy of one contiguous row: the value and its derivative side by side.
//
// A row is read in vectors, the last one padded, and summed by four accumulators joined in a fixed
// tree: the order depends on the length of the row alone.
#pragma once
#include "backtrail/simd.h"
#include "backtrail/vmath.h"

// After the parameters of a lambda that belongs inside its caller's loop.
#define BACKTRAIL_LAMBDA __attribute__((always_inline))

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace ops {

// How to read and write one vector of a row: all its lanes, or the first n of them.
template <class T> struct Whole {
  using V = Vec<T>;
  BACKTRAIL_INLINE V load(const T* p) const { return V::load(p); }
  BACKTRAIL_INLINE void store(V x, T* p) const { x.store(p); }
  BACKTRAIL_INLINE V pad(V x, T) const { return x; }
};
template <class T> struct Part {
  using V = Vec<T>;
  int64_t n;
  BACKTRAIL_INLINE V load(const T* p) const { return V::load(p, n); }
  BACKTRAIL_INLINE void store(V x, T* p) const { x.store(p, n); }
  // x with `value` in the lanes past the row.
  BACKTRAIL_INLINE V pad(V x, T value) const { return select(V::Mask::first(n), x, V(value)); }
};

// f(i, part) for the vector at element i of a row of n.
template <class T, class F> BACKTRAIL_INLINE void each(int64_t n, F f) {
  constexpr int64_t L = Vec<T>::lanes;
  int64_t i = 0;
  for (; i + L <= n; i += L) f(i, Whole<T>{});
  if (i < n) f(i, Part<T>{n - i});
}

// y[i] = f(i, part). With `stream` past the caches: for rows too many to stay there.
template <class T, class F> BACKTRAIL_INLINE void write(int64_t n, T* y, bool stream, F f) {
  constexpr int64_t L = Vec<T>::lanes;
  if (!stream) {
    each<T>(n, [&](int64_t i, auto part) BACKTRAIL_LAMBDA { part.store(f(i, part), y + i); });
    return;
  }
  int64_t i = int64_t(-reinterpret_cast<uintptr_t>(y) % 64 / sizeof(T));  // up to a cache line
  if (i > n) i = n;
  if (i > 0) Part<T>{i}.store(f(0, Part<T>{i}), y);
  for (; i + L <= n; i += L) f(i, Whole<T>{}).stream(y + i);
  if (i < n) Part<T>{n - i}.store(f(i, Part<T>{n - i}), y + i);
}

// N sums over a row. f(i, part, sums) adds the vector at i, with 0 in the lanes past the row.
template <class T, int N, class F>
BACKTRAIL_INLINE void sum_row(int64_t n, T (&total)[N], F f) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes;
  V sums[4][N];
  for (int k = 0; k < N; ++k) sums[0][k] = sums[1][k] = sums[2][k] = sums[3][k] = V(0);
  int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    f(i, Whole<T>{}, sums[0]);
    f(i + L, Whole<T>{}, sums[1]);
    f(i + 2 * L, Whole<T>{}, sums[2]);
    f(i + 3 * L, Whole<T>{}, sums[3]);
  }
  if (i + L <= n) f(i, Whole<T>{}, sums[0]), i += L;
  if (i + L <= n) f(i, Whole<T>{}, sums[1]), i += L;
  if (i + L <= n) f(i, Whole<T>{}, sums[2]), i += L;
  if (i < n) f(i, Part<T>{n - i}, sums[3]);
  for (int k = 0; k < N; ++k)
    total[k] = reduce_add((sums[0][k] + sums[1][k]) + (sums[2][k] + sums[3][k]));
}

// The largest element; -inf when there is none. NaN is passed over: exp(x - max) brings it back.
template <class T> BACKTRAIL_INLINE T max_row(int64_t n, const T* x) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes;
  const T least = T(-__builtin_inf());
  V m[4] = {V(least), V(least), V(least), V(least)};
  int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    m[0] = above(V::load(x + i), m[0]);
    m[1] = above(V::load(x + i + L), m[1]);
    m[2] = above(V::load(x + i + 2 * L), m[2]);
    m[3] = above(V::load(x + i + 3 * L), m[3]);
  }
  if (i + L <= n) m[0] = above(V::load(x + i), m[0]), i += L;
  if (i + L <= n) m[1] = above(V::load(x + i), m[1]), i += L;
  if (i + L <= n) m[2] = above(V::load(x + i), m[2]), i += L;
  if (i < n) m[3] = above(Part<T>{n - i}.pad(V::load(x + i, n - i), least), m[3]);
  return reduce(above(above(m[0], m[1]), above(m[2], m[3])),
                [](auto a, auto b) { return a > b ? a : b; });
}

// The one lane of log(V(x)).
template <class T> BACKTRAIL_INLINE T log_of(T x) {
  T lanes[Vec<T>::lanes];
  log(Vec<T>(x)).store(lanes);
  return lanes[0];
}

// y = exp(x - max) / sum(exp(x - max)).
struct Softmax {
  template <class T> static void forward(int64_t n, const T* x, T* y, bool) {
    using V = Vec<T>;
    const V max(max_row(n, x));
    T sum[1];
    sum_row<T>(n, sum, [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
      V e = exp(part.pad(part.load(x + i) - max, T(-__builtin_inf())));
      part.store(e, y + i);
      s[0] += e;
    });
    const V scale(T(1) / sum[0]);
    each<T>(n, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      part.store(part.load(y + i) * scale, y + i);
    });
  }
  // dx = y * (g - sum(g * y)).
  template <class T>
  static void backward(int64_t n, const T* g, const T* y, T* dx, bool stream) {
    using V = Vec<T>;
    T sum[1];
    sum_row<T>(n, sum, [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
      s[0] = fma(part.load(g + i), part.load(y + i), s[0]);
    });
    const V dot(sum[0]);
    write(n, dx, stream, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      return part.load(y + i) * (part.load(g + i) - dot);
    });
  }
};

// y = (x - max) - log(sum(exp(x - max))).
struct LogSoftmax {
  template <class T> static void forward(int64_t n, const T* x, T* y, bool stream) {
    using V = Vec<T>;
    const V max(max_row(n, x));
    T sum[1];
    sum_row<T>(n, sum, [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
      s[0] += exp(part.pad(part.load(x + i) - max, T(-__builtin_inf())));
    });
    const V log_sum = log(V(sum[0]));
    write(n, y, stream, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      return (part.load(x + i) - max) - log_sum;
    });
  }
  // dx = g - exp(y) * sum(g).
  template <class T>
  static void backward(int64_t n, const T* g, const T* y, T* dx, bool stream) {
    using V = Vec<T>;
    T sum[1];
    sum_row<T>(n, sum, [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
      s[0] += part.load(g + i);
    });
    const V total(sum[0]);
    write(n, dx, stream, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      return part.load(g + i) - exp(part.load(y + i)) * total;
    });
  }
};

// A row of `weight` or `bias`, or what stands for one that is absent.
template <class T, class P> BACKTRAIL_INLINE Vec<T> load_or(P part, const T* p, int64_t i, T none) {
  return p ? part.load(p + i) : Vec<T>(none);
}

// y = x * rstd * weight with rstd = 1 / sqrt(mean(x^2) + eps). `weight` may be null.
// https://arxiv.org/abs/1910.07467
struct RmsNorm {
  template <class T>
  static void forward(int64_t n, const T* x, const T* weight, T eps, T* y, T* rstd) {
    using V = Vec<T>;
    T square[1];
    sum_row<T>(n, square, [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
      V v = part.load(x + i);
      s[0] = fma(v, v, s[0]);
    });
    const T r = T(1) / T(__builtin_sqrt(square[0] / T(n) + eps));
    *rstd = r;
    each<T>(n, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      V v = part.load(x + i) * V(r);
      part.store(weight ? v * part.load(weight + i) : v, y + i);
    });
  }
  // With xhat = x * rstd: dx = rstd * (g * weight - xhat * mean(g * weight * xhat)); adds g * xhat
  // to dweight unless that is null.
  template <class T>
  static void backward(int64_t n, const T* g, const T* x, const T* weight, T rstd, T* dx,
                       T* dweight) {
    using V = Vec<T>;
    const V r(rstd);
    T dot[1];
    sum_row<T>(n, dot, [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
      V gw = part.load(g + i) * load_or(part, weight, i, T(1));
      s[0] = fma(gw, part.load(x + i) * r, s[0]);
    });
    const V mean(dot[0] / T(n));
    each<T>(n, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      V grad = part.load(g + i), xhat = part.load(x + i) * r;
      V gw = grad * load_or(part, weight, i, T(1));
      part.store(fma(-xhat, mean, gw) * r, dx + i);
      if (dweight) part.store(fma(grad, xhat, part.load(dweight + i)), dweight + i);
    });
  }
};

// y = (x - mean) * rstd * weight + bias with rstd = 1 / sqrt(mean((x - mean)^2) + eps). `weight`
// and `bias` may be null. https://arxiv.org/abs/1607.06450
struct LayerNorm {
  template <class T>
  static void forward(int64_t n, const T* x, const T* weight, const T* bias, T eps, T* y, T* mean,
                      T* rstd) {
    using V = Vec<T>;
    T sum[1], square[1];
    sum_row<T>(n, sum, [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
      s[0] += part.load(x + i);
    });
    *mean = sum[0] / T(n);
    const V center(*mean);
    sum_row<T>(n, square, [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
      V v = part.pad(part.load(x + i) - center, T(0));
      s[0] = fma(v, v, s[0]);
    });
    const T r = T(1) / T(__builtin_sqrt(square[0] / T(n) + eps));
    *rstd = r;
    each<T>(n, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      V xhat = (part.load(x + i) - center) * V(r);
      part.store(fma(xhat, load_or(part, weight, i, T(1)), load_or(part, bias, i, T(0))), y + i);
    });
  }
  // With xhat = (x - mean) * rstd, gw = g * weight: dx = rstd * (gw - mean(gw) - xhat * mean(gw *
  // xhat)); adds g * xhat to dweight and g to dbias unless those are null.
  template <class T>
  static void backward(int64_t n, const T* g, const T* x, const T* weight, T mean, T rstd, T* dx,
                       T* dweight, T* dbias) {
    using V = Vec<T>;
    const V r(rstd), center(mean);
    T sums[2];
    sum_row<T>(n, sums, [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
      V gw = part.load(g + i) * load_or(part, weight, i, T(1));
      s[0] += gw;
      s[1] = fma(gw, (part.load(x + i) - center) * r, s[1]);
    });
    const V mean_gw(sums[0] / T(n)), mean_gwx(sums[1] / T(n));
    each<T>(n, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      V grad = part.load(g + i), xhat = (part.load(x + i) - center) * r;
      V gw = grad * load_or(part, weight, i, T(1));
      part.store(fma(-xhat, mean_gwx, gw - mean_gw) * r, dx + i);
      if (dweight) part.store(fma(grad, xhat, part.load(dweight + i)), dweight + i);
      if (dbias) part.store(grad + part.load(dbias + i), dbias + i);
    });
  }
};

// -weight[t] * log_softmax(x)[t] for the label t; with smoothing s over C classes
// (1 - s) times that, plus s / C * sum(-weight * log_softmax(x)). https://arxiv.org/abs/1512.00567
struct CrossEntropy {
  static constexpr int64_t kBlock = 1024;  // elements that stay in L1 between max and exp

  // max and log(sum(exp(x - max))), reading x once from memory.
  template <class T> static void log_sum_exp(int64_t n, const T* x, T* max, T* log_sum) {
    using V = Vec<T>;
    T m = T(-__builtin_inf()), total = 0;
    for (int64_t at = 0; at < n; at += kBlock) {
      const int64_t size = n - at < kBlock ? n - at : kBlock;
      const T block_max = max_row(size, x + at);
      const T next = block_max > m ? block_max : m;
      if (at > 0 && next > m) {
        T lanes[V::lanes];
        exp(V(m - next)).store(lanes);
        total *= lanes[0];
      }
      m = next;
      const V shift(m == T(-__builtin_inf()) ? T(0) : m);  // -inf - -inf would be NaN
      T sum[1];
      sum_row<T>(size, sum, [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
        s[0] += exp(part.pad(part.load(x + at + i) - shift, T(-__builtin_inf())));
      });
      total += sum[0];
    }
    *max = m;
    *log_sum = log_of(total);
  }

  template <class T>
  static T forward(int64_t n, const T* x, int64_t label, const T* weight, T smoothing, T* max,
                   T* log_sum) {
    using V = Vec<T>;
    log_sum_exp(n, x, max, log_sum);
    T loss = (*max - x[label]) + *log_sum;
    if (weight) loss *= weight[label];
    if (smoothing > T(0)) {
      const V m(*max), l(*log_sum);
      T sum[1];
      sum_row<T>(n, sum, [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
        V v = part.pad((m - part.load(x + i)) + l, T(0));
        s[0] += weight ? v * part.load(weight + i) : v;
      });
      loss = loss * (T(1) - smoothing) + sum[0] * (smoothing / T(n));
    }
    return loss;
  }

  // dx = g * ((1 - s) * weight[t] * (p - onehot(t)) + s / C * (sum(weight) * p - weight)), where
  // p = softmax(x).
  template <class T>
  static void backward(T g, int64_t n, const T* x, int64_t label, const T* weight, T weight_sum,
                       T smoothing, T max, T log_sum, T* dx, bool stream) {
    using V = Vec<T>;
    const T label_part = g * (T(1) - smoothing) * (weight ? weight[label] : T(1));
    const T even_part = g * (smoothing / T(n));
    const V m(max), l(log_sum), scale(label_part + even_part * weight_sum), even(even_part);
    auto p = [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      return exp((part.load(x + i) - m) - l) * scale;
    };
    if (smoothing > T(0))
      write(n, dx, stream, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
        return p(i, part) - even * load_or(part, weight, i, T(1));
      });
    else
      write(n, dx, stream, p);
    dx[label] -= label_part;
  }
};

}  // namespace ops
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
