// One call updates all parameters.
#include "plan/optimizer.h"
#include "bindings/caster.h"
#include "core/parallel.h"

namespace py = pybind11;

namespace backtrail {
namespace {

using Tensors = std::vector<Array>;

// The arrays of a list, of which there must be `n`; null for None.
const Array* data(const char* name, const std::optional<Tensors>& list, size_t n) {
  if (!list) return nullptr;
  if (list->size() != n)
    fail(ErrorKind::value, "%s has %zu tensors; there are %zu parameters", name, list->size(), n);
  return list->data();
}

void changed(const Tensors& arrays, const char* writer) {
  for (const Array& a : arrays) {
    ++a.storage->version;
    a.storage->writer = writer;
  }
}

void adam(const Tensors& params, const std::optional<Tensors>& grads,
          const std::optional<Tensors>& exp_avgs, const std::optional<Tensors>& exp_avg_sqs,
          const std::optional<Tensors>& max_exp_avg_sqs, int64_t step, double lr, double beta1,
          double beta2, double eps, double weight_decay, bool decoupled, bool amsgrad,
          bool maximize) {
  const size_t n = params.size();
  Uninterruptible whole;
  adam_step(params.data(), data("grads", grads, n), data("exp_avgs", exp_avgs, n),
            data("exp_avg_sqs", exp_avg_sqs, n), data("max_exp_avg_sqs", max_exp_avg_sqs, n),
            int(n), {step, lr, beta1, beta2, eps, weight_decay, decoupled, amsgrad, maximize});
  changed(params, "Adam.step");
}

void sgd(const Tensors& params, const std::optional<Tensors>& grads,
         const std::optional<Tensors>& momentum_buffers, double lr, double momentum,
         double dampening, double weight_decay, bool nesterov, bool maximize, bool first) {
  const size_t n = params.size();
  Uninterruptible whole;
  sgd_step(params.data(), data("grads", grads, n), data("momentum_buffers", momentum_buffers, n),
           int(n), {lr, momentum, dampening, weight_decay, nesterov, maximize, first});
  changed(params, "SGD.step");
}

// Scale the gradients so that their common norm is at most max_norm; returns what it was.
Array clip(const Tensors& grads, double max_norm, double norm_type) {
  DType dtype = DType::f32;
  for (const Array& g : grads)
    if (g.dtype == DType::f64) dtype = DType::f64;
  Uninterruptible whole;
  const double norm = grad_norm(grads.data(), int(grads.size()), norm_type);
  const double factor = max_norm / (norm + 1e-6);
  if (!(factor >= 1)) {
    scale_all(grads.data(), int(grads.size()), factor);
    changed(grads, "clip_grad_norm_");
  }
  Array out = empty(Dims{}, dtype);
  if (dtype == DType::f64)
    *out.data<double>() = norm;
  else
    *out.data<float>() = float(norm);
  return out;
}

}  // namespace

void bind_optimizer(py::module_& m) {
  using namespace py::literals;
  m.def("adam_step", &adam, "params"_a, "grads"_a, "exp_avgs"_a, "exp_avg_sqs"_a,
        "max_exp_avg_sqs"_a, "step"_a, "lr"_a, "beta1"_a, "beta2"_a, "eps"_a, "weight_decay"_a,
        "decoupled"_a, "amsgrad"_a, "maximize"_a, "Update all parameters as Adam or AdamW does.");
  m.def("sgd_step", &sgd, "params"_a, "grads"_a, "momentum_buffers"_a, "lr"_a, "momentum"_a,
        "dampening"_a, "weight_decay"_a, "nesterov"_a, "maximize"_a, "first"_a,
        "Update all parameters as SGD does.");
  m.def("clip_grad_norm", &clip, "grads"_a, "max_norm"_a, "norm_type"_a,
        "Scale gradients so that their common norm is at most max_norm; returns what it was.");
}

}  // namespace backtrail
