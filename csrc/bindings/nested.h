// Tensors from nested sequences of numbers, tensors of one element and arrays.
#pragma once
#include <Python.h>

#include "core/array.h"

namespace backtrail {

// A tensor of `data`. Its dtype is `dtype`, or (null) what PyTorch's promotion makes of the items:
// `default_float` for Python's floats, their own for NumPy's numbers. Everything is read once, so
// that a list that changes meanwhile is an error and no more.
Array from_nested(PyObject* data, const DType* dtype, DType default_float);

}  // namespace backtrail
