// Vec: 64 bytes of float, double or integer lanes on every instruction set; masks; partial loads
// and stores.
//
// A Vec is an array of native registers, and every operation a fully unrolled loop over it, so that
// a kernel written once keeps its values in registers everywhere: one zmm on AVX-512, two ymm on
// AVX2, four 16-byte registers on SSE and NEON. The number of lanes, and with it every reduction
// tree, is the same.
#pragma once

#include "backtrail/simd_native.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

constexpr int kRegs = 64 / native::kRegBytes;

// The statements for every register number i, written out: with constant indices the compiler takes
// a Vec apart into registers before it inlines anything, in half the time that loops would take it.
#define BACKTRAIL_REG(number, ...) \
  {                                \
    constexpr int i = number;      \
    __VA_ARGS__                    \
  }
#if defined(BACKTRAIL_AVX512)
#define BACKTRAIL_EACH_REG(...) \
  { BACKTRAIL_REG(0, __VA_ARGS__) }
#elif defined(BACKTRAIL_AVX2)
#define BACKTRAIL_EACH_REG(...) \
  { BACKTRAIL_REG(0, __VA_ARGS__) BACKTRAIL_REG(1, __VA_ARGS__) }
#else
#define BACKTRAIL_EACH_REG(...)                                 \
  {                                                             \
    BACKTRAIL_REG(0, __VA_ARGS__)                               \
    BACKTRAIL_REG(1, __VA_ARGS__)                               \
    BACKTRAIL_REG(2, __VA_ARGS__) BACKTRAIL_REG(3, __VA_ARGS__) \
  }
#endif

// One truth value for each of `Lanes` lanes (16 or 8), shared by all the Vecs that have so many.
template <int Lanes>
struct LaneMask {
  static constexpr int lanes = Lanes;
  using Reg = typename native::MaskReg<Lanes>::type;

  Reg r[kRegs];

  LaneMask() = default;
  BACKTRAIL_INLINE explicit LaneMask(bool x) { BACKTRAIL_EACH_REG(r[i] = x ? ~Reg{} : Reg{};) }

  // Lanes [0, n) are true.
  static BACKTRAIL_INLINE LaneMask first(int64_t n) {
    LaneMask m;
#if defined(BACKTRAIL_AVX512)
    m.r[0] = Reg(_bzhi_u32(0xFFFF, unsigned(n)));
#else
    BACKTRAIL_EACH_REG(
        m.r[i] = (Reg)(iota(i) < native::splat(typename native::MaskReg<Lanes>::Lane(n)));)
#endif
    return m;
  }

  // One byte a lane, as in an array of bool.
  static BACKTRAIL_INLINE LaneMask load(const bool* p) {
    LaneMask m;
    native::load_bools<Lanes>(p, m.r);
    return m;
  }
  BACKTRAIL_INLINE void store(bool* p) const { native::store_bools<Lanes>(p, r); }
  // The first n lanes, 0 < n < lanes; the others are false.
  static BACKTRAIL_INLINE LaneMask load(const bool* p, int64_t n) {
    bool all[Lanes] = {};
    for (int64_t i = 0; i < n; ++i) all[i] = p[i];
    return load(all);
  }
  BACKTRAIL_INLINE void store(bool* p, int64_t n) const {
    bool all[Lanes];
    store(all);
    for (int64_t i = 0; i < n; ++i) p[i] = all[i];
  }

