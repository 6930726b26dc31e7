// Optimizer steps and gradient norms over lists of tensors, each in one parallel region.
#pragma once
#include "core/array.h"

namespace backtrail {

struct AdamOptions {
  int64_t step = 1;  // of this update, from 1
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  bool decoupled = false;  // AdamW
  bool amsgrad = false, maximize = false;
};

struct SgdOptions {
  double lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false, maximize = false;
  bool first = false;  // the momentum buffers hold nothing yet
};

// All lists have n arrays of equal shapes; they are changed in place. Where a gradient is an empty
// Array nothing happens. Contiguous float32 and float64 arrays are fast; others pass through copies
// (calculated in float32 for bfloat16). To be called with the GIL, for those copies.
//
// torch.optim.Adam and AdamW. `max_exp_avg_sqs` is null without amsgrad.
void adam_step(const Array* params, const Array* grads, const Array* exp_avgs,
               const Array* exp_avg_sqs, const Array* max_exp_avg_sqs, int n,
               const AdamOptions& options);
// torch.optim.SGD. `momentum_buffers` is null without momentum.
void sgd_step(const Array* params, const Array* grads, const Array* momentum_buffers, int n,
              const SgdOptions& options);

// The p-norm of all elements together, p > 0 or infinite; accumulated in float64.
double grad_norm(const Array* grads, int n, double p);
// Multiply all by a factor, in place.
void scale_all(const Array* arrays, int n, double factor);
// Scale so that the common norm is at most max_norm; what it was goes to `norm`, a scalar of
// float32 or float64. Returns whether anything was scaled.
bool clip_grads(const Array* grads, int n, double max_norm, double norm_type, const Array& norm);

// Fail, as `name` with its value, where a scalar is NaN or infinite.
void require_finite(const Array& scalar, const char* name);

}  // namespace backtrail
