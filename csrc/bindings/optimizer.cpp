// One call updates all parameters.
#include "exec/optimizer.h"

#include <set>
#include <string>

#include "bindings/args.h"  // Python.h first
#include "bindings/recording.h"
#include "core/parallel.h"

namespace backtrail {
namespace {

using Tensors = std::vector<Array>;

// The arrays of a sequence of tensors; of a list of parameters there must be as many as of these.
Tensors arrays_of(const char* function, const char* name, PyObject* list, const Tensors* params) {
  const Ref items = Ref::steal(PySequence_Fast(list, ""));
  if (!items) {
    PyErr_Clear();
    fail(ErrorKind::type, "%s: %s must be a list of Tensors; got %s", function, name,
         Py_TYPE(list)->tp_name);
  }
  const size_t n = size_t(PySequence_Fast_GET_SIZE(items.get()));
  if (params && n != params->size())
    fail(ErrorKind::value, "%s has %zu tensors; there are %zu parameters", name, n, params->size());
  Tensors all;
  all.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    PyObject* o = PySequence_Fast_GET_ITEM(items.get(), Py_ssize_t(i));
    if (!is_tensor(o))
      fail(ErrorKind::type, "%s: %s[%zu] must be a Tensor; got %s", function, name, i,
           Py_TYPE(o)->tp_name);
    all.push_back(as_tensor(o)->array);
  }
  return all;
}

// The lists of a call that updates parameters, the parameters first; null where one is None.
struct Lists {
  static constexpr int kMost = 5;
  Tensors lists[kMost];
  const Array* data[kMost] = {};

  Lists(const char* function, const char* const* names, PyObject* const* given, int n) {
    for (int i = 0; i < n; ++i) {
      if (given[i] == Py_None && i) continue;
      lists[i] = arrays_of(function, names[i], given[i], i ? &lists[0] : nullptr);
      data[i] = lists[i].data();
    }
  }
  int size() const { return int(lists[0].size()); }
};

// The number of the place that settings are read from; -1 when none is given.
int live_of(PyObject* live) {
  if (live == Py_None) {
    recording_now()->reason = "an optimizer's settings are not known";
    return -1;
  }
  PyObject *group, *states;
  if (!PyTuple_Check(live)) fail(ErrorKind::type, "live: expected a tuple (group, states)");
  if (!PyArg_ParseTuple(live, "O!O!:live", &PyDict_Type, &group, &PyList_Type, &states))
    throw_raised();
  recording_now()->lives.push_back({Ref::borrow(group), Ref::borrow(states), Ref()});
  return int(recording_now()->lives.size()) - 1;
}

void changed(const Tensors& arrays, const char* writer) {
  for (const Array& a : arrays) {
    ++a.storage->version;
    a.storage->writer = writer;
  }
}

// `live`, for captures: (group, states), where the settings and the count of steps are read anew.
PyObject* adam(PyObject*, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"params",          "grads",    "exp_avgs",     "exp_avg_sqs",
                                "max_exp_avg_sqs", "step",     "lr",           "beta1",
                                "beta2",           "eps",      "weight_decay", "decoupled",
                                "amsgrad",         "maximize", "live",         nullptr};
  PyObject *given[5], *live = Py_None;
  long long step;
  double lr, beta1, beta2, eps, weight_decay;
  int decoupled, amsgrad, maximize;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOLdddddppp|O:adam_step",
                                   const_cast<char**>(names), &given[0], &given[1], &given[2],
                                   &given[3], &given[4], &step, &lr, &beta1, &beta2, &eps,
                                   &weight_decay, &decoupled, &amsgrad, &maximize, &live))
    return nullptr;
  return guarded([&] {
    const Lists all("adam_step", names, given, 5);
    const Array *params = all.data[0], *g = all.data[1], *m = all.data[2], *v = all.data[3],
                *greatest = all.data[4];
    const AdamOptions options{
        step, lr, beta1, beta2, eps, weight_decay, bool(decoupled), bool(amsgrad), bool(maximize)};
    if (capturing()) {
      Step& s =
          capturing()->saw_update(Step::adam, "adam", {params, g, m, v, greatest}, all.size(), 1);
      s.has_second = greatest;
      s.adam_options = options;
      s.live = live_of(live);
    }
    Uninterruptible whole;
    adam_step(params, g, m, v, greatest, all.size(), options);
    changed(all.lists[0], "Adam.step");
    return Py_NewRef(Py_None);
  });
}

