// Tensors from Python values, and back.
#include <cstring>

#include "bindings/caster.h"
#include "bindings/recording.h"
#include "kernels/table.h"

namespace py = pybind11;

namespace backtrail {
namespace {

// Write one number as an element of any dtype.
void store(const Array& a, int64_t i, double f, int64_t integer) {
  char* p = a.data() + i * int64_t(a.item());
  const bool exact = a.dtype == DType::i64 || a.dtype == DType::i32 || a.dtype == DType::u8;
  const DType from = exact ? DType::i64 : DType::f64;
  kernels().numeric->convert[int(from)][int(a.dtype)](exact ? static_cast<void*>(&integer) : &f, p,
                                                      1);
}

struct Number {
  double f;
  int64_t i;
  int category;
};

bool number(PyObject* o, Number& out) {
  if (PyBool_Check(o)) return out = {double(o == Py_True), o == Py_True, 0}, true;
  if (PyFloat_Check(o)) {
    double f = PyFloat_AS_DOUBLE(o);
    return out = {f, f >= -9.2e18 && f <= 9.2e18 ? int64_t(f) : INT64_MIN, 2}, true;
  }
  if (PyLong_Check(o) || PyIndex_Check(o)) {
    PyObject* index = PyNumber_Index(o);
    if (!index) {
      PyErr_Clear();
      return false;
    }
    int64_t i = PyLong_AsLongLong(index);
    double f = PyErr_Occurred() ? 0 : double(i);
    Py_DECREF(index);
    if (PyErr_Occurred()) {
      PyErr_Clear();
      fail(ErrorKind::runtime, "tensor: an integer does not fit in 64 bits");
    }
    return out = {f, i, 1}, true;
  }
  if (PyNumber_Check(o) && !PySequence_Check(o) && !PyComplex_Check(o)) {
    PyObject* f = PyNumber_Float(o);
    if (!f) {
      PyErr_Clear();
      return false;
    }
    double value = PyFloat_AS_DOUBLE(f);
    Py_DECREF(f);
    return out = {value, value >= -9.2e18 && value <= 9.2e18 ? int64_t(value) : INT64_MIN, 2}, true;
  }
  return false;
}

bool is_sequence(PyObject* o) {
  return (PyList_Check(o) || PyTuple_Check(o) || PySequence_Check(o)) && !PyUnicode_Check(o) &&
         !PyBytes_Check(o);
}

struct Nested {
  Dims shape;
  int category = -1;  // of the numbers
  bool any_tensor = false;
  DType tensor_dtype = DType::f32;

  void measure(PyObject* o, int depth) {
    if (is_tensor(o)) {
      const Array& a = as_tensor(o)->array;
      if (a.numel() != 1)
        fail(ErrorKind::value,
             "tensor: only tensors of one element can be items of a list; got shape %s",
             to_string(a.shape).c_str());
      tensor_dtype = any_tensor ? promote(tensor_dtype, a.dtype) : a.dtype;
      any_tensor = true;
      return check_depth(depth);
    }
    Number n;
    if (is_sequence(o)) {
      py::object fast =
          py::reinterpret_steal<py::object>(PySequence_Fast(o, "tensor: not a sequence"));
      if (!fast) throw py::error_already_set();
      const int64_t size = PySequence_Fast_GET_SIZE(fast.ptr());
      if (depth == shape.n && !leaf_seen)
        shape.push(size);
      else if (depth >= shape.n || shape[depth] != size)
        fail(ErrorKind::value, "tensor: expected a sequence of length %lld at depth %d; got %lld",
             depth < shape.n ? (long long)shape[depth] : 0LL, depth, (long long)size);
      for (int64_t i = 0; i < size; ++i)
        measure(PySequence_Fast_GET_ITEM(fast.ptr(), i), depth + 1);
      if (size == 0) leaf_seen = true;
    } else if (number(o, n)) {
      category = n.category > category ? n.category : category;
      check_depth(depth);
    } else {
      fail(ErrorKind::type, "tensor: cannot make an element from %s", Py_TYPE(o)->tp_name);
    }
  }

  void fill(const Array& a, PyObject* o, int64_t& at) const {
    Number n{};
    if (is_tensor(o)) {
      const Array& x = as_tensor(o)->array;
      kernels().numeric->convert[int(x.dtype)][int(a.dtype)](
          x.data(), a.data() + at++ * int64_t(a.item()), 1);
    } else if (is_sequence(o)) {
      py::object fast =
          py::reinterpret_steal<py::object>(PySequence_Fast(o, "tensor: not a sequence"));
      if (!fast) throw py::error_already_set();
      for (int64_t i = 0; i < PySequence_Fast_GET_SIZE(fast.ptr()); ++i)
        fill(a, PySequence_Fast_GET_ITEM(fast.ptr(), i), at);
    } else {
      number(o, n);
      store(a, at++, n.f, n.i);
    }
  }

