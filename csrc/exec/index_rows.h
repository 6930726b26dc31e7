// Rows by index: an index picks positions along `size` of a tensor seen as (outer, size, inner).
//
// Additions to one element always run in the order of the index, whatever the cut: every task owns
// the elements that it writes.
#pragma once
#include <algorithm>

#include "exec/arguments.h"
#include "exec/short_copy.h"
#include "kernels/table.h"

namespace backtrail {

// dst[o, i, :] = src[o, index[i], :].
inline void take_rows(const Around& shape, size_t item, const int64_t* index, int64_t count,
                      const char* src, char* dst) {
  int64_t bytes = shape.inner * int64_t(item);
  int64_t per_task = bytes < 65536 ? 65536 / (bytes ? bytes : 1) : 1;
  if (shape.inner == 1 && shape.outer > 1)
    return for_chunks(
        shape.outer, 5 + double(count),
        [&](int64_t begin, int64_t end) {
          kernels().copies->columns(dst + begin * count * bytes, src + begin * shape.size * bytes,
                                    shape.size, end - begin, index, count, item);
        },
        per_task / (count + 1) + 1);
  constexpr int64_t kVectorBytes = 512, kLongBytes = 4096;  // between them memcpy starts too slowly
  auto run = [&](auto row) {
    using Row = decltype(row);
    for_chunks(
        shape.outer * count, 3 + double(bytes) * 0.1,
        [&](int64_t begin, int64_t end) {
          for (int64_t r = begin; r < end;) {
            int64_t o = r / count, i = r - o * count;
            int64_t stop = count - i < end - r ? count : i + end - r;
            const char* base = src + o * shape.size * bytes;
            const int64_t* picked = index;  // here no store can change them
            char* to = dst + r * bytes;
            const int64_t size = sizeof(Row) > 1 ? int64_t(sizeof(Row)) : bytes;
            r += stop - i;
            for (; i < stop; ++i, to += size) {
              if constexpr (sizeof(Row) > 1)
                std::memcpy(to, base + picked[i] * size, sizeof(Row));
              else if (size >= kVectorBytes && size <= kLongBytes)
                kernels().copies->rows(to, 0, base + picked[i] * size, 0, 1, size);
              else
                copy_run(to, base + picked[i] * size, size);
            }
          }
        },
        per_task);
  };
  struct Line {
    char bytes[64];
  };
  switch (bytes) {
    case 2: return run(uint16_t());
    case 4: return run(uint32_t());
    case 8: return run(uint64_t());
    case 64: return run(Line());
    default: return run(char());
  }
}

constexpr int64_t kVectorRow = 16;  // elements from which a row is worth a kernel's call

// body(o, begin, end, low, high) over all of (outer, inner columns, positions): each task sees
// every index but owns columns [begin, end) of the positions [low, high).
template <class F>
void for_owned(const Around& shape, int64_t count, size_t item, F&& body) {
  double work = double(shape.outer) * double(count) * (2 + 0.3 * double(shape.inner));
  int64_t column = shape.inner, range = shape.size;
  if (work > 50e3 && shape.outer < 8 && threads_for(work) > 1) {
    const int64_t line = 64 / int64_t(item);  // elements of a cache line
    if (shape.size >= 4)
      range = shape.size / 4 + 1;
    else if (shape.inner >= 16 * line)
      column = std::max(8 * line, (shape.inner / 8 + line - 1) / line * line);
  }
  int64_t columns = chunks(shape.inner, column ? column : 1);
  int64_t ranges = chunks(shape.size, range ? range : 1);
  parallel_for(shape.outer * columns * ranges, work, [&](int64_t t) {
    int64_t o = t / (columns * ranges), c = t / ranges % columns, r = t % ranges;
    int64_t begin = c * column, low = r * range;
    body(o, begin, begin + column < shape.inner ? begin + column : shape.inner, low,
         low + range < shape.size ? low + range : shape.size);
  });
}

// dst[o, index[i], :] += alpha * src[o, i, :], skipping the index `skip`.
template <class T>
using AddScaled = void (*)(T* to, const T* src, int64_t n, T alpha);
template <class T>
AddScaled<T> add_kernel() {
  if constexpr (std::is_same_v<T, float>) return kernels().index_f32->add_scaled;
  if constexpr (std::is_same_v<T, double>) return kernels().index_f64->add_scaled;
  return nullptr;
}

template <class T>
void add_rows(const Around& shape, const int64_t* index, int64_t count, const T* src, T* dst,
              T alpha = T(1), int64_t skip = -1) {
  const AddScaled<T> add = shape.inner >= kVectorRow ? add_kernel<T>() : nullptr;
  for_owned(shape, count, sizeof(T),
            [&](int64_t o, int64_t begin, int64_t end, int64_t low, int64_t high) {
              for (int64_t i = 0; i < count; ++i) {
                int64_t at = index[i];
                if (at < low || at >= high || at == skip) continue;
                const T* s = src + (o * count + i) * shape.inner;
                T* d = dst + (o * shape.size + at) * shape.inner;
                if (add)
                  add(d + begin, s + begin, end - begin, alpha);
                else if (alpha == T(1))
                  for (int64_t j = begin; j < end; ++j) d[j] = T(d[j] + s[j]);
                else
                  for (int64_t j = begin; j < end; ++j) d[j] = T(d[j] + alpha * s[j]);
              }
            });
}

// dst[o, index[i], :] = src[o, i, :]; of equal indices the last one wins.
inline void put_rows(const Around& shape, size_t item, const int64_t* index, int64_t count,
                     const char* src, char* dst) {
  int64_t row = shape.inner * int64_t(item);
  for_owned(shape, count, item,
            [&](int64_t o, int64_t begin, int64_t end, int64_t low, int64_t high) {
              int64_t from = begin * int64_t(item), bytes = (end - begin) * int64_t(item);
              for (int64_t i = 0; i < count; ++i) {
                int64_t at = index[i];
                if (at < low || at >= high) continue;
                std::memcpy(dst + (o * shape.size + at) * row + from,
                            src + (o * count + i) * row + from, size_t(bytes));
              }
            });
}

}  // namespace backtrail
