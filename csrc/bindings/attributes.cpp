// From Python numbers to attributes, with messages that name what was wrong.
#include "bindings/attributes.h"

#include <algorithm>

#include "core/error.h"

namespace backtrail {
namespace {

// An integer, of Python or NumPy.
bool integer_of(PyObject* o, int64_t& value) {
  if (!PyIndex_Check(o)) return false;
  PyObject* index = PyNumber_Index(o);
  value = index ? PyLong_AsLongLong(index) : 0;
  Py_XDECREF(index);
  if (!PyErr_Occurred()) return true;
  PyErr_Clear();
  return false;
}

[[noreturn]] void wrong(const char* op, const Attr& attr, const char* what, PyObject* o) {
  PyObject* repr = PyObject_Repr(o);
  const char* text = repr ? PyUnicode_AsUTF8(repr) : nullptr;
  PyErr_Clear();
  char value[64] = "";
  if (text) PyOS_snprintf(value, sizeof value, " (%s)", text);
  Py_XDECREF(repr);
  fail(ErrorKind::type, "%s: %s must be %s; got %s%s", op, attr.name, what, Py_TYPE(o)->tp_name,
       value);
}

}  // namespace

double attribute_value(const char* op, const Attr& attr, PyObject* o) {
  int64_t i = 0;
  switch (attr.type) {
    case BACKTRAIL_ATTR_BOOL:
      if (PyBool_Check(o)) return o == Py_True;
      if (!integer_of(o, i) || (i != 0 && i != 1)) wrong(op, attr, "a bool", o);
      return double(i);
    case BACKTRAIL_ATTR_INT:
    case BACKTRAIL_ATTR_INT64: {
      if (!integer_of(o, i)) wrong(op, attr, "an int", o);
      const int bits = attr.type == BACKTRAIL_ATTR_INT ? 31 : 53;
      if (i > int64_t(1) << bits || i < -(int64_t(1) << bits) || (bits == 31 && i >> 31 > 0))
        fail(ErrorKind::value, "%s: %s is %lld; it must be within 2^%d of 0", op, attr.name,
             (long long)i, bits);
      return double(i);
    }
    default: break;
  }
  const double value = PyFloat_AsDouble(o);
  if (value == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    fail(ErrorKind::type, "%s: %s must be a number; got %s", op, attr.name, Py_TYPE(o)->tp_name);
  }
  return attr.type == BACKTRAIL_ATTR_FLOAT ? double(float(value)) : value;
}

void attribute_values(const char* op, const Attr* attrs, int n, PyObject* tuple, double* values) {
  const Py_ssize_t given = tuple ? PyTuple_GET_SIZE(tuple) : 0;
  if (given > n) fail(ErrorKind::type, "%s: got %zd attributes; it has %d", op, given, n);
  for (int i = 0; i < n; ++i) {
    PyObject* o = i < given ? PyTuple_GET_ITEM(tuple, i) : Py_None;
    values[i] = o == Py_None ? attrs[i].value : attribute_value(op, attrs[i], o);
  }
}

void Attributes::parse(const Op& op, PyObject* attrs) {
  if (op.self) {
    double numbers[kMaxAttrs];
    attribute_values(op.name, op.attrs, op.n_attrs, attrs, numbers);
    for (n = 0; n < op.n_attrs; ++n)
      values[n] = {AttrValue::real, int64_t(std::clamp(numbers[n], -9e18, 9e18)), numbers[n]};
    return;
  }
  const Py_ssize_t count = attrs ? PyTuple_GET_SIZE(attrs) : 0;
  if (count > kMost) fail(ErrorKind::type, "%s: got %zd attributes", op.name, count);
  int used = 0;
  auto integer = [&](PyObject* o) {
    int64_t v = PyLong_AsLongLong(o);
    if (v == -1 && PyErr_Occurred()) {
      PyErr_Clear();
      PyObject* index = PyNumber_Index(o);
      if (index) v = PyLong_AsLongLong(index);
      Py_XDECREF(index);
      if (PyErr_Occurred()) {
        PyErr_Clear();
        fail(ErrorKind::type, "%s: expected an integer of 64 bits; got %s", op.name,
             Py_TYPE(o)->tp_name);
      }
    }
    return v;
  };
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* o = PyTuple_GET_ITEM(attrs, i);
    AttrValue& v = values[i];
    if (o == Py_None) continue;
    if (PyFloat_Check(o)) {
      v.type = AttrValue::real;
      v.f = PyFloat_AS_DOUBLE(o);
      v.i = v.f >= -9e18 && v.f <= 9e18 ? int64_t(v.f) : 0;
    } else if (PyTuple_Check(o) || PyList_Check(o)) {
      v.type = AttrValue::list;
      v.items = lists + used;
      v.i = PySequence_Fast_GET_SIZE(o);
      if (used + v.i > kMaxList) fail(ErrorKind::type, "%s: too many numbers in a list", op.name);
      for (int64_t k = 0; k < v.i; ++k) lists[used++] = integer(PySequence_Fast_GET_ITEM(o, k));
    } else if (PyFloat_CheckExact(o) || (!PyIndex_Check(o) && PyNumber_Check(o))) {
      v.type = AttrValue::real;
      v.f = PyFloat_AsDouble(o);
      v.i = int64_t(v.f);
      if (PyErr_Occurred()) {
        PyErr_Clear();
        fail(ErrorKind::type, "%s: attribute %zd is %s", op.name, i, Py_TYPE(o)->tp_name);
      }
    } else {
      v.type = AttrValue::integer;
      v.i = integer(o);
      v.f = double(v.i);
    }
  }
  n = int(count);
}

}  // namespace backtrail