  friend BACKTRAIL_INLINE LaneMask operator&(LaneMask a, LaneMask b) {
    BACKTRAIL_EACH_REG(a.r[i] &= b.r[i];)
    return a;
  }
  friend BACKTRAIL_INLINE LaneMask operator|(LaneMask a, LaneMask b) {
    BACKTRAIL_EACH_REG(a.r[i] |= b.r[i];)
    return a;
  }
  friend BACKTRAIL_INLINE LaneMask operator^(LaneMask a, LaneMask b) {
    BACKTRAIL_EACH_REG(a.r[i] ^= b.r[i];)
    return a;
  }
  friend BACKTRAIL_INLINE LaneMask operator!(LaneMask a) {
    BACKTRAIL_EACH_REG(a.r[i] = Reg(~a.r[i]);)
    return a;
  }
  friend BACKTRAIL_INLINE bool any(LaneMask m) {
#if defined(BACKTRAIL_AVX512)
    return m.r[0] != 0;
#else
    Reg some = m.r[0];
    BACKTRAIL_EACH_REG(some |= m.r[i];)
    return native::any((native::I32)some);
#endif
  }
  friend BACKTRAIL_INLINE bool all(LaneMask m) { return !any(!m); }

#if !defined(BACKTRAIL_AVX512)
  static constexpr int kLanesPerReg = Lanes / kRegs;
  static BACKTRAIL_INLINE Reg iota(int reg) {
    Reg x{};
    _Pragma("GCC unroll 8") for (int i = 0; i < kLanesPerReg; ++i) x[i] = reg * kLanesPerReg + i;
    return x;
  }
#endif
};

// T is float, double, int32_t or int64_t. Integers wrap on overflow.
template <class T>
struct Vec {
  static constexpr int lanes = 64 / sizeof(T);
  static constexpr int kLanesPerReg = lanes / kRegs;
  static constexpr bool is_integer = T(0.5) == T(0);
  using Scalar = T;
  using Mask = LaneMask<lanes>;
  using Reg = native::Reg<T>;
  using Wrapping = native::Reg<typename native::Traits<T>::Wrapping>;

  Reg r[kRegs];

  Vec() = default;  // uninitialised
  template <class S, class = decltype(T(S())), class = decltype(S() * 1.5)>
  BACKTRAIL_INLINE explicit Vec(S x) {
    BACKTRAIL_EACH_REG(r[i] = native::splat(T(x));)
  }
  // 1 where true, 0 elsewhere.
  BACKTRAIL_INLINE explicit Vec(Mask m) { *this = select(m, Vec(1), Vec(0)); }

  static BACKTRAIL_INLINE Vec iota() {
    Vec x;
    BACKTRAIL_EACH_REG(Reg lane{}; _Pragma("GCC unroll 16") for (int j = 0; j < kLanesPerReg; ++j)
                                       lane[j] = T(i * kLanesPerReg + j);
                       x.r[i] = lane;)
    return x;
  }

  static BACKTRAIL_INLINE Vec load(const T* p) {
    Vec x;
    BACKTRAIL_EACH_REG(__builtin_memcpy(&x.r[i], p + i * kLanesPerReg, sizeof(Reg));)
    return x;
  }
  BACKTRAIL_INLINE void store(T* p) const {
    BACKTRAIL_EACH_REG(__builtin_memcpy(p + i * kLanesPerReg, &r[i], sizeof(Reg));)
  }
  // Non-temporal; `p` is 64-byte aligned. A store fence must follow before other threads read.
  BACKTRAIL_INLINE void stream(T* p) const {
    BACKTRAIL_EACH_REG(native::stream(p + i * kLanesPerReg, r[i]);)
  }

  // The first n lanes, 0 < n < lanes; the others load as 0. Memory past them is not touched.
  static BACKTRAIL_INLINE Vec load(const T* p, int64_t n) {
#if defined(BACKTRAIL_AVX512)
    Vec x;
    if constexpr (sizeof(T) == 4) {
      x.r[0] = (Reg)_mm512_maskz_loadu_epi32(Mask::first(n).r[0], p);
    } else {
      x.r[0] = (Reg)_mm512_maskz_loadu_epi64(Mask::first(n).r[0], p);
    }
    return x;
#elif defined(BACKTRAIL_AVX2)
    Vec x;
    Mask m = Mask::first(n);
    BACKTRAIL_EACH_REG(
        const T* q = p + i * kLanesPerReg; if constexpr (sizeof(T) == 4) {
          x.r[i] = (Reg)_mm256_maskload_epi32((const int*)q, (__m256i)m.r[i]);
        } else { x.r[i] = (Reg)_mm256_maskload_epi64((const long long*)q, (__m256i)m.r[i]); })
    return x;
#else
    alignas(64) T all[lanes] = {};
    for (int64_t i = 0; i < n; ++i) all[i] = p[i];
    return load(all);
#endif
  }
  BACKTRAIL_INLINE void store(T* p, int64_t n) const {
#if defined(BACKTRAIL_AVX512)
    if constexpr (sizeof(T) == 4) {
      _mm512_mask_storeu_epi32(p, Mask::first(n).r[0], (__m512i)r[0]);
    } else {
      _mm512_mask_storeu_epi64(p, Mask::first(n).r[0], (__m512i)r[0]);
    }
#elif defined(BACKTRAIL_AVX2)
    Mask m = Mask::first(n);
    BACKTRAIL_EACH_REG(
        T* q = p + i * kLanesPerReg; if constexpr (sizeof(T) == 4) {
          _mm256_maskstore_epi32((int*)q, (__m256i)m.r[i], (__m256i)r[i]);
        } else { _mm256_maskstore_epi64((long long*)q, (__m256i)m.r[i], (__m256i)r[i]); })
#else
    alignas(64) T all[lanes];
    store(all);
    for (int64_t i = 0; i < n; ++i) p[i] = all[i];
#endif
  }

