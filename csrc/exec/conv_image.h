// Convolution and its transpose in the image.
#pragma once
#include "exec/conv_depthwise.h"
#include "exec/conv_product.h"

namespace backtrail::conv {

constexpr int64_t kFewElements = 6 << 10;      // of patches on their way back to the image
constexpr int64_t kLeastFilters = 56;          // of a task, so that patches pay
constexpr int64_t kTurnedChannels = 16;        // of a task
constexpr int64_t kDeep = 128;                 // chains that pay for turning their sums
constexpr int64_t kManyPixels = 256;           // that pay for turning the filters
constexpr int64_t kWindowElements = 64 << 10;  // of a window that stays in the L2 cache
constexpr int64_t kSumElements = 48 << 10;     // and of the outputs beside it

// y [n, o, oh, ow] = bias + filters * x, for images of few pixels. The filters of each group are a
// matrix [o / groups, depth].
template <class T>
void forward_together(const Shape& s, const T* x, Matrix<T> filters, const T* bias, T* y) {
  const Kernels<T> k;
  const int64_t depth = s.depth(), pixels = s.pixels();
  const int64_t channels = piece(s.channels(), kBlockDepth / 2 / s.taps());
  const int64_t images = piece(s.n, kBlockElements / (channels * s.taps() * pixels));
  const int64_t blocks = ceil_div(s.n, images) * s.groups, wanted = 2 * num_threads();
  const int64_t rows = std::max(std::min(kLeastFilters, s.filters()),
                                piece(s.filters(), s.filters() * blocks / wanted));
  const int64_t parts = ceil_div(s.filters(), rows);
  run_tasks(blocks * parts, s.flops() / k.gemm.flops_per_ns, [&](int64_t task) {
    const int64_t group = task / parts % s.groups, first = task / parts / s.groups * images;
    const int64_t count = std::min(images, s.n - first), columns = count * pixels;
    const int64_t filter = group * s.filters() + task % parts * rows;
    const int64_t m = std::min(rows, s.filters() - task % parts * rows);
    const T* w = filters.data + group * s.filters() * depth + task % parts * rows * filters.rs;
    ConvWindow window = s.window(channels, 0, 0, s.oh, s.ow);
    // Behind a row of patches, what its last vector is too long.
    const Workspace<T> work(window, channels * s.taps() + m, columns + k.conv.lanes);
    T* sums = work.patches + channels * s.taps() * work.ld;
    for (int64_t c = 0; c < s.channels(); c += channels) {
      window.channels = std::min(channels, s.channels() - c);
      for (int64_t i = 0; i < count; ++i)
        whole_patches(s, k.conv, window,
                      x + ((first + i) * s.c + group * s.channels() + c) * s.h * s.w, work,
                      i * pixels);
      multiply(k.gemm, m, columns, window.channels * s.taps(),
               {w + c * s.taps() * filters.cs, filters.rs, filters.cs}, {work.patches, work.ld, 1},
               sums, work.ld, c ? Start::chain : Start::zero, bias ? bias + filter : nullptr);
    }
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = 0; j < m; ++j)
        std::copy_n(sums + j * work.ld + i * pixels, pixels,
                    y + ((first + i) * s.o + filter + j) * pixels);
  });
}

// Whether to multiply what pixels see, where it lies in a window, by filters side by side: these
// should fill vectors, and the pixels of a row tiles, of which there are enough for all threads and
// not too many for their caches.
template <class T>
bool can_see_in_place(const Shape& s, const Kernels<T>& k) {
  const int64_t filters = ceil_div(s.filters(), k.gemm.lanes) * k.gemm.lanes;
  const int64_t tiles = ceil_div(s.ow, k.gemm.mr) * k.gemm.mr;
  const int64_t channels = piece(s.channels(), kBlockDepth / s.taps());
  return s.depth() >= kDeep && 8 * filters <= 9 * s.filters() && 4 * tiles <= 5 * s.ow &&
         s.n * s.pixels() >= kManyPixels && s.n * s.groups * s.oh >= kTasks &&
         s.window(channels, 0, 0, 1, s.ow).plane() * channels <= kWindowElements &&
         s.ow * filters <= kSumElements;
}

