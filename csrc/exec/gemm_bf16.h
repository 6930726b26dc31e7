// Matrix products of bfloat16, summed in float32.
#pragma once
#include <cstdint>

#include "exec/gemm.h"

namespace backtrail {

// c[m, n] = a[m, k] @ b[k, n] + bias[n] for `batch` products whose matrices begin at a.data +
// a_offsets[i] and b.data + b_offsets[i]; those of c follow one another, dense. Rounded once, to
// the nearest even. `bias` may be null; `rows` as for gemm_batched().
//
// The same bits for any strides, threads and AVX2 or AVX-512, with AVX512_BF16 or without: sums as
// gemm() forms them, of pairs of neighbours along k (see PairsTable); subnormal numbers count as
// zero. Uses scratch slots 0 to 3.
void gemm_bf16(int64_t batch, const int64_t* a_offsets, const int64_t* b_offsets, int64_t m,
               int64_t n, int64_t k, MatView<const uint16_t> a, MatView<const uint16_t> b,
               uint16_t* c, const uint16_t* bias = nullptr, int64_t rows = 0);

}  // namespace backtrail
