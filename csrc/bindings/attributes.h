// The attributes of a call, from a Python tuple.
#pragma once
#include <Python.h>

#include "exec/op.h"

namespace backtrail {

// A number as an attribute's type asks for it; throws Error(type) naming the op and the attribute.
double attribute_value(const char* op, const Attr& attr, PyObject* value);

// All `n` of them: what the tuple (or null) does not give, or gives as None, has its default.
void attribute_values(const char* op, const Attr* attrs, int n, PyObject* tuple, double* values);

// Attributes of an op that is not pointwise.
struct Attributes {
  static constexpr int kMost = 16;
  static constexpr int kMaxList = 256;  // integers in all the lists of one call
  AttrValue values[kMost];
  int64_t lists[kMaxList];
  int n = 0;
  void parse(const Op& op, PyObject* tuple);
};

}  // namespace backtrail
