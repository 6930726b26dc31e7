// Pooling for one instruction set. The usual windows by vectors along a row of outputs: 2 x 2 side
// by side, and for maxima any with a stride of 1 or 2.
#include "kernels/pool_table.h"

#include "kernels/interleave.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace {

// The larger of two in torch's order: a NaN counts as larger, the first of equals stays.
template <class V, class I>
BACKTRAIL_INLINE void keep_larger(V& best, I& place, V x, I at) {
  const auto larger = (x > best) | isnan(x);
  best = select(larger, x, best);
  place = select(larger, at, place);
}

void max_of_four(const PoolShape& s, const float* x, float* y, int32_t* where) {
  using V = Vec<float>;
  using I = Vec<int32_t>;
  const int64_t width = s.w.size;
  for (int64_t r = 0; r < s.h.out; ++r, y += s.w.out, where += s.w.out) {
    const float* row = x + 2 * r * width;
    for (int64_t j = 0; j < s.w.out; j += V::lanes) {
      const int64_t n = s.w.out - j, left = 2 * n;
      const V a = load_upto<V>(row + 2 * j, left);
      const V b = load_upto<V>(row + 2 * j + V::lanes, left - V::lanes);
      const V c = load_upto<V>(row + width + 2 * j, left);
      const V d = load_upto<V>(row + width + 2 * j + V::lanes, left - V::lanes);
      I at = I(int32_t(2 * r * width + 2 * j)) + I::iota() + I::iota(), place = at;
      V best = every_other<0>(a, b);
      keep_larger(best, place, every_other<1>(a, b), at + I(1));
      at += I(int32_t(width));
      keep_larger(best, place, every_other<0>(c, d), at);
      keep_larger(best, place, every_other<1>(c, d), at + I(1));
      store_upto(best, y + j, n);
      store_upto(place, where + j, n);
    }
  }
}

// Windows Stride apart, of any size: one tap after the other takes part in a whole row of outputs.
template <int Stride>
void max_by_taps(const PoolShape& s, const float* x, float* y, int32_t* where) {
  using V = Vec<float>;
  using I = Vec<int32_t>;
  const PoolAxis& w = s.w;
  const I steps = Stride == 2 ? I::iota() + I::iota() : I::iota();
  for (int64_t r = 0; r < s.h.out; ++r, y += w.out, where += w.out) {
    const int64_t top = s.h.begin(r), bottom = s.h.end(r);
    for (int64_t c = 0; c < w.out; ++c) {
      y[c] = -__builtin_inff();
      where[c] = top < bottom && w.begin(c) < w.end(c) ? int32_t(top * w.size + w.begin(c)) : -1;
    }
    for (int64_t i = top; i < bottom; i += s.h.dilation)
      for (int64_t tap = 0; tap < w.kernel; ++tap) {
        const int64_t col = tap * w.dilation - w.padding;  // that output 0 sees
        const int64_t begin = col < 0 ? (-col + Stride - 1) / Stride : 0;
        int64_t end = w.size > col ? (w.size - col + Stride - 1) / Stride : 0;
        if (end > w.out) end = w.out;
        for (int64_t c = begin; c < end; c += V::lanes) {
          const int64_t n = end - c, at = i * w.size + col + c * Stride;
          V seen;
          if constexpr (Stride == 1) {
            seen = load_upto<V>(x + at, n);
          } else {
            const V a = load_upto<V>(x + at, 2 * n - 1);
            seen = every_other<0>(a, load_upto<V>(x + at + V::lanes, 2 * n - 1 - V::lanes));
          }
          V best = load_upto<V>(y + c, n);
          I place = load_upto<I>(where + c, n);
          keep_larger(best, place, seen, I(int32_t(at)) + steps);
          store_upto(best, y + c, n);
          store_upto(place, where + c, n);
        }
      }
  }
}

