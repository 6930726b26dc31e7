// Checks that several `prepare` functions share; each message names the op, what it got, the rule.
#pragma once
#include "exec/op.h"

namespace backtrail {

// Fails unless input `i` has one of the two types that kernels calculate in.
inline void require_f32_or_f64(const Call& c, int i, const char* what) {
  const DType dtype = c.in[i].dtype;
  if (dtype != DType::f32 && dtype != DType::f64)
    fail(ErrorKind::type, "%s: %s has dtype %s; expected float32 or float64", c.name, what,
         dtype_name(dtype));
}

// Fails unless input `i` has this type and shape.
inline void require(const Call& c, int i, const char* what, DType dtype, const Dims& shape) {
  const Array& a = c.in[i];
  if (a.dtype != dtype)
    fail(ErrorKind::type, "%s: %s has dtype %s; expected %s, as the other inputs", c.name, what,
         dtype_name(a.dtype), dtype_name(dtype));
  if (a.shape != shape)
    fail(ErrorKind::runtime, "%s: %s has shape %s; expected %s", c.name, what,
         to_string(a.shape).c_str(), to_string(shape).c_str());
}

inline bool given(const Call& c, int i) { return i < c.n_in && c.in[i]; }

}  // namespace backtrail
