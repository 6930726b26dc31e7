// Attention scores of a block of queries: their softmax and its derivative side by side.
#pragma once
#include "ops/rowwise.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace ops {

// N vectors of queries side by side: key j's scores begin at scores[j * stride]. With a query in
// each lane, no sum or maximum crosses lanes. The sums over keys are four chains, in a fixed order.
template <int N, class T> struct AttentionBlock {
  using V = Vec<T>;
  static constexpr int64_t L = V::lanes;
  static constexpr int count = N;
  int64_t keys, stride;
  int64_t query;  // under a causal mask, the first one, which sees keys [0, query]; else `keys`
  const T* mask;  // like scores, with the stride L, and mask_step from vector to vector; or null
  int64_t mask_step;

  // scores -> p = softmax(scores + mask), or 0 where everything is masked; with the log of the sum
  // of exponentials, which is +inf there.
  BACKTRAIL_INLINE void forward(T* scores, V (&lse)[N]) const {
    const V least(-__builtin_inf());
    add_mask(scores);
    hide(scores, -__builtin_inf());
    V max[2][N], shift[N], sum[4][N], scale[N];
    each_vector([&](int v) BACKTRAIL_LAMBDA { max[0][v] = max[1][v] = least; });
    each_key(scores, [&](T* at, int chain, int v) BACKTRAIL_LAMBDA {
      max[chain & 1][v] = above(V::load(at), max[chain & 1][v]);  // passes NaN over
    });
    each_vector([&](int v) BACKTRAIL_LAMBDA {
      max[0][v] = above(max[0][v], max[1][v]);
      shift[v] = select(max[0][v] == least, V(0), max[0][v]);  // -inf - -inf would be NaN
      sum[0][v] = sum[1][v] = sum[2][v] = sum[3][v] = V(0);
    });
    each_key(scores, [&](T* at, int chain, int v) BACKTRAIL_LAMBDA {
      V e = exp(V::load(at) - shift[v]);
      e.store(at);
      sum[chain][v] += e;
    });
    each_vector([&](int v) BACKTRAIL_LAMBDA {
      V total = (sum[0][v] + sum[2][v]) + (sum[1][v] + sum[3][v]);
      auto none = total == V(0);
      scale[v] = select(none, V(0), V(1) / total);
      lse[v] = select(none, V(__builtin_inf()), max[0][v] + log(total));
    });
    each_key(scores,
             [&](T* at, int, int v) BACKTRAIL_LAMBDA { (V::load(at) * scale[v]).store(at); });
  }

  // scores -> p = exp(scores + mask - lse) and dp -> p * (dp - sum(p * dp)), the gradient of the
  // scores.
  BACKTRAIL_INLINE void backward(T* scores, T* dp, const V (&lse)[N]) const {
    const int64_t to_dp = dp - scores;
    add_mask(scores);
    hide(scores, -__builtin_inf());
    hide(dp, 0);
    V dot[4][N];
    each_vector([&](int v)
                    BACKTRAIL_LAMBDA { dot[0][v] = dot[1][v] = dot[2][v] = dot[3][v] = V(0); });
    each_key(scores, [&](T* at, int chain, int v) BACKTRAIL_LAMBDA {
      V p = exp(V::load(at) - lse[v]);
      p.store(at);
      dot[chain][v] = fma(p, V::load(at + to_dp), dot[chain][v]);
    });
    each_vector([&](int v) BACKTRAIL_LAMBDA {
      dot[0][v] = (dot[0][v] + dot[2][v]) + (dot[1][v] + dot[3][v]);
    });
    each_key(scores, [&](T* at, int, int v) BACKTRAIL_LAMBDA {
      (V::load(at) * (V::load(at + to_dp) - dot[0][v])).store(at + to_dp);
    });
  }

 private:
  template <class F> static BACKTRAIL_INLINE void each_vector(F f) {
    _Pragma("GCC unroll 2") for (int v = 0; v < N; ++v) f(v);
  }
  // f(where, chain, v) for every vector of scores; a key is of chain key % 4.
  template <class F> BACKTRAIL_INLINE void each_key(T* scores, F f) const {
    int64_t j = 0;
    for (; j + 4 <= keys; j += 4, scores += 4 * stride) {
      each_vector([&](int v) BACKTRAIL_LAMBDA { f(scores + v * L, 0, v); });
      each_vector([&](int v) BACKTRAIL_LAMBDA { f(scores + stride + v * L, 1, v); });
      each_vector([&](int v) BACKTRAIL_LAMBDA { f(scores + 2 * stride + v * L, 2, v); });
      each_vector([&](int v) BACKTRAIL_LAMBDA { f(scores + 3 * stride + v * L, 3, v); });
    }
    for (; j < keys; ++j, scores += stride)
      each_vector([&](int v) BACKTRAIL_LAMBDA { f(scores + v * L, 0, v); });
  }
  BACKTRAIL_INLINE void add_mask(T* scores) const {
    if (!mask) return;
    for (int64_t j = 0; j < keys; ++j)
      each_vector([&](int v) BACKTRAIL_LAMBDA {
        T* at = scores + j * stride + v * L;
        (V::load(at) + V::load(mask + v * mask_step + j * L)).store(at);
      });
  }
  // x = value where the causal mask hides the key.
  BACKTRAIL_INLINE void hide(T* x, double value) const {
    for (int64_t j = query + 1; j < keys; ++j)
      each_vector([&](int v) BACKTRAIL_LAMBDA {
        T* at = x + j * stride + v * L;
        auto sees = V::iota() >= V(T(j - query - v * L));
        select(sees, V::load(at), V(value)).store(at);
      });
  }
};

}  // namespace ops
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