  // The same bits as lanes of U.
  template <class U>
  BACKTRAIL_INLINE Vec<U> bits_as() const {
    static_assert(sizeof(U) == sizeof(T), "bits_as: lanes must keep their size");
    Vec<U> x;
    BACKTRAIL_EACH_REG(x.r[i] = (typename Vec<U>::Reg)r[i];)
    return x;
  }

  friend BACKTRAIL_INLINE Vec operator+(Vec a, Vec b) {
    BACKTRAIL_EACH_REG(a.r[i] = (Reg)((Wrapping)a.r[i] + (Wrapping)b.r[i]);)
    return a;
  }
  friend BACKTRAIL_INLINE Vec operator-(Vec a, Vec b) {
    BACKTRAIL_EACH_REG(a.r[i] = (Reg)((Wrapping)a.r[i] - (Wrapping)b.r[i]);)
    return a;
  }
  friend BACKTRAIL_INLINE Vec operator*(Vec a, Vec b) {
    BACKTRAIL_EACH_REG(a.r[i] = (Reg)((Wrapping)a.r[i] * (Wrapping)b.r[i]);)
    return a;
  }
  friend BACKTRAIL_INLINE Vec operator-(Vec a) {
    BACKTRAIL_EACH_REG(a.r[i] = (Reg)(-(Wrapping)a.r[i]);)
    return a;
  }
  friend BACKTRAIL_INLINE Vec operator/(Vec a, Vec b) {
    static_assert(!is_integer, "Vec: integers divide by floor_div");
    BACKTRAIL_EACH_REG(a.r[i] /= b.r[i];)
    return a;
  }
  BACKTRAIL_INLINE Vec& operator+=(Vec b) { return *this = *this + b; }
  BACKTRAIL_INLINE Vec& operator-=(Vec b) { return *this = *this - b; }
  BACKTRAIL_INLINE Vec& operator*=(Vec b) { return *this = *this * b; }
  BACKTRAIL_INLINE Vec& operator/=(Vec b) { return *this = *this / b; }

  friend BACKTRAIL_INLINE Mask operator<(Vec a, Vec b) {
    return compare<native::Compare::lt>(a, b);
  }
  friend BACKTRAIL_INLINE Mask operator<=(Vec a, Vec b) {
    return compare<native::Compare::le>(a, b);
  }
  friend BACKTRAIL_INLINE Mask operator>(Vec a, Vec b) {
    return compare<native::Compare::gt>(a, b);
  }
  friend BACKTRAIL_INLINE Mask operator>=(Vec a, Vec b) {
    return compare<native::Compare::ge>(a, b);
  }
  friend BACKTRAIL_INLINE Mask operator==(Vec a, Vec b) {
    return compare<native::Compare::eq>(a, b);
  }
  friend BACKTRAIL_INLINE Mask operator!=(Vec a, Vec b) {
    return compare<native::Compare::ne>(a, b);
  }

  // a where m is true, b elsewhere.
  friend BACKTRAIL_INLINE Vec select(Mask m, Vec a, Vec b) {
    BACKTRAIL_EACH_REG(a.r[i] = native::select(m.r[i], a.r[i], b.r[i]);)
    return a;
  }

