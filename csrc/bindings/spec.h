// The form of a call's arguments or results: nested lists, tuples and dicts of tensors and
// constants.
#pragma once
#include "bindings/objects.h"  // Python.h first
#include "bindings/ref.h"

#include <vector>

namespace backtrail {

// Whether two Python objects are one, or equal immutable values of one type.
bool same_value(PyObject* a, PyObject* b);

struct Spec {
  enum Kind : uint8_t { tensor, constant, list, tuple, dict } kind = constant;
  Ref value;  // the constant; the type of a tensor, list, tuple or dict
  Ref keys;   // of a dict: a tuple
  std::vector<Spec> children;
  int leaf = -1;  // number of a tensor
  // of a tensor argument
  Dims shape, strides;
  int64_t offset = 0;
  DType dtype = DType::f32;
  bool requires_grad = false;

  // Learn the form of `o`, appending its tensors to `leaves`. Other objects than containers are
  // constants, compared by identity unless they are immutable.
  static Spec learn(PyObject* o, std::vector<PyObject*>& leaves);
  // Whether `o` has this form; its tensors are written to `leaves`.
  bool matches(PyObject* o, PyObject** leaves) const;
  // An object of this form around new leaves (new reference; null with an error set).
  PyObject* build(PyObject* const* leaves) const;
};

}  // namespace backtrail
