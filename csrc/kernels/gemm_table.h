// What a matrix-product kernel set offers to the loops above it: one table per element type and
// instruction set, with its tile and block sizes as data.
#pragma once
#include <cstdint>

namespace backtrail {

// What the products are added to: nothing, or GemmBlock::first; c, which the chain of each element
// begins with; c, to which the chain is added when it is complete.
enum class Start : uint8_t { zero, chain, sum };

// Called with a finished rectangle of c while it is in the cache, by the thread that finished it.
template <class T>
using After = void (*)(const void* context, T* c, int64_t c_rs, int64_t rows, int64_t cols);

// One block of a product: c[m, n] = start + a[m, k] @ b[k, n] + bias[n]. Strides count elements; a
// row of c is contiguous. Every element is one chain of fused multiply-adds in ascending k, so that
// cutting m or n (or k, with Start::chain) into blocks cannot change a bit.
template <class T>
struct GemmBlock {
  int64_t m, n, k;
  const T* a;
  int64_t a_rs, a_cs;
  // Or, when not null: element (i, p) at a + i * a_rs + a_runs[p / run] + p % run * a_cs; run
  // divides k, and there is no panel.
  const int64_t* a_runs;
  int64_t run;
  T* a_panel;  // room for a_panel_size(k) elements, to copy a's rows close together; or null
  const T* b;  // vector v of row p at b + p * b_rs + v * b_vs; the last may be shorter
  int64_t b_rs, b_vs;
  T* c;
  int64_t c_rs;
  const T* bias;   // [n] or null
  const T* first;  // [m] or null: what the chains of each row begin with, for Start::zero
  After<T> after;  // or null
  const void* context;
  Start start;
};

template <class T>
struct GemmTable {
  int64_t lanes;        // elements of a vector
  int64_t mr, nr;       // largest tile
  int64_t nc;           // most columns of b packed at a time, to fit the L2 cache
  double flops_per_ns;  // of one thread, roughly
  bool flushes;         // subnormal numbers count as zero

  void (*block)(const GemmBlock<T>& g);

  // Panels of `lanes` columns: column j of row p at out[j / lanes * panel + p * lanes + j % lanes],
  // the last panel padded with zeros.
  void (*pack_b)(int64_t k, int64_t n, const T* b, int64_t rs, int64_t cs, T* out, int64_t panel);

  // out[m, n] = a[m, k] @ b[k, n] for m <= thin_rows; rows of a are contiguous, and for dots() the
  // columns of b, for row_sums() its rows. Every element is `lanes` interleaved chains joined by a
  // fixed tree, and not -0.
  int64_t thin_rows;
  void (*dots)(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_rs, const T* b, int64_t b_cs,
               T* out, int64_t out_rs);
  void (*row_sums)(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_rs, const T* b,
                   int64_t b_rs, T* out, int64_t out_rs, T* room);

  // sum of a[i * as] * b[i * bs] over i < k: 4 * lanes chains, joined by a fixed tree.
  T (*dot)(int64_t k, const T* a, int64_t as, const T* b, int64_t bs);
};

// Products of bfloat16: a row of a and a column of b are seen as pairs of neighbours along k, of
// which each takes the place of one float, the earlier in its lower half. A chain takes the later
// of the two first, and its products, which are exact, one after another.
struct PairsTable {
  GemmTable<float> gemm;
  // Brings x[k, n] together, whose row p begins at x + p * rs: pair p of column j at
  // out[p * row + j / lanes * vector + j % lanes]. Whole vectors are written.
  void (*join)(int64_t k, int64_t n, const uint16_t* x, int64_t rs, float* out, int64_t row,
               int64_t vector);
};

// c[m, n] = a[m, k] @ b[k, n] modulo 2^64; rows of b and c are contiguous.
using IntegerProduct = void (*)(int64_t m, int64_t n, int64_t k, const int64_t* a, int64_t a_rs,
                                int64_t a_cs, const int64_t* b, int64_t b_rs, int64_t* c,
                                int64_t c_rs);

// Elements GemmTable::row_sums needs as room.
constexpr int64_t row_sums_size(int64_t lanes, int64_t n) {
  return 4 * lanes * (n < 64 * lanes ? (n + lanes - 1) / lanes * lanes : 64 * lanes);
}

// Elements GemmBlock::a_panel needs.
constexpr int64_t a_panel_size(int64_t mr, int64_t k) { return mr * (k + 32); }

}  // namespace backtrail
