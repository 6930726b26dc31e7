// Random numbers by Philox4x32-10, from J. K. Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011: a counter is enciphered, so any element can be made by itself.
//
// A block is the four 32-bit words of one counter. Element i of a tensor comes from counter
// offset + b with b <= i: a call uses no counter from offset + numel on. Sixteen counters give four
// vectors of draws: with n = 16 lanes of 32 bits, or n = 8 lanes of 64 bits, element
// i = 4 n g + n v + l is lane l of vector v of group g, whose counters begin at offset + 16 g.
#include "backtrail/simd.h"
#include "backtrail/vmath.h"
#include "kernels/numeric_table.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace {

using I32 = Vec<int32_t>;
using I64 = Vec<int64_t>;

// Products of the lower halves of each lane, as unsigned integers.
BACKTRAIL_INLINE I64 multiply_low(I64 a, I64 b) {
  I64 y;
  for (int i = 0; i < kRegs; ++i) {
#if defined(BACKTRAIL_AVX512)
    y.r[i] = (native::I64)_mm512_mul_epu32((__m512i)a.r[i], (__m512i)b.r[i]);
#elif defined(BACKTRAIL_AVX2)
    y.r[i] = (native::I64)_mm256_mul_epu32((__m256i)a.r[i], (__m256i)b.r[i]);
#elif defined(__SSE2__)
    y.r[i] = (native::I64)_mm_mul_epu32((__m128i)a.r[i], (__m128i)b.r[i]);
#elif defined(BACKTRAIL_NEON)
    y.r[i] = (native::I64)vmull_u32(vmovn_u64((uint64x2_t)a.r[i]), vmovn_u64((uint64x2_t)b.r[i]));
#else
    using U64 = native::Reg<uint64_t>;
    y.r[i] = (native::I64)(((U64)a.r[i] & 0xFFFFFFFF) * ((U64)b.r[i] & 0xFFFFFFFF));
#endif
  }
  return y;
}

// A stream, with the keys of its ten rounds ready.
struct Cipher {
  uint64_t offset;
  I64 keys[10][2];

  explicit Cipher(RandomStream s) : offset(s.offset) {
    uint32_t k0 = uint32_t(s.seed), k1 = uint32_t(s.seed >> 32);
    for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
      keys[round][0] = I64(int64_t(k0)), keys[round][1] = I64(int64_t(k1));
  }
};

// Eight blocks: word w of counter j is the lower half of lane j of word[w].
struct Blocks {
  I64 word[4];

  BACKTRAIL_INLINE Blocks(I64 counters, const Cipher& cipher) {
    I64 c0 = counters, c1 = counters >> 32, c2(0), c3(0);
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
      I64 p0 = multiply_low(c0, I64(int64_t(0xD2511F53)));
      I64 p1 = multiply_low(c2, I64(int64_t(0xCD9E8D57)));
      c0 = (p1 >> 32) ^ c1 ^ cipher.keys[round][0];  // upper halves are of no account
      c1 = p1;
      c2 = (p0 >> 32) ^ c3 ^ cipher.keys[round][1];
      c3 = p0;
    }
    word[0] = c0, word[1] = c1, word[2] = c2, word[3] = c3;
  }
};

BACKTRAIL_INLINE I64 join_halves(I64 low, I64 high) {
  return (low & I64(int64_t(0xFFFFFFFF))) | (high << 32);
}

