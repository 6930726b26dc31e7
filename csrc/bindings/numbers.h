// Numbers that Python gives, its own and NumPy's, and the elements they become.
#pragma once
#include <Python.h>

#include "core/array.h"

namespace backtrail {

struct Number {
  double f;
  int64_t i;     // exact for bools and integers, toward zero for floats
  int category;  // 0 bool, 1 integer, 2 floating
  bool fits;     // in the 64 bits of `i`
};

// Read a number; false where the object is none. Sequences and arrays are none.
bool number_of(PyObject* o, Number& out);

// The number as a double would be cut to an integer.
Number real_number(double f);

// Write a number as the element at `p`.
void store(const Number& n, DType dtype, char* p);

// Whether a dtype has room for the number; unsigned types take negative ones modulo 2^bits, as
// PyTorch's do. A finite float that becomes infinite does not fit unless `infinite`.
bool has_room(DType dtype, const Number& n, bool infinite);

[[noreturn]] void fail_no_room(const char* name, DType dtype, PyObject* number);

}  // namespace backtrail
