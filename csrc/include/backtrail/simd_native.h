// One native register of each instruction set, behind one set of names; simd.h builds Vec out of
// these.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#pragma GCC diagnostic push  // GCC 12 warns about its own _mm512_undefined_ps
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// The instruction set a translation unit is compiled for. It names an inline namespace around all
// that a kernel can reach, so that the linker never merges functions built for two different CPUs.
#ifndef BACKTRAIL_TARGET
#define BACKTRAIL_TARGET host
#endif

#define BACKTRAIL_ALWAYS_INLINE __attribute__((always_inline))  // for lambdas
#define BACKTRAIL_INLINE inline BACKTRAIL_ALWAYS_INLINE

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define BACKTRAIL_AVX512 1
#define BACKTRAIL_MM(name) _mm512_##name
#define BACKTRAIL_MM_ROUND(type, x, mode) _mm512_roundscale_##type(x, mode)
#elif defined(__AVX2__) && defined(__FMA__)
#define BACKTRAIL_AVX2 1
#define BACKTRAIL_MM(name) _mm256_##name
#define BACKTRAIL_MM_ROUND(type, x, mode) _mm256_round_##type(x, mode)
#elif defined(__SSE4_1__)
#define BACKTRAIL_MM(name) _mm_##name
#define BACKTRAIL_MM_ROUND(type, x, mode) _mm_round_##type(x, mode)
#elif defined(__aarch64__)
#define BACKTRAIL_NEON 1
#endif

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace native {

#if defined(BACKTRAIL_AVX512)
constexpr int kRegBytes = 64;
#elif defined(BACKTRAIL_AVX2)
constexpr int kRegBytes = 32;
#else
constexpr int kRegBytes = 16;
#endif

// True where fma() rounds once. Elsewhere it is a multiply and an add, and exact products need
// splitting.
#if defined(BACKTRAIL_AVX512) || defined(BACKTRAIL_AVX2) || defined(BACKTRAIL_NEON)
constexpr bool kHasFma = true;
#else
constexpr bool kHasFma = false;
#endif

template <class T, int Bytes = kRegBytes>
struct RegOf {
  typedef T type __attribute__((vector_size(Bytes)));
};
template <class T>
using Reg = typename RegOf<T>::type;
using F32 = Reg<float>;
using F64 = Reg<double>;
using I32 = Reg<int32_t>;
using I64 = Reg<int64_t>;

// Bits: the integer of the same size. Wrapping: the type to calculate in, so that integers may
// overflow.
template <class T>
struct Traits;
template <>
struct Traits<float> {
  using Bits = int32_t;
  using Wrapping = float;
};
template <>
struct Traits<double> {
  using Bits = int64_t;
  using Wrapping = double;
};
template <>
struct Traits<int32_t> {
  using Bits = int32_t;
  using Wrapping = uint32_t;
};
template <>
struct Traits<int64_t> {
  using Bits = int64_t;
  using Wrapping = uint64_t;
};

template <class T>
BACKTRAIL_INLINE Reg<T> splat(T x) {
  return x - Reg<T>{};
}  // x - 0 keeps -0

// Arithmetic that the vector extensions lack.
#if defined(BACKTRAIL_MM)
BACKTRAIL_INLINE F32 floor(F32 x) {
  return BACKTRAIL_MM_ROUND(ps, x, 9);
}  // 8: raise nothing; 1: down
BACKTRAIL_INLINE F64 floor(F64 x) { return BACKTRAIL_MM_ROUND(pd, x, 9); }
BACKTRAIL_INLINE F32 ceil(F32 x) { return BACKTRAIL_MM_ROUND(ps, x, 10); }
BACKTRAIL_INLINE F64 ceil(F64 x) { return BACKTRAIL_MM_ROUND(pd, x, 10); }
BACKTRAIL_INLINE F32 trunc(F32 x) { return BACKTRAIL_MM_ROUND(ps, x, 11); }
BACKTRAIL_INLINE F64 trunc(F64 x) { return BACKTRAIL_MM_ROUND(pd, x, 11); }
BACKTRAIL_INLINE F32 round(F32 x) { return BACKTRAIL_MM_ROUND(ps, x, 8); }
BACKTRAIL_INLINE F64 round(F64 x) { return BACKTRAIL_MM_ROUND(pd, x, 8); }
BACKTRAIL_INLINE F32 sqrt(F32 x) { return BACKTRAIL_MM(sqrt_ps)(x); }
BACKTRAIL_INLINE F64 sqrt(F64 x) { return BACKTRAIL_MM(sqrt_pd)(x); }
// a < b ? a : b in one instruction: b when either is NaN. Likewise above().
BACKTRAIL_INLINE F32 below(F32 a, F32 b) { return BACKTRAIL_MM(min_ps)(a, b); }
BACKTRAIL_INLINE F64 below(F64 a, F64 b) { return BACKTRAIL_MM(min_pd)(a, b); }
BACKTRAIL_INLINE F32 above(F32 a, F32 b) { return BACKTRAIL_MM(max_ps)(a, b); }
BACKTRAIL_INLINE F64 above(F64 a, F64 b) { return BACKTRAIL_MM(max_pd)(a, b); }
#elif defined(BACKTRAIL_NEON)
BACKTRAIL_INLINE F32 floor(F32 x) { return vrndmq_f32(x); }
BACKTRAIL_INLINE F64 floor(F64 x) { return vrndmq_f64(x); }
BACKTRAIL_INLINE F32 ceil(F32 x) { return vrndpq_f32(x); }
BACKTRAIL_INLINE F64 ceil(F64 x) { return vrndpq_f64(x); }
BACKTRAIL_INLINE F32 trunc(F32 x) { return vrndq_f32(x); }
BACKTRAIL_INLINE F64 trunc(F64 x) { return vrndq_f64(x); }
BACKTRAIL_INLINE F32 round(F32 x) { return vrndnq_f32(x); }
BACKTRAIL_INLINE F64 round(F64 x) { return vrndnq_f64(x); }
BACKTRAIL_INLINE F32 sqrt(F32 x) { return vsqrtq_f32(x); }
BACKTRAIL_INLINE F64 sqrt(F64 x) { return vsqrtq_f64(x); }
#else
template <class R, class F>
BACKTRAIL_INLINE R each_lane(R x, F f) {
  for (unsigned i = 0; i < sizeof(R) / sizeof(x[0]); ++i) x[i] = f(x[i]);
  return x;
}
template <class R>
BACKTRAIL_INLINE R floor(R x) {
  return each_lane(x, [](auto v) { return decltype(v)(__builtin_floor(v)); });
}
template <class R>
BACKTRAIL_INLINE R ceil(R x) {
  return each_lane(x, [](auto v) { return decltype(v)(__builtin_ceil(v)); });
}
template <class R>
BACKTRAIL_INLINE R trunc(R x) {
  return each_lane(x, [](auto v) { return decltype(v)(__builtin_trunc(v)); });
}
template <class R>
BACKTRAIL_INLINE R round(R x) {
  return each_lane(x, [](auto v) { return decltype(v)(__builtin_nearbyint(v)); });
}
BACKTRAIL_INLINE F32 sqrt(F32 x) {
  return each_lane(x, [](float v) { return __builtin_sqrtf(v); });
}
BACKTRAIL_INLINE F64 sqrt(F64 x) {
  return each_lane(x, [](double v) { return __builtin_sqrt(v); });
}
#endif
#if !defined(BACKTRAIL_MM)
template <class R>
BACKTRAIL_INLINE R below(R a, R b) {
  return a < b ? a : b;
}
template <class R>
BACKTRAIL_INLINE R above(R a, R b) {
  return a > b ? a : b;
}
#endif

#if defined(BACKTRAIL_AVX512) || defined(BACKTRAIL_AVX2)
BACKTRAIL_INLINE F32 fma(F32 a, F32 b, F32 c) { return BACKTRAIL_MM(fmadd_ps)(a, b, c); }
BACKTRAIL_INLINE F64 fma(F64 a, F64 b, F64 c) { return BACKTRAIL_MM(fmadd_pd)(a, b, c); }
#elif defined(BACKTRAIL_NEON)
BACKTRAIL_INLINE F32 fma(F32 a, F32 b, F32 c) { return vfmaq_f32(c, a, b); }
BACKTRAIL_INLINE F64 fma(F64 a, F64 b, F64 c) { return vfmaq_f64(c, a, b); }
#else
template <class R>
BACKTRAIL_INLINE R fma(R a, R b, R c) {
  return a * b + c;
}
#endif

// Non-temporal store; `p` is aligned to the register.
template <class R, class T>
BACKTRAIL_INLINE void stream(T* p, R x) {
#if defined(BACKTRAIL_AVX512)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)x);
#elif defined(BACKTRAIL_AVX2)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)x);
#elif defined(__SSE2__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)x);
#else
  __builtin_memcpy(p, &x, sizeof(x));
#endif
}

// Halves of a float register as doubles, and back.
#if defined(BACKTRAIL_AVX512)
BACKTRAIL_INLINE F64 widen_low(F32 x) { return _mm512_cvtps_pd(_mm512_castps512_ps256(x)); }
BACKTRAIL_INLINE F64 widen_high(F32 x) {
  return _mm512_cvtps_pd(_mm512_maskz_extractf32x8_ps(0xFF, x, 1));
}
BACKTRAIL_INLINE F32 narrow(F64 low, F64 high) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
}
#elif defined(BACKTRAIL_AVX2)
BACKTRAIL_INLINE F64 widen_low(F32 x) { return _mm256_cvtps_pd(_mm256_castps256_ps128(x)); }
BACKTRAIL_INLINE F64 widen_high(F32 x) { return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)); }
BACKTRAIL_INLINE F32 narrow(F64 low, F64 high) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low)), _mm256_cvtpd_ps(high),
                              1);
}
#elif defined(BACKTRAIL_NEON)
BACKTRAIL_INLINE F64 widen_low(F32 x) { return vcvt_f64_f32(vget_low_f32(x)); }
BACKTRAIL_INLINE F64 widen_high(F32 x) { return vcvt_high_f64_f32(x); }
BACKTRAIL_INLINE F32 narrow(F64 low, F64 high) {
  return vcvt_high_f32_f64(vcvt_f32_f64(low), high);
}
#elif defined(__SSE2__)
BACKTRAIL_INLINE F64 widen_low(F32 x) { return _mm_cvtps_pd(x); }
BACKTRAIL_INLINE F64 widen_high(F32 x) { return _mm_cvtps_pd(_mm_movehl_ps(x, x)); }
BACKTRAIL_INLINE F32 narrow(F64 low, F64 high) {
  return _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
}
#else
BACKTRAIL_INLINE F64 widen_low(F32 x) { return F64{x[0], x[1]}; }
BACKTRAIL_INLINE F64 widen_high(F32 x) { return F64{x[2], x[3]}; }
BACKTRAIL_INLINE F32 narrow(F64 low, F64 high) {
  return F32{float(low[0]), float(low[1]), float(high[0]), float(high[1])};
}
#endif

