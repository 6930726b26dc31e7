// The type Size: a tensor's shape, a tuple whose slices, sums and multiples are sizes as well.
#include "bindings/objects.h"

namespace backtrail {

PyTypeObject* SizeType = nullptr;

PyObject* size_of(const Dims& shape) {
  PyObject* t = SizeType->tp_alloc(SizeType, shape.n);
  if (!t) return nullptr;
  for (int i = 0; i < shape.n; ++i) PyTuple_SET_ITEM(t, i, PyLong_FromLongLong(shape[i]));
  return t;
}

namespace {

// A tuple that the methods of tuple made, as a Size. Takes the reference.
PyObject* as_size(PyObject* tuple) {
  if (!tuple || !PyTuple_CheckExact(tuple)) return tuple;
  const Py_ssize_t n = PyTuple_GET_SIZE(tuple);
  PyObject* size = SizeType->tp_alloc(SizeType, n);
  for (Py_ssize_t i = 0; size && i < n; ++i)
    PyTuple_SET_ITEM(size, i, Py_NewRef(PyTuple_GET_ITEM(tuple, i)));
  Py_DECREF(tuple);
  return size;
}

// Size(iterable of integers).
PyObject* create(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  PyObject* items = nullptr;
  if (kwargs && PyDict_GET_SIZE(kwargs))
    return PyErr_SetString(PyExc_TypeError, "Size: takes no keyword arguments"), nullptr;
  if (!PyArg_ParseTuple(args, "|O:Size", &items)) return nullptr;
  PyObject* given = items ? PySequence_Tuple(items) : PyTuple_New(0);
  if (!given) return nullptr;
  const Py_ssize_t n = PyTuple_GET_SIZE(given);
  PyObject* size = type->tp_alloc(type, n);
  for (Py_ssize_t i = 0; size && i < n; ++i) {
    PyObject* item = PyTuple_GET_ITEM(given, i);
    PyObject* whole = PyIndex_Check(item) ? PyNumber_Index(item) : nullptr;
    if (!whole) {
      if (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_TypeError))
        PyErr_Format(PyExc_TypeError, "Size: takes an iterable of int; item %zd is %s", i,
                     Py_TYPE(item)->tp_name);
      Py_CLEAR(size);
      break;
    }
    PyTuple_SET_ITEM(size, i, whole);
  }
  Py_DECREF(given);
  return size;
}

PyObject* subscript(PyObject* self, PyObject* key) {
  PyObject* found = PyTuple_Type.tp_as_mapping->mp_subscript(self, key);
  return PySlice_Check(key) ? as_size(found) : found;
}

PyObject* add(PyObject* left, PyObject* right) {
  if (!PyTuple_Check(left) || !PyTuple_Check(right)) Py_RETURN_NOTIMPLEMENTED;
  return as_size(PyTuple_Type.tp_as_sequence->sq_concat(left, right));
}

PyObject* concat(PyObject* self, PyObject* other) {
  return as_size(PyTuple_Type.tp_as_sequence->sq_concat(self, other));
}

PyObject* repeat(PyObject* self, Py_ssize_t n) {
  return as_size(PyTuple_Type.tp_as_sequence->sq_repeat(self, n));
}

PyObject* numel(PyObject* self, PyObject*) {
  PyObject* product = PyLong_FromLong(1);
  for (Py_ssize_t i = 0; product && i < PyTuple_GET_SIZE(self); ++i)
    Py_XSETREF(product, PyNumber_Multiply(product, PyTuple_GET_ITEM(self, i)));
  return product;
}

PyObject* repr(PyObject* self) {
  PyObject* list = PySequence_List(self);
  if (!list) return nullptr;
  PyObject* text = PyUnicode_FromFormat("backtrail.Size(%R)", list);
  Py_DECREF(list);
  return text;
}

PyObject* reduce(PyObject* self, PyObject*) {
  PyObject* items = PySequence_List(self);
  return items ? Py_BuildValue("O(N)", Py_TYPE(self), items) : nullptr;
}

PyMethodDef methods[] = {{"numel", numel, METH_NOARGS, "Return the product of the sizes."},
                         {"__reduce__", reduce, METH_NOARGS, nullptr},
                         {nullptr, nullptr, 0, nullptr}};

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char*>("A tensor's shape: a tuple that can count its elements.")},
    {Py_tp_new, reinterpret_cast<void*>(create)},
    {Py_tp_repr, reinterpret_cast<void*>(repr)},
    {Py_tp_methods, methods},
    {Py_mp_subscript, reinterpret_cast<void*>(subscript)},
    {Py_nb_add, reinterpret_cast<void*>(add)},
    {Py_sq_concat, reinterpret_cast<void*>(concat)},
    {Py_sq_repeat, reinterpret_cast<void*>(repeat)},
    {0, nullptr}};

PyType_Spec spec = {"backtrail.Size", 0, 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};

}  // namespace

bool make_size_type(PyObject* module) {
  PyObject* bases = PyTuple_Pack(1, &PyTuple_Type);
  PyObject* type = bases ? PyType_FromSpecWithBases(&spec, bases) : nullptr;
  Py_XDECREF(bases);
  if (!type) return false;
  SizeType = reinterpret_cast<PyTypeObject*>(type);
  return PyModule_AddObjectRef(module, "Size", type) == 0;
}

}  // namespace backtrail
