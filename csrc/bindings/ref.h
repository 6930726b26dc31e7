// A reference to a Python object, and making dicts and lists of them.
#pragma once
#include <Python.h>

#include <utility>

#include "core/error.h"

namespace backtrail {

// Throws for a Python exception that is set.
[[noreturn]] inline void throw_raised() { throw Error(ErrorKind::python, "a Python exception"); }

// Holds a reference, or nothing.
class Ref {
 public:
  Ref() = default;
  // Takes over a new reference, or null.
  static Ref steal(PyObject* o) {
    Ref r;
    r.object_ = o;
    return r;
  }
  // Holds one more reference.
  static Ref borrow(PyObject* o) { return steal(Py_XNewRef(o)); }
  // Takes over a new reference; throws where it is null, with the exception that is set.
  static Ref made(PyObject* o) {
    if (!o) throw_raised();
    return steal(o);
  }
  Ref(const Ref& o) : object_(Py_XNewRef(o.object_)) {}
  Ref(Ref&& o) noexcept : object_(std::exchange(o.object_, nullptr)) {}
  Ref& operator=(Ref o) noexcept {
    std::swap(object_, o.object_);
    return *this;
  }
  ~Ref() { Py_XDECREF(object_); }
  PyObject* get() const { return object_; }
  PyObject* release() { return std::exchange(object_, nullptr); }
  explicit operator bool() const { return object_; }

 private:
  PyObject* object_ = nullptr;
};

// `value` is a new reference, or null with an exception set, which is thrown.
inline void append(const Ref& list, PyObject* value) {
  const Ref r = Ref::made(value);
  if (PyList_Append(list.get(), r.get()) < 0) throw_raised();
}

}  // namespace backtrail
