// Softmax, norms and cross entropy of contiguous rows: the value and its derivative side by side.
//
// A row is read in vectors, the last one padded, and summed by accumulators joined in a fixed tree:
// the order depends on the length of the row alone. Each formula does Q rows at once, step by step,
// so that one row's reduction to a scalar hides behind the other's; no row depends on another.
#pragma once
#include "backtrail/simd.h"
#include "backtrail/vmath.h"

// After the parameters of a lambda that belongs inside its caller's loop.
#define BACKTRAIL_LAMBDA __attribute__((always_inline))
#define BACKTRAIL_EACH_ROW _Pragma("GCC unroll 4") for (int q = 0; q < Q; ++q)

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace ops {

// How to read and write one vector of a row: all its lanes, or the first n of them.
template <class T> struct Whole {
  using V = Vec<T>;
  static constexpr bool whole = true;
  BACKTRAIL_INLINE V load(const T* p) const { return V::load(p); }
  BACKTRAIL_INLINE void store(V x, T* p) const { x.store(p); }
  BACKTRAIL_INLINE V pad(V x, T) const { return x; }
};
template <class T> struct Part {
  using V = Vec<T>;
  static constexpr bool whole = false;
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

// N sums over a row, by lane, each by A accumulators, which hide the latency of additions. f(i,
// part, sums) adds the vector at i, with 0 in the lanes past the row.
template <class T, int A, int N, class F>
BACKTRAIL_INLINE void sum_row(int64_t n, Vec<T> (&total)[N], F f) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes;
  V sums[A][N];
  for (int a = 0; a < A; ++a)
    for (int k = 0; k < N; ++k) sums[a][k] = V(0);
  int64_t i = 0;
  for (; i + A * L <= n; i += A * L)
    for (int a = 0; a < A; ++a) f(i + a * L, Whole<T>{}, sums[a]);
  if (A > 1)
    for (; i + L <= n; i += L) f(i, Whole<T>{}, sums[0]);
  if (i < n) f(i, Part<T>{n - i}, sums[A - 1]);
  for (int half = A / 2; half > 0; half /= 2)
    for (int a = 0; a < half; ++a)
      for (int k = 0; k < N; ++k) sums[a][k] += sums[a + half][k];
  for (int k = 0; k < N; ++k) total[k] = sums[0][k];
}

// The largest elements by lane; -inf where there is none. NaN is passed over: exp(x - max) brings
// it back.
template <class T> BACKTRAIL_INLINE Vec<T> max_row(int64_t n, const T* x) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes;
  const V least(-__builtin_inf());
  V m[2] = {least, least};
  int64_t i = 0;
  for (; i + 2 * L <= n; i += 2 * L) {
    m[0] = above(V::load(x + i), m[0]);
    m[1] = above(V::load(x + i + L), m[1]);
  }
  if (i + L <= n) m[0] = above(V::load(x + i), m[0]), i += L;
  if (i < n) m[1] = above(Part<T>{n - i}.pad(V::load(x + i, n - i), T(-__builtin_inf())), m[1]);
  return above(m[0], m[1]);
}

// The largest lane; no lane is NaN.
template <class T> BACKTRAIL_INLINE T largest(Vec<T> x) {
  return reduce(x, [](auto a, auto b) { return a > b ? a : b; });
}

// y = exp(x - max) / sum(exp(x - max)).
struct Softmax {
  template <int Q, class T> static void forward(int64_t n, const T* x, T* y, bool) {
    using V = Vec<T>;
    V max[Q], sum[Q][1], scale[Q], tail[Q];
    BACKTRAIL_EACH_ROW max[q] = max_row(n, x + q * n), tail[q] = V(0);
    BACKTRAIL_EACH_ROW max[q] = V(largest(max[q]));
    BACKTRAIL_EACH_ROW sum_row<T, 2>(n, sum[q], [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
      V e = exp(part.pad(part.load(x + q * n + i) - max[q], T(-__builtin_inf())));
      if (part.whole)
        e.store(y + q * n + i);
      else
        tail[q] = e;  // a partial store would be slow to load back
      s[0] += e;
    });
    BACKTRAIL_EACH_ROW scale[q] = V(T(1) / reduce_add(sum[q][0]));
    BACKTRAIL_EACH_ROW each<T>(n, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      V e = part.whole ? V::load(y + q * n + i) : tail[q];
      part.store(e * scale[q], y + q * n + i);
    });
  }
  // dx = y * (g - sum(g * y)).
  template <int Q, class T>
  static void backward(int64_t n, const T* g, const T* y, T* dx, bool stream) {
    using V = Vec<T>;
    V sum[Q][1], dot[Q];
    BACKTRAIL_EACH_ROW sum_row<T, 4>(n, sum[q], [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
      s[0] = fma(part.load(g + q * n + i), part.load(y + q * n + i), s[0]);
    });
    BACKTRAIL_EACH_ROW dot[q] = V(reduce_add(sum[q][0]));
    BACKTRAIL_EACH_ROW write(n, dx + q * n, stream, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      return part.load(y + q * n + i) * (part.load(g + q * n + i) - dot[q]);
    });
  }
};

