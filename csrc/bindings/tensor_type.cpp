// The type TensorBase: an array, its gradient and its place in the graph; the buffer protocol.
#include "bindings/recording.h"  // Python.h first
#include "bindings/views.h"

#include <cstring>

#include <structmember.h>

namespace backtrail {

PyTypeObject* TensorBaseType = nullptr;
PyTypeObject* TensorType = nullptr;
PyObject* dtype_objects[kDTypes] = {};

PyObject* wrap(const Array& array, PyTypeObject* type) {
  if (!type) type = TensorType;
  PyObject* self = type->tp_alloc(type, 0);
  if (!self) return nullptr;
  new (&as_tensor(self)->array) Array(array);
  return self;
}

bool find_dtype(PyObject* o, DType& found) {
  for (int i = 0; i < kDTypes; ++i)
    if (dtype_objects[i] == o) return found = DType(i), true;
  auto is = [&](PyTypeObject& type) { return o == reinterpret_cast<PyObject*>(&type); };
  if (is(PyFloat_Type)) return found = DType::f64, true;
  if (is(PyLong_Type)) return found = DType::i64, true;
  if (is(PyBool_Type)) return found = DType::b8, true;
  return false;
}

DType dtype_of(PyObject* o) {
  DType found;
  if (find_dtype(o, found)) return found;
  PyObject* text = PyObject_Repr(o);
  std::string got = text ? PyUnicode_AsUTF8(text) : "?";
  Py_XDECREF(text);
  fail(ErrorKind::type, "expected a dtype such as float32; got %s", got.c_str());
}

namespace {

// The text may be a user's, or cut short: what is not UTF-8 in it is replaced.
void set_error(PyObject* type, const char* text) {
  PyObject* decoded = PyUnicode_DecodeUTF8(text, Py_ssize_t(std::strlen(text)), "replace");
  if (decoded) PyErr_SetObject(type, decoded);
  Py_XDECREF(decoded);
}

}  // namespace

void set_python_error() {
  drop_kept_error();  // another one came first
  try {
    throw;
  } catch (const Error& e) {
    if (e.kind == ErrorKind::python && PyErr_Occurred()) return;
    PyObject* kinds[] = {PyExc_RuntimeError, PyExc_ValueError,  PyExc_TypeError,
                         PyExc_IndexError,   PyExc_MemoryError, PyExc_KeyboardInterrupt};
    set_error(kinds[int(e.kind)], e.what());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& e) {
    set_error(PyExc_RuntimeError, e.what());
  }
}

namespace {

int traverse(PyObject* self, visitproc visit, void* arg) {
  TensorObject* t = as_tensor(self);
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(t->grad);
  Py_VISIT(t->grad_fn);
  Py_VISIT(t->hooks);
  Py_VISIT(t->base);
  Py_VISIT(t->dict);
  return 0;
}

int clear(PyObject* self) {
  TensorObject* t = as_tensor(self);
  Py_CLEAR(t->grad);
  Py_CLEAR(t->grad_fn);
  Py_CLEAR(t->hooks);
  Py_CLEAR(t->base);
  Py_CLEAR(t->dict);
  return 0;
}

void dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  Py_TRASHCAN_BEGIN(self, dealloc) TensorObject* t = as_tensor(self);
  if (t->weakrefs) PyObject_ClearWeakRefs(self);
  clear(self);
  t->array.~Array();
  let_go(t->counter);
  type->tp_free(self);
  Py_DECREF(type);
  Py_TRASHCAN_END
}

// TensorBase(other): a tensor on the same storage, outside the graph.
PyObject* create(PyTypeObject* type, PyObject* args, PyObject*) {
  PyObject* other;
  if (!PyArg_ParseTuple(args, "O:TensorBase", &other)) return nullptr;
  if (!is_tensor(other)) {
    PyErr_Format(PyExc_TypeError, "TensorBase: expected a tensor; got %s", Py_TYPE(other)->tp_name);
    return nullptr;
  }
  PyObject* self = wrap(as_tensor(other)->array, type);
  // A parameter counts with its storage, as the optimizers do.
  if (self && type == TensorType) share_version(as_tensor(self), as_tensor(other));
  return self;
}

PyObject* get_shape(PyObject* self, void*) { return size_of(as_tensor(self)->array.shape); }
PyObject* get_strides(PyObject* self, void*) {
  const Dims& s = as_tensor(self)->array.strides;
  PyObject* t = PyTuple_New(s.n);
  for (int i = 0; t && i < s.n; ++i) PyTuple_SET_ITEM(t, i, PyLong_FromLongLong(s[i]));
  return t;
}
PyObject* get_dtype(PyObject* self, void*) {
  return Py_NewRef(dtype_objects[int(as_tensor(self)->array.dtype)]);
}
PyObject* get_ndim(PyObject* self, void*) { return PyLong_FromLong(as_tensor(self)->array.ndim()); }
PyObject* get_numel(PyObject* self, void*) {
  return PyLong_FromLongLong(as_tensor(self)->array.numel());
}
PyObject* get_offset(PyObject* self, void*) {
  return PyLong_FromLongLong(as_tensor(self)->array.offset);
}
PyObject* get_version(PyObject* self, void*) {
  return PyLong_FromUnsignedLong(as_tensor(self)->version());
}
PyObject* get_data_ptr(PyObject* self, void*) {
  return PyLong_FromVoidPtr(as_tensor(self)->array.data());
}
PyObject* get_contiguous(PyObject* self, void*) {
  return PyBool_FromLong(as_tensor(self)->array.contiguous());
}
PyObject* get_requires_grad(PyObject* self, void*) {
  return PyBool_FromLong(as_tensor(self)->needs_grad());
}
PyObject* get_is_leaf(PyObject* self, void*) {
  if (!bring_up_to_date(as_tensor(self))) return nullptr;
  return PyBool_FromLong(!as_tensor(self)->grad_fn);
}

int set_requires_grad(PyObject* self, PyObject* value, void*) {
  TensorObject* t = as_tensor(self);
  int on = value ? PyObject_IsTrue(value) : 0;
  if (on < 0) return -1;
  if (on && !is_floating(t->array.dtype)) {
    PyErr_Format(PyExc_RuntimeError,
                 "requires_grad: only floating point tensors can require gradients; this one is %s",
                 dtype_name(t->array.dtype));
    return -1;
  }
  if (t->grad_fn && !on) {
    PyErr_SetString(PyExc_RuntimeError,
                    "requires_grad: can be changed on leaf tensors only; use x.detach() for the "
                    "value of a computed tensor without its history");
    return -1;
  }
  if (!t->grad_fn) t->requires_grad = on;
  return 0;
}

PyObject* get_grad(PyObject* self, void*) {
  grad_read(as_tensor(self));
  const TensorObject* t = as_tensor(self);
  PyObject* g = t->grad;
  if (!g && t->grad_fn && !t->retains &&
      PyErr_WarnEx(PyExc_UserWarning,
                   "grad: this tensor is no leaf, so backward() does not keep its gradient: call "
                   "retain_grad() on it first, or look at the grad of the leaf it was made from",
                   1) < 0)
    return nullptr;
  return Py_NewRef(g ? g : Py_None);
}
int set_grad(PyObject* self, PyObject* value, void*) {
  TensorObject* t = as_tensor(self);
  grad_set(t);
  if (!value || value == Py_None) {
    Py_CLEAR(t->grad);
    return 0;
  }
  if (!is_tensor(value)) {
    PyErr_Format(PyExc_TypeError, "grad: expected a Tensor or None; got %s",
                 Py_TYPE(value)->tp_name);
    return -1;
  }
  const Array &a = t->array, &g = as_tensor(value)->array;
  if (a.shape != g.shape || a.dtype != g.dtype) {
    PyErr_Format(PyExc_RuntimeError, "grad: got shape %s and %s; the tensor has shape %s and %s",
                 to_string(g.shape).c_str(), dtype_name(g.dtype), to_string(a.shape).c_str(),
                 dtype_name(a.dtype));
    return -1;
  }
  Py_XSETREF(t->grad, Py_NewRef(value));
  return 0;
}

PyObject* get_grad_fn(PyObject* self, void*) {
  if (!bring_up_to_date(as_tensor(self))) return nullptr;
  PyObject* n = as_tensor(self)->grad_fn;
  return Py_NewRef(n ? n : Py_None);
}
PyObject* get_output(PyObject* self, void*) {
  if (!bring_up_to_date(as_tensor(self))) return nullptr;
  return PyLong_FromLong(as_tensor(self)->output);
}
PyObject* get_base(PyObject* self, void*) {
  PyObject* base = as_tensor(self)->base;
  return Py_NewRef(base ? base : Py_None);
}
PyObject* get_retains(PyObject* self, void*) { return PyBool_FromLong(as_tensor(self)->retains); }
int set_retains(PyObject* self, PyObject* value, void*) {
  as_tensor(self)->retains = value && PyObject_IsTrue(value) == 1;
  return 0;
}
PyObject* get_hooks(PyObject* self, void*) {
  PyObject* h = as_tensor(self)->hooks;
  return Py_NewRef(h ? h : Py_None);
}
int set_hooks(PyObject* self, PyObject* value, void*) {
  Py_XSETREF(as_tensor(self)->hooks, value && value != Py_None ? Py_NewRef(value) : nullptr);
  return 0;
}

// Share another tensor's elements from now on: `x.data = y`. Those who kept x read the new ones,
// unless they have another form.
PyObject* assign(PyObject* self, PyObject* other) {
  if (!is_tensor(other)) {
    PyErr_Format(PyExc_TypeError, "data: expected a Tensor; got %s", Py_TYPE(other)->tp_name);
    return nullptr;
  }
  TensorObject* t = as_tensor(self);
  const Array& from = as_tensor(other)->array;
  const bool same_form = from.shape == t->array.shape && from.dtype == t->array.dtype;
  if (!same_form && t->grad_fn) {  // whose derivative goes by that form
    PyErr_SetString(PyExc_RuntimeError,
                    "data: a tensor that an operation made keeps its shape and dtype; detach it "
                    "first");
    return nullptr;
  }
  const uint32_t before = t->version();
  t->array = from;
  if (!t->counter) t->shift = before - from.storage->version;
  if (!same_form) {
    ++(t->counter ? t->counter->version : t->shift);
    (t->counter ? t->counter->writer : t->array.storage->writer) = "assignment to .data";
  }
  Py_CLEAR(t->base);
  t->view = false;
  t->origin = Origin::plain;
  Py_RETURN_NONE;
}

// Be a view of itself from now on: `x.t_()`. A version of its own, in the graph as the view is.
PyObject* become(PyObject* self, PyObject* view) {
  if (!is_tensor(view)) {
    PyErr_Format(PyExc_TypeError, "_become: expected a Tensor; got %s", Py_TYPE(view)->tp_name);
    return nullptr;
  }
  TensorObject *t = as_tensor(self), *v = as_tensor(view);
  t->array = v->array;
  if (v->grad_fn) {
    Py_XSETREF(t->grad_fn, Py_NewRef(v->grad_fn));
    t->output = v->output;
  }
  return Py_NewRef(self);
}

// The same elements, outside the graph and with a version of their own: `x.data`.
PyObject* data(PyObject* self, PyObject*) {
  PyObject* made = wrap(as_tensor(self)->array);
  if (made) as_tensor(made)->counter = new Counter{1, 0, nullptr};
  return made;
}

PyObject* detach_in_place(PyObject* self, PyObject*) {
  TensorObject* t = as_tensor(self);
  if (t->base) {
    PyErr_SetString(PyExc_RuntimeError,
                    "detach_: a view cannot be detached in place from what it is a view of; use "
                    "detach()");
    return nullptr;
  }
  Py_CLEAR(t->grad_fn);
  t->output = 0;
  t->requires_grad = false;
  return Py_NewRef(self);
}

// What a Py_buffer keeps alive: the storage, even if the tensor is given another one meanwhile.
struct Exported {
  Array array;
  Py_ssize_t shape[kMaxDims], strides[kMaxDims];
};

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  static const char* formats[] = {"f", "d", "q", "i", "B", "?", nullptr};
  const TensorObject* t = as_tensor(self);
  const Array& a = t->array;
  view->obj = nullptr;
  if (!formats[int(a.dtype)]) {
    PyErr_SetString(PyExc_TypeError, "bfloat16 has no buffer format: convert with .float() first");
    return -1;
  }
  if (t->needs_grad()) {
    PyErr_SetString(PyExc_RuntimeError,
                    "a tensor that requires grad cannot be shared: use x.detach() first");
    return -1;
  }
  if (capturing()) {
    guarded([]() -> PyObject* {
      refuse_value("numpy");
      return nullptr;
    });
    return -1;
  }
  if (!(flags & PyBUF_STRIDES) && !a.contiguous()) {
    PyErr_SetString(PyExc_BufferError, "the tensor is not contiguous: use x.contiguous() first");
    return -1;
  }
  if (a.storage->writer == kFirstGradient) a.storage->writer = nullptr;  // who knows from now on
  Exported* e = new Exported{a, {}, {}};
  for (int i = 0; i < a.ndim(); ++i) {
    e->shape[i] = Py_ssize_t(a.shape[i]);
    e->strides[i] = Py_ssize_t(a.strides[i]) * Py_ssize_t(a.item());
  }
  view->obj = Py_NewRef(self);
  view->buf = a.data();
  view->len = Py_ssize_t(a.numel()) * Py_ssize_t(a.item());
  view->readonly = 0;
  view->itemsize = Py_ssize_t(a.item());
  view->format = flags & PyBUF_FORMAT ? const_cast<char*>(formats[int(a.dtype)]) : nullptr;
  view->ndim = a.ndim();
  view->shape = e->shape;
  view->strides = flags & PyBUF_STRIDES ? e->strides : nullptr;
  view->suboffsets = nullptr;
  view->internal = e;
  return 0;
}

