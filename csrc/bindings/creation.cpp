// Tensors from Python values, and back.
#include <cstring>

#include "bindings/args.h"
#include "bindings/recording.h"
#include "kernels/table.h"

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
      const Ref items = Ref::made(PySequence_Fast(o, "tensor: not a sequence"));
      const int64_t size = PySequence_Fast_GET_SIZE(items.get());
      if (depth == shape.n && !leaf_seen)
        shape.push(size);
      else if (depth >= shape.n || shape[depth] != size)
        fail(ErrorKind::value, "tensor: expected a sequence of length %lld at depth %d; got %lld",
             depth < shape.n ? (long long)shape[depth] : 0LL, depth, (long long)size);
      for (int64_t i = 0; i < size; ++i)
        measure(PySequence_Fast_GET_ITEM(items.get(), i), depth + 1);
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
      const Ref items = Ref::made(PySequence_Fast(o, "tensor: not a sequence"));
      for (int64_t i = 0; i < PySequence_Fast_GET_SIZE(items.get()); ++i)
        fill(a, PySequence_Fast_GET_ITEM(items.get(), i), at);
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

PyObject* from_data(PyObject*, PyObject* const* args, Py_ssize_t n) {
  return guarded([&] {
    const Args a("from_data", args, n, 3);
    const DType default_float = a.dtype(2, "default_float");
    Nested nested;
    nested.measure(a[0], 0);
    if (nested.any_tensor) value_read("tensor");
    DType t = nested.any_tensor ? nested.tensor_dtype : DType::b8;
    if (nested.category == 2 || (nested.category < 0 && !nested.any_tensor))
      t = nested.any_tensor ? promote(t, default_float) : default_float;
    else if (nested.category == 1)
      t = nested.any_tensor ? promote(t, DType::i64) : DType::i64;
    if (a[1] != Py_None) t = dtype_of(a[1]);
    Array made = empty(nested.shape, t);
    int64_t at = 0;
    nested.fill(made, a[0], at);
    return wrap(constant("tensor", made));
  });
}

PyObject* element(const Array& a, int64_t offset) {
  const char* p = static_cast<const char*>(a.storage->data) + offset * int64_t(a.item());
  if (a.dtype == DType::b8) return PyBool_FromLong(*p != 0);
  if (is_floating(a.dtype)) {
    double f;
    kernels().numeric->convert[int(a.dtype)][int(DType::f64)](p, &f, 1);
    return PyFloat_FromDouble(f);
  }
  int64_t i;
  kernels().numeric->convert[int(a.dtype)][int(DType::i64)](p, &i, 1);
  return PyLong_FromLongLong(i);
}

PyObject* item(PyObject*, PyObject* tensor) {
  return guarded([&] {
    const Array& a = Args("item", &tensor, 1, 1).tensor(0, "tensor");
    value_read("item");
    if (a.numel() != 1)
      fail(ErrorKind::runtime, "item: a tensor of shape %s has %lld elements; expected 1",
           to_string(a.shape).c_str(), (long long)a.numel());
    return element(a, a.offset);
  });
}

PyObject* list_of(const Array& a, int dim, int64_t offset) {
  if (dim == a.ndim()) return element(a, offset);
  Ref all = Ref::made(PyList_New(Py_ssize_t(a.shape[dim])));
  for (int64_t i = 0; i < a.shape[dim]; ++i)
    PyList_SET_ITEM(all.get(), Py_ssize_t(i),
                    Ref::made(list_of(a, dim + 1, offset + i * a.strides[dim])).release());
  return all.release();
}

PyObject* tolist(PyObject*, PyObject* tensor) {
  return guarded([&] {
    const Array& a = Args("tolist", &tensor, 1, 1).tensor(0, "tensor");
    value_read("tolist");
    return list_of(a, 0, a.offset);
  });
}

PyObject* make_empty(PyObject*, PyObject* const* args, Py_ssize_t n) {
  return guarded([&] {
    const Args a("empty", args, n, 2);
    return wrap(empty(a.dims(0, "shape"), a.dtype(1, "dtype")));
  });
}

PyObject* full(PyObject*, PyObject* const* args, Py_ssize_t n) {
  return guarded([&] {
    const Args given("full", args, n, 3);
    Array a = empty(given.dims(0, "shape"), given.dtype(2, "dtype"));
    Number value;
    if (!number(given[1], value))
      fail(ErrorKind::type, "full: the value must be a number; got %s", Py_TYPE(given[1])->tp_name);
    if (a.numel() == 0) return wrap(a);
    if (value.f == 0 && value.i == 0 && !std::signbit(value.f)) {
      std::memset(a.data(), 0, size_t(a.numel()) * a.item());
      return wrap(constant("zeros", a));
    }
    store(a, 0, value.f, value.i);
    kernels().copies->strided(a.data(), 1, a.data(), 0, a.numel(), a.item());
    return wrap(constant("full", a));
  });
}