// Four vectors of raw draws: 32 bits for a float, 64 for a double.
template <class T>
struct Draws;
template <>
struct Draws<float> {
  I32 bits[4];
  BACKTRAIL_INLINE Draws(const Cipher& s, int64_t group) {
    I64 even = I64(int64_t(s.offset + uint64_t(group) * 16)) + (I64::iota() << 1);
    Blocks a(even, s), b(even + I64(1), s);
    for (int w = 0; w < 4; ++w) {
      I64 joined = join_halves(a.word[w], b.word[w]);
      for (int i = 0; i < kRegs; ++i) bits[w].r[i] = (I32::Reg)joined.r[i];
    }
  }
  // Multiples of 2^-24 in [0, 1).
  BACKTRAIL_INLINE Vec<float> uniform(int v) const {
    return convert<float>((bits[v] >> 8) & I32(0xFFFFFF)) * Vec<float>(0x1p-24);
  }
  // In (0, 1], never 0.
  BACKTRAIL_INLINE Vec<float> positive(int v) const { return uniform(v) + Vec<float>(0x1p-25); }
};
template <>
struct Draws<double> {
  I64 bits[4];
  BACKTRAIL_INLINE Draws(const Cipher& s, int64_t group) {
    I64 low = I64(int64_t(s.offset + uint64_t(group) * 16)) + I64::iota();
    Blocks a(low, s), b(low + I64(8), s);
    bits[0] = join_halves(a.word[0], a.word[1]), bits[1] = join_halves(b.word[0], b.word[1]);
    bits[2] = join_halves(a.word[2], a.word[3]), bits[3] = join_halves(b.word[2], b.word[3]);
  }
  // Multiples of 2^-53 in [0, 1): the upper 21 and lower 32 bits are put into the fractions of
  // doubles, and joined exactly.
  BACKTRAIL_INLINE Vec<double> uniform(int v) const {
    I64 x = (bits[v] >> 11) & I64((int64_t(1) << 53) - 1);
    I64 high = (x >> 32) | I64(0x4530000000000000), low = join_halves(x, I64(0x43300000));
    return ((high.bits_as<double>() - Vec<double>(0x1p84 + 0x1p52)) + low.bits_as<double>()) *
           Vec<double>(0x1p-53);
  }
  BACKTRAIL_INLINE Vec<double> positive(int v) const { return uniform(v) + Vec<double>(0x1p-54); }
};

// f(draws, at, n): for every group of 4 vectors, of which the first n elements, at out[at], are
// wanted.
template <class T, class F>
BACKTRAIL_INLINE void each_group(int64_t first, int64_t n, RandomStream s, F f) {
  constexpr int64_t kGroup = 4 * Vec<T>::lanes;
  const Cipher cipher(s);
  for (int64_t i = 0; i < n; i += kGroup)
    f(Draws<T>(cipher, (first + i) / kGroup), i, n - i < kGroup ? n - i : kGroup);
}

// The first n of a group's elements.
template <class T>
BACKTRAIL_INLINE void store_group(T* out, const Vec<T>* v, int64_t n) {
  constexpr int64_t L = Vec<T>::lanes;
  if (n == 4 * L) {
    for (int k = 0; k < 4; ++k) v[k].store(out + k * L);
  } else {
    for (int k = 0; k < 4 && n > 0; ++k, n -= L)
      n >= L ? v[k].store(out + k * L) : v[k].store(out + k * L, n);
  }
}
template <class T>
BACKTRAIL_INLINE Vec<T> load_part(const T* p, int k, int64_t n) {
  constexpr int64_t L = Vec<T>::lanes;
  int64_t left = n - k * L;
  return left >= L ? Vec<T>::load(p + k * L) : left > 0 ? Vec<T>::load(p + k * L, left) : Vec<T>(0);
}

template <class T>
void uniform(T* out, int64_t first, int64_t n, RandomStream s, double low, double high) {
  using V = Vec<T>;
  V a(low), b(high), width(T(high) - T(low));
  each_group<T>(first, n, s, [&](const Draws<T>& d, int64_t at, int64_t count) {
    V y[4];
    for (int k = 0; k < 4; ++k) {
      V x = d.uniform(k) * width + a;
      y[k] = select(x < b, x, a);  // rounding may reach `high`, which is not in the interval
    }
    store_group(out + at, y, count);
  });
}