// y = (x - max) - log(sum(exp(x - max))).
struct LogSoftmax {
  template <int Q, class T> static void forward(int64_t n, const T* x, T* y, bool stream) {
    using V = Vec<T>;
    V max[Q], sum[Q][1], log_sum[Q];
    BACKTRAIL_EACH_ROW max[q] = max_row(n, x + q * n);
    BACKTRAIL_EACH_ROW max[q] = V(largest(max[q]));
    BACKTRAIL_EACH_ROW sum_row<T, 2>(n, sum[q], [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
      s[0] += exp(part.pad(part.load(x + q * n + i) - max[q], T(-__builtin_inf())));
    });
    BACKTRAIL_EACH_ROW log_sum[q] = log(V(reduce_add(sum[q][0])));
    BACKTRAIL_EACH_ROW write(n, y + q * n, stream, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      return (part.load(x + q * n + i) - max[q]) - log_sum[q];
    });
  }
  // dx = g - exp(y) * sum(g).
  template <int Q, class T>
  static void backward(int64_t n, const T* g, const T* y, T* dx, bool stream) {
    using V = Vec<T>;
    V sum[Q][1], total[Q];
    BACKTRAIL_EACH_ROW sum_row<T, 4>(n, sum[q], [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
      s[0] += part.load(g + q * n + i);
    });
    BACKTRAIL_EACH_ROW total[q] = V(reduce_add(sum[q][0]));
    BACKTRAIL_EACH_ROW write(n, dx + q * n, stream, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      return part.load(g + q * n + i) - exp(part.load(y + q * n + i)) * total[q];
    });
  }
};

// Vector i of `weight` or `bias`, or what stands for one that is absent.
template <class T, class P>
BACKTRAIL_INLINE Vec<T> load_or(P part, const T* p, int64_t i, double none) {
  return p ? part.load(p + i) : Vec<T>(none);
}

// x[i] = f(x[i]) for a number of each of several rows, where formulas have divisions and roots.
template <class T, class F> BACKTRAIL_INLINE void for_rows(int64_t rows, T* x, F f) {
  each<T>(rows,
          [&](int64_t i, auto part) BACKTRAIL_LAMBDA { part.store(f(part.load(x + i)), x + i); });
}

