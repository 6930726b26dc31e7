// Views that take part in recording: their base, and the nodes that keep both histories together.
#include "bindings/views.h"  // Python.h first

#include <cstring>

namespace backtrail {

thread_local bool walking = false;

namespace {

// Set by Python: the op as_strided, and what a base's change through a view is.
PyObject *as_strided_op = nullptr, *put_op = nullptr;

PyObject* tuple_of(const Dims& d) {
  PyObject* t = PyTuple_New(d.n);
  for (int i = 0; t && i < d.n; ++i) PyTuple_SET_ITEM(t, i, PyLong_FromLongLong(d[i]));
  return t;
}

const char kOneOfMany[] =
    "it was made with others by one call (split, chunk, unbind, iteration); make it by itself, "
    "with "
    "x[i] or narrow(), or use the out-of-place form";
const char kNoGrad[] =
    "it was made under no_grad() or by a compiled function, so that it is not known whether "
    "gradients should flow; make the view where gradients are recorded, or use x.detach()";

const char* reason_against(const TensorObject* t) {
  return t->origin == Origin::one_of_many ? kOneOfMany : kNoGrad;
}

}  // namespace

void let_go(Counter* counter) {
  if (counter && --counter->refs == 0) delete counter;
}

void share_version(TensorObject* to, const TensorObject* from) {
  to->shift = from->shift;
  to->counter = from->counter;
  if (to->counter) ++to->counter->refs;
}

void mark_view(TensorObject* out, TensorObject* in, bool one_of_many) {
  if (out->array.storage.get() != in->array.storage.get()) return;  // it was a copy
  out->view = true;
  if (in->counter || in->shift) share_version(out, in);
  out->origin = one_of_many ? Origin::one_of_many : grad_mode ? in->origin : Origin::no_grad;
  // The gradients of a pass belong to nobody yet: who holds the last reference may write to them.
  if (!grad_mode && walking) return;
  PyObject* root = reinterpret_cast<PyObject*>(in);
  if (in->base && as_tensor(in->base)->array.storage.get() == in->array.storage.get())
    root = in->base;
  // What is made outside the graph does not keep the graph alive.
  if ((!grad_mode && as_tensor(root)->grad_fn) || as_tensor(root)->array.dtype != out->array.dtype)
    return;
  out->base = Py_NewRef(root);
  out->seen = out->version();
}

PyObject* place_in(const Array& view, const Array& in) {
  return Py_BuildValue("(NNLNL)", tuple_of(view.shape), tuple_of(view.strides),
                       (long long)view.offset, tuple_of(in.strides), (long long)in.offset);
}

bool renew(TensorObject* t) {
  if (t->origin != Origin::plain) {
    PyErr_Format(PyExc_RuntimeError,
                 "a view of shape %s cannot be used any more, for its base was changed in place by "
                 "'%s' while gradients were recorded: %s",
                 to_string(t->array.shape).c_str(), t->writer() ? t->writer() : "?",
                 reason_against(t));
    return false;
  }
  PyObject* attrs = place_in(t->array, as_tensor(t->base)->array);
  PyObject* inputs = PyTuple_Pack(1, t->base);
  NodeObject* n = attrs && inputs ? new_node(as_strided_op, inputs, attrs, 1) : nullptr;
  Py_XDECREF(attrs);
  Py_XDECREF(inputs);
  if (!n) return false;
  t->seen = t->version();
  PyObject* outputs[] = {reinterpret_cast<PyObject*>(t)};
  const bool ok = hang(n, outputs);
  Py_DECREF(reinterpret_cast<PyObject*>(n));
  return ok;
}

void check_recordable(const char* op, const TensorObject* t) {
  const TensorObject* base = t->base ? as_tensor(t->base) : nullptr;
  if (t->view && (!base || t->origin != Origin::plain))
    fail(ErrorKind::runtime,
         "%s_: this view cannot be changed in place while gradients are recorded: %s", op,
         base || t->origin != Origin::plain ? reason_against(t) : kNoGrad);
  const bool leaf = t->requires_grad && !t->grad_fn;
  if (base && t->needs_grad() && (leaf || (base->requires_grad && !base->grad_fn)))
    fail(ErrorKind::runtime,
         "%s_: a view of a leaf tensor that requires grad cannot be changed in place; do it under "
         "no_grad()",
         op);
  if (leaf)
    fail(ErrorKind::runtime,
         "%s_: a leaf tensor that requires grad cannot be changed in place; do it under no_grad()",
         op);
  if (overlaps_itself(t->array))
    fail(ErrorKind::runtime,
         "%s_: several indices of the target (shape %s) share one element; use clone() first", op,
         to_string(t->array.shape).c_str());
}

bool rebase(TensorObject* t) {
  TensorObject* base = as_tensor(t->base);
  t->seen = t->version();
  PyObject* attrs = place_in(t->array, base->array);
  PyObject* inputs = PyTuple_Pack(2, t->base, reinterpret_cast<PyObject*>(t));
  NodeObject* n = attrs && inputs ? new_node(put_op, inputs, attrs, 1) : nullptr;
  Py_XDECREF(attrs);
  Py_XDECREF(inputs);
  if (!n) return false;
  bool ok = hang(n, &t->base);
  Py_DECREF(reinterpret_cast<PyObject*>(n));
  --t->seen;  // its history is from now on what it shows of the base
  return ok && (!t->retains || renew(t));
}

namespace {

PyObject* set_view_ops(PyObject*, PyObject* args) {
  PyObject *strided, *put;
  if (!PyArg_ParseTuple(args, "O!O:set_view_ops", OpType, &strided, &put)) return nullptr;
  Py_XSETREF(as_strided_op, Py_NewRef(strided));
  Py_XSETREF(put_op, Py_NewRef(put));
  Py_RETURN_NONE;
}

PyObject* enter_walk(PyObject*, PyObject* record) {
  const int on = PyObject_IsTrue(record);
  if (on < 0) return nullptr;
  const long before = grad_mode + 2 * walking;
  grad_mode = on;
  walking = true;
  return PyLong_FromLong(before);
}

PyObject* leave_walk(PyObject*, PyObject* before) {
  const long state = PyLong_AsLong(before);
  if (state < 0) return nullptr;
  grad_mode = state & 1;
  walking = state & 2;
  Py_RETURN_NONE;
}

// rebase(t): see above; of a tensor that a Function changed.
PyObject* rebase_tensor(PyObject*, PyObject* o) {
  if (!is_tensor(o)) {
    PyErr_SetString(PyExc_TypeError, "rebase: expected a Tensor");
    return nullptr;
  }
  TensorObject* t = as_tensor(o);
  if (t->base && !rebase(t)) return nullptr;
  Py_RETURN_NONE;
}

// check_recordable(name, t): see above.
PyObject* check(PyObject*, PyObject* args) {
  const char* name;
  PyObject* t;
  if (!PyArg_ParseTuple(args, "sO!:check_recordable", &name, TensorBaseType, &t)) return nullptr;
  return guarded([&]() -> PyObject* {
    if (!bring_up_to_date(as_tensor(t))) return nullptr;
    check_recordable(name, as_tensor(t));
    Py_RETURN_NONE;
  });
}

// part_of_many(views): these were made by one call.
PyObject* part_of_many(PyObject*, PyObject* views) {
  PyObject* all = PySequence_Fast(views, "part_of_many: expected a sequence");
  if (!all) return nullptr;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(all); ++i) {
    PyObject* o = PySequence_Fast_GET_ITEM(all, i);
    if (is_tensor(o) && as_tensor(o)->view) as_tensor(o)->origin = Origin::one_of_many;
  }
  Py_DECREF(all);
  return Py_NewRef(views);
}

PyMethodDef functions[] = {
    {"set_view_ops", set_view_ops, METH_VARARGS, "The ops of nodes that views make."},
    {"enter_walk", enter_walk, METH_O,
     "enter_walk(record): a backward pass begins; returns what leave_walk() takes."},
    {"leave_walk", leave_walk, METH_O, "leave_walk(before): a backward pass ends."},
    {"rebase", rebase_tensor, METH_O, "Make a view's new node part of its base's history."},
    {"check_recordable", check, METH_VARARGS,
     "check_recordable(name, tensor): raise if it cannot be changed in place in the graph."},
    {"part_of_many", part_of_many, METH_O, "Note that these views were made by one call."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool add_view_functions(PyObject* module) { return PyModule_AddFunctions(module, functions) == 0; }

}  // namespace backtrail