 private:
  template <native::Compare C>
  static BACKTRAIL_INLINE Mask compare(Vec a, Vec b) {
    Mask m;
    BACKTRAIL_EACH_REG(m.r[i] = (typename Mask::Reg)native::compare<C>(a.r[i], b.r[i]);)
    return m;
  }
};

#define BACKTRAIL_EACH_REG_OF(result, value) \
  Vec<T> result;                             \
  BACKTRAIL_EACH_REG(result.r[i] = value;)   \
  return result

// a < b ? a : b and a > b ? a : b, one instruction each: b when either is NaN. Not for integers.
template <class T>
BACKTRAIL_INLINE Vec<T> below(Vec<T> a, Vec<T> b) {
  BACKTRAIL_EACH_REG_OF(y, native::below(a.r[i], b.r[i]));
}
template <class T>
BACKTRAIL_INLINE Vec<T> above(Vec<T> a, Vec<T> b) {
  BACKTRAIL_EACH_REG_OF(y, native::above(a.r[i], b.r[i]));
}

// NaN when either is NaN, as torch.minimum and torch.maximum.
template <class T>
BACKTRAIL_INLINE Vec<T> min(Vec<T> a, Vec<T> b) {
  if constexpr (Vec<T>::is_integer) {
    return select(b < a, b, a);
  } else {
    return select(a != a, a, below(a, b));
  }
}
template <class T>
BACKTRAIL_INLINE Vec<T> max(Vec<T> a, Vec<T> b) {
  if constexpr (Vec<T>::is_integer) {
    return select(b > a, b, a);
  } else {
    return select(a != a, a, above(a, b));
  }
}

// Bitwise operations; on floats through bits_as().
template <class T>
BACKTRAIL_INLINE Vec<T> operator&(Vec<T> a, Vec<T> b) {
  BACKTRAIL_EACH_REG_OF(y, a.r[i] & b.r[i]);
}
template <class T>
BACKTRAIL_INLINE Vec<T> operator|(Vec<T> a, Vec<T> b) {
  BACKTRAIL_EACH_REG_OF(y, a.r[i] | b.r[i]);
}
template <class T>
BACKTRAIL_INLINE Vec<T> operator^(Vec<T> a, Vec<T> b) {
  BACKTRAIL_EACH_REG_OF(y, a.r[i] ^ b.r[i]);
}
template <class T>
BACKTRAIL_INLINE Vec<T> operator~(Vec<T> a) {
  BACKTRAIL_EACH_REG_OF(y, ~a.r[i]);
}
// By a constant count below the lane's width. >> copies the sign bit in.
template <class T>
BACKTRAIL_INLINE Vec<T> operator<<(Vec<T> a, int count) {
  BACKTRAIL_EACH_REG_OF(y, (native::Reg<T>)((typename Vec<T>::Wrapping)a.r[i] << count));
}
template <class T>
BACKTRAIL_INLINE Vec<T> operator>>(Vec<T> a, int count) {
  BACKTRAIL_EACH_REG_OF(y, a.r[i] >> count);
}
// >> that brings zeros in.
template <class T>
BACKTRAIL_INLINE Vec<T> shift_right_logical(Vec<T> a, int count) {
  BACKTRAIL_EACH_REG_OF(y, (native::Reg<T>)((typename Vec<T>::Wrapping)a.r[i] >> count));
}
// By lane. Counts outside [0, width) shift everything out: to 0, or to the sign.
template <class T>
BACKTRAIL_INLINE Vec<T> operator<<(Vec<T> a, Vec<T> count) {
  constexpr int kTop = 8 * sizeof(T) - 1;
  Vec<T> in = count & Vec<T>(kTop), y;
  BACKTRAIL_EACH_REG(y.r[i] = (native::Reg<T>)((typename Vec<T>::Wrapping)a.r[i]
                                               << (typename Vec<T>::Wrapping)in.r[i]);)
  return select(in == count, y, Vec<T>(0));
}
template <class T>
BACKTRAIL_INLINE Vec<T> operator>>(Vec<T> a, Vec<T> count) {
  constexpr int kTop = 8 * sizeof(T) - 1;
  Vec<T> in = count & Vec<T>(kTop);
  in = select(in == count, in, Vec<T>(kTop));
  BACKTRAIL_EACH_REG_OF(y, a.r[i] >> in.r[i]);
}