// sin and cos of x turns, 0 <= x < 1: the nearest quarter turn is taken off, exactly, and the
// Taylor series of the rest, at most pi / 4, is cut below the rounding error.
template <class T>
BACKTRAIL_INLINE void sincos_turns(Vec<T> x, Vec<T>& sine, Vec<T>& cosine) {
  using V = Vec<T>;
  constexpr int kTerms = sizeof(T) == 4 ? 5 : 9;
  V quarter = round(x * V(4));
  V r = (x - quarter * V(0.25)) * V(6.283185307179586477), r2 = r * r;
  V s(0), c(0);
#pragma GCC unroll 9
  for (int k = kTerms; k > 0; --k) {
    // s = sum of (-1)^k r^2k / (2k+1)!, c = sum of (-1)^k r^2k / (2k)!, each from the inside out
    s = (s + V(1)) * (r2 * V(-1.0 / (2 * k * (2 * k + 1))));
    c = (c + V(1)) * (r2 * V(-1.0 / (2 * k * (2 * k - 1))));
  }
  s = fma(s, r, r), c = c + V(1);
  auto swap = (quarter == V(1)) | (quarter == V(3));
  V a = select(swap, c, s), b = select(swap, s, c);
  sine = select((quarter == V(2)) | (quarter == V(3)), -a, a);
  cosine = select((quarter == V(1)) | (quarter == V(2)), -b, b);
}

// G. E. P. Box and M. E. Muller, 1958: two normal deviates of radius sqrt(-2 log u) and angle v.
template <class T>
void normal(T* out, int64_t first, int64_t n, RandomStream s, double mean, double std) {
  using V = Vec<T>;
  V mu(mean), sigma(std);
  each_group<T>(first, n, s, [&](const Draws<T>& d, int64_t at, int64_t count) {
    V y[4];
    for (int k = 0; k < 4; k += 2) {
      V sine, cosine, radius = sqrt(V(-2) * log(d.positive(k))) * sigma;
      sincos_turns(d.uniform(k + 1), sine, cosine);
      y[k] = fma(radius, cosine, mu);
      y[k + 1] = fma(radius, sine, mu);
    }
    store_group(out + at, y, count);
  });
}

template <class T>
void exponential(T* out, int64_t first, int64_t n, RandomStream s) {
  using V = Vec<T>;
  each_group<T>(first, n, s, [&](const Draws<T>& d, int64_t at, int64_t count) {
    V y[4];
    for (int k = 0; k < 4; ++k) y[k] = -log(d.positive(k));
    store_group(out + at, y, count);
  });
}

template <class T>
void bernoulli(T* out, const T* p, int64_t first, int64_t n, RandomStream s) {
  using V = Vec<T>;
  each_group<T>(first, n, s, [&](const Draws<T>& d, int64_t at, int64_t count) {
    V y[4];
    for (int k = 0; k < 4; ++k) y[k] = V(d.uniform(k) < load_part(p + at, k, count));
    store_group(out + at, y, count);
  });
}

template <class T>
void dropout(T* out, const T* x, int64_t first, int64_t n, RandomStream s, double p) {
  using V = Vec<T>;
  V rate(p), scale(p < 1 ? 1 / (1 - p) : 0), none(0);
  each_group<T>(first, n, s, [&](const Draws<T>& d, int64_t at, int64_t count) {
    V y[4];
    for (int k = 0; k < 4; ++k)
      y[k] = load_part(x + at, k, count) * select(d.uniform(k) < rate, none, scale);
    store_group(out + at, y, count);
  });
}

template <class T>
constexpr RandomTable<T> make_table() {
  return {uniform<T>, normal<T>, exponential<T>, bernoulli<T>, dropout<T>};
}

}  // namespace

void random_bits(uint64_t* out, int64_t first, int64_t n, RandomStream s) {
  each_group<double>(first, n, s, [&](const Draws<double>& d, int64_t at, int64_t count) {
    store_group(reinterpret_cast<int64_t*>(out) + at, d.bits, count);
  });
}

extern const RandomTable<float> random_f32;
extern const RandomTable<double> random_f64;
const RandomTable<float> random_f32 = make_table<float>();
const RandomTable<double> random_f64 = make_table<double>();

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
