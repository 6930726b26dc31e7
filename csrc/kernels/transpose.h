// Rows from columns, in registers.
#pragma once
#include <cstddef>
#include <utility>

#include "backtrail/simd.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

// Native registers for transposing, as rows of 16-byte quarters.
#if defined(__AVX__)
constexpr int kRegBytes = 32;
#else
constexpr int kRegBytes = 16;
#endif
template <class T>
struct Native {
  static constexpr int lanes = kRegBytes / sizeof(T), quarter = 16 / sizeof(T);
  typedef T Reg __attribute__((vector_size(kRegBytes)));
  typedef T Anywhere __attribute__((vector_size(kRegBytes), aligned(sizeof(T)), may_alias));
  using Index = std::make_index_sequence<lanes>;

  // Alternate elements of x and y, from the first (or second) half of every quarter.
  template <bool Second, size_t... I>
  static Reg interleave(Reg x, Reg y, std::index_sequence<I...>) {
    constexpr size_t q = quarter;
    return __builtin_shufflevector(
        x, y, (I / q * q + I % q / 2 + (Second ? q / 2 : 0) + I % 2 * lanes)...);
  }
  // The quarter at p; with the one at p + step behind it when a register holds two.
  static Reg load_quarters(const T* p, int64_t step) {
#if defined(__AVX__)
    const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + step));
    return (Reg)_mm256_insertf128_si256(_mm256_castsi128_si256(low), high, 1);
#else
    (void)step;
    return load(p);
#endif
  }
  static Reg splat(T x) { return x - Reg{}; }
  static Reg load(const T* p) { return *reinterpret_cast<const Anywhere*>(p); }
  static void store(T* p, Reg x) { *reinterpret_cast<Anywhere*>(p) = x; }
  static Reg fma(Reg x, Reg y, Reg z) {
#if !defined(__AVX__)
    return native::fma(x, y, z);
#else
    if constexpr (sizeof(T) == 4)
      return _mm256_fmadd_ps(x, y, z);
    else
      return _mm256_fmadd_pd(x, y, z);
#endif
  }
};

// rows[p][j] = b[p + j * cs] for `quarter` rows p and `lanes` columns j.
template <class T>
BACKTRAIL_INLINE void transpose(const T* b, int64_t cs, typename Native<T>::Reg* rows) {
  using N = Native<T>;
  constexpr int q = N::quarter;
  typename N::Reg x[q];
#pragma GCC unroll 4
  for (int i = 0; i < q; ++i) rows[i] = N::load_quarters(b + i * cs, q * cs);
#pragma GCC unroll 2
  for (int n = 1; n < q; n *= 2) {
#pragma GCC unroll 4
    for (int i = 0; i < q; ++i) x[i] = rows[i];
#pragma GCC unroll 4
    for (int i = 0; i < q / 2; ++i) {
      rows[2 * i] = N::template interleave<false>(x[i], x[i + q / 2], typename N::Index());
      rows[2 * i + 1] = N::template interleave<true>(x[i], x[i + q / 2], typename N::Index());
    }
  }
}

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
