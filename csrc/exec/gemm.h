// Matrix products of any strides: C = after(start + A @ B + bias), one or a batch of them.
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

// What happens to an element, in this order, besides its products.
template <class T>
struct Epilogue {
  bool accumulate = false;        // they are added to C instead of replacing it
  const T* bias = nullptr;        // [n], added to every row
  After<T> after = nullptr;       // called once for each element, with rectangles of C as tasks
  const void* context = nullptr;  // finish them; it may change C and read and write elsewhere
};

// c[m, n] = after(start + a[m, k] @ b[k, n] + bias); c.cs must be 1, and c overlap neither a nor b.
//
// The same bits for any strides, blocks, threads and AVX2 or AVX-512: the order of additions
// depends on the shape alone. k is cut into even pieces of at most 512; an element is the sum, in
// ascending order, of `start` and one chain of fused multiply-adds for each piece, whatever m and n
// are. But thin products (at most 4 rows or columns, k at least 64 for each) are sums of one vector
// of interleaved chains, and the dot product (m = n = 1) of 4 vectors. Uses scratch slots 1 to 3. k
// = 0 leaves the epilogue of `start`.
template <class T>
void gemm(const GemmTable<T>& kernels, int64_t m, int64_t n, int64_t k, MatView<const T> a,
          MatView<const T> b, MatView<T> c, Epilogue<T> epilogue = {});

// Length of the pieces that k is cut into.
int64_t gemm_depth(int64_t k);

// The same for `batch` products whose matrices begin at a.data + a_offsets[i], and so on; the
// destinations must not overlap. With `rows`, they are parts of a product of so many rows, and have
// its bits. With `panels`, b lies as GemmTable::pack_b leaves it, with b.rs the lanes and b.cs the
// panel over the lanes; the product must not be thin, and n more than half the lanes.
template <class T>
void gemm_batched(const GemmTable<T>& kernels, int64_t batch, const int64_t* a_offsets,
                  const int64_t* b_offsets, const int64_t* c_offsets, int64_t m, int64_t n,
                  int64_t k, MatView<const T> a, MatView<const T> b, MatView<T> c,
                  Epilogue<T> epilogue = {}, int64_t rows = 0, bool panels = false);

// Whether m by n products of depth k (m rows of `rows`) can take b in panels.
template <class T>
bool takes_panels(const GemmTable<T>& kernels, int64_t rows, int64_t n, int64_t k);

}  // namespace backtrail