// Folds a register down to one scalar: lane i with lane i + half, until one is left.
template <class T, int Bytes, class Op>
BACKTRAIL_INLINE T fold(typename RegOf<T, Bytes>::type x, Op op) {
  if constexpr (Bytes > 16) {
    using Half = typename RegOf<T, Bytes / 2>::type;
    Half half[2];
    __builtin_memcpy(half, &x, Bytes);
    return fold<T, Bytes / 2>(op(half[0], half[1]), op);
  } else if constexpr (sizeof(T) == 8) {
    return op(x[0], x[1]);
  } else {
    return op(op(x[0], x[2]), op(x[1], x[3]));
  }
}

// One mask register for the lanes of Reg<T>: bits on AVX-512, elsewhere lanes of all ones or all
// zeros.
enum class Compare { lt, le, gt, ge, eq, ne };

#if defined(BACKTRAIL_AVX512)
template <int Lanes>
struct MaskReg;
template <>
struct MaskReg<16> {
  using type = __mmask16;
};
template <>
struct MaskReg<8> {
  using type = __mmask8;
};
constexpr int float_predicate(Compare c) {
  return c == Compare::lt   ? _CMP_LT_OQ
         : c == Compare::le ? _CMP_LE_OQ
         : c == Compare::gt ? _CMP_GT_OQ
         : c == Compare::ge ? _CMP_GE_OQ
         : c == Compare::eq ? _CMP_EQ_OQ
                            : _CMP_NEQ_UQ;
}
constexpr int int_predicate(Compare c) {
  return c == Compare::lt   ? _MM_CMPINT_LT
         : c == Compare::le ? _MM_CMPINT_LE
         : c == Compare::gt ? _MM_CMPINT_NLE
         : c == Compare::ge ? _MM_CMPINT_NLT
         : c == Compare::eq ? _MM_CMPINT_EQ
                            : _MM_CMPINT_NE;
}
template <Compare C>
BACKTRAIL_INLINE __mmask16 compare(F32 a, F32 b) {
  constexpr int kPredicate = float_predicate(C);
  return _mm512_cmp_ps_mask(a, b, kPredicate);
}
template <Compare C>
BACKTRAIL_INLINE __mmask8 compare(F64 a, F64 b) {
  constexpr int kPredicate = float_predicate(C);
  return _mm512_cmp_pd_mask(a, b, kPredicate);
}
template <Compare C>
BACKTRAIL_INLINE __mmask16 compare(I32 a, I32 b) {
  constexpr int kPredicate = int_predicate(C);
  return _mm512_cmp_epi32_mask((__m512i)a, (__m512i)b, kPredicate);
}
template <Compare C>
BACKTRAIL_INLINE __mmask8 compare(I64 a, I64 b) {
  constexpr int kPredicate = int_predicate(C);
  return _mm512_cmp_epi64_mask((__m512i)a, (__m512i)b, kPredicate);
}
BACKTRAIL_INLINE F32 select(__mmask16 m, F32 a, F32 b) { return _mm512_mask_blend_ps(m, b, a); }
BACKTRAIL_INLINE F64 select(__mmask8 m, F64 a, F64 b) { return _mm512_mask_blend_pd(m, b, a); }
BACKTRAIL_INLINE I32 select(__mmask16 m, I32 a, I32 b) {
  return (I32)_mm512_mask_blend_epi32(m, (__m512i)b, (__m512i)a);
}
BACKTRAIL_INLINE I64 select(__mmask8 m, I64 a, I64 b) {
  return (I64)_mm512_mask_blend_epi64(m, (__m512i)b, (__m512i)a);
}
#else
template <int Lanes>
struct MaskReg;
template <>
struct MaskReg<16> {
  using Lane = int32_t;
  using type = I32;
};
template <>
struct MaskReg<8> {
  using Lane = int64_t;
  using type = I64;
};
template <Compare C, class R>
BACKTRAIL_INLINE auto compare(R a, R b) {
  if constexpr (C == Compare::lt) return a < b;
  if constexpr (C == Compare::le) return a <= b;
  if constexpr (C == Compare::gt) return a > b;
  if constexpr (C == Compare::ge) return a >= b;
  if constexpr (C == Compare::eq) return a == b;
  if constexpr (C == Compare::ne) return a != b;
}
template <class M, class R>
BACKTRAIL_INLINE R select(M m, R a, R b) {
  return m ? a : b;
}
BACKTRAIL_INLINE bool any(I32 m) {
#if defined(BACKTRAIL_AVX2)
  return _mm256_movemask_epi8((__m256i)m) != 0;
#elif defined(__SSE2__)
  return _mm_movemask_epi8((__m128i)m) != 0;
#elif defined(BACKTRAIL_NEON)
  return vmaxvq_u32((uint32x4_t)m) != 0;
#else
  return (m[0] | m[1] | m[2] | m[3]) != 0;
#endif
}
#endif