void release_buffer(PyObject*, Py_buffer* view) { delete static_cast<Exported*>(view->internal); }

PyGetSetDef getset[] = {
    {"shape", get_shape, nullptr, "Size of every dimension.", nullptr},
    {"_strides", get_strides, nullptr, "Step of every dimension, in elements.", nullptr},
    {"dtype", get_dtype, nullptr, "Type of the elements.", nullptr},
    {"ndim", get_ndim, nullptr, "Number of dimensions.", nullptr},
    {"_numel", get_numel, nullptr, "Number of elements.", nullptr},
    {"_offset", get_offset, nullptr, "First element within the storage.", nullptr},
    {"_version", get_version, nullptr, "How often the storage was changed in place.", nullptr},
    {"_data_ptr", get_data_ptr, nullptr, "Address of the first element.", nullptr},
    {"_contiguous", get_contiguous, nullptr, "Whether the elements are dense, in order.", nullptr},
    {"requires_grad", get_requires_grad, set_requires_grad, "Whether gradients flow to it.",
     nullptr},
    {"is_leaf", get_is_leaf, nullptr, "Whether no recorded operation made it.", nullptr},
    {"grad", get_grad, set_grad, "Gradient that backward() has added up, or None.", nullptr},
    {"grad_fn", get_grad_fn, nullptr, "Node of the operation that made it, or None.", nullptr},
    {"_base", get_base, nullptr, "The tensor that this is a view of, or None.", nullptr},
    {"retains_grad", get_retains, nullptr, "Whether retain_grad() was called on it.", nullptr},
    {"_retains", get_retains, set_retains, "The same, to be set.", nullptr},
    {"_output", get_output, nullptr, "Which output of grad_fn it is.", nullptr},
    {"_hooks", get_hooks, set_hooks, "Functions that see a leaf's gradient, or None.", nullptr},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyMethodDef methods[] = {
    {"_assign", assign, METH_O, "Share another tensor's elements from now on."},
    {"_become", become, METH_O, "Be a view of itself from now on."},
    {"_data", data, METH_NOARGS, "The same elements, whose changes those who hold it do not see."},
    {"detach_", detach_in_place, METH_NOARGS, "Cut the tensor off its history, in place."},
    {nullptr, nullptr, 0, nullptr}};

PyMemberDef members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(TensorObject, dict), READONLY, nullptr},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(TensorObject, weakrefs), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char*>("An array, its gradient and its place in the graph.")},
    {Py_tp_new, reinterpret_cast<void*>(create)},
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
    {Py_tp_traverse, reinterpret_cast<void*>(traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(clear)},
    {Py_tp_getset, getset},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
    {Py_bf_releasebuffer, reinterpret_cast<void*>(release_buffer)},
    {0, nullptr}};

PyType_Spec spec = {"backtrail._core.TensorBase", sizeof(TensorObject), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};

}  // namespace

bool make_tensor_type(PyObject* module) {
  PyObject* type = PyType_FromSpec(&spec);
  if (!type) return false;
  TensorBaseType = TensorType = reinterpret_cast<PyTypeObject*>(type);
  return PyModule_AddObjectRef(module, "TensorBase", type) == 0;
}

}  // namespace backtrail
