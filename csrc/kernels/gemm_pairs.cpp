// Products of bfloat16: the tiles of float32 products over pairs of neighbours along k, each pair
// in the 32 bits of one element.
#include "backtrail/simd_convert.h"
#include "kernels/gemm_block.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace {

// sum + x.high * y.high + x.low * y.low, in this order, each product exact and each sum rounded:
// what the instruction VDPBF16PS does when subnormal numbers count as zero (Intel 64 and IA-32
// Architectures Software Developer's Manual, volume 2; tests/test_bfloat16.py holds one against the
// other).
struct InTurn {
#if defined(__AVX512F__)
  static constexpr int kRows = 12, kVectors = 24, kWideVectors = 16;
#elif defined(__AVX__)
  static constexpr int kRows = 4, kVectors = 4, kWideVectors = 4;
#else
  static constexpr int kRows = Fused<float>::kRows, kVectors = Fused<float>::kVectors,
                       kWideVectors = Fused<float>::kWideVectors;
#endif
  static BACKTRAIL_INLINE Vec<float> high(Vec<float> x) {
    return (x.bits_as<int32_t>() & Vec<int32_t>(int32_t(0xFFFF0000))).bits_as<float>();
  }
  static BACKTRAIL_INLINE Vec<float> low(Vec<float> x) {
    return (x.bits_as<int32_t>() << 16).bits_as<float>();
  }
  static BACKTRAIL_INLINE Vec<float> add(Vec<float> x, Vec<float> y, Vec<float> sum) {
    return fma(low(x), low(y), fma(high(x), high(y), sum));
  }
};

#if defined(__AVX512F__)
// Written in assembly, as compilers that build for x86-64-v4 do not know it for that.
struct AtOnce : Fused<float> {
  static BACKTRAIL_INLINE Vec<float> add(Vec<float> x, Vec<float> y, Vec<float> sum) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum.r[0]) : "v"(x.r[0]), "v"(y.r[0]));
    return sum;
  }
};
#endif

BACKTRAIL_INLINE Vec<float> pairs_of(Vec<float> low, Vec<float> high) {
  return (shift_right_logical(low.bits_as<int32_t>(), 16) | high.bits_as<int32_t>())
      .bits_as<float>();
}

// A strip of several vectors at a time, to read whole runs of memory.
void join(int64_t k, int64_t n, const uint16_t* x, int64_t rs, float* out, int64_t row,
          int64_t vector) {
  using V = Vec<float>;
  constexpr int64_t lanes = V::lanes, strip = 8 * lanes;
  for (int64_t j = 0; j < n; j += strip, x += strip, out += 8 * vector) {
    const int64_t width = n - j < strip ? n - j : strip, whole = width / lanes * lanes;
    for (int64_t p = 0; p < k; p += 2) {
      const uint16_t *low = x + p * rs, *high = p + 1 < k ? low + rs : nullptr;
      float* to = out + p / 2 * row;
      int64_t i = 0;
      for (; i < whole; i += lanes, to += vector)
        pairs_of(load_bf16(low + i), high ? load_bf16(high + i) : V(0)).store(to);
      if (const int64_t left = width - i; left > 0)
        pairs_of(load_bf16(low + i, left), high ? load_bf16(high + i, left) : V(0)).store(to);
    }
  }
}

template <class M>
constexpr PairsTable make_pairs() {
  PairsTable t{make_table<float, M>(), join};
  t.gemm.flushes = true;
  t.gemm.nc = 64 * t.gemm.lanes;
  return t;
}

}  // namespace

extern const PairsTable pairs;
const PairsTable pairs = make_pairs<InTurn>();
#if defined(__AVX512F__)
extern const PairsTable pairs_at_once;
const PairsTable pairs_at_once = make_pairs<AtOnce>();
#endif

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