// y [n, o, oh, ow] = bias + filters * x, without patches: pixels are the rows of the product.
template <class T>
void forward_in_place(const Shape& s, const T* x, const T* filters, const T* bias, T* y) {
  const Kernels<T> k;
  const int64_t lanes = k.gemm.lanes, pixels = s.pixels(), depth = s.depth(), taps = s.taps();
  const int64_t channels = piece(s.channels(), kBlockDepth / taps);
  // The filters of each group in panels, a piece of the channels after another.
  const int64_t panels = ceil_div(s.filters(), lanes), width = panels * lanes;
  T* turned = workspace<T>(s.groups * depth * width, kPanelSlot);
  run_tasks(s.groups * panels, kNsPerElement * double(s.o) * double(depth), [&](int64_t task) {
    const int64_t o = task % panels * lanes, group = task / panels;
    for (int64_t c = 0; c < s.channels(); c += channels) {
      const int64_t rows = std::min(channels, s.channels() - c) * taps;
      k.gemm.pack_b(rows, std::min(lanes, s.filters() - o),
                    filters + (group * s.filters() + o) * depth + c * taps, 1, depth,
                    turned + group * depth * width + c * taps * width + o * rows, rows * lanes);
    }
  });

  const int64_t images = s.n * s.groups, wanted = ceil_div(kTasks, images);
  const ConvWindow one = s.window(channels, 0, 0, 1, s.ow);
  const int64_t row = s.sh * one.phases * one.cols * channels;  // of a window
  const int64_t most =
      std::min((kWindowElements - channels * one.plane()) / row, kSumElements / (s.ow * width));
  const int64_t rows = piece(s.oh, std::max<int64_t>(1, std::min(most, ceil_div(s.oh, wanted))));
  const int64_t parts = ceil_div(s.oh, rows), ld = padded(width);
  run_tasks(images * parts, s.flops() / k.gemm.flops_per_ns, [&](int64_t task) {
    const int64_t image = task / parts, group = image % s.groups, top = task % parts * rows;
    const int64_t count = std::min(rows, s.oh - top);
    ConvWindow window = s.window(channels, top, 0, count, s.ow);
    const ConvTaps t = s.taps_of(count, s.ow);
    const int64_t run = window.phases == 1 ? s.kw : 1, runs = channels * taps / run;
    const int64_t seen = ceil_div(channels * window.plane() + kConvSlack, 16) * 16;
    T *work = workspace<T>(seen + rows * s.ow * ld), *sums = work + seen;
    int64_t* starts = workspace<int64_t>(runs, kPackSlot);
    for (int64_t i = 0; i < runs; ++i) {
      const int64_t tap = i * run % taps;
      starts[i] = i * run / taps * window.plane() + t.at(window, tap / s.kw, tap % s.kw);
    }
    if (bias)
      for (int64_t i = 0; i < count * s.ow; ++i)
        std::copy_n(bias + group * s.filters(), s.filters(), sums + i * ld);
    GemmBlock<T> g{};
    g.m = s.ow;
    g.n = s.filters();
    g.a_rs = 1;
    g.a_cs = s.dw;
    g.a_runs = starts;
    g.run = run;
    g.b_rs = lanes;
    g.c_rs = ld;
    g.start = bias ? Start::chain : Start::zero;
    const T* in = x + image * s.channels() * s.h * s.w;
    for (int64_t c = 0; c < s.channels(); c += channels, g.start = Start::chain) {
      window.channels = std::min(channels, s.channels() - c);
      k.conv.open(window, in + c * s.h * s.w, work);
      g.k = window.channels * taps;
      g.b = turned + group * depth * width + c * taps * width;
      g.b_vs = g.k * lanes;
      for (int64_t r = 0; r < count; ++r) {
        g.a = work + r * t.row_step(window);
        g.c = sums + r * s.ow * ld;
        k.gemm.block(g);
      }
    }
    kernels().copies->transposed(y + image * s.filters() * pixels + top * s.ow, pixels, sums, ld,
                                 s.filters(), count * s.ow, sizeof(T));
  });
}

