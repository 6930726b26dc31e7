// One call updates all parameters.
#include "exec/optimizer.h"
#include "bindings/caster.h"
#include "bindings/recording.h"
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

// The number of the place that settings are read from; -1 when none is given.
int live_of(const py::object& live) {
  if (live.is_none()) {
    recording_now()->reason = "an optimizer's settings are not known";
    return -1;
  }
  py::tuple t = live;
  recording_now()->lives.push_back({t[0], t[1], py::none()});
  return int(recording_now()->lives.size()) - 1;
}

void changed(const Tensors& arrays, const char* writer) {
  for (const Array& a : arrays) {
    ++a.storage->version;
    a.storage->writer = writer;
  }
}

// `live`, for captures: (group, states), where the settings and the count of steps are read anew.
void adam(const Tensors& params, const std::optional<Tensors>& grads,
          const std::optional<Tensors>& exp_avgs, const std::optional<Tensors>& exp_avg_sqs,
          const std::optional<Tensors>& max_exp_avg_sqs, int64_t step, double lr, double beta1,
          double beta2, double eps, double weight_decay, bool decoupled, bool amsgrad,
          bool maximize, py::object live) {
  const size_t n = params.size();
  const Array *g = data("grads", grads, n), *m = data("exp_avgs", exp_avgs, n),
              *v = data("exp_avg_sqs", exp_avg_sqs, n),
              *greatest = data("max_exp_avg_sqs", max_exp_avg_sqs, n);
  const AdamOptions options{step,         lr,        beta1,   beta2,   eps,
                            weight_decay, decoupled, amsgrad, maximize};
  if (capturing()) {
    Step& s =
        capturing()->saw_update(Step::adam, "adam", {params.data(), g, m, v, greatest}, int(n), 1);
    s.has_second = greatest;
    s.adam_options = options;
    s.live = live_of(live);
  }
  Uninterruptible whole;
  adam_step(params.data(), g, m, v, greatest, int(n), options);
  changed(params, "Adam.step");
}

void sgd(const Tensors& params, const std::optional<Tensors>& grads,
         const std::optional<Tensors>& momentum_buffers, double lr, double momentum,
         double dampening, double weight_decay, bool nesterov, bool maximize, bool first,
         py::object live) {
  const size_t n = params.size();
  const Array *g = data("grads", grads, n),
              *buffers = data("momentum_buffers", momentum_buffers, n);
  const SgdOptions options{lr, momentum, dampening, weight_decay, nesterov, maximize, first};
  if (capturing()) {
    Step& s = capturing()->saw_update(Step::sgd, "sgd", {params.data(), g, buffers}, int(n), 1);
    s.has_second = buffers;
    s.sgd_options = options;
    s.sgd_options.first = false;  // a replay is never the first
    s.live = live_of(live);
  }
  Uninterruptible whole;
  sgd_step(params.data(), g, buffers, int(n), options);
  changed(params, "SGD.step");
}

// A number of an optimizer's group as a tensor, for captures: it is read anew at each replay.
Array setting(const py::dict& group, const py::str& name) {
  Array out = empty(Dims{}, DType::f64);
  *out.data<double>() = py::float_(group[name]);
  if (capturing()) {
    capturing()->saw_update(Step::setting, "setting", {}, 0, -1, &out).live =
        int(recording_now()->lives.size());
    recording_now()->lives.push_back({group, py::list(), name});
  }
  return out;
}

// Scale the gradients so that their common norm is at most max_norm; returns what it was.
Array clip(const Tensors& grads, double max_norm, double norm_type) {
  DType dtype = DType::f32;
  for (const Array& g : grads)
    if (g.dtype == DType::f64) dtype = DType::f64;
  Array out = empty(Dims{}, dtype);
  if (capturing()) {
    Step& s = capturing()->saw_update(Step::clip, "clip_grad_norm", {grads.data()},
                                      int(grads.size()), -1, &out);
    s.max_norm = max_norm;
    s.norm_type = norm_type;
  }
  Uninterruptible whole;
  Unobserved inside;
  if (clip_grads(grads.data(), int(grads.size()), max_norm, norm_type, out))
    changed(grads, "clip_grad_norm_");
  return out;
}

}  // namespace

void bind_optimizer(py::module_& m) {
  using namespace py::literals;
  m.def("adam_step", &adam, "params"_a, "grads"_a, "exp_avgs"_a, "exp_avg_sqs"_a,
        "max_exp_avg_sqs"_a, "step"_a, "lr"_a, "beta1"_a, "beta2"_a, "eps"_a, "weight_decay"_a,
        "decoupled"_a, "amsgrad"_a, "maximize"_a, "live"_a = py::none(),
        "Update all parameters as Adam or AdamW does.");
  m.def("sgd_step", &sgd, "params"_a, "grads"_a, "momentum_buffers"_a, "lr"_a, "momentum"_a,
        "dampening"_a, "weight_decay"_a, "nesterov"_a, "maximize"_a, "first"_a,
        "live"_a = py::none(), "Update all parameters as SGD does.");
  m.def("setting", &setting, "group"_a, "name"_a,
        "A number of an optimizer's group as a scalar of float64, which replays read anew.");
  m.def("clip_grad_norm", &clip, "grads"_a, "max_norm"_a, "norm_type"_a,
        "Scale gradients so that their common norm is at most max_norm; returns what it was.");
}

}  // namespace backtrail