 private:
  bool leaf_seen = false;
  void check_depth(int depth) {
    leaf_seen = true;
    if (depth != shape.n)
      fail(ErrorKind::value,
           "tensor: a number where a sequence of length %lld was expected (depth %d)",
           depth < shape.n ? (long long)shape[depth] : 0LL, depth);
  }
};

// A tensor with contents that Python gave: the same at each replay of a capture.
Array constant(const char* name, const Array& a) {
  if (capturing()) capturing()->saw_constant(name, a);
  return a;
}

Array from_data(py::handle data, py::object dtype, DType default_float) {
  Nested nested;
  nested.measure(data.ptr(), 0);
  if (nested.any_tensor) value_read("tensor");
  DType t = nested.any_tensor ? nested.tensor_dtype : DType::b8;
  if (nested.category == 2 || (nested.category < 0 && !nested.any_tensor))
    t = nested.any_tensor ? promote(t, default_float) : default_float;
  else if (nested.category == 1)
    t = nested.any_tensor ? promote(t, DType::i64) : DType::i64;
  if (!dtype.is_none()) t = dtype_of(dtype.ptr());
  Array a = empty(nested.shape, t);
  int64_t at = 0;
  nested.fill(a, data.ptr(), at);
  return constant("tensor", a);
}

py::object element(const Array& a, int64_t offset) {
  const char* p = static_cast<const char*>(a.storage->data) + offset * int64_t(a.item());
  if (a.dtype == DType::b8) return py::bool_(*p != 0);
  if (is_floating(a.dtype)) {
    double f;
    kernels().numeric->convert[int(a.dtype)][int(DType::f64)](p, &f, 1);
    return py::float_(f);
  }
  int64_t i;
  kernels().numeric->convert[int(a.dtype)][int(DType::i64)](p, &i, 1);
  return py::int_(i);
}

py::object item(const Array& a) {
  value_read("item");
  if (a.numel() != 1)
    fail(ErrorKind::runtime, "item: a tensor of shape %s has %lld elements; expected 1",
         to_string(a.shape).c_str(), (long long)a.numel());
  return element(a, a.offset);
}

py::object to_list(const Array& a, int dim, int64_t offset) {
  if (dim == a.ndim()) return element(a, offset);
  py::list all(size_t(a.shape[dim]));
  for (int64_t i = 0; i < a.shape[dim]; ++i)
    all[size_t(i)] = to_list(a, dim + 1, offset + i * a.strides[dim]);
  return all;
}

Array full(const Dims& shape, py::handle value, DType dtype) {
  Array a = empty(shape, dtype);
  Number n;
  if (!number(value.ptr(), n))
    fail(ErrorKind::type, "full: the value must be a number; got %s",
         Py_TYPE(value.ptr())->tp_name);
  if (a.numel() == 0) return a;
  if (n.f == 0 && n.i == 0 && !std::signbit(n.f)) {
    std::memset(a.data(), 0, size_t(a.numel()) * a.item());
    return constant("zeros", a);
  }
  store(a, 0, n.f, n.i);
  kernels().copies->strided(a.data(), 1, a.data(), 0, a.numel(), a.item());
  return constant("full", a);
}

Array arange(double start, double step, int64_t istart, int64_t istep, int64_t n, DType dtype) {
  Array a = empty(Dims{n}, dtype);
  for (int64_t i = 0; i < n; ++i) store(a, i, start + double(i) * step, istart + i * istep);
  return constant("arange", a);
}

Array linspace(double start, double end, int64_t n, DType dtype) {
  Array a = empty(Dims{n}, dtype);
  const double step = n > 1 ? (end - start) / double(n - 1) : 0;
  for (int64_t i = 0; i < n; ++i) {
    // From both ends, so that the last value is exactly `end`.
    double f = i < n / 2 ? start + step * double(i) : end - step * double(n - 1 - i);
    if (n == 1) f = start;
    store(a, i, f, int64_t(f));
  }
  return constant("linspace", a);
}

Array from_bytes(py::buffer bytes, DType dtype, const Dims& shape) {
  py::buffer_info info = bytes.request();
  Array a = empty(shape, dtype);
  const size_t want = size_t(a.numel()) * a.item(), got = size_t(info.size * info.itemsize);
  if (want != got)
    fail(ErrorKind::value, "from_bytes: %zu bytes do not make shape %s of %s, which takes %zu", got,
         to_string(shape).c_str(), dtype_name(dtype), want);
  std::memcpy(a.data(), info.ptr, want);
  return constant("from_bytes", a);
}

py::bytes to_bytes(const Array& a) {
  value_read("to_bytes");
  Array dense = contiguous(a);
  return py::bytes(dense.data(), size_t(dense.numel()) * dense.item());
}

bool equal_bytes(const Array& a, const Array& b) {
  value_read("equal");
  if (a.shape != b.shape || a.dtype != b.dtype) return false;
  Array x = contiguous(a), y = contiguous(b);
  return !std::memcmp(x.data(), y.data(), size_t(x.numel()) * x.item());
}

}  // namespace

void bind_creation(py::module_& m) {
  m.def("empty", &empty, py::arg("shape"), py::arg("dtype"), "An uninitialised tensor.");
  m.def("full", &full, py::arg("shape"), py::arg("value"), py::arg("dtype"));
  m.def("arange", &arange, py::arg("start"), py::arg("step"), py::arg("istart"), py::arg("istep"),
        py::arg("n"), py::arg("dtype"));
  m.def("linspace", &linspace, py::arg("start"), py::arg("end"), py::arg("n"), py::arg("dtype"));
  m.def("from_data", &from_data, py::arg("data"), py::arg("dtype"), py::arg("default_float"),
        "A tensor from nested sequences of numbers.");
  m.def("item", &item, "The one element as a Python number.");
  m.def("tolist", [](const Array& a) {
    value_read("tolist");
    return to_list(a, 0, a.offset);
  });
  m.def("from_bytes", &from_bytes, py::arg("bytes"), py::arg("dtype"), py::arg("shape"));
  m.def("to_bytes", &to_bytes, "The elements in order, as the machine stores them.");
  m.def("equal_bytes", &equal_bytes, "Whether shape, dtype and every byte agree.");
}

}  // namespace backtrail
