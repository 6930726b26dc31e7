// What one instruction set offers beyond arithmetic on tensors: conversions between element types,
// random numbers and optimizer updates.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace backtrail {

// A sequence of random numbers, of which every element depends only on its place, the seed and the
// offset: see kernels/random.cpp.
struct RandomStream {
  uint64_t seed, offset;
};

// Elements [first, first + n) of a tensor, at out[0] on; `first` is a multiple of 64. Uniforms are
// multiples of 2^-24 or 2^-53 in [0, 1).
template <class T>
struct RandomTable {
  void (*uniform)(T* out, int64_t first, int64_t n, RandomStream, double low, double high);
  void (*normal)(T* out, int64_t first, int64_t n, RandomStream, double mean, double std);
  void (*exponential)(T* out, int64_t first, int64_t n, RandomStream);  // mean 1
  void (*bernoulli)(T* out, const T* p, int64_t first, int64_t n, RandomStream);
  // x / (1 - p), or 0 with probability p
  void (*dropout)(T* out, const T* x, int64_t first, int64_t n, RandomStream, double p);
};

// The numbers of ops/optimizer.h.
struct AdamFactors;
struct SgdFactors;

template <class T>
struct OptimizerTable {
  // In place on n elements; `greatest` (of AMSGrad) may be null.
  void (*adam)(T* param, const T* grad, T* mean, T* square, T* greatest, int64_t n,
               const AdamFactors&);
  // `momentum` may be null.
  void (*sgd)(T* param, const T* grad, T* momentum, int64_t n, const SgdFactors&);
  double (*sum_squares)(const T* x, int64_t n);
  double (*sum_abs)(const T* x, int64_t n);
  double (*max_abs)(const T* x, int64_t n);  // NaN when there is one
  void (*scale)(T* x, int64_t n, double factor);
};

using ConvertKernel = void (*)(const void* src, void* dst, int64_t n);

struct NumericTable {
  // convert[from][to], indexed by DType, on contiguous elements that do not overlap. To integers:
  // toward 0; NaN and values out of range become the lowest int32 or int64; uint8 is the low byte
  // of the int64. To bool: x != 0. To bfloat16: through float32, to the nearest even.
  ConvertKernel convert[kDTypes][kDTypes];

  const RandomTable<float>* random_f32;
  const RandomTable<double>* random_f64;
  void (*random_bits)(uint64_t* out, int64_t first, int64_t n, RandomStream);

  const OptimizerTable<float>* optimizer_f32;
  const OptimizerTable<double>* optimizer_f64;
};

}  // namespace backtrail
