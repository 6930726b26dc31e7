// The CopyTable of one instruction set.
#include "kernels/copy_table.h"

#include "backtrail/simd.h"
#include "kernels/transpose.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace {

template <size_t size>
struct Real {
  using type = float;
};
template <>
struct Real<8> {
  using type = double;
};

template <class T>
void copy_items(void* dst, int64_t dst_stride, const void* src, int64_t src_stride, int64_t n) {
  T* __restrict d = static_cast<T*>(dst);
  const T* __restrict s = static_cast<const T*>(src);
  if (dst_stride == 1 && src_stride == 1) {
    __builtin_memcpy(d, s, std::size_t(n) * sizeof(T));
  } else if (src_stride == 0) {
    T x = n > 0 ? *s : T(0);
    if (dst_stride == 1)
      for (int64_t i = 0; i < n; ++i) d[i] = x;
    else
      for (int64_t i = 0; i < n; ++i) d[i * dst_stride] = x;
  } else if (dst_stride == 1 && src_stride == -1) {
    for (int64_t i = 0; i < n; ++i) d[i] = s[-i];
  } else if (dst_stride == 1) {
    int64_t i = 0;
    for (; i + 4 <= n; i += 4, s += 4 * src_stride) {
      T a = s[0], b = s[src_stride], c = s[2 * src_stride], e = s[3 * src_stride];
      d[i] = a, d[i + 1] = b, d[i + 2] = c, d[i + 3] = e;
    }
    for (; i < n; ++i, s += src_stride) d[i] = *s;
  } else {
    for (int64_t i = 0; i < n; ++i) d[i * dst_stride] = s[i * src_stride];
  }
}

// Elements (i, j) of a block of at most 64 bytes by 64 bytes: each line of the source is read once,
// and each line of the destination is written once.
template <class T>
void transpose_tile(T* to, int64_t dst_stride, const T* from, int64_t src_stride, int64_t height,
                    int64_t width) {
  int64_t whole = 0;  // rows of a tile that is as wide as a line
  if constexpr (sizeof(T) >= 4) {
    using F = typename Real<sizeof(T)>::type;
    using N = Native<F>;
    if (width == int64_t(64 / sizeof(T)))
      for (; whole + N::quarter <= height; whole += N::quarter)
        for (int64_t b = 0; b < width; b += N::lanes) {
          typename N::Reg rows[N::quarter];
          transpose(reinterpret_cast<const F*>(from + whole + b * src_stride), src_stride, rows);
#pragma GCC unroll 4
          for (int r = 0; r < N::quarter; ++r)
            N::store(reinterpret_cast<F*>(to + (whole + r) * dst_stride + b), rows[r]);
        }
  }
  for (int64_t a = whole; a < height; ++a)
    for (int64_t b = 0; b < width; ++b) to[a * dst_stride + b] = from[a + b * src_stride];
}

// In blocks of 4 x 4 tiles, so that neighbouring lines of both sides are used close in time.
template <class T>
void transpose_tiles(void* dst, int64_t dst_stride, const void* src, int64_t src_stride,
                     int64_t rows, int64_t columns) {
  constexpr int64_t kTile = 64 / sizeof(T), kBlock = 4 * kTile;
  T* d = static_cast<T*>(dst);
  const T* s = static_cast<const T*>(src);
  auto least = [](int64_t a, int64_t b) { return a < b ? a : b; };
  for (int64_t i = 0; i < rows; i += kBlock)
    for (int64_t j = 0; j < columns; j += kBlock)
      for (int64_t y = j; y < least(j + kBlock, columns); y += kTile)
        for (int64_t x = i; x < least(i + kBlock, rows); x += kTile)
          transpose_tile(d + x * dst_stride + y, dst_stride, s + x + y * src_stride, src_stride,
                         least(kTile, rows - x), least(kTile, columns - y));
}

// Calls f with an integer of `item_size` bytes.
template <class F>
void by_item_size(size_t item_size, F f) {
  switch (item_size) {
    case 1: return f(int8_t());
    case 2: return f(int16_t());
    case 4: return f(int32_t());
    default: return f(int64_t());
  }
}

void copy_strided(void* dst, int64_t dst_stride, const void* src, int64_t src_stride, int64_t n,
                  size_t item_size) {
  by_item_size(item_size,
               [&](auto item) { copy_items<decltype(item)>(dst, dst_stride, src, src_stride, n); });
}

void copy_transposed(void* dst, int64_t dst_stride, const void* src, int64_t src_stride,
                     int64_t rows, int64_t columns, size_t item_size) {
  by_item_size(item_size, [&](auto item) {
    transpose_tiles<decltype(item)>(dst, dst_stride, src, src_stride, rows, columns);
  });
}

constexpr int64_t kLongCopy = 4096;  // bytes, from which a call of memcpy is worth it

template <int N>
struct Bytes {
  char bytes[N];
};
template <int N>
inline void copy_whole(char* dst, const char* src) {
  Bytes<N> whole;
  __builtin_memcpy(&whole, src, N);
  __builtin_memcpy(dst, &whole, N);
}

// At least N bytes; the last N overlap those before.
template <int N>
inline void copy_least(char* dst, const char* src, int64_t bytes) {
  int64_t i = 0;
  for (; i + 4 * N < bytes; i += 4 * N)
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) copy_whole<N>(dst + i + k * N, src + i + k * N);
  for (; i + N < bytes; i += N) copy_whole<N>(dst + i, src + i);
  copy_whole<N>(dst + bytes - N, src + bytes - N);
}

template <int N>
void rows_of(char* dst, int64_t dst_step, const char* src, int64_t src_step, int64_t rows,
             int64_t bytes) {
  for (; rows > 0; --rows, dst += dst_step, src += src_step) copy_least<N>(dst, src, bytes);
}