// Forward, norms go through a few rows two or three times, so that divisions and roots are done for
// many at once: `sums` of Q rows, what each row makes of its sum, then `apply` to Q rows.
//
// y = x * rstd * weight with rstd = 1 / sqrt(mean(x^2) + eps). `weight` may be null.
// https://arxiv.org/abs/1910.07467
struct RmsNorm {
  // rstd = sum(x^2), which `scale` makes 1 / sqrt(mean + eps).
  template <int Q, class T> static void sums(int64_t n, const T* x, T* rstd) {
    Vec<T> square[Q][1];
    BACKTRAIL_EACH_ROW sum_row<T, 4>(n, square[q],
                                     [&](int64_t i, auto part, Vec<T>* s) BACKTRAIL_LAMBDA {
                                       Vec<T> v = part.load(x + q * n + i);
                                       s[0] = fma(v, v, s[0]);
                                     });
    BACKTRAIL_EACH_ROW rstd[q] = reduce_add(square[q][0]);
  }
  template <class T> static void scale(int64_t rows, int64_t n, T eps, T* rstd) {
    using V = Vec<T>;
    for_rows(rows, rstd,
             [&](V s) BACKTRAIL_LAMBDA { return V(T(1)) / sqrt(s / V(T(n)) + V(eps)); });
  }
  template <int Q, class T>
  static void apply(int64_t n, const T* x, const T* weight, const T* rstd, T* y) {
    using V = Vec<T>;
    each<T>(n, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      const V w = load_or(part, weight, i, 1);
      BACKTRAIL_EACH_ROW part.store(part.load(x + q * n + i) * V(rstd[q]) * w, y + q * n + i);
    });
  }
  // With xhat = x * rstd: dx = rstd * (g * weight - xhat * mean(g * weight * xhat)); adds g * xhat
  // to dweight unless that is null.
  template <int Q, class T>
  static void backward(int64_t n, const T* g, const T* x, const T* weight, const T* rstd, T* dx,
                       T* dweight) {
    using V = Vec<T>;
    V dot[Q][1], r[Q], mean[Q];
    BACKTRAIL_EACH_ROW r[q] = V(rstd[q]);
    BACKTRAIL_EACH_ROW sum_row<T, 4>(n, dot[q], [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
      V gw = part.load(g + q * n + i) * load_or(part, weight, i, 1);
      s[0] = fma(gw, part.load(x + q * n + i) * r[q], s[0]);
    });
    BACKTRAIL_EACH_ROW mean[q] = V(reduce_add(dot[q][0]) / T(n));
    each<T>(n, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      const V w = load_or(part, weight, i, 1);
      V dw = load_or(part, static_cast<const T*>(dweight), i, 0);
      BACKTRAIL_EACH_ROW {
        V grad = part.load(g + q * n + i), xhat = part.load(x + q * n + i) * r[q];
        part.store(fma(-xhat, mean[q], grad * w) * r[q], dx + q * n + i);
        dw = fma(grad, xhat, dw);
      }
      if (dweight) part.store(dw, dweight + i);
    });
  }
};

// y = (x - mean) * rstd * weight + bias with rstd = 1 / sqrt(mean((x - mean)^2) + eps). `weight`
// and `bias` may be null. https://arxiv.org/abs/1607.06450
struct LayerNorm {
  template <int Q, class T> static void sums(int64_t n, const T* x, T* sum) {
    Vec<T> total[Q][1];
    BACKTRAIL_EACH_ROW sum_row<T, 4>(n, total[q],
                                     [&](int64_t i, auto part, Vec<T>* s)
                                         BACKTRAIL_LAMBDA { s[0] += part.load(x + q * n + i); });
    BACKTRAIL_EACH_ROW sum[q] = reduce_add(total[q][0]);
  }
  // square = sum((x - mean)^2)
  template <int Q, class T> static void squares(int64_t n, const T* x, const T* mean, T* square) {
    using V = Vec<T>;
    V sum[Q][1], center[Q];
    BACKTRAIL_EACH_ROW center[q] = V(mean[q]);
    BACKTRAIL_EACH_ROW sum_row<T, 4>(n, sum[q], [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
      V v = part.pad(part.load(x + q * n + i) - center[q], T(0));
      s[0] = fma(v, v, s[0]);
    });
    BACKTRAIL_EACH_ROW square[q] = reduce_add(sum[q][0]);
  }
  template <int Q, class T>
  static void apply(int64_t n, const T* x, const T* weight, const T* bias, const T* mean,
                    const T* rstd, T* y) {
    using V = Vec<T>;
    V center[Q], r[Q];
    BACKTRAIL_EACH_ROW center[q] = V(mean[q]), r[q] = V(rstd[q]);
    each<T>(n, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      const V w = load_or(part, weight, i, 1), b = load_or(part, bias, i, 0);
      BACKTRAIL_EACH_ROW part.store(fma((part.load(x + q * n + i) - center[q]) * r[q], w, b),
                                    y + q * n + i);
    });
  }
  // With xhat = (x - mean) * rstd, gw = g * weight: dx = rstd * (gw - mean(gw) - xhat * mean(gw *
  // xhat)); adds g * xhat to dweight and g to dbias unless those are null.
  template <int Q, class T>
  static void backward(int64_t n, const T* g, const T* x, const T* weight, const T* mean,
                       const T* rstd, T* dx, T* dweight, T* dbias) {
    using V = Vec<T>;
    V sums[Q][2], r[Q], center[Q], mean_gw[Q], mean_gwx[Q];
    BACKTRAIL_EACH_ROW r[q] = V(rstd[q]), center[q] = V(mean[q]);
    BACKTRAIL_EACH_ROW sum_row<T, 2>(n, sums[q], [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
      V gw = part.load(g + q * n + i) * load_or(part, weight, i, 1);
      s[0] += gw;
      s[1] = fma(gw, (part.load(x + q * n + i) - center[q]) * r[q], s[1]);
    });
    BACKTRAIL_EACH_ROW mean_gw[q] = V(reduce_add(sums[q][0]) / T(n));
    BACKTRAIL_EACH_ROW mean_gwx[q] = V(reduce_add(sums[q][1]) / T(n));
    each<T>(n, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      const V w = load_or(part, weight, i, 1);
      V dw = load_or(part, static_cast<const T*>(dweight), i, 0);
      V db = load_or(part, static_cast<const T*>(dbias), i, 0);
      BACKTRAIL_EACH_ROW {
        V grad = part.load(g + q * n + i), xhat = (part.load(x + q * n + i) - center[q]) * r[q];
        part.store(fma(-xhat, mean_gwx[q], fma(grad, w, -mean_gw[q])) * r[q], dx + q * n + i);
        dw = fma(grad, xhat, dw);
        db += grad;
      }
      if (dweight) part.store(dw, dweight + i);
      if (dbias) part.store(db, dbias + i);
    });
  }
};

