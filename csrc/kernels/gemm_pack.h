// Operands of a matrix product brought into the order in which tiles read them.
#pragma once
#include "backtrail/simd.h"
#include "kernels/gemm_microkernel.h"
#include "kernels/transpose.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

constexpr int kPackRows = 16;  // at least those of any tile, in whole vectors

// The rows of one tile brought close together: as they lie if a row is contiguous (padded, so that
// rows fall into different cache sets), else with k outermost.
template <class T>
void pack_a(int64_t rows, int64_t k, const T* a, int64_t& rs, int64_t& cs, T* out) {
  using V = Vec<T>;
  if (cs == 1) {
    const int64_t stride = (k + 15) / 16 * 16 + 16;
    for (int64_t i = 0; i < rows; ++i)
      __builtin_memcpy(out + i * stride, a + i * rs, k * sizeof(T));
    rs = stride;
    return;
  }
  int64_t p = 0;
  if (rs == 1)  // whole vectors, while they end inside of a; the next one covers what is too much
    for (; (k - 1 - p) * cs >= kPackRows; ++p)
#pragma GCC unroll 2
      for (int v = 0; v < kPackRows; v += V::lanes)
        V::load(a + p * cs + v).store(out + p * rows + v);
  for (; p < k; ++p)
    for (int64_t i = 0; i < rows; ++i) out[p * rows + i] = a[i * rs + p * cs];
  rs = 1;
  cs = rows;
}

// Rows of b are contiguous: a strip of several panels at a time, to read whole runs of memory.
template <class T>
void pack_rows(int64_t k, int64_t n, const T* b, int64_t rs, T* out, int64_t panel) {
  using V = Vec<T>;
  constexpr int kStrip = 8;
  int64_t j = 0;
  for (; j + kStrip * V::lanes <= n; j += kStrip * V::lanes, out += kStrip * panel)
    for (int64_t p = 0; p < k; ++p)
#pragma GCC unroll 8
      for (int v = 0; v < kStrip; ++v)
        V::load(b + p * rs + j + v * V::lanes).store(out + v * panel + p * V::lanes);
  for (; j < n; j += V::lanes, out += panel)
    for (int64_t p = 0; p < k; ++p) {
      const T* from = b + p * rs + j;
      (n - j < V::lanes ? V::load(from, n - j) : V::load(from)).store(out + p * V::lanes);
    }
}

// Columns of b are contiguous: transposed by squares of one cache line a side, so that lines of b
// and of the panel are used up while they are near.
template <class T>
void pack_columns(int64_t k, int64_t n, const T* b, int64_t cs, T* out, int64_t panel) {
  using N = Native<T>;
  constexpr int64_t lanes = Vec<T>::lanes, strip = N::lanes, quarter = N::quarter;
  // In short columns the processor does not see what squares come next: those some panels ahead are
  // called for.
  const int64_t ahead = k < 256 ? lanes * (256 / (k + 1) + 1) : 0;
  for (int64_t j = 0; j < n; j += lanes, out += panel, b += lanes * cs) {
    const int64_t width = n - j < lanes ? n - j : lanes;
    const int64_t strips = width / strip * strip, whole = k / quarter * quarter;
    for (int64_t first = 0; first < whole; first += lanes) {
      const int64_t last = first + lanes < whole ? first + lanes : whole;
      for (int64_t i = 0; ahead && i < lanes; ++i)
        __builtin_prefetch(b + (ahead + i) * cs + first, 0, 2);
      for (int64_t i = 0; i < strips; i += strip)
        for (int64_t p = first; p < last; p += quarter) {
          typename N::Reg x[quarter];
          transpose(b + p + i * cs, cs, x);
#pragma GCC unroll 4
          for (int r = 0; r < quarter; ++r) N::store(out + (p + r) * lanes + i, x[r]);
        }
    }
    for (int64_t p = strips < lanes ? 0 : whole; p < k; ++p) {  // what the squares leave over
      T* to = out + p * lanes;
      for (int64_t i = p < whole ? strips : 0; i < width; ++i) to[i] = b[p + i * cs];
      for (int64_t i = width; i < lanes; ++i) to[i] = 0;
    }
  }
}

template <class T>
void pack_b(int64_t k, int64_t n, const T* b, int64_t rs, int64_t cs, T* out, int64_t panel) {
  constexpr int64_t lanes = Vec<T>::lanes;
  if (cs == 1) return pack_rows(k, n, b, rs, out, panel);
  if (rs == 1) return pack_columns(k, n, b, cs, out, panel);
  for (int64_t j = 0; j < n; j += lanes, out += panel, b += lanes * cs) {
    const int64_t width = n - j < lanes ? n - j : lanes;
    for (int64_t p = 0; p < k; ++p) {
      T* to = out + p * lanes;
      for (int64_t i = 0; i < width; ++i) to[i] = b[p * rs + i * cs];
      for (int64_t i = width; i < lanes; ++i) to[i] = 0;
    }
  }
}

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