// Whole masks to and from one byte a lane, 0 or 1, for `Lanes` lanes in m[0], m[1], ...
#if defined(BACKTRAIL_AVX512)
template <int Lanes>
BACKTRAIL_INLINE void load_bools(const bool* p, typename MaskReg<Lanes>::type* m) {
  __m128i bytes = _mm_setzero_si128();
  __builtin_memcpy(&bytes, p, Lanes);
  m[0] = typename MaskReg<Lanes>::type(_mm_test_epi8_mask(bytes, bytes));
}
template <int Lanes>
BACKTRAIL_INLINE void store_bools(bool* p, const typename MaskReg<Lanes>::type* m) {
  __m128i bytes = _mm_maskz_set1_epi8(m[0], 1);
  __builtin_memcpy(p, &bytes, Lanes);
}
#elif defined(BACKTRAIL_AVX2)
template <int Lanes>
BACKTRAIL_INLINE void load_bools(const bool* p, typename MaskReg<Lanes>::type* m) {
  for (int i = 0; i < 2; ++i) {
    if constexpr (Lanes == 16) {
      m[i] = -(I32)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)(p + 8 * i)));
    } else {
      m[i] = -(I64)_mm256_cvtepu8_epi64(_mm_loadu_si32(p + 4 * i));
    }
  }
}
template <int Lanes>
BACKTRAIL_INLINE void store_bools(bool* p, const typename MaskReg<Lanes>::type* m) {
  __m256i x = _mm256_permute4x64_epi64(_mm256_packs_epi32((__m256i)m[0], (__m256i)m[1]), 0xD8);
  __m128i low = _mm256_castsi256_si128(x), high = _mm256_extracti128_si256(x, 1);
  if constexpr (Lanes == 8) low = high = _mm_packs_epi32(low, high);
  __m128i bytes = _mm_and_si128(_mm_packs_epi16(low, high), _mm_set1_epi8(1));
  __builtin_memcpy(p, &bytes, Lanes);
}
#elif defined(__SSE4_1__)
template <int Lanes>
BACKTRAIL_INLINE void load_bools(const bool* p, typename MaskReg<Lanes>::type* m) {
  for (int i = 0; i < 4; ++i) {
    if constexpr (Lanes == 16) {
      m[i] = -(I32)_mm_cvtepu8_epi32(_mm_loadu_si32(p + 4 * i));
    } else {
      m[i] = -(I64)_mm_cvtepu8_epi64(_mm_loadu_si16(p + 2 * i));
    }
  }
}
template <int Lanes>
BACKTRAIL_INLINE void store_bools(bool* p, const typename MaskReg<Lanes>::type* m) {
  __m128i low = _mm_packs_epi32((__m128i)m[0], (__m128i)m[1]);
  __m128i high = _mm_packs_epi32((__m128i)m[2], (__m128i)m[3]);
  if constexpr (Lanes == 8) low = high = _mm_packs_epi32(low, high);
  __m128i bytes = _mm_and_si128(_mm_packs_epi16(low, high), _mm_set1_epi8(1));
  __builtin_memcpy(p, &bytes, Lanes);
}
#else
template <int Lanes>
BACKTRAIL_INLINE void load_bools(const bool* p, typename MaskReg<Lanes>::type* m) {
  for (int i = 0; i < Lanes; ++i) m[i / (Lanes / 4)][i % (Lanes / 4)] = -int(p[i]);
}
template <int Lanes>
BACKTRAIL_INLINE void store_bools(bool* p, const typename MaskReg<Lanes>::type* m) {
  for (int i = 0; i < Lanes; ++i) p[i] = m[i / (Lanes / 4)][i % (Lanes / 4)] != 0;
}
#endif