// y [n, o, oh, ow] = bias + filters * x
template <class T>
void forward(const Shape& s, const T* x, const T* filters, const T* bias, T* y) {
  if (is_depthwise(s)) return depthwise(s, x, filters, bias, y);
  const Kernels<T> k;
  if (!s.plain() && can_see_in_place(s, k)) return forward_in_place(s, x, filters, bias, y);
  if (are_small(s)) return forward_together(s, x, {filters, s.depth(), 1}, bias, y);
  const int64_t images = s.n * s.groups, depth = s.depth(), pixels = s.pixels();
  const int64_t channels = piece(s.channels(), kBlockDepth / s.taps());
  const int64_t wanted = ceil_div(kTasks, std::max<int64_t>(1, images));
  const Blocks blocks(s,
                      std::min(kBlockElements / (channels * s.taps()), ceil_div(pixels, wanted)));
  run_tasks(images * blocks.count, s.flops() / k.gemm.flops_per_ns, [&](int64_t task) {
    const int64_t image = task / blocks.count, group = image % s.groups;
    const auto b = blocks[task % blocks.count];
    const T* w = filters + group * s.filters() * depth;
    const T* in = x + image * s.channels() * s.h * s.w;
    const T* first = bias ? bias + group * s.filters() : nullptr;
    const int64_t place = b.row * s.ow + b.col;
    T* out = y + image * s.filters() * pixels + place;
    if (s.plain())
      return multiply(k.gemm, s.filters(), b.pixels(), depth, {w, depth, 1},
                      {in + place, pixels, 1}, out, pixels, Start::zero, first);
    const ConvTaps taps = s.taps_of(b.rows, b.cols);
    ConvWindow window = s.window(channels, b.row, b.col, b.rows, b.cols);
    const Workspace<T> work(window, channels * s.taps(), b.pixels());
    for (int64_t c = 0; c < s.channels(); c += channels) {
      window.channels = std::min(channels, s.channels() - c);
      k.conv.open(window, in + c * s.h * s.w, work.window);
      k.conv.gather(window, taps, work.window, work.patches, work.ld);
      multiply(k.gemm, s.filters(), b.pixels(), window.channels * s.taps(),
               {w + c * s.taps(), depth, 1}, {work.patches, work.ld, 1}, out, pixels,
               c ? Start::chain : Start::zero, first);
    }
  });
}

// The transpose with strides of 1 is a convolution by the filters turned round; worth it when the
// image is not much larger than the outputs.
inline bool can_turn(const Shape& s) {
  return s.sh == 1 && s.sw == 1 && !s.plain() && 4 * s.h * s.w <= 5 * s.pixels();
}

// The convolution whose image are the outputs of s, with strides of 1.
inline Shape turned(const Shape& s) {
  Shape back = s;
  back.c = s.o, back.o = s.c;
  back.h = s.oh, back.w = s.ow, back.oh = s.h, back.ow = s.w;
  back.top = (s.kh - 1) * s.dh - s.top, back.left = (s.kw - 1) * s.dw - s.left;
  return back;
}

