// One walk over nested sequences collects shape, dtype and numbers; then they become elements.
#include "bindings/nested.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "bindings/numbers.h"
#include "bindings/recording.h"
#include "bindings/ref.h"
#include "kernels/table.h"

namespace backtrail {
namespace {

double half_to_double(const char* p) {
  uint16_t bits;
  std::memcpy(&bits, p, 2);
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double f = exponent == 31  ? (fraction ? NAN : HUGE_VAL)
             : exponent == 0 ? std::ldexp(fraction, -24)
                             : std::ldexp(1024 + fraction, exponent - 25);
  return bits >> 15 ? -f : f;
}

template <class T>
T read(const char* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

Number whole(int64_t i, bool fits = true, double f = 0) {
  return {fits ? double(i) : f, i, 1, fits};
}

// The element of an array at `p`, by the code that the buffer protocol has for its type; and the
// dtype of ours for it. False for what is no number of ours.
bool buffer_element(char code, const char* p, Number& n, DType& dtype) {
  auto real = [&](double f, DType t) { return n = real_number(f), dtype = t, true; };
  auto integer = [&](int64_t i, DType t) { return n = whole(i), dtype = t, true; };
  auto natural = [&](unsigned long long u) {
    return n = whole(int64_t(u), u <= INT64_MAX, double(u)), dtype = DType::i64, true;
  };
  switch (code) {
    case 'f': return real(read<float>(p), DType::f32);
    case 'd': return real(read<double>(p), DType::f64);
    case 'e': return real(half_to_double(p), DType::f32);
    case 'g': return real(double(read<long double>(p)), DType::f64);
    case '?': return n = {double(*p != 0), *p != 0, 0, true}, dtype = DType::b8, true;
    case 'b': return integer(read<signed char>(p), DType::i32);
    case 'B': return integer(read<unsigned char>(p), DType::u8);
    case 'h': return integer(read<short>(p), DType::i32);
    case 'H': return integer(read<unsigned short>(p), DType::i32);
    case 'i': return integer(read<int>(p), DType::i32);
    case 'I': return integer(read<unsigned>(p), DType::i64);
    case 'l': return integer(read<long>(p), DType::i64);
    case 'q': return integer(read<long long>(p), DType::i64);
    case 'L': return natural(read<unsigned long>(p));
    case 'Q': return natural(read<unsigned long long>(p));
    default: return false;
  }
}

struct Nested {
  Dims shape;
  std::vector<Number> numbers;
  DType dtype = DType::f32;  // that holds all of them
  DType default_float;
  bool any = false;

  void walk(PyObject* o, int depth) {
    Number n;
    if (PyFloat_CheckExact(o) || PyLong_CheckExact(o) || PyBool_Check(o)) {
      number_of(o, n);
      return add_python(n, depth);
    }
    if (is_tensor(o)) return add_tensor(as_tensor(o)->array, depth);
    if (!PyList_CheckExact(o) && !PyTuple_CheckExact(o) &&
        PyObject_HasAttrString(o, "__array_interface__"))
      return add_array(o, depth);
    if (number_of(o, n)) return add_python(n, depth);
    if (!PySequence_Check(o) || PyUnicode_Check(o) || PyBytes_Check(o))
      fail(ErrorKind::type, "tensor: cannot make an element from %s", Py_TYPE(o)->tp_name);
    const Ref items = Ref::made(PySequence_Fast(o, "tensor: not a sequence"));
    const int64_t size = PySequence_Fast_GET_SIZE(items.get());
    enter(size, depth);
    for (int64_t i = 0; i < size; ++i) {
      // Reading a number can run code of the user's.
      if (PySequence_Fast_GET_SIZE(items.get()) != size)
        fail(ErrorKind::runtime, "tensor: a list changed its length while it was read");
      const Ref item = Ref::borrow(PySequence_Fast_GET_ITEM(items.get(), i));
      walk(item.get(), depth + 1);
    }
    if (size == 0) known = true;
  }

 private:
  bool known = false;  // the number of dimensions: a number was seen, or an empty sequence

  void enter(int64_t size, int depth) {
    if (depth == shape.n && !known)
      shape.push(size);
    else if (depth >= shape.n || shape[depth] != size)
      fail(ErrorKind::value, "tensor: expected a sequence of length %lld at depth %d; got %lld",
           depth < shape.n ? (long long)shape[depth] : 0LL, depth, (long long)size);
  }

  void leaf(int depth) {
    known = true;
    if (depth != shape.n)
      fail(ErrorKind::value,
           "tensor: a number where a sequence of length %lld was expected (depth %d)",
           depth < shape.n ? (long long)shape[depth] : 0LL, depth);
  }

  void holds(DType t) {
    dtype = any ? promote(dtype, t) : t;
    any = true;
  }

  void add_python(const Number& n, int depth) {
    leaf(depth);
    holds(n.category == 2 ? default_float : n.category == 1 ? DType::i64 : DType::b8);
    numbers.push_back(n);
  }

  void add_tensor(const Array& a, int depth) {
    value_read("tensor");
    if (a.numel() != 1)
      fail(ErrorKind::value,
           "tensor: only tensors of one element can be items of a list; got shape %s",
           to_string(a.shape).c_str());
    leaf(depth);
    holds(a.dtype);
    Number n{0, 0, category(a.dtype), true};
    kernels().numeric->convert[int(a.dtype)][int(DType::f64)](a.data(), &n.f, 1);
    if (n.category == 2)
      n = real_number(n.f);
    else
      kernels().numeric->convert[int(a.dtype)][int(DType::i64)](a.data(), &n.i, 1);
    numbers.push_back(n);
  }

  void add_array(PyObject* o, int depth) {
    struct View : Py_buffer {
      bool held = false;
      ~View() {
        if (held) PyBuffer_Release(this);
      }
    } view;
    if (PyObject_GetBuffer(o, &view, PyBUF_STRIDES | PyBUF_FORMAT)) {
      PyErr_Clear();
      unreadable(o);
    }
    view.held = true;
    const char* format = view.format ? view.format : "B";
    if (*format == '=' || *format == '<' || *format == '@') ++format;
    if (!*format || format[1] || !std::strncmp(Py_TYPE(o)->tp_name, "numpy.datetime", 14) ||
        !std::strncmp(Py_TYPE(o)->tp_name, "numpy.timedelta", 15))
      unreadable(o);
    DType t = DType::f32;
    Number n;
    const char zero[16] = {};
    if (!buffer_element(*format, zero, n, t)) unreadable(o);
    array_dimension(view, *format, static_cast<const char*>(view.buf), 0, depth);
    holds(t);
  }

  void array_dimension(const Py_buffer& view, char code, const char* p, int d, int depth) {
    if (d == view.ndim) {
      Number n;
      DType t;
      leaf(depth);
      buffer_element(code, p, n, t);
      numbers.push_back(n);
      return;
    }
    enter(view.shape[d], depth);
    for (Py_ssize_t i = 0; i < view.shape[d]; ++i)
      array_dimension(view, code, p + i * view.strides[d], d + 1, depth + 1);
    if (view.shape[d] == 0) known = true;
  }

  [[noreturn]] static void unreadable(PyObject* o) {
    const Ref dtype = Ref::steal(PyObject_GetAttrString(o, "dtype"));
    const Ref text = Ref::steal(dtype ? PyObject_Str(dtype.get()) : nullptr);
    const char* name = text ? PyUnicode_AsUTF8(text.get()) : nullptr;
    PyErr_Clear();
    fail(ErrorKind::type, "tensor: cannot make elements from %s of dtype %s", Py_TYPE(o)->tp_name,
         name ? name : "unknown");
  }
};

}  // namespace

Array from_nested(PyObject* data, const DType* dtype, DType default_float) {
  Nested nested;
  nested.default_float = default_float;
  nested.walk(data, 0);
  const DType t = dtype ? *dtype : nested.any ? nested.dtype : default_float;
  Array a = empty(nested.shape, t);
  char* p = a.data();
  for (const Number& n : nested.numbers) {
    if (!has_room(t, n, true)) {
      if (!dtype) fail(ErrorKind::value, "tensor: an integer does not fit in 64 bits");
      if (n.category == 2)
        fail(ErrorKind::runtime, "tensor: %g does not fit in %s without overflow", n.f,
             dtype_name(t));
      fail(ErrorKind::runtime, "tensor: %.0f does not fit in %s without overflow", n.f,
           dtype_name(t));
    }
    store(n, t, p);
    p += a.item();
  }
  return a;
}

}  // namespace backtrail
