// Convolution by filters of one channel each, and its transposes: every channel by itself.
#pragma once
#include "exec/conv_shape.h"

namespace backtrail::conv {

constexpr int64_t kPlaneElements = 16 << 10;  // of the outputs of a block
constexpr int64_t kDepthwiseTask = 8 << 10;   // multiply-adds of a task, at least
constexpr double kNsPerTap = 0.03;

inline bool is_depthwise(const Shape& s) { return s.channels() == 1 && s.filters() <= 4; }

// f(i) for i < count, `each` multiply-adds apiece.
template <class F>
void for_channels(int64_t count, double each, F f) {
  const int64_t share = std::clamp<int64_t>(int64_t(double(kDepthwiseTask) / each), 1, 64);
  run_tasks(ceil_div(count, share), double(count) * each * kNsPerTap, [&](int64_t task) {
    for (int64_t i = task * share; i < std::min(count, (task + 1) * share); ++i) f(i);
  });
}

template <class T>
void depthwise(const Shape& s, const T* x, const T* filters, const T* bias, T* y) {
  const Kernels<T> k;
  const Blocks blocks(s, kPlaneElements);
  const double each = double(s.filters() * s.taps() * s.pixels());
  for_channels(s.n * s.c, each, [&](int64_t channel) {
    const int64_t c = channel % s.c, first = c * s.filters();
    for (int64_t i = 0; i < blocks.count; ++i) {
      const auto b = blocks[i];
      const ConvWindow window = s.window(1, b.row, b.col, b.rows, b.cols);
      T* seen = workspace<T>(window.plane() + kConvSlack);
      k.conv.open(window, x + channel * s.h * s.w, seen);
      for (int64_t f = 0; f < s.filters(); ++f)
        k.conv.depthwise(window, s.taps_of(b.rows, b.cols), seen, filters + (first + f) * s.taps(),
                         bias ? bias[first + f] : T(0), false,
                         y + (channel * s.filters() + f) * s.pixels() + b.row * s.ow + b.col, s.ow);
    }
  });
}

// The transpose with strides of 1 is a convolution by the filters turned round.
template <class T>
void depthwise_turned(const Shape& s, const T* g, const T* filters, const T* bias, T* x) {
  const Kernels<T> k;
  Shape back = s;
  back.h = s.oh, back.w = s.ow, back.oh = s.h, back.ow = s.w;
  back.top = (s.kh - 1) * s.dh - s.top, back.left = (s.kw - 1) * s.dw - s.left;
  const Blocks blocks(back, kPlaneElements);
  const double each = double(s.filters() * s.taps() * s.h * s.w);
  for_channels(s.n * s.c, each, [&](int64_t channel) {
    const int64_t c = channel % s.c;
    for (int64_t i = 0; i < blocks.count; ++i) {
      const auto b = blocks[i];
      const ConvWindow window = back.window(1, b.row, b.col, b.rows, b.cols);
      T* turned = workspace<T>(padded(s.taps()) + window.plane() + kConvSlack);
      T* seen = turned + padded(s.taps());
      for (int64_t f = 0; f < s.filters(); ++f) {
        const T* filter = filters + (c * s.filters() + f) * s.taps();
        std::reverse_copy(filter, filter + s.taps(), turned);
        k.conv.open(window, g + (channel * s.filters() + f) * s.pixels(), seen);
        k.conv.depthwise(window, back.taps_of(b.rows, b.cols), seen, turned, bias ? bias[c] : T(0),
                         f > 0, x + channel * s.h * s.w + b.row * s.w + b.col, s.w);
      }
    }
  });
}

template <class T>
void depthwise_transposed(const Shape& s, const T* g, const T* filters, const T* bias, T* x) {
  if (s.sh == 1 && s.sw == 1) return depthwise_turned(s, g, filters, bias, x);
  const Kernels<T> k;
  const ConvWindow whole = s.window(1, 0, 0, s.oh, s.ow);
  const ConvTaps taps = s.taps_of(s.oh, s.ow);
  for_channels(s.n * s.c, double(s.filters() * s.taps() * s.pixels()), [&](int64_t channel) {
    const int64_t c = channel % s.c;
    T* seen = workspace<T>(whole.plane() + kConvSlack);
    k.conv.zero(seen, whole.plane());
    for (int64_t f = 0; f < s.filters(); ++f)
      k.conv.depthwise_scatter(whole, taps, g + (channel * s.filters() + f) * s.pixels(), s.ow,
                               filters + (c * s.filters() + f) * s.taps(), seen);
    k.conv.close(whole, seen, bias ? bias + c : nullptr, x + channel * s.h * s.w);
  });
}

template <class T>
void depthwise_filter_gradient(const Shape& s, const T* x, const T* g, T* filters) {
  const Kernels<T> k;
  const Blocks blocks(s, kPlaneElements);
  const double each = double(s.n * s.filters() * s.taps() * s.pixels());
  for_channels(s.c, std::max(1.0, each), [&](int64_t c) {
    T* sums = filters + c * s.filters() * s.taps();
    k.conv.zero(sums, s.filters() * s.taps());
    for (int64_t n = 0; n < s.n; ++n)
      for (int64_t i = 0; i < blocks.count; ++i) {
        const auto b = blocks[i];
        const ConvWindow window = s.window(1, b.row, b.col, b.rows, b.cols);
        T* seen = workspace<T>(window.plane() + kConvSlack);
        k.conv.open(window, x + (n * s.c + c) * s.h * s.w, seen);
        for (int64_t f = 0; f < s.filters(); ++f)
          k.conv.depthwise_weight(
              window, s.taps_of(b.rows, b.cols), seen,
              g + ((n * s.c + c) * s.filters() + f) * s.pixels() + b.row * s.ow + b.col, s.ow,
              sums + f * s.taps());
      }
  });
}

}  // namespace backtrail::conv