PyObject* arange(PyObject*, PyObject* const* args, Py_ssize_t n) {
  return guarded([&] {
    const Args given("arange", args, n, 6);
    const double start = given.real(0, "start"), step = given.real(1, "step");
    const int64_t istart = given.integer(2, "istart"), istep = given.integer(3, "istep"),
                  count = given.integer(4, "n");
    Array a = empty(Dims{count}, given.dtype(5, "dtype"));
    for (int64_t i = 0; i < count; ++i) store(a, i, start + double(i) * step, istart + i * istep);
    return wrap(constant("arange", a));
  });
}

PyObject* linspace(PyObject*, PyObject* const* args, Py_ssize_t n) {
  return guarded([&] {
    const Args given("linspace", args, n, 4);
    const double start = given.real(0, "start"), end = given.real(1, "end");
    const int64_t count = given.integer(2, "n");
    Array a = empty(Dims{count}, given.dtype(3, "dtype"));
    const double step = count > 1 ? (end - start) / double(count - 1) : 0;
    for (int64_t i = 0; i < count; ++i) {
      // From both ends, so that the last value is exactly `end`.
      double f = i < count / 2 ? start + step * double(i) : end - step * double(count - 1 - i);
      if (count == 1) f = start;
      store(a, i, f, int64_t(f));
    }
    return wrap(constant("linspace", a));
  });
}

// The memory of any object with the buffer protocol, of any strides.
struct Buffer {
  Py_buffer view;
  explicit Buffer(PyObject* o) {
    if (PyObject_GetBuffer(o, &view, PyBUF_FULL_RO) < 0) throw_raised();
  }
  ~Buffer() { PyBuffer_Release(&view); }
};

PyObject* from_bytes(PyObject*, PyObject* const* args, Py_ssize_t n) {
  return guarded([&] {
    const Args given("from_bytes", args, n, 3);
    Buffer bytes(given[0]);
    const DType dtype = given.dtype(1, "dtype");
    const Dims shape = given.dims(2, "shape");
    Array a = empty(shape, dtype);
    const size_t want = size_t(a.numel()) * a.item(), got = size_t(bytes.view.len);
    if (want != got)
      fail(ErrorKind::value, "from_bytes: %zu bytes do not make shape %s of %s, which takes %zu",
           got, to_string(shape).c_str(), dtype_name(dtype), want);
    if (PyBuffer_ToContiguous(a.data(), &bytes.view, bytes.view.len, 'C') < 0) throw_raised();
    return wrap(constant("from_bytes", a));
  });
}

PyObject* to_bytes(PyObject*, PyObject* tensor) {
  return guarded([&] {
    const Array& a = Args("to_bytes", &tensor, 1, 1).tensor(0, "tensor");
    value_read("to_bytes");
    Array dense = contiguous(a);
    return PyBytes_FromStringAndSize(dense.data(),
                                     Py_ssize_t(dense.numel()) * Py_ssize_t(dense.item()));
  });
}

PyObject* equal_bytes(PyObject*, PyObject* const* args, Py_ssize_t n) {
  return guarded([&] {
    const Args given("equal_bytes", args, n, 2);
    const Array &a = given.tensor(0, "a"), &b = given.tensor(1, "b");
    value_read("equal");
    if (a.shape != b.shape || a.dtype != b.dtype) return PyBool_FromLong(0);
    Array x = contiguous(a), y = contiguous(b);
    return PyBool_FromLong(!std::memcmp(x.data(), y.data(), size_t(x.numel()) * x.item()));
  });
}

PyMethodDef functions[] = {
    {"empty", fast(make_empty), METH_FASTCALL, "empty(shape, dtype): an uninitialised tensor."},
    {"full", fast(full), METH_FASTCALL, "full(shape, value, dtype): a tensor of one value."},
    {"arange", fast(arange), METH_FASTCALL, "arange(start, step, istart, istep, n, dtype)."},
    {"linspace", fast(linspace), METH_FASTCALL, "linspace(start, end, n, dtype)."},
    {"from_data", fast(from_data), METH_FASTCALL,
     "from_data(data, dtype, default_float): a tensor from nested sequences of numbers."},
    {"item", item, METH_O, "The one element as a Python number."},
    {"tolist", tolist, METH_O, "The elements as nested lists of numbers."},
    {"from_bytes", fast(from_bytes), METH_FASTCALL,
     "from_bytes(bytes, dtype, shape): a tensor of the elements in a buffer."},
    {"to_bytes", to_bytes, METH_O, "The elements in order, as the machine stores them."},
    {"equal_bytes", fast(equal_bytes), METH_FASTCALL,
     "equal_bytes(a, b): whether shape, dtype and every byte agree."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool add_creation_functions(PyObject* module) {
  return PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace backtrail
