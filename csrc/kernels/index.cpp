// The IndexTables of one instruction set.
#include "kernels/index_table.h"

#include "backtrail/simd.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace {

template <class T>
struct Lane {  // an integer of the size of T
  using type = int32_t;
};
template <>
struct Lane<double> {
  using type = int64_t;
};

#if defined(BACKTRAIL_AVX512)
// A permutation of a row for the indices of one: those of `low` lanes, and for elements of 4 bytes
// those of `high` ones.
template <class T>
bool gather(T* to, const T* from, int64_t from_step, int64_t size, const int64_t* index,
            int64_t rows, int64_t n) {
  using V = Vec<T>;
  const __mmask8 low = __mmask8(_bzhi_u32(0xFF, unsigned(n)));
  const __mmask8 high = __mmask8(n > 8 ? _bzhi_u32(0xFF, unsigned(n - 8)) : 0);
  const __m512i limit = _mm512_set1_epi64(size);
  unsigned wrong = 0;
  for (; rows > 0; --rows, to += n, from += from_step, index += n) {
    __m512i at = _mm512_maskz_loadu_epi64(low, index);
    wrong |= _mm512_mask_cmpge_epu64_mask(low, at, limit);
    V row = V::load(from, size);
    if constexpr (sizeof(T) == 8) {
      row.r[0] = (typename V::Reg)_mm512_permutexvar_epi64(at, (__m512i)row.r[0]);
    } else {
      __m512i lanes = _mm512_zextsi256_si512(_mm512_cvtepi64_epi32(at));
      if (high) {
        at = _mm512_maskz_loadu_epi64(high, index + 8);
        wrong |= _mm512_mask_cmpge_epu64_mask(high, at, limit);
        lanes = _mm512_inserti64x4(lanes, _mm512_cvtepi64_epi32(at), 1);
      }
      row.r[0] = (typename V::Reg)_mm512_permutexvar_epi32(lanes, (__m512i)row.r[0]);
    }
    row.store(to, n);
  }
  return !wrong;
}
#else
template <class T>
bool gather(T* to, const T* from, int64_t from_step, int64_t size, const int64_t* index,
            int64_t rows, int64_t n) {
  bool wrong = false;
  for (; rows > 0; --rows, to += n, from += from_step, index += n)
    for (int64_t j = 0; j < n; ++j) {
      const bool in_range = uint64_t(index[j]) < uint64_t(size);
      wrong |= !in_range;
      to[j] = from[in_range ? index[j] : 0];
    }
  return !wrong;
}
#endif

template <class T>
bool scatter_add(T* to, const T* from, int64_t size, const int64_t* index, const T* src,
                 int64_t src_step, int64_t rows, int64_t n) {
  using V = Vec<T>;
  using Lanes = Vec<typename Lane<T>::type>;
  const Lanes iota = Lanes::iota();
  bool wrong = false;
  for (; rows > 0; --rows, to += size, from += size, index += n, src += src_step) {
    V row = V::load(from, size);
    for (int64_t j = 0; j < n; ++j) {
      wrong |= uint64_t(index[j]) >= uint64_t(size);
      row = select(iota == Lanes(index[j]), row + V(src[j]), row);
    }
    row.store(to, size);
  }
  return !wrong;
}

// The bits of the op add.
template <class T>
void add_scaled(T* to, const T* src, int64_t n, T alpha) {
  using V = Vec<T>;
  const V factor(alpha);
  int64_t i = 0;
  for (; i + V::lanes <= n; i += V::lanes)
    (V::load(to + i) + factor * V::load(src + i)).store(to + i);
  if (const int64_t rest = n - i; rest > 0)
    (V::load(to + i, rest) + factor * V::load(src + i, rest)).store(to + i, rest);
}

}  // namespace

extern const IndexTable<float> index_f32;
extern const IndexTable<double> index_f64;
const IndexTable<float> index_f32 = {gather<float>, scatter_add<float>, add_scaled<float>};
const IndexTable<double> index_f64 = {gather<double>, scatter_add<double>, add_scaled<double>};

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
