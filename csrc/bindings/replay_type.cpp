// The type Replay, as Python holds it.
#include "bindings/args.h"
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
    r->each_object([&](Ref& o) {
      if (!stop && o) stop = visit(o.get(), arg);
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

// call_and_draws(args, kwargs): what `call` returns, and what it drew: no other thread runs
// between.
PyObject* replay_call_and_draws(PyObject* self, PyObject* const* args, Py_ssize_t n) {
  PyObject* found = replay_call(self, args, n);
  if (!found || found == Py_NotImplemented) return found;
  PyObject* draws = replay_draws(self, nullptr);
  PyObject* both = draws ? PyTuple_Pack(2, found, draws) : nullptr;
  Py_XDECREF(draws);
  Py_DECREF(found);
  return both;
}

PyObject* replay_broken(PyObject* self, PyObject*) {
  return PyLong_FromLong(as_replay(self).guards.broken());
}

Ref names_of(const Node& node) {
  Ref names = Ref::made(PyList_New(0));
  auto add_fused = [&](bool wanted) {
    for (size_t i = 0; wanted && node.fused && i < node.fused->members.size(); ++i)
      append(names, PyUnicode_FromString(node.fused->members[i]->name));
  };
  add_fused(node.feeds);
  if (!node.fused || node.call.name)
    for (size_t i = 0; i < std::max<size_t>(1, node.joined.size()); ++i)
      append(names, PyUnicode_FromString(node.step->name));
  add_fused(!node.feeds);
  return names;
}

// (shape, dtype, bytes) of each.
Ref describe_arrays(const std::vector<Array>& list) {
  Ref all = Ref::made(PyList_New(0));
  for (const Array& a : list)
    if (a)
      append(all, Py_BuildValue("(NOL)", size_of(a.shape), dtype_objects[int(a.dtype)],
                                (long long)(a.numel() * int64_t(a.item()))));
  return all;
}

PyObject* describe_node(const Plan& plan, const Node& node) {
  std::vector<Array> results = node.out;
  if (node.fused)
    for (size_t k = 1; k < node.fused->arrays.size(); k += 2)
      if (node.fused->arrays[k][0].storage->data) results.push_back(node.fused->arrays[k][0]);
  const char* kind = node.fused                           ? "fused"
                     : node.step->kind == Step::op        ? "op"
                     : node.step->kind == Step::pointwise ? "pointwise"
                     : node.step->kind == Step::constant  ? "constant"
                                                          : "update";
  const Ref names = names_of(node), in = describe_arrays(node.in), out = describe_arrays(results);
  return Py_BuildValue("{sOsssOsOsdsd}", "ops", names.get(), "kind", kind, "inputs", in.get(),
                       "outputs", out.get(), "flops", plan.flops(node), "bytes", plan.bytes(node));
}

PyObject* replay_nodes(PyObject* self, PyObject*) {
  return guarded([&]() -> PyObject* {
    const Replay& r = as_replay(self);
    const Plan& plan = *r.plan;
    Ref all = Ref::made(PyList_New(0));
    for (const Node& node : plan.nodes) append(all, describe_node(plan, node));
    return Py_BuildValue(
        "{sOsnsnsnsLsLsLsnsn}", "nodes", all.get(), "recorded",
        Py_ssize_t(plan.capture().steps.size()), "dead", Py_ssize_t(plan.dead), "folded",
        Py_ssize_t(plan.folded), "arena_bytes", (long long)plan.arena_bytes, "unshared_bytes",
        (long long)plan.unshared_bytes, "constant_bytes", (long long)plan.constant_bytes, "guards",
        Py_ssize_t(r.guards.size()), "draws", Py_ssize_t(r.draws.size()));
  });
}

PyObject* replay_profile(PyObject* self, PyObject* runs) {
  const long n = PyLong_AsLong(runs);
  if (PyErr_Occurred()) return nullptr;
  return guarded([&] {
    Ref seconds = Ref::made(PyList_New(0));
    for (const double s : as_replay(self).profile(int(n))) append(seconds, PyFloat_FromDouble(s));
    return seconds.release();
  });
}

PyMethodDef methods[] = {
    {"call", fast(replay_call), METH_FASTCALL,
     "call(args, kwargs, draws=None): the result, or NotImplemented."},
    {"call_and_draws",
     reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(replay_call_and_draws)), METH_FASTCALL,
     "call_and_draws(args, kwargs): (the result, (seed, offset) of every draw), or "
     "NotImplemented."},
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

Ref wrap_replay(std::unique_ptr<Replay> replay) {
  Ref self = Ref::made(ReplayType->tp_alloc(ReplayType, 0));
  reinterpret_cast<ReplayObject*>(self.get())->replay = replay.release();
  return self;
}

bool add_replay_type(PyObject* module) {
  PyObject* type = PyType_FromSpec(&spec);
  if (!type) return false;
  ReplayType = reinterpret_cast<PyTypeObject*>(type);
  return PyModule_AddObjectRef(module, "Replay", type) == 0;
}

}  // namespace backtrail
