// Learning, comparing and rebuilding the form of arguments.
#include "bindings/spec.h"

namespace backtrail {

bool same_value(PyObject* a, PyObject* b) {
  if (a == b) return true;
  if (Py_TYPE(a) != Py_TYPE(b)) return false;
  if (PyFloat_CheckExact(a)) {
    const double x = PyFloat_AS_DOUBLE(a), y = PyFloat_AS_DOUBLE(b);
    return __builtin_memcmp(&x, &y, sizeof x) == 0;  // 0.0 is not -0.0, NaN is NaN
  }
  if (PyLong_CheckExact(a) || PyUnicode_CheckExact(a) || PyBytes_CheckExact(a)) {
    const int equal = PyObject_RichCompareBool(a, b, Py_EQ);
    if (equal < 0) PyErr_Clear();
    return equal == 1;
  }
  if (PyTuple_Check(a)) {  // a torch.Size, a pair of betas
    const Py_ssize_t n = PyTuple_GET_SIZE(a);
    if (n != PyTuple_GET_SIZE(b)) return false;
    for (Py_ssize_t i = 0; i < n; ++i)
      if (!same_value(PyTuple_GET_ITEM(a, i), PyTuple_GET_ITEM(b, i))) return false;
    return true;
  }
  return false;
}

Spec Spec::learn(PyObject* o, std::vector<PyObject*>& leaves) {
  Spec s;
  auto type = [&] { return Ref::borrow(reinterpret_cast<PyObject*>(Py_TYPE(o))); };
  if (is_tensor(o)) {
    const TensorObject* t = as_tensor(o);
    s.kind = tensor;
    s.value = type();
    s.leaf = int(leaves.size());
    s.shape = t->array.shape;
    s.strides = t->array.strides;
    s.offset = t->array.offset;
    s.dtype = t->array.dtype;
    s.requires_grad = t->needs_grad();
    leaves.push_back(o);
  } else if (PyTuple_Check(o) || PyList_CheckExact(o)) {
    s.kind = PyTuple_Check(o) ? tuple : list;
    s.value = type();
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(o); ++i)
      s.children.push_back(learn(PySequence_Fast_GET_ITEM(o, i), leaves));
  } else if (PyDict_CheckExact(o)) {
    s.kind = dict;
    s.value = type();
    PyObject *key, *item;
    Py_ssize_t at = 0;
    const Ref keys = Ref::made(PyList_New(0));
    while (PyDict_Next(o, &at, &key, &item)) {
      append(keys, Py_NewRef(key));
      s.children.push_back(learn(item, leaves));
    }
    s.keys = Ref::made(PyList_AsTuple(keys.get()));
  } else {
    s.value = Ref::borrow(o);
  }
  return s;
}

bool Spec::matches(PyObject* o, PyObject** leaves) const {
  if (kind == constant) return same_value(value.get(), o);
  if (reinterpret_cast<PyObject*>(Py_TYPE(o)) != value.get()) return false;
  if (kind == tensor) {
    const TensorObject* t = as_tensor(o);
    leaves[leaf] = o;
    return t->array.dtype == dtype && t->array.shape == shape && t->array.strides == strides &&
           t->needs_grad() == requires_grad && !t->hooks;
  }
  const Py_ssize_t n = Py_ssize_t(children.size());
  if (kind == dict) {
    if (PyDict_GET_SIZE(o) != n) return false;
    for (Py_ssize_t i = 0; i < n; ++i) {
      PyObject* item = PyDict_GetItemWithError(o, PyTuple_GET_ITEM(keys.get(), i));
      if (!item) {
        PyErr_Clear();
        return false;
      }
      if (!children[size_t(i)].matches(item, leaves)) return false;
    }
    return true;
  }
  if (PySequence_Fast_GET_SIZE(o) != n) return false;
  for (Py_ssize_t i = 0; i < n; ++i)
    if (!children[size_t(i)].matches(PySequence_Fast_GET_ITEM(o, i), leaves)) return false;
  return true;
}

PyObject* Spec::build(PyObject* const* leaves) const {
  if (kind == tensor) return Py_NewRef(leaves[leaf]);
  if (kind == constant) return Py_NewRef(value.get());
  const Py_ssize_t n = Py_ssize_t(children.size());
  PyObject* made = kind == dict ? PyDict_New() : kind == list ? PyList_New(n) : PyTuple_New(n);
  for (Py_ssize_t i = 0; made && i < n; ++i) {
    PyObject* item = children[size_t(i)].build(leaves);
    if (!item) {
      Py_CLEAR(made);
    } else if (kind == dict) {
      PyDict_SetItem(made, PyTuple_GET_ITEM(keys.get(), i), item);
      Py_DECREF(item);
    } else if (kind == list) {
      PyList_SET_ITEM(made, i, item);
    } else {
      PyTuple_SET_ITEM(made, i, item);
    }
  }
  // A named tuple, or another subclass.
  if (made && kind == tuple && value.get() != reinterpret_cast<PyObject*>(&PyTuple_Type)) {
    PyObject* make = PyObject_GetAttrString(value.get(), "_make");
    if (!make) PyErr_Clear();
    PyObject* plain = made;
    made = PyObject_CallOneArg(make ? make : value.get(), plain);
    Py_DECREF(plain);
    Py_XDECREF(make);
  }
  return made;
}

}  // namespace backtrail
