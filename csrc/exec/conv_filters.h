// Convolution's transpose in the filters.
#pragma once
#include "exec/conv_depthwise.h"
#include "exec/conv_product.h"

namespace backtrail::conv {

constexpr int64_t kBlockPixels = 1 << 10;      // of a block whose outputs are packed, too
constexpr int64_t kPartialElements = 4 << 20;  // of filter gradients not yet summed

// filters [o, c / groups, kh, kw] = sum over images and outputs of g times the patch it saw. The
// images are in equal parts, each with a sum of its own.
template <class T>
struct FilterGradient {
  const Kernels<T> k;
  const Shape& s;
  const T *x, *g;
  const int64_t depth = s.depth(), pixels = s.pixels(), size = s.o * depth;
  const int64_t channels = piece(s.channels(), kBlockDepth / s.taps());  // of a task
  const int64_t cuts = ceil_div(s.channels(), channels);
  // Vectors run along the filters, or where those are few along the patches.
  const bool upright = s.filters() >= k.gemm.lanes / 2 || s.filters() >= depth;
  const int64_t most = std::clamp<int64_t>(kPartialElements / size, 1, kTasks);
  const int64_t share = std::max<int64_t>(1, ceil_div(s.n, most));
  const int64_t parts = std::max<int64_t>(1, ceil_div(s.n, share));
  T* const sums = workspace<T>(parts * size, kSharedSlot);  // each a matrix for every group

  // What one task adds up.
  struct Part {
    int64_t group, channel, channels, begin, end;  // of the images
    T* sum;
    bool begun = false;
  };

  void run(T* filters) const {
    run_tasks(parts * s.groups * cuts, s.flops() / k.gemm.flops_per_ns, [&](int64_t task) {
      const int64_t part = task / (s.groups * cuts), group = task / cuts % s.groups;
      const int64_t c = task % cuts * channels;
      Part p{group,
             c,
             std::min(channels, s.channels() - c),
             part * share,
             std::min(s.n, (part + 1) * share),
             sums + part * size + group * depth * s.filters()};
      if (are_small(s))
        add_together(p);
      else
        add_blocks(p);
      if (!p.begun && c == 0)  // an empty batch
        for (int64_t i = 0; i < s.filters(); ++i) k.conv.zero(p.sum + i * depth, depth);
    });
    parallel_for(s.groups, kNsPerElement * double(size) * double(parts), [&](int64_t group) {
      const int64_t first = group * depth * s.filters();
      if (upright)
        k.conv.sum_transposed(parts, size, depth, s.filters(), sums + first, filters + first,
                              depth);
      else
        k.conv.sum_transposed(parts, size, 1, s.filters() * depth, sums + first, filters + first,
                              1);
    });
  }

  const T* image(const Part& p, int64_t n) const {
    return x + (n * s.c + p.group * s.channels() + p.channel) * s.h * s.w;
  }
  const T* outputs(const Part& p, int64_t n) const {
    return g + (n * s.o + p.group * s.filters()) * pixels;
  }

  // Both have a column for every output; rows of the outputs have stride `ld`.
  void add(Part& p, int64_t columns, Matrix<T> patches, const T* outs, int64_t ld) const {
    const int64_t rows = p.channels * s.taps(), row = p.channel * s.taps();
    const Start start = p.begun ? Start::chain : Start::zero;
    if (upright)
      multiply(k.gemm, rows, s.filters(), columns, patches, {outs, 1, ld},
               p.sum + row * s.filters(), s.filters(), start);
    else
      multiply(k.gemm, s.filters(), rows, columns, {outs, ld, 1}, {patches.data, 1, patches.rs},
               p.sum + row, depth, start);
    p.begun = true;
  }

  void add_blocks(Part& p) const {
    const int64_t rows = p.channels * s.taps();
    const Blocks blocks(s, std::min(kBlockPixels, kBlockElements / (channels * s.taps())));
    for (int64_t n = p.begin; n < p.end; ++n)
      for (int64_t i = 0; i < blocks.count; ++i) {
        const auto b = blocks[i];
        const int64_t place = b.row * s.ow + b.col;
        Matrix<T> patches{image(p, n) + place, pixels, 1};
        if (!s.plain()) {
          const ConvWindow window = s.window(p.channels, b.row, b.col, b.rows, b.cols);
          const Workspace<T> work(window, rows, b.pixels());
          k.conv.open(window, image(p, n), work.window);
          k.conv.gather(window, s.taps_of(b.rows, b.cols), work.window, work.patches, work.ld);
          patches = {work.patches, work.ld, 1};
        }
        add(p, b.pixels(), patches, outputs(p, n) + place, pixels);
      }
  }

  // Several images of few pixels at a time.
  void add_together(Part& p) const {
    const int64_t rows = p.channels * s.taps();
    const int64_t most_images = kBlockElements / (channels * s.taps() * pixels);
    const int64_t images = std::clamp<int64_t>(most_images, 1, share);
    const ConvWindow window = s.window(p.channels, 0, 0, s.oh, s.ow);
    for (int64_t n = p.begin; n < p.end; n += images) {
      const int64_t count = std::min(images, p.end - n);
      const Workspace<T> work(window, rows + s.filters(), count * pixels + k.conv.lanes);
      T* outs = work.patches + rows * work.ld;
      for (int64_t i = 0; i < count; ++i) {
        whole_patches(s, k.conv, window, image(p, n + i), work, i * pixels);
        for (int64_t j = 0; j < s.filters(); ++j)
          std::copy_n(outputs(p, n + i) + j * pixels, pixels, outs + j * work.ld + i * pixels);
      }
      add(p, count * pixels, {work.patches, work.ld, 1}, outs, work.ld);
    }
  }
};

template <class T>
void filter_gradient(const Shape& s, const T* x, const T* g, T* filters) {
  if (is_depthwise(s)) return depthwise_filter_gradient(s, x, g, filters);
  FilterGradient<T>{{}, s, x, g}.run(filters);
}

}  // namespace backtrail::conv
