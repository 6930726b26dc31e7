// Tensors from Python values, and back.
#include <cmath>
#include <cstring>

#include "bindings/args.h"
#include "bindings/nested.h"
#include "bindings/numbers.h"
#include "bindings/recording.h"
#include "kernels/table.h"

namespace backtrail {
namespace {

// Between two parts of a long loop: has Python a signal to act on?
void stop_on_signal() {
  if (PyErr_CheckSignals()) throw_raised();
}

// A tensor with contents that Python gave: the same at each replay of a capture.
Array constant(const char* name, const Array& a) {
  if (capturing()) capturing()->saw_constant(name, a);
  return a;
}

PyObject* from_data(PyObject*, PyObject* const* args, Py_ssize_t n) {
  return guarded([&] {
    const Args a("tensor", args, n, 3);
    const bool given = a[1] != Py_None;
    const DType dtype = given ? a.dtype(1, "dtype") : DType::f32;
    return wrap(constant("tensor",
                         from_nested(a[0], given ? &dtype : nullptr, a.dtype(2, "default_float"))));
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
    const DType dtype = given.dtype(2, "dtype");
    Number value;
    if (!number_of(given[1], value))
      fail(ErrorKind::type, "full: the value must be a number; got %s", Py_TYPE(given[1])->tp_name);
    if (!has_room(dtype, value, false)) fail_no_room("full", dtype, given[1]);
    Array a = empty(given.dims(0, "size"), dtype);
    if (a.numel() == 0) return wrap(a);
    if (value.f == 0 && value.i == 0 && !std::signbit(value.f)) {
      std::memset(a.data(), 0, size_t(a.numel()) * a.item());
      return wrap(constant("zeros", a));
    }
    store(value, dtype, a.data());
    kernels().copies->strided(a.data(), 1, a.data(), 0, a.numel(), a.item());
    return wrap(constant("full", a));
  });
}

// check_fill(name, value, dtype): raise where a number is to fill elements too small for it.
PyObject* check_fill(PyObject*, PyObject* const* args, Py_ssize_t n) {
  return guarded([&]() -> PyObject* {
    const Args given("check_fill", args, n, 3);
    const DType dtype = given.dtype(2, "dtype");
    Number value;
    if (number_of(given[1], value) && !has_room(dtype, value, false))
      fail_no_room(given.text(0, "name"), dtype, given[1]);
    Py_RETURN_NONE;
  });
}

// Of whole numbers for an integer dtype, else start + i * step in doubles.
PyObject* arange(PyObject*, PyObject* const* args, Py_ssize_t n) {
  return guarded([&] {
    const Args given("arange", args, n, 4);
    const DType dtype = given.dtype(3, "dtype");
    const bool whole = !is_floating(dtype);
    const double start = whole ? 0 : given.real(0, "start"),
                 step = whole ? 0 : given.real(1, "step");
    const int64_t istart = whole ? given.integer(0, "start") : 0,
                  istep = whole ? given.integer(1, "step") : 0;
    const int64_t count = given.integer(2, "n");
    Array a = empty(Dims{count}, dtype);
    char* p = a.data();
    for (int64_t i = 0; i < count; ++i, p += a.item()) {
      store(whole ? Number{0, istart + i * istep, 1, true} : real_number(start + double(i) * step),
            dtype, p);
      if ((i & 0xffffff) == 0xffffff) stop_on_signal();
    }
    return wrap(constant("arange", a));
  });
}

PyObject* linspace(PyObject*, PyObject* const* args, Py_ssize_t n) {
  return guarded([&] {
    const Args given("linspace", args, n, 4);
    const double start = given.real(0, "start"), end = given.real(1, "end");
    const int64_t count = given.integer(2, "steps");
    const DType dtype = given.dtype(3, "dtype");
    Array a = empty(Dims{count}, dtype);
    const double step = count > 1 ? (end - start) / double(count - 1) : 0;
    char* p = a.data();
    for (int64_t i = 0; i < count; ++i, p += a.item()) {
      // From both ends, so that the last value is exactly `end`.
      double f = i < count / 2 ? start + step * double(i) : end - step * double(count - 1 - i);
      if (count == 1) f = start;
      store(real_number(f), dtype, p);
      if ((i & 0xffffff) == 0xffffff) stop_on_signal();
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
    {"arange", fast(arange), METH_FASTCALL, "arange(start, step, n, dtype)."},
    {"check_fill", fast(check_fill), METH_FASTCALL,
     "check_fill(name, value, dtype): raise where elements of the dtype have no room for value."},
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
