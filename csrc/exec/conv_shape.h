// The geometry of a convolution and what its loops share: cuts by shape, workspaces, kernels.
#pragma once
#include <algorithm>
#include <atomic>

#include "core/parallel.h"
#include "exec/arguments.h"
#include "kernels/table.h"

namespace backtrail::conv {

constexpr int kTaskSlot = 0, kSharedSlot = 1, kPackSlot = 2, kPanelSlot = 3;  // of scratch()
constexpr int64_t kTasks = 16;         // to cut an operation into, if it is large
constexpr int64_t kLeastColumns = 64;  // of a block of outputs, so that products are efficient
constexpr double kNsPerElement = 0.3;  // to fill or sum

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
// Length of the even pieces of at most `most` that n is cut into.
inline int64_t piece(int64_t n, int64_t most) {
  return n <= most ? n : ceil_div(n, ceil_div(n, std::max<int64_t>(1, most)));
}
inline int64_t padded(int64_t columns) {  // odd in cache lines: rows fall into different cache sets
  const int64_t lines = ceil_div(columns, 16);
  return (lines + (lines % 2 == 0)) * 16;
}

// One convolution: image [n, c, h, w], filters [o, c / groups, kh, kw], output [n, o, oh, ow]. A
// 1-d one has h = oh = kh = 1.
struct Shape {
  int64_t n, c, h, w, o, oh, ow, kh, kw;
  int64_t sh = 1, sw = 1, top = 0, left = 0, dh = 1, dw = 1, groups = 1;

  Shape(const Call& call, const Dims& image, const Dims& filters, const Dims& output) {
    const bool flat = image.n == 3;
    n = image[0], c = image[1], o = filters[0];
    h = flat ? 1 : image[2], w = image.back();
    kh = flat ? 1 : filters[2], kw = filters.back();
    oh = flat ? 1 : output[2], ow = output.back();
    const ListAttr stride = list_attr(call, 0), padding = list_attr(call, 1);
    const ListAttr dilation = list_attr(call, 2);
    sw = stride.items[stride.n - 1], left = padding.items[padding.n - 1];
    dw = dilation.items[dilation.n - 1];
    if (!flat) sh = stride.items[0], top = padding.items[0], dh = dilation.items[0];
    // Steps that are never taken, however long they are.
    if (oh == 1) sh = 1;
    if (ow == 1) sw = 1;
    if (kh == 1) dh = 1;
    if (kw == 1) dw = 1;
    groups = integer_attr(call, 3, 1);
  }

  int64_t channels() const { return c / groups; }  // of a group; likewise
  int64_t filters() const { return o / groups; }
  int64_t taps() const { return kh * kw; }
  int64_t depth() const { return channels() * taps(); }
  int64_t pixels() const { return oh * ow; }
  // Patches are the image itself.
  bool plain() const {
    return taps() == 1 && sh == 1 && sw == 1 && top == 0 && left == 0 && oh == h && ow == w;
  }
  double flops() const { return 2.0 * double(n) * double(o) * double(depth()) * double(pixels()); }
  ConvTaps taps_of(int64_t rows, int64_t cols) const { return {kh, kw, sh, dh, dw, rows, cols}; }
  // What `rows` x `cols` outputs from (row, col) on see of some channels.
  ConvWindow window(int64_t channels, int64_t row, int64_t col, int64_t rows, int64_t cols) const {
    return {channels,
            h,
            w,
            row * sh - top,
            col * sw - left,
            (rows - 1) * sh + (kh - 1) * dh + 1,
            (kw - 1) * dw / sw + cols,
            sw};
  }
};

// Outputs of an image cut into blocks: several whole rows, or a part of one.
struct Blocks {
  int64_t rows, cols;  // of one block
  int64_t oh, ow, across, count;

  Blocks(const Shape& s, int64_t most) : oh(s.oh), ow(s.ow) {
    most = std::max(kLeastColumns, most);
    cols = piece(ow, most);
    rows = cols < ow ? 1 : piece(oh, most / std::max<int64_t>(1, ow));
    across = ceil_div(ow, cols);
    count = across * ceil_div(oh, rows);
  }
  struct Block {
    int64_t row, col, rows, cols;
    int64_t pixels() const { return rows * cols; }
  };
  Block operator[](int64_t i) const {
    const int64_t row = i / across * rows, col = i % across * cols;
    return {row, col, std::min(rows, oh - row), std::min(cols, ow - col)};
  }
  int64_t pixels() const { return rows * cols; }
};

template <class T>
struct Kernels;
template <>
struct Kernels<float> {
  const ConvTable<float>& conv = *kernels().conv_f32;
  const GemmTable<float>& gemm = *kernels().gemm_f32;
};
template <>
struct Kernels<double> {
  const ConvTable<double>& conv = *kernels().conv_f64;
  const GemmTable<double>& gemm = *kernels().gemm_f64;
};

// parallel_for over tasks that may run out of memory.
template <class F>
void run_tasks(int64_t tasks, double cost_ns, F f) {
  std::atomic<bool> failed{false};  // a task may not throw
  parallel_for(tasks, cost_ns, [&](int64_t task) {
    try {
      f(task);
    } catch (const Error&) {
      failed = true;
    }
  });
  if (failed) fail(ErrorKind::memory, "out of memory: a convolution needs a workspace");
}

template <class T>
T* workspace(int64_t elements, int slot = kTaskSlot) {
  return static_cast<T*>(scratch(size_t(elements) * sizeof(T), slot));
}

// A block's window and, behind it, the matrix of its patches.
template <class T>
struct Workspace {
  int64_t ld;
  T *window, *patches;
  Workspace(const ConvWindow& largest, int64_t rows, int64_t cols) : ld(padded(cols)) {
    const int64_t first = (largest.channels * largest.plane() + kConvSlack + 15) / 16 * 16;
    window = workspace<T>(first + rows * ld + kConvSlack);
    patches = window + first;
  }
};

}  // namespace backtrail::conv
