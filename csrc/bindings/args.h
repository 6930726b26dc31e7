// The arguments of a call from Python, read by position. What is wrong with one is a TypeError that
// names the function, the argument and what it got.
#pragma once
#include "bindings/objects.h"

namespace backtrail {

class Args {
 public:
  // `args` are `n` of a call that takes `least` to `most`; throws Error(type) where it does not.
  Args(const char* function, PyObject* const* args, Py_ssize_t n, Py_ssize_t least,
       Py_ssize_t most);
  Args(const char* function, PyObject* const* args, Py_ssize_t n, Py_ssize_t count)
      : Args(function, args, n, count, count) {}

  PyObject* operator[](int i) const { return i < n_ ? args_[i] : Py_None; }
  const Array& tensor(int i, const char* name) const;
  const Op& op(int i) const;
  int64_t integer(int i, const char* name) const;
  double real(int i, const char* name) const;
  bool truth(int i, const char* name) const;
  const char* text(int i, const char* name) const;
  DType dtype(int i, const char* name) const;
  Dims dims(int i, const char* name) const;

 private:
  [[noreturn]] void wrong(int i, const char* name, const char* expected) const;
  const char* function_;
  PyObject* const* args_;
  Py_ssize_t n_;
};

// For a table of methods: a function of arguments by position.
using FastFunction = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t);
inline PyCFunction fast(FastFunction f) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(f));
}

}  // namespace backtrail