void copy_rows(char* dst, int64_t dst_step, const char* src, int64_t src_step, int64_t rows,
               int64_t bytes) {
  if (bytes >= kLongCopy)
    for (; rows > 0; --rows, dst += dst_step, src += src_step)
      __builtin_memcpy(dst, src, std::size_t(bytes));
  else if (bytes >= 64)
    rows_of<64>(dst, dst_step, src, src_step, rows, bytes);
  else if (bytes >= 32)
    rows_of<32>(dst, dst_step, src, src_step, rows, bytes);
  else if (bytes >= 16)
    rows_of<16>(dst, dst_step, src, src_step, rows, bytes);
  else if (bytes >= 8)
    rows_of<8>(dst, dst_step, src, src_step, rows, bytes);
  else if (bytes >= 4)
    rows_of<4>(dst, dst_step, src, src_step, rows, bytes);
  else if (bytes > 0)
    rows_of<1>(dst, dst_step, src, src_step, rows, bytes);
}

template <int N>
void joined_of(char* dst, Piece* pieces, int n, int64_t rows) {
  for (; rows > 0; --rows)
    for (Piece* p = pieces; p < pieces + n; ++p) {
      const int64_t bytes = p->bytes;
      if (bytes < kLongCopy)
        copy_least<N>(dst, p->from, bytes);
      else
        __builtin_memcpy(dst, p->from, std::size_t(bytes));
      p->from += bytes;
      dst += bytes;
    }
}

void copy_joined(char* dst, Piece* pieces, int n, int64_t rows) {
  int64_t least = 64;
  for (int k = 0; k < n; ++k) least = pieces[k].bytes < least ? pieces[k].bytes : least;
  const auto copy = least >= 64   ? joined_of<64>
                    : least >= 32 ? joined_of<32>
                    : least >= 16 ? joined_of<16>
                    : least >= 8  ? joined_of<8>
                    : least >= 4  ? joined_of<4>
                                  : joined_of<1>;
  copy(dst, pieces, n, rows);
}

// Rows of at least a vector, in whole vectors: a row's last one goes on with the next row.
template <class T>
void repeat_long(T* d, const T* s, int64_t src_stride, int64_t rows, int64_t n) {
  using V = Vec<T>;
  int64_t left = n;  // of the row
  for (; rows > 1; d += V::lanes) {
    const auto here = V::Mask::first(left < V::lanes ? left : V::lanes);
    select(here, V(s[0]), V(s[src_stride])).store(d);
    left -= V::lanes;
    const bool over = left <= 0;
    left += over ? n : 0;
    s += over ? src_stride : 0;
    rows -= over;
  }
  for (; left >= V::lanes; left -= V::lanes, d += V::lanes) V(*s).store(d);
  for (; left > 0; --left) *d++ = *s;
}

// Whole vectors, of which the last runs over into what the next row fills.
template <class T>
void repeat_items(T* d, const T* s, int64_t src_stride, int64_t rows, int64_t n) {
  const T* end = d + rows * n;
  if constexpr (sizeof(T) < 4) {
    for (; d < end; d += n, s += src_stride)
      for (int64_t i = 0; i < n; ++i) d[i] = *s;
  } else {
    using V = Vec<T>;
    if (rows > 1 && n >= V::lanes && n < 4 * V::lanes && n % V::lanes)
      return repeat_long(d, s, src_stride, rows, n);
    for (; rows > 0; --rows, d += n, s += src_stride) {
      const V all(*s);
      int64_t i = 0;
      for (; i + V::lanes <= n; i += V::lanes) all.store(d + i);
      if (i == n) continue;
      if (d + i + V::lanes <= end)
        all.store(d + i);
      else
        for (; i < n; ++i) d[i] = *s;
    }
  }
}

void repeat(void* dst, const void* src, int64_t src_stride, int64_t rows, int64_t n,
            size_t item_size) {
  by_item_size(item_size, [&](auto item) {
    using T = decltype(item);
    repeat_items(static_cast<T*>(dst), static_cast<const T*>(src), src_stride, rows, n);
  });
}

// Eight columns at a time, whose indices stay in registers.
template <class T>
void take_columns(void* dst, const void* src, int64_t src_stride, int64_t rows,
                  const int64_t* index, int64_t n) {
  int64_t j = 0;
  for (; j + 8 <= n; j += 8) {
    const int64_t a = index[j], b = index[j + 1], c = index[j + 2], d = index[j + 3],
                  e = index[j + 4], f = index[j + 5], g = index[j + 6], h = index[j + 7];
    T* to = static_cast<T*>(dst) + j;
    const T* s = static_cast<const T*>(src);
    for (int64_t i = 0; i < rows; ++i, to += n, s += src_stride) {
      const T x[8] = {s[a], s[b], s[c], s[d], s[e], s[f], s[g], s[h]};
      __builtin_memcpy(to, x, sizeof x);
    }
  }
  for (; j < n; ++j) {
    T* to = static_cast<T*>(dst) + j;
    const T* s = static_cast<const T*>(src) + index[j];
    for (int64_t i = 0; i < rows; ++i, to += n, s += src_stride) *to = *s;
  }
}

void copy_columns(void* dst, const void* src, int64_t src_stride, int64_t rows,
                  const int64_t* index, int64_t n, size_t item_size) {
  by_item_size(item_size, [&](auto item) {
    take_columns<decltype(item)>(dst, src, src_stride, rows, index, n);
  });
}

}  // namespace

extern const CopyTable copies;
const CopyTable copies = {copy_strided, copy_transposed, copy_rows,
                          copy_joined,  repeat,          copy_columns};

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
