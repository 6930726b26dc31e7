// Optimizer updates of one element: the formulas of torch.optim, with hyperparameters in float64.
#pragma once
#include "backtrail/simd.h"

namespace backtrail {

// What Adam and AdamW come down to at one step: see adam_factors() in exec/optimizer.cpp.
struct AdamFactors {
  double sign;         // -1 to maximize
  double decay;        // added to the gradient, times the parameter: L2 regularisation
  double shrink;       // multiplies the parameter: decoupled weight decay
  double mean_weight;  // 1 - beta1
  double beta2;
  double scale;  // 1 / sqrt(1 - beta2^step)
  double eps;
  double step_size;  // lr / (1 - beta1^step)
};

struct SgdFactors {
  double sign, decay;
  double momentum;
  double grad_weight;  // 1 - dampening
  double lr;
  bool nesterov;
  bool first;  // the momentum buffer starts as the gradient
};

inline namespace BACKTRAIL_TARGET {

// D. P. Kingma and J. Ba, "Adam", 2015; I. Loshchilov and F. Hutter, "Decoupled weight decay
// regularization", 2019; AMSGrad (S. Reddi et al., 2018) divides by the greatest of the averages.
template <class V> struct Adam {
  V sign, decay, shrink, mean_weight, beta2, square_weight, scale, eps, step_size;

  explicit Adam(const AdamFactors& f)
      : sign(f.sign),
        decay(f.decay),
        shrink(f.shrink),
        mean_weight(f.mean_weight),
        beta2(f.beta2),
        square_weight(1 - f.beta2),
        scale(f.scale),
        eps(f.eps),
        step_size(-f.step_size) {}

  // `greatest` is the same as `square` without AMSGrad.
  template <bool decays, bool amsgrad>
  BACKTRAIL_INLINE void update(V& param, V grad, V& mean, V& square, V& greatest) const {
    grad = grad * sign;
    if constexpr (decays) grad = fma(decay, param, grad);
    mean = fma(mean_weight, grad - mean, mean);
    square = fma(square_weight * grad, grad, beta2 * square);
    if constexpr (amsgrad) greatest = max(greatest, square);
    V root = fma(sqrt(amsgrad ? greatest : square), scale, eps);
    param = fma(step_size, mean / root, param * shrink);
  }
};

// I. Sutskever et al., 2013, in torch.optim.SGD's form: the learning rate is outside the momentum.
template <class V> struct Sgd {
  V sign, decay, momentum, grad_weight, step_size;

  explicit Sgd(const SgdFactors& f)
      : sign(f.sign),
        decay(f.decay),
        momentum(f.momentum),
        grad_weight(f.grad_weight),
        step_size(-f.lr) {}

  BACKTRAIL_INLINE V gradient(V param, V grad, bool decays) const {
    grad = grad * sign;
    return decays ? fma(decay, param, grad) : grad;
  }
  BACKTRAIL_INLINE V moved(V param, V by) const { return fma(step_size, by, param); }
};

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
