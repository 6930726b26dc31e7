// Matrix products of any strides: C = act(start + A @ B + bias), one or a batch of them.
#pragma once
#include <cstdint>

#include "kernels/gemm_table.h"

namespace backtrail {

// Element (i, j) lies at data[i * rs + j * cs]; strides may be 0.
template <class T>
struct MatView {
  T* data;
  int64_t rs, cs;
};

template <class T>
struct Epilogue {
  bool accumulate = false;            // start from C instead of 0
  const T* bias = nullptr;            // [n], added to every row after the last product
  Activation act = Activation::none;  // applied last
};

// c[m, n] = act(start + a[m, k] @ b[k, n] + bias); c.cs must be 1, and c overlap neither a nor b.
// Every element is one chain of fused multiply-adds in ascending k, hence the same bits for any
// strides, blocks, threads, and for a row alone or among others; only a dot product (m = n = 1) is
// summed by 4 vectors of chains. Uses scratch slots 2 and 3. k = 0 leaves the epilogue of `start`.
template <class T>
void gemm(const GemmTable<T>& kernels, int64_t m, int64_t n, int64_t k, MatView<const T> a,
          MatView<const T> b, MatView<T> c, Epilogue<T> epilogue = {});

// The same for `batch` products whose matrices begin at a.data + a_offsets[i], and so on; the
// destinations must not overlap.
template <class T>
void gemm_batched(const GemmTable<T>& kernels, int64_t batch, const int64_t* a_offsets,
                  const int64_t* b_offsets, const int64_t* c_offsets, int64_t m, int64_t n,
                  int64_t k, MatView<const T> a, MatView<const T> b, MatView<T> c,
                  Epilogue<T> epilogue = {});

}  // namespace backtrail