// -weight[t] * log_softmax(x)[t] for the label t; with smoothing s over C classes
// (1 - s) times that, plus s / C * sum(-weight * log_softmax(x)). https://arxiv.org/abs/1512.00567
struct CrossEntropy {
  static constexpr int64_t kBlock = 1024;  // elements that stay in L1 between max and exp

  // max and sum(exp(x - max)) of Q rows, reading x once from memory.
  template <int Q, class T> static void sum_exp(int64_t n, const T* x, T* max, T* sum) {
    using V = Vec<T>;
    const T least = T(-__builtin_inf());
    BACKTRAIL_EACH_ROW max[q] = least, sum[q] = 0;
    for (int64_t at = 0; at < n; at += kBlock) {
      const int64_t size = n - at < kBlock ? n - at : kBlock;
      V block_max[Q], block_sum[Q][1], shift[Q];
      BACKTRAIL_EACH_ROW block_max[q] = max_row(size, x + q * n + at);
      BACKTRAIL_EACH_ROW {
        const T next = largest(block_max[q]);
        if (next > max[q]) {
          if (at > 0) {
            T factor[V::lanes];
            exp(V(max[q] - next)).store(factor);
            sum[q] *= factor[0];
          }
          max[q] = next;
        }
        shift[q] = V(max[q] == least ? T(0) : max[q]);  // -inf - -inf would be NaN
      }
      BACKTRAIL_EACH_ROW sum_row<T, 2>(
          size, block_sum[q], [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
            s[0] += exp(part.pad(part.load(x + q * n + at + i) - shift[q], least));
          });
      BACKTRAIL_EACH_ROW sum[q] += reduce_add(block_sum[q][0]);
    }
  }

  template <class T>
  static T forward(int64_t n, const T* x, int64_t label, const T* weight, T smoothing, T max,
                   T log_sum) {
    using V = Vec<T>;
    T loss = (max - x[label]) + log_sum;
    if (weight) loss *= weight[label];
    if (smoothing > T(0)) {
      const V m(max), l(log_sum);
      V sum[1];
      sum_row<T, 4>(n, sum, [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
        V v = part.pad((m - part.load(x + i)) + l, T(0));
        s[0] += weight ? v * part.load(weight + i) : v;
      });
      loss = loss * (T(1) - smoothing) + reduce_add(sum[0]) * (smoothing / T(n));
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
    auto p = [&](int64_t i, auto part)
                 BACKTRAIL_LAMBDA { return exp((part.load(x + i) - m) - l) * scale; };
    if (smoothing > T(0))
      write(n, dx, stream, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
        return p(i, part) - even * load_or(part, weight, i, 1);
      });
    else
      write(n, dx, stream, p);
    dx[label] -= label_part;
  }
};

}  // namespace ops
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
