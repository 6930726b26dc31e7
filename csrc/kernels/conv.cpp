// Convolution for one instruction set: images to matrices of patches and back.
#include "kernels/conv_table.h"

#include "kernels/depthwise.h"
#include "kernels/interleave.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace {

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

template <class T>
void zero(T* x, int64_t n) {
  using V = Vec<T>;
  int64_t i = 0;
  for (; i + V::lanes <= n; i += V::lanes) V(T(0)).store(x + i);
  if (i < n) V(T(0)).store(x + i, n - i);
}

// The columns of the image that a window shows: [begin, end), from place `begin - col` on.
struct Columns {
  int64_t begin, end;
  explicit Columns(const ConvWindow& w)
      : begin(most(0, w.col)), end(least(w.width, w.col + w.cols * w.phases)) {}
};

// A row of the image in two rows of the window: its even and its odd columns.
template <class T>
void open_pairs(const ConvWindow& w, const T* row, const Columns& shown, T* to) {
  using V = Vec<T>;
  const int64_t place = shown.begin - w.col, n = shown.end - shown.begin;
  T* even = to + place % 2 * w.cols + place / 2;
  T* odd = to + (place + 1) % 2 * w.cols + (place + 1) / 2;
  row += shown.begin;
  for (int64_t j = 0; 2 * j < n; j += V::lanes) {
    const V a = load_upto<V>(row + 2 * j, n - 2 * j);
    const V b = load_upto<V>(row + 2 * j + V::lanes, n - 2 * j - V::lanes);
    store_upto(every_other<0>(a, b), even + j, (n + 1) / 2 - j);
    store_upto(every_other<1>(a, b), odd + j, n / 2 - j);
  }
}

template <class T>
void close_pairs(const ConvWindow& w, const T* from, const Columns& shown, T start, T* row) {
  using V = Vec<T>;
  const int64_t place = shown.begin - w.col, n = shown.end - shown.begin;
  const T* even = from + place % 2 * w.cols + place / 2;
  const T* odd = from + (place + 1) % 2 * w.cols + (place + 1) / 2;
  row += shown.begin;
  for (int64_t j = 0; 2 * j < n; j += V::lanes) {
    V a, b;
    alternate(load_upto<V>(even + j, (n + 1) / 2 - j), load_upto<V>(odd + j, n / 2 - j), a, b);
    store_upto(a + V(start), row + 2 * j, n - 2 * j);
    store_upto(b + V(start), row + 2 * j + V::lanes, n - 2 * j - V::lanes);
  }
}

// Whole vectors are stored: zeros behind the row, which rows to come overwrite.
template <class T>
void open(const ConvWindow& w, const T* image, T* window) {
  using V = Vec<T>;
  zero(window, w.channels * w.plane() + kConvSlack);
  const Columns shown(w);
  if (shown.begin >= shown.end) return;
  const int64_t first = most(0, -w.row), last = least(w.rows, w.height - w.row);
  for (int64_t c = 0; c < w.channels; ++c, image += w.height * w.width, window += w.plane())
    for (int64_t r = first; r < last; ++r) {
      const T* from = image + (w.row + r) * w.width;
      T* to = window + r * w.phases * w.cols;
      if (w.phases == 1) {
        to -= w.col;
        int64_t j = shown.begin;
        for (; j + V::lanes <= shown.end; j += V::lanes) V::load(from + j).store(to + j);
        if (j < shown.end) V::load(from + j, shown.end - j).store(to + j);
        continue;
      }
      if (w.phases == 2) {
        open_pairs(w, from, shown, to);
        continue;
      }
      for (int64_t phase = 0; phase < w.phases; ++phase, to += w.cols) {
        // The first column of this remainder that is shown.
        const int64_t skip = most(0, (shown.begin - w.col - phase + w.phases - 1) / w.phases);
        const int64_t col = w.col + phase + skip * w.phases;
        const int64_t n = (shown.end - col + w.phases - 1) / w.phases;
        for (int64_t j = 0; j < n; ++j) to[skip + j] = from[col + j * w.phases];
      }
    }
}

