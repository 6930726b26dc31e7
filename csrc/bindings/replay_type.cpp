// The type Replay, as Python holds it.
#include "bindings/caster.h"
#include "bindings/replay.h"

#include <algorithm>

namespace backtrail {
namespace {

PyTypeObject* ReplayType = nullptr;

struct ReplayObject {
  PyObject_HEAD Replay* replay;
};
Replay& as_replay(PyObject* o) { return *reinterpret_cast<ReplayObject*>(o)->replay; }

int replay_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Replay* r = reinterpret_cast<ReplayObject*>(self)->replay;
  int stop = 0;
  if (r)
    r->each_object([&](py::object& o) {
      if (!stop && o) stop = visit(o.ptr(), arg);
    });
  return stop;
}

int replay_clear(PyObject* self) {
  auto* o = reinterpret_cast<ReplayObject*>(self);
  Replay* r = o->replay;
  o->replay = nullptr;
  delete r;
  return 0;
}

void replay_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  replay_clear(self);
  type->tp_free(self);
  Py_DECREF(type);
}

// call(args, kwargs[, draws]): the result; NotImplemented where the plan is not for this call.
PyObject* replay_call(PyObject* self, PyObject* const* args, Py_ssize_t n) {
  if (n < 2 || !PyTuple_Check(args[0]) || !PyDict_Check(args[1])) {
    PyErr_SetString(PyExc_TypeError, "call: expected a tuple and a dict");
    return nullptr;
  }
  if (!reinterpret_cast<ReplayObject*>(self)->replay) Py_RETURN_NOTIMPLEMENTED;
  return guarded([&] { return as_replay(self).call(args[0], args[1], n > 2 ? args[2] : nullptr); });
}

// The (seed, offset) of every draw of the last run.
PyObject* replay_draws(PyObject* self, PyObject*) {
  const Replay& r = as_replay(self);
  PyObject* all = PyTuple_New(Py_ssize_t(r.plan->draws.size()));
  for (size_t i = 0; all && i < r.plan->draws.size(); ++i)
    PyTuple_SET_ITEM(all, Py_ssize_t(i),
                     Py_BuildValue("(KK)", (unsigned long long)r.plan->draws[i].seed,
                                   (unsigned long long)r.plan->draws[i].offset));
  return all;
}

PyObject* replay_broken(PyObject* self, PyObject*) {
  return PyLong_FromLong(as_replay(self).guards.broken());
}

py::dict describe_node(const Plan& plan, const Node& node) {
  py::dict d;
  py::list names;
  const size_t calls = std::max<size_t>(1, node.joined.size());
  auto add_fused = [&](bool wanted) {
    for (size_t i = 0; wanted && node.fused && i < node.fused->members.size(); ++i)
      names.append(node.fused->members[i]->name);
  };
  add_fused(node.feeds);
  if (!node.fused || node.call.name)
    for (size_t i = 0; i < calls; ++i) names.append(node.step->name);
  add_fused(!node.feeds);
  d["ops"] = names;
  d["kind"] = node.fused                           ? "fused"
              : node.step->kind == Step::op        ? "op"
              : node.step->kind == Step::pointwise ? "pointwise"
              : node.step->kind == Step::constant  ? "constant"
                                                   : "update";
  auto arrays = [&](const std::vector<Array>& list) {
    py::list all;
    for (const Array& a : list)
      if (a)
        all.append(
            py::make_tuple(py::cast(a.shape), py::cast(a.dtype), a.numel() * int64_t(a.item())));
    return all;
  };
  d["inputs"] = arrays(node.in);
  std::vector<Array> results = node.out;
  if (node.fused)
    for (size_t k = 1; k < node.fused->arrays.size(); k += 2)
      if (node.fused->arrays[k][0].storage->data) results.push_back(node.fused->arrays[k][0]);
  d["outputs"] = arrays(results);
  d["flops"] = plan.flops(node);
  d["bytes"] = plan.bytes(node);
  return d;
}

PyObject* replay_nodes(PyObject* self, PyObject*) {
  return guarded([&]() -> PyObject* {
    const Plan& plan = *as_replay(self).plan;
    py::list all;
    for (const Node& node : plan.nodes) all.append(describe_node(plan, node));
    py::dict d;
    d["nodes"] = all;
    d["recorded"] = plan.capture().steps.size();
    d["dead"] = plan.dead;
    d["folded"] = plan.folded;
    d["arena_bytes"] = plan.arena_bytes;
    d["unshared_bytes"] = plan.unshared_bytes;
    d["constant_bytes"] = plan.constant_bytes;
    d["guards"] = as_replay(self).guards.size();
    d["draws"] = as_replay(self).draws.size();
    return d.release().ptr();
  });
}

PyObject* replay_profile(PyObject* self, PyObject* runs) {
  const long n = PyLong_AsLong(runs);
  if (PyErr_Occurred()) return nullptr;
  return guarded(
      [&]() -> PyObject* { return py::cast(as_replay(self).profile(int(n))).release().ptr(); });
}

PyMethodDef methods[] = {
    {"call", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(replay_call)), METH_FASTCALL,
     "call(args, kwargs, draws=None): the result, or NotImplemented."},
    {"draws", replay_draws, METH_NOARGS, "(seed, offset) of every draw of the last run."},
    {"broken", replay_broken, METH_NOARGS, "Number of the first guard that does not hold, or -1."},
    {"nodes", replay_nodes, METH_NOARGS, "What the plan consists of."},
    {"profile", replay_profile, METH_O, "profile(n): median seconds of each node over n runs."},
    {nullptr, nullptr, 0, nullptr}};
PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char*>("A captured call of a function, made ready to be done again.")},
    {Py_tp_dealloc, reinterpret_cast<void*>(replay_dealloc)},
    {Py_tp_traverse, reinterpret_cast<void*>(replay_traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(replay_clear)},
    {Py_tp_methods, methods},
    {0, nullptr}};
PyType_Spec spec = {"backtrail._core.Replay", sizeof(ReplayObject), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                    slots};

}  // namespace

py::object wrap_replay(std::unique_ptr<Replay> replay) {
  PyObject* self = ReplayType->tp_alloc(ReplayType, 0);
  if (!self) throw py::error_already_set();
  reinterpret_cast<ReplayObject*>(self)->replay = replay.release();
  return py::reinterpret_steal<py::object>(self);
}

void bind_replay(py::module_& m) {
  PyObject* type = PyType_FromSpec(&spec);
  if (!type) throw py::error_already_set();
  ReplayType = reinterpret_cast<PyTypeObject*>(type);
  m.add_object("Replay", type);
}

}  // namespace backtrail
