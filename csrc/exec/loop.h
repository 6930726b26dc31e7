// The loop nest of pointwise ops: broadcasting, strides, conversions, L1-sized blocks, threads.
#pragma once
#include "backtrail/pointwise.h"
#include "core/array.h"

namespace backtrail {

// An input of a pointwise kernel: an array, or a number held inline.
struct Operand {
  const Array* array = nullptr;
  double number = 0;    // when there is no array
  int64_t integer = 0;  // the same number for integer kernels
};

// Compute `out` (any strides, any dtype) from inputs that broadcast to its shape. `compute` is f32,
// f64 or i64 and says which kernel of `kernels` runs; bit j of `masks` marks a bool input.
// Inputs that overlap `out` must do so element for element. `name` is for a capture.
void run_pointwise(const PointwiseKernels& kernels, DType compute, unsigned masks, bool mask_output,
                   const Operand* in, int n_in, const Array& out, const double* attrs, double cost,
                   const char* name);

}  // namespace backtrail