template <class T>
void close(const ConvWindow& w, const T* window, const T* bias, T* image) {
  using V = Vec<T>;
  const Columns shown(w);
  for (int64_t c = 0; c < w.channels; ++c, window += w.plane()) {
    const T start = bias ? bias[c] : T(0);
    for (int64_t h = 0; h < w.height; ++h, image += w.width) {
      const int64_t r = h - w.row;
      const bool seen = r >= 0 && r < w.rows && shown.begin < shown.end;
      const int64_t begin = seen ? shown.begin : w.width, end = seen ? shown.end : w.width;
      for (int64_t j = 0; j < begin; ++j) image[j] = start;
      const T* from = window + r * w.phases * w.cols;
      if (w.phases == 1) {
        const T* row = from - w.col;
        int64_t j = begin;
        for (; j + V::lanes <= end; j += V::lanes) (V::load(row + j) + V(start)).store(image + j);
        if (j < end) (V::load(row + j, end - j) + V(start)).store(image + j, end - j);
      } else if (w.phases == 2 && seen) {
        close_pairs(w, from, shown, start, image);
      } else {
        for (int64_t j = begin; j < end; ++j) {
          const int64_t col = j - w.col;
          image[j] = from[col % w.phases * w.cols + col / w.phases] + start;
        }
      }
      for (int64_t j = end; j < w.width; ++j) image[j] = start;
    }
  }
}

// Whole vectors are copied: what is too much is overwritten by the next row, or lies in the slack.
template <class T>
void gather(const ConvWindow& w, const ConvTaps& t, const T* window, T* patches, int64_t ld) {
  using V = Vec<T>;
  const int64_t step = t.row_step(w);
  for (int64_t c = 0; c < w.channels; ++c, window += w.plane())
    for (int64_t i = 0; i < t.kernel_h; ++i)
      for (int64_t j = 0; j < t.kernel_w; ++j, patches += ld) {
        const T* from = window + t.at(w, i, j);
        T* to = patches;
        if (t.out_cols <= V::lanes) {
          for (int64_t r = 0; r < t.out_rows; ++r, from += step, to += t.out_cols)
            V::load(from).store(to);
          continue;
        }
        for (int64_t r = 0; r < t.out_rows; ++r, from += step, to += t.out_cols)
          for (int64_t x = 0; x < t.out_cols; x += V::lanes) V::load(from + x).store(to + x);
      }
}

template <class T>
void scatter(const ConvWindow& w, const ConvTaps& t, const T* patches, int64_t ld, T* window) {
  using V = Vec<T>;
  const int64_t step = t.row_step(w);
  const int64_t whole = t.out_cols / V::lanes * V::lanes, rest = t.out_cols - whole;
  for (int64_t c = 0; c < w.channels; ++c, window += w.plane())
    for (int64_t i = 0; i < t.kernel_h; ++i)
      for (int64_t j = 0; j < t.kernel_w; ++j, patches += ld) {
        const T* from = patches;
        T* to = window + t.at(w, i, j);
        for (int64_t r = 0; r < t.out_rows; ++r, from += t.out_cols, to += step) {
          for (int64_t x = 0; x < whole; x += V::lanes)
            (V::load(to + x) + V::load(from + x)).store(to + x);
          if (rest)
            (V::load(to + whole, rest) + V::load(from + whole, rest)).store(to + whole, rest);
        }
      }
}

template <class T>
void sum_transposed(int64_t parts, int64_t size, int64_t rows, int64_t cols, const T* x, T* y,
                    int64_t ld) {
  using V = Vec<T>;
  T column[V::lanes];
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; j += V::lanes) {
      const int64_t n = least(V::lanes, cols - j);
      const T* from = x + i * cols + j;
      auto load = [n](const T* p) { return n < V::lanes ? V::load(p, n) : V::load(p); };
      V sum = load(from);
      for (int64_t p = 1; p < parts; ++p) sum += load(from + p * size);
      sum.store(column);
      for (int64_t k = 0; k < n; ++k) y[(j + k) * ld + i] = column[k];
    }
}

template <class T>
constexpr ConvTable<T> make_table() {
  return {Vec<T>::lanes,
          open<T>,
          close<T>,
          gather<T>,
          scatter<T>,
          depthwise<T>,
          depthwise_scatter<T>,
          depthwise_weight<T>,
          zero<T>,
          sum_transposed<T>};
}

}  // namespace

extern const ConvTable<float> conv_f32;
extern const ConvTable<double> conv_f64;
const ConvTable<float> conv_f32 = make_table<float>();
const ConvTable<double> conv_f64 = make_table<double>();

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
