// What a matrix-product kernel set offers to the loops above it: one table per element type and
// instruction set, with its tile and block sizes as data.
#pragma once
#include <cstdint>

namespace backtrail {

enum class Activation : uint8_t { none, relu };

// One block of a product: c[m, n] = act(start + a[m, k] @ b[k, n] + bias[n]), with start = c when
// accumulating and 0 otherwise. Strides count elements; a row of c is contiguous. Every element is
// one chain of fused multiply-adds in ascending k that begins at `start`, so that cutting m, n or k
// into blocks cannot change a bit.
template <class T>
struct GemmBlock {
  int64_t m, n, k;
  const T* a;
  int64_t a_rs, a_cs;
  T* a_panel;  // room for a_panel_size(k) elements, to copy a's rows close together; or null
  const T* b;  // vector v of row p at b + p * b_rs + v * b_vs; the last may be shorter
  int64_t b_rs, b_vs;
  T* c;
  int64_t c_rs;
  const T* bias;  // [n] or null
  bool accumulate;
  Activation act;
};

template <class T>
struct GemmTable {
  int64_t lanes;        // elements of a vector
  int64_t mr, nr;       // largest tile
  int64_t nc, kc;       // most columns and depth of b packed at a time, to fit the L2 cache
  double flops_per_ns;  // of one thread, roughly

  void (*block)(const GemmBlock<T>& g);

  // Panels of `lanes` columns: column j of row p at out[j / lanes * panel + p * lanes + j % lanes],
  // the last panel padded with zeros.
  void (*pack_b)(int64_t k, int64_t n, const T* b, int64_t rs, int64_t cs, T* out, int64_t panel);

  // y[n] = start + x[k] @ b[k, n], the columns of b contiguous and n >= row_min: element (p, j) at
  // b[p + j * cs]. In the order of block().
  void (*row)(int64_t n, int64_t k, const T* x, int64_t xs, const T* b, int64_t cs, T* y,
              bool accumulate);
  int64_t row_min;

  // sum of a[i * as] * b[i * bs] over i < k: 4 * lanes chains, joined by a fixed tree.
  T (*dot)(int64_t k, const T* a, int64_t as, const T* b, int64_t bs);
};

// Elements GemmBlock::a_panel needs.
constexpr int64_t a_panel_size(int64_t mr, int64_t k) { return mr * (k + 32); }

}  // namespace backtrail