// A register's worth of 16-bit integers: zero-extended on load, the low halves stored. The values
// stored fit in a signed 16-bit integer.
BACKTRAIL_INLINE I32 load_u16(const uint16_t* p) {
#if defined(BACKTRAIL_AVX512)
  return (I32)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
#elif defined(BACKTRAIL_AVX2)
  return (I32)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
#elif defined(__SSE4_1__)
  return (I32)_mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i*)p));
#elif defined(BACKTRAIL_NEON)
  return (I32)vmovl_u16(vld1_u16(p));
#else
  return I32{p[0], p[1], p[2], p[3]};
#endif
}
BACKTRAIL_INLINE void store_u16(uint16_t* p, I32 x) {
#if defined(BACKTRAIL_AVX512)
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16((__m512i)x));
#elif defined(BACKTRAIL_AVX2)
  __m128i low = _mm256_castsi256_si128((__m256i)x), high = _mm256_extracti128_si256((__m256i)x, 1);
  _mm_storeu_si128((__m128i*)p, _mm_packs_epi32(low, high));
#elif defined(__SSE2__)
  _mm_storel_epi64((__m128i*)p, _mm_packs_epi32((__m128i)x, (__m128i)x));
#elif defined(BACKTRAIL_NEON)
  vst1_u16(p, vmovn_u32((uint32x4_t)x));
#else
  for (int i = 0; i < 4; ++i) p[i] = uint16_t(x[i]);
#endif
}

}  // namespace native
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail

#undef BACKTRAIL_MM
#undef BACKTRAIL_MM_ROUND
