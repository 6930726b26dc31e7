// Optimizer updates and gradient norms over contiguous runs, one pass through memory each.
#include "ops/optimizer.h"

#include "kernels/numeric_table.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace {

template <class T>
BACKTRAIL_INLINE Vec<T> load_some(const T* p, int64_t n) {
  return n >= Vec<T>::lanes ? Vec<T>::load(p) : Vec<T>::load(p, n);
}
template <class T>
BACKTRAIL_INLINE void store_some(Vec<T> x, T* p, int64_t n) {
  n >= Vec<T>::lanes ? x.store(p) : x.store(p, n);
}

template <class T, bool decays, bool amsgrad>
void adam_run(T* param, const T* grad, T* mean, T* square, T* greatest, int64_t n,
              const AdamFactors& f) {
  using V = Vec<T>;
  const Adam<V> adam(f);
  constexpr int64_t L = V::lanes;
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    V p = V::load(param + i), m = V::load(mean + i), s = V::load(square + i), x = s;
    if constexpr (amsgrad) x = V::load(greatest + i);
    adam.template update<decays, amsgrad>(p, V::load(grad + i), m, s, x);
    p.store(param + i), m.store(mean + i), s.store(square + i);
    if constexpr (amsgrad) x.store(greatest + i);
  }
  if (int64_t r = n - i; r > 0) {
    V p = V::load(param + i, r), m = V::load(mean + i, r), s = V::load(square + i, r), x = s;
    if constexpr (amsgrad) x = V::load(greatest + i, r);
    adam.template update<decays, amsgrad>(p, V::load(grad + i, r), m, s, x);
    p.store(param + i, r), m.store(mean + i, r), s.store(square + i, r);
    if constexpr (amsgrad) x.store(greatest + i, r);
  }
}

template <class T>
void adam(T* param, const T* grad, T* mean, T* square, T* greatest, int64_t n,
          const AdamFactors& f) {
  if (greatest)
    (f.decay != 0 ? adam_run<T, true, true> : adam_run<T, false, true>)(param, grad, mean, square,
                                                                        greatest, n, f);
  else
    (f.decay != 0 ? adam_run<T, true, false> : adam_run<T, false, false>)(param, grad, mean, square,
                                                                          nullptr, n, f);
}

template <class T, bool has_momentum>
void sgd_run(T* param, const T* grad, T* momentum, int64_t n, const SgdFactors& f) {
  using V = Vec<T>;
  const Sgd<V> sgd(f);
  const bool decays = f.decay != 0;
  for (int64_t i = 0; i < n; i += V::lanes) {
    int64_t r = n - i;
    V p = load_some(param + i, r), g = sgd.gradient(p, load_some(grad + i, r), decays);
    if constexpr (has_momentum) {
      V b = f.first ? g : fma(sgd.momentum, load_some(momentum + i, r), sgd.grad_weight * g);
      store_some(b, momentum + i, r);
      g = f.nesterov ? fma(sgd.momentum, b, g) : b;
    }
    store_some(sgd.moved(p, g), param + i, r);
  }
}

template <class T>
void sgd(T* param, const T* grad, T* momentum, int64_t n, const SgdFactors& f) {
  (momentum ? sgd_run<T, true> : sgd_run<T, false>)(param, grad, momentum, n, f);
}

// Sums f(x) over all elements in float64, in four vectors joined by a fixed tree.
template <class T, class F>
BACKTRAIL_INLINE double sum(const T* x, int64_t n, F f) {
  using D = Vec<double>;
  D sums[4] = {D(0), D(0), D(0), D(0)};
  constexpr int64_t kStep = 32;
  for (int64_t i = 0; i < n; i += kStep) {
    D v[4];
    if constexpr (sizeof(T) == 4) {
#pragma GCC unroll 2
      for (int k = 0; k < 2; ++k) {
        int64_t r = n - i - 16 * k;
        Vec<float> part = r > 0 ? load_some(x + i + 16 * k, r) : Vec<float>(0);
        v[2 * k] = low_as_double(part), v[2 * k + 1] = high_as_double(part);
      }
    } else {
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        int64_t r = n - i - 8 * k;
        v[k] = r > 0 ? load_some(x + i + 8 * k, r) : D(0);
      }
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) sums[k] = f(sums[k], v[k]);
  }
  return reduce_add((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <class T>
double sum_squares(const T* x, int64_t n) {
  return sum(x, n, [](Vec<double> s, Vec<double> v) { return fma(v, v, s); });
}
template <class T>
double sum_abs(const T* x, int64_t n) {
  return sum(x, n, [](Vec<double> s, Vec<double> v) { return s + abs(v); });
}
template <class T>
double max_abs(const T* x, int64_t n) {
  using V = Vec<T>;
  V most(0);
  for (int64_t i = 0; i < n; i += V::lanes) most = max(most, abs(load_some(x + i, n - i)));
  return reduce_max(most);
}

template <class T>
void scale(T* x, int64_t n, double factor) {
  using V = Vec<T>;
  V f(factor);
  for (int64_t i = 0; i < n; i += V::lanes) store_some(load_some(x + i, n - i) * f, x + i, n - i);
}

template <class T>
constexpr OptimizerTable<T> make_table() {
  return {adam<T>, sgd<T>, sum_squares<T>, sum_abs<T>, max_abs<T>, scale<T>};
}

}  // namespace

extern const OptimizerTable<float> optimizer_f32;
extern const OptimizerTable<double> optimizer_f64;
const OptimizerTable<float> optimizer_f32 = make_table<float>();
const OptimizerTable<double> optimizer_f64 = make_table<double>();

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