template <class T>
void max(const PoolShape& s, const T* x, T* y, int32_t* where) {
  if constexpr (sizeof(T) == 4) {
    if (s.h.halves() && s.w.halves()) return max_of_four(s, x, y, where);
    if (s.w.kernel && s.w.stride == 1) return max_by_taps<1>(s, x, y, where);
    if (s.w.kernel && s.w.stride == 2) return max_by_taps<2>(s, x, y, where);
  }
  for (int64_t r = 0; r < s.h.out; ++r) {
    const int64_t top = s.h.begin(r), bottom = s.h.end(r);
    for (int64_t c = 0; c < s.w.out; ++c) {
      const int64_t left = s.w.begin(c), right = s.w.end(c);
      const bool empty = top >= bottom || left >= right;
      T best = -T(__builtin_inf());
      int64_t place = empty ? -1 : top * s.w.size + left;
      for (int64_t i = top; i < bottom; i += s.h.dilation)
        for (int64_t j = left; j < right; j += s.w.dilation) {
          const int64_t at = i * s.w.size + j;
          const bool larger = x[at] > best || x[at] != x[at];
          best = larger ? x[at] : best;
          place = larger ? at : place;
        }
      *y++ = best;
      *where++ = int32_t(place);
    }
  }
}

template <class T>
void zero(T* x, int64_t n) {
  __builtin_memset(x, 0, size_t(n) * sizeof(T));
}

void max_of_four_backward(const PoolShape& s, const float* g, const int32_t* where, float* dx) {
  using V = Vec<float>;
  using I = Vec<int32_t>;
  const int64_t width = s.w.size;
  for (int64_t r = 0; r < s.h.out; ++r, g += s.w.out, where += s.w.out) {
    float* row = dx + 2 * r * width;
    for (int64_t j = 0; j < s.w.out; j += V::lanes) {
      const int64_t n = s.w.out - j, left = 2 * n;
      const V grad = load_upto<V>(g + j, n);
      const I place = load_upto<I>(where + j, n);
      I at = I(int32_t(2 * r * width + 2 * j)) + I::iota() + I::iota();
      V first, second;
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i, at += I(int32_t(width))) {
        float* to = row + i * width + 2 * j;
        alternate(select(place == at, grad, V(0)), select(place == at + I(1), grad, V(0)), first,
                  second);
        store_upto(first, to, left);
        store_upto(second, to + V::lanes, left - V::lanes);
      }
    }
    if (width > 2 * s.w.out) {
      zero(row + 2 * s.w.out, width - 2 * s.w.out);
      zero(row + width + 2 * s.w.out, width - 2 * s.w.out);
    }
  }
  zero(dx + 2 * s.h.out * width, (s.h.size - 2 * s.h.out) * width);
}

template <class T>
void max_backward(const PoolShape& s, const T* g, const int32_t* where, T* dx) {
  if constexpr (sizeof(T) == 4)
    if (s.h.halves() && s.w.halves()) return max_of_four_backward(s, g, where, dx);
  zero(dx, s.in());
  for (int64_t i = 0; i < s.out(); ++i)
    if (where[i] >= 0) dx[where[i]] += g[i];
}

template <class T>
T divisor(const PoolShape& s, int64_t r, int64_t c) {
  if (s.divisor) return T(s.divisor);
  if (s.count_padding) return T(s.h.length(r) * s.w.length(c));
  return T((s.h.end(r) - s.h.begin(r)) * (s.w.end(c) - s.w.begin(c)));
}

template <class T>
void mean(const PoolShape& s, const T* x, T* y) {
  for (int64_t r = 0; r < s.h.out; ++r) {
    const int64_t top = s.h.begin(r), bottom = s.h.end(r);
    for (int64_t c = 0; c < s.w.out; ++c) {
      const int64_t left = s.w.begin(c), right = s.w.end(c);
      T sum = 0;
      for (int64_t i = top; i < bottom; ++i)
        for (int64_t j = left; j < right; ++j) sum += x[i * s.w.size + j];
      *y++ = sum / divisor<T>(s, r, c);
    }
  }
}

template <class T>
void mean_backward(const PoolShape& s, const T* g, T* dx) {
  zero(dx, s.in());
  for (int64_t r = 0; r < s.h.out; ++r) {
    const int64_t top = s.h.begin(r), bottom = s.h.end(r);
    for (int64_t c = 0; c < s.w.out; ++c) {
      const int64_t left = s.w.begin(c), right = s.w.end(c);
      const T share = *g++ / divisor<T>(s, r, c);
      for (int64_t i = top; i < bottom; ++i)
        for (int64_t j = left; j < right; ++j) dx[i * s.w.size + j] += share;
    }
  }
}

}  // namespace

extern const PoolTable<float> pool_f32;
extern const PoolTable<double> pool_f64;
const PoolTable<float> pool_f32 = {max<float>, max_backward<float>, mean<float>,
                                   mean_backward<float>};
const PoolTable<double> pool_f64 = {max<double>, max_backward<double>, mean<double>,
                                    mean_backward<double>};

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