PyObject* sgd(PyObject*, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {
      "params",       "grads",    "momentum_buffers", "lr",    "momentum", "dampening",
      "weight_decay", "nesterov", "maximize",         "first", "live",     nullptr};
  PyObject *given[3], *live = Py_None;
  double lr, momentum, dampening, weight_decay;
  int nesterov, maximize, first;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOddddppp|O:sgd_step", const_cast<char**>(names),
                                   &given[0], &given[1], &given[2], &lr, &momentum, &dampening,
                                   &weight_decay, &nesterov, &maximize, &first, &live))
    return nullptr;
  return guarded([&] {
    const Lists all("sgd_step", names, given, 3);
    const Array *params = all.data[0], *g = all.data[1], *buffers = all.data[2];
    const SgdOptions options{
        lr, momentum, dampening, weight_decay, bool(nesterov), bool(maximize), bool(first)};
    if (capturing()) {
      Step& s = capturing()->saw_update(Step::sgd, "sgd", {params, g, buffers}, all.size(), 1);
      s.has_second = buffers;
      s.sgd_options = options;
      s.sgd_options.first = false;  // a replay is never the first
      s.live = live_of(live);
    }
    Uninterruptible whole;
    sgd_step(params, g, buffers, all.size(), options);
    changed(all.lists[0], "SGD.step");
    return Py_NewRef(Py_None);
  });
}

// A number of an optimizer's group as a tensor, for captures: it is read anew at each replay.
PyObject* setting(PyObject*, PyObject* const* args, Py_ssize_t n) {
  return guarded([&] {
    const Args a("setting", args, n, 2);
    if (!PyDict_Check(a[0])) fail(ErrorKind::type, "setting: group must be a dict");
    a.text(1, "name");
    PyObject* value = PyDict_GetItemWithError(a[0], a[1]);
    if (!value) {
      if (!PyErr_Occurred()) PyErr_SetObject(PyExc_KeyError, a[1]);
      throw_raised();
    }
    Array out = empty(Dims{}, DType::f64);
    *out.data<double>() = Args("setting", &value, 1, 1).real(0, "the value");
    if (capturing()) {
      capturing()->saw_update(Step::setting, "setting", {}, 0, -1, &out).live =
          int(recording_now()->lives.size());
      recording_now()->lives.push_back(
          {Ref::borrow(a[0]), Ref::made(PyList_New(0)), Ref::borrow(a[1])});
    }
    return wrap(out);
  });
}

// Scale the gradients so that their common norm is at most max_norm; returns what it was.
PyObject* clip(PyObject*, PyObject* const* args, Py_ssize_t n) {
  return guarded([&] {
    const Args a("clip_grad_norm", args, n, 3);
    const Tensors grads = arrays_of("clip_grad_norm", "grads", a[0], nullptr);
    const double max_norm = a.real(1, "max_norm"), norm_type = a.real(2, "norm_type");
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
    return wrap(out);
  });
}

// Fail as `name` where a scalar is not finite; also in replays, before anything that lasts is
// changed by what follows.
PyObject* finite(PyObject*, PyObject* const* args, Py_ssize_t n) {
  return guarded([&] {
    static std::set<std::string> names;  // plans keep pointers to them
    const Args a("require_finite", args, n, 2);
    const Array& scalar = a.tensor(0, "scalar");
    if (scalar.numel() != 1)
      fail(ErrorKind::runtime, "require_finite: a tensor of %lld elements; expected one",
           (long long)scalar.numel());
    const char* name = names.insert(a.text(1, "name")).first->c_str();
    if (capturing()) capturing()->saw_update(Step::finite, name, {&scalar}, 1, 0);
    require_finite(scalar, name);
    return Py_NewRef(Py_None);
  });
}

// Functions with keywords.
PyCFunction keywords(PyObject* (*f)(PyObject*, PyObject*, PyObject*)) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(f));
}

PyMethodDef functions[] = {
    {"adam_step", keywords(adam), METH_VARARGS | METH_KEYWORDS,
     "Update all parameters as Adam or AdamW does."},
    {"sgd_step", keywords(sgd), METH_VARARGS | METH_KEYWORDS, "Update all parameters as SGD does."},
    {"setting", fast(setting), METH_FASTCALL,
     "setting(group, name): a number of an optimizer's group as a scalar of float64, which replays "
     "read anew."},
    {"clip_grad_norm", fast(clip), METH_FASTCALL,
     "clip_grad_norm(grads, max_norm, norm_type): scale gradients so that their common norm is at "
     "most max_norm; returns what it was."},
    {"require_finite", fast(finite), METH_FASTCALL,
     "require_finite(scalar, name): raise ValueError, as \"NAME is nan\", where a scalar is not "
     "finite."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool add_optimizer_functions(PyObject* module) {
  return PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace backtrail
