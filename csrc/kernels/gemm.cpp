// Matrix-product kernels of one instruction set, and the product of integers.
#include "kernels/gemm_block.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace {

// R rows of c by `cols` columns, at most two vectors of them.
template <int R>
void integer_tile(int64_t cols, int64_t k, const int64_t* a, int64_t a_rs, int64_t a_cs,
                  const int64_t* b, int64_t b_rs, int64_t* c, int64_t c_rs) {
  using V = Vec<int64_t>;
  const int64_t width[2] = {cols < V::lanes ? cols : V::lanes, cols - V::lanes};
  auto load = [](const int64_t* p, int64_t n) {
    return n >= V::lanes ? V::load(p) : n > 0 ? V::load(p, n) : V(0);
  };
  V sum[R][2];
  for (auto& row : sum) row[0] = row[1] = V(0);
  for (int64_t p = 0; p < k; ++p) {
    const V x = load(b + p * b_rs, width[0]), y = load(b + p * b_rs + V::lanes, width[1]);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const V z(a[r * a_rs + p * a_cs]);
      sum[r][0] += z * x;
      sum[r][1] += z * y;
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < 2; ++v) {
      int64_t* to = c + r * c_rs + v * V::lanes;
      if (width[v] >= V::lanes)
        sum[r][v].store(to);
      else if (width[v] > 0)
        sum[r][v].store(to, width[v]);
    }
}

}  // namespace

void integer_product(int64_t m, int64_t n, int64_t k, const int64_t* a, int64_t a_rs, int64_t a_cs,
                     const int64_t* b, int64_t b_rs, int64_t* c, int64_t c_rs) {
  constexpr int64_t kRows = 4, kCols = 2 * Vec<int64_t>::lanes;
  for (int64_t j = 0; j < n; j += kCols) {
    const int64_t cols = n - j < kCols ? n - j : kCols;
    int64_t i = 0;
    for (; i + kRows <= m; i += kRows)
      integer_tile<kRows>(cols, k, a + i * a_rs, a_rs, a_cs, b + j, b_rs, c + i * c_rs + j, c_rs);
    for (; i < m; ++i)
      integer_tile<1>(cols, k, a + i * a_rs, a_rs, a_cs, b + j, b_rs, c + i * c_rs + j, c_rs);
  }
}

extern const GemmTable<float> gemm_f32;
extern const GemmTable<double> gemm_f64;
const GemmTable<float> gemm_f32 = make_table<float>();
const GemmTable<double> gemm_f64 = make_table<double>();

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