template <class T>
void transposed_turned(const Shape& s, const T* g, const T* filters, const T* bias, T* x) {
  const int64_t channels = s.channels(), taps = s.taps();
  T* filters_turned = workspace<T>(s.o * s.depth(), kSharedSlot);
  const int64_t blocks = ceil_div(channels, kTurnedChannels);
  run_tasks(s.groups * blocks, kNsPerElement * double(s.o) * double(s.depth()), [&](int64_t task) {
    const int64_t group = task / blocks, begin = task % blocks * kTurnedChannels;
    const T* from = filters + group * s.filters() * s.depth();
    T* to = filters_turned + group * s.filters() * s.depth();
    for (int64_t o = 0; o < s.filters(); ++o)
      for (int64_t c = begin; c < std::min(channels, begin + kTurnedChannels); ++c) {
        const T* filter = from + o * s.depth() + c * taps;
        std::reverse_copy(filter, filter + taps, to + (c * s.filters() + o) * taps);
      }
  });
  forward(turned(s), g, filters_turned, bias, x);
}

// x [n, c, h, w] = bias + what every output g [n, o, oh, ow] sends back through the filters.
template <class T>
void transposed(const Shape& s, const T* g, const T* filters, const T* bias, T* x) {
  if (is_depthwise(s)) return depthwise_transposed(s, g, filters, bias, x);
  if (can_turn(s)) return transposed_turned(s, g, filters, bias, x);
  if (s.plain() && are_small(s))
    return forward_together(turned(s), g, {filters, 1, s.depth()}, bias, x);
  const Kernels<T> k;
  const int64_t images = s.n * s.groups, depth = s.depth(), pixels = s.pixels();
  // Results depend on where the outputs are cut, so that cut ignores the one into channels.
  const Blocks blocks(s, kBlockElements / std::min(depth, kBlockDepth));
  const int64_t wanted = ceil_div(kTasks, std::max<int64_t>(1, images));
  const int64_t channels =
      std::min(piece(s.channels(), kBlockDepth / s.taps()), ceil_div(s.channels(), wanted));
  const int64_t parts = ceil_div(s.channels(), channels);
  const int64_t few = std::clamp<int64_t>(kFewElements / (blocks.pixels() * s.taps()), 1, channels);
  run_tasks(images * parts, s.flops() / k.gemm.flops_per_ns, [&](int64_t task) {
    const int64_t image = task / parts, group = image % s.groups;
    const int64_t c = task % parts * channels, count = std::min(channels, s.channels() - c);
    const T* w = filters + group * s.filters() * depth + c * s.taps();
    const T* in = g + image * s.filters() * pixels;
    T* out = x + (image * s.channels() + c) * s.h * s.w;
    const T* start = bias ? bias + group * s.channels() + c : nullptr;
    if (s.plain()) {
      for (int64_t i = 0; i < blocks.count; ++i) {
        const int64_t place = blocks[i].row * s.ow + blocks[i].col;
        multiply(k.gemm, count, blocks[i].pixels(), s.filters(), {w, 1, depth},
                 {in + place, pixels, 1}, out + place, pixels, Start::zero, start);
      }
      return;
    }
    const ConvWindow whole = s.window(count, 0, 0, s.oh, s.ow);
    const Workspace<T> work(whole, few * s.taps(), blocks.pixels());
    k.conv.zero(work.window, count * whole.plane());
    for (int64_t i = 0; i < blocks.count; ++i) {
      const auto b = blocks[i];
      const ConvTaps taps = s.taps_of(b.rows, b.cols);
      for (int64_t j = 0; j < count; j += few) {  // patches of a few channels stay in L1
        ConvWindow window = whole;
        window.channels = std::min(few, count - j);
        multiply(k.gemm, window.channels * s.taps(), b.pixels(), s.filters(),
                 {w + j * s.taps(), 1, depth}, {in + b.row * s.ow + b.col, pixels, 1}, work.patches,
                 work.ld, Start::zero);
        k.conv.scatter(window, taps, work.patches, work.ld,
                       work.window + j * whole.plane() + b.row * taps.row_step(whole) + b.col);
      }
    }
    k.conv.close(whole, work.window, start, out);
  });
}

}  // namespace backtrail::conv
