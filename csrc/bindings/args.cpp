// Reading the arguments of a call.
#include "bindings/args.h"

#include "bindings/ref.h"

namespace backtrail {
namespace {

// An integer of Python or NumPy of 64 bits.
bool integer_of(PyObject* o, int64_t& value) {
  if (!PyIndex_Check(o)) return false;
  const Ref index = Ref::steal(PyNumber_Index(o));
  value = index ? PyLong_AsLongLong(index.get()) : -1;
  if (value != -1 || !PyErr_Occurred()) return true;
  PyErr_Clear();
  return false;
}

}  // namespace

Args::Args(const char* function, PyObject* const* args, Py_ssize_t n, Py_ssize_t least,
           Py_ssize_t most)
    : function_(function), args_(args), n_(n) {
  if (n >= least && n <= most) return;
  if (least == most)
    fail(ErrorKind::type, "%s: got %zd arguments; expected %zd", function, n, most);
  fail(ErrorKind::type, "%s: got %zd arguments; expected %zd to %zd", function, n, least, most);
}

void Args::wrong(int i, const char* name, const char* expected) const {
  fail(ErrorKind::type, "%s: %s must be %s; got %s", function_, name, expected,
       Py_TYPE((*this)[i])->tp_name);
}

const Array& Args::tensor(int i, const char* name) const {
  if (!is_tensor((*this)[i])) wrong(i, name, "a Tensor");
  return as_tensor((*this)[i])->array;
}

const Op& Args::op(int i) const {
  if (Py_TYPE((*this)[i]) != OpType) wrong(i, "op", "an Op");
  return *as_op((*this)[i])->op;
}

int64_t Args::integer(int i, const char* name) const {
  int64_t value;
  if (!integer_of((*this)[i], value)) wrong(i, name, "an int of 64 bits");
  return value;
}

double Args::real(int i, const char* name) const {
  const double value = PyFloat_AsDouble((*this)[i]);
  if (value == -1 && PyErr_Occurred()) {
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw_raised();
    PyErr_Clear();
    wrong(i, name, "a number");
  }
  return value;
}

bool Args::truth(int i, const char* name) const {
  PyObject* o = (*this)[i];
  if (PyBool_Check(o)) return o == Py_True;
  int64_t value;
  if (!integer_of(o, value)) wrong(i, name, "a bool");
  return value != 0;
}

const char* Args::text(int i, const char* name) const {
  if (!PyUnicode_Check((*this)[i])) wrong(i, name, "a str");
  const char* value = PyUnicode_AsUTF8((*this)[i]);
  if (!value) throw_raised();
  return value;
}

DType Args::dtype(int i, const char* name) const {
  DType found;
  if (find_dtype((*this)[i], found)) return found;
  wrong(i, name, "a dtype such as float32");
}

Dims Args::dims(int i, const char* name) const {
  PyObject* o = (*this)[i];
  const bool text = PyUnicode_Check(o) || PyBytes_Check(o);
  const Ref items = Ref::steal(text ? nullptr : PySequence_Fast(o, ""));
  if (!items) {
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_TypeError)) throw_raised();
    PyErr_Clear();
    wrong(i, name, "a sequence of ints");
  }
  Dims dims;
  for (Py_ssize_t k = 0; k < PySequence_Fast_GET_SIZE(items.get()); ++k) {
    PyObject* item = PySequence_Fast_GET_ITEM(items.get(), k);
    int64_t size;
    if (!integer_of(item, size))
      fail(ErrorKind::type, "%s: %s[%zd] must be an int of 64 bits; got %s", function_, name, k,
           Py_TYPE(item)->tp_name);
    dims.push(size);
  }
  return dims;
}

}  // namespace backtrail
