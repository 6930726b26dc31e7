// Reading numbers of Python and NumPy without a loss, and writing them as elements.
#include "bindings/numbers.h"

#include <cfloat>
#include <cmath>
#include <cstring>

#include "bindings/objects.h"
#include "kernels/table.h"

namespace backtrail {
namespace {

bool integer_number(PyObject* integer, int category, Number& out) {
  int overflow;
  int64_t i = PyLong_AsLongLongAndOverflow(integer, &overflow);
  double f = overflow ? PyLong_AsDouble(integer) : double(i);
  if (PyErr_Occurred()) {  // beyond doubles as well
    PyErr_Clear();
    f = overflow * HUGE_VAL;
  }
  return out = {f, i, category, !overflow}, true;
}

// The truth values of NumPy have neither an index nor a class of Python's.
bool is_numpy_bool(PyObject* o) { return !std::strncmp(Py_TYPE(o)->tp_name, "numpy.bool", 10); }

}  // namespace

Number real_number(double f) {
  const bool fits = f >= -9223372036854775808.0 && f < 9223372036854775808.0;
  return {f, fits ? int64_t(f) : INT64_MIN, 2, fits};
}

bool number_of(PyObject* o, Number& out) {
  if (PyFloat_Check(o)) return out = real_number(PyFloat_AS_DOUBLE(o)), true;
  if (PyLong_Check(o)) return integer_number(o, PyBool_Check(o) ? 0 : 1, out);
  if (!PyNumber_Check(o) || PySequence_Check(o) || PyComplex_Check(o)) return false;
  if (is_numpy_bool(o)) {
    const int truth = PyObject_IsTrue(o);
    return out = {double(truth), truth, 0, true}, true;
  }
  const bool whole = PyIndex_Check(o);
  PyObject* value = whole ? PyNumber_Index(o) : PyNumber_Float(o);
  if (!value) {
    PyErr_Clear();
    return false;
  }
  const bool read = whole ? integer_number(value, 1, out) : number_of(value, out);
  Py_DECREF(value);
  return read;
}

void store(const Number& n, DType dtype, char* p) {
  const bool exact = n.category < 2 && !is_floating(dtype);
  const bool cut = n.category == 2 && !is_floating(dtype) && dtype != DType::b8;
  int64_t i = n.i;
  double f = n.f;
  const DType from = exact || cut ? DType::i64 : DType::f64;
  kernels().numeric->convert[int(from)][int(dtype)](
      from == DType::i64 ? static_cast<void*>(&i) : &f, p, 1);
}

bool has_room(DType dtype, const Number& n, bool infinite) {
  auto within = [&](int64_t low, int64_t high) { return n.fits && n.i >= low && n.i <= high; };
  switch (dtype) {
    case DType::i64: return n.fits;
    case DType::i32: return within(INT32_MIN, INT32_MAX);
    case DType::u8: return within(-255, 255);
    case DType::f32: return infinite || !std::isfinite(n.f) || std::fabs(n.f) <= FLT_MAX;
    case DType::bf16: return infinite || !std::isfinite(n.f) || std::fabs(n.f) <= 3.3895e38;
    default: return true;
  }
}

void fail_no_room(const char* name, DType dtype, PyObject* number) {
  PyObject* repr = PyObject_Repr(number);
  const char* text = repr ? PyUnicode_AsUTF8(repr) : nullptr;
  char value[48];
  PyOS_snprintf(value, sizeof value, "%s", text ? text : "the number");
  PyErr_Clear();
  Py_XDECREF(repr);
  fail(ErrorKind::runtime, "%s: %s does not fit in %s without overflow", name, value,
       dtype_name(dtype));
}

}  // namespace backtrail