template <class T>
BACKTRAIL_INLINE Vec<T> abs(Vec<T> x) {
  if constexpr (Vec<T>::is_integer) {
    return select(x < Vec<T>(0), -x, x);
  } else {
    using I = typename native::Traits<T>::Bits;
    return (x.template bits_as<I>() & ~Vec<T>(-0.0).template bits_as<I>()).template bits_as<T>();
  }
}
template <class T>
BACKTRAIL_INLINE Vec<T> copysign(Vec<T> magnitude, Vec<T> sign) {
  using I = typename native::Traits<T>::Bits;
  Vec<I> top = Vec<T>(-0.0).template bits_as<I>();
  return ((magnitude.template bits_as<I>() & ~top) | (sign.template bits_as<I>() & top))
      .template bits_as<T>();
}
template <class T>
BACKTRAIL_INLINE auto isnan(Vec<T> x) {
  return x != x;
}
template <class T>
BACKTRAIL_INLINE auto isinf(Vec<T> x) {
  return abs(x) == Vec<T>(__builtin_inf());
}
template <class T>
BACKTRAIL_INLINE Vec<T> sqrt(Vec<T> x) {
  BACKTRAIL_EACH_REG_OF(y, native::sqrt(x.r[i]));
}
template <class T>
BACKTRAIL_INLINE Vec<T> floor(Vec<T> x) {
  BACKTRAIL_EACH_REG_OF(y, native::floor(x.r[i]));
}
template <class T>
BACKTRAIL_INLINE Vec<T> ceil(Vec<T> x) {
  BACKTRAIL_EACH_REG_OF(y, native::ceil(x.r[i]));
}
template <class T>
BACKTRAIL_INLINE Vec<T> trunc(Vec<T> x) {
  BACKTRAIL_EACH_REG_OF(y, native::trunc(x.r[i]));
}
// To the nearest integer, halves to the even one.
template <class T>
BACKTRAIL_INLINE Vec<T> round(Vec<T> x) {
  BACKTRAIL_EACH_REG_OF(y, native::round(x.r[i]));
}
// a * b + c, rounded once where native::kHasFma.
template <class T>
BACKTRAIL_INLINE Vec<T> fma(Vec<T> a, Vec<T> b, Vec<T> c) {
  BACKTRAIL_EACH_REG_OF(y, native::fma(a.r[i], b.r[i], c.r[i]));
}

// Reductions pair lane i with lane i + lanes / 2, then i + lanes / 4, ...: the same tree
// everywhere.
template <class T, class Op>
BACKTRAIL_INLINE T reduce(Vec<T> x, Op op) {
  _Pragma("GCC unroll 2") for (int half = kRegs / 2; half > 0; half /= 2) {
    _Pragma("GCC unroll 2") for (int i = 0; i < half; ++i) x.r[i] = op(x.r[i], x.r[i + half]);
  }
  return native::fold<T, native::kRegBytes>(x.r[0], op);
}
template <class T>
BACKTRAIL_INLINE T reduce_add(Vec<T> x) {
  return reduce(x, [](auto a, auto b) { return a + b; });
}
// NaN when any lane is NaN.
template <class T>
BACKTRAIL_INLINE T reduce_min(Vec<T> x) {
  T least = reduce(x, [](auto a, auto b) { return a < b ? a : b; });
  if constexpr (!Vec<T>::is_integer) least = any(isnan(x)) ? T(__builtin_nan("")) : least;
  return least;
}
template <class T>
BACKTRAIL_INLINE T reduce_max(Vec<T> x) {
  T greatest = reduce(x, [](auto a, auto b) { return a > b ? a : b; });
  if constexpr (!Vec<T>::is_integer) greatest = any(isnan(x)) ? T(__builtin_nan("")) : greatest;
  return greatest;
}

#undef BACKTRAIL_EACH_REG_OF

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail

#include "backtrail/simd_convert.h"
