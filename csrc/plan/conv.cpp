// Convolution and its two transposes: the image from the outputs, the filters from both. Each is
// bilinear and they are one another's derivatives, which gives gradients of every order.
//
// Patches of the image are brought together for a block of outputs that fits the L2 cache, and
// multiplied there; the matrix of all patches never exists. Every block is cut by the shape alone.
#include "plan/check.h"
#include "plan/conv_depthwise.h"

namespace backtrail {
namespace {

using namespace conv;

constexpr int64_t kBlockElements = 96 << 10;   // of the patches of a block
constexpr int64_t kFewElements = 6 << 10;      // of patches on their way back to the image
constexpr int64_t kBlockDepth = 512;           // rows of patches, about
constexpr int64_t kBlockPixels = 1 << 10;      // of a block whose outputs are packed, too
constexpr int64_t kPartialElements = 4 << 20;  // of filter gradients not yet summed

// Element (i, j) lies at data[i * rs + j * cs].
template <class T>
struct Matrix {
  const T* data;
  int64_t rs, cs;
};

// c[m, n] = start + a[m, k] @ b[k, n] on this thread, c dense in rows; see GemmBlock. One chain of
// multiply-adds for each element, whatever the cuts.
template <class T>
void multiply(const GemmTable<T>& kernels, int64_t m, int64_t n, int64_t k, Matrix<T> a,
              Matrix<T> b, T* c, int64_t c_rs, Start start, const T* first = nullptr) {
  const int64_t depth = piece(k, kBlockDepth);
  // Rows of b that fall into the same cache sets are copied, too.
  const bool pack_b = b.cs != 1 || b.rs * int64_t(sizeof(T)) % 4096 == 0;
  const bool pack_a = n > 4 * kernels.lanes && m * k > 64 * 64;
  const int64_t panel = (depth + 1) * kernels.lanes;
  const int64_t b_size = pack_b ? ceil_div(n, kernels.lanes) * panel : 0;
  T* packed = workspace<T>(b_size + (pack_a ? a_panel_size(kernels.mr, depth) : 0), kPackSlot);
  GemmBlock<T> g{};
  g.m = m;
  g.n = n;
  g.a_rs = a.rs;
  g.a_cs = a.cs;
  g.a_panel = pack_a ? packed + b_size : nullptr;
  g.b_rs = pack_b ? kernels.lanes : b.rs;
  g.b_vs = pack_b ? panel : kernels.lanes;
  g.c = c;
  g.c_rs = c_rs;
  g.start = start;
  g.first = first;
  for (int64_t done = 0; done < k; done += g.k, g.start = Start::chain) {
    g.k = std::min(depth, k - done);
    g.a = a.data + done * a.cs;
    g.b = b.data + done * b.rs;
    if (pack_b) {
      kernels.pack_b(g.k, n, g.b, b.rs, b.cs, packed, panel);
      g.b = packed;
    }
    kernels.block(g);
  }
}

// y [n, o, oh, ow] = bias + filters * x
template <class T>
void forward(const Shape& s, const T* x, const T* filters, const T* bias, T* y) {
  if (is_depthwise(s)) return depthwise(s, x, filters, bias, y);
  const Kernels<T> k;
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

// x [n, c, h, w] = bias + what every output g [n, o, oh, ow] sends back through the filters.
template <class T>
void transposed(const Shape& s, const T* g, const T* filters, const T* bias, T* x) {
  if (is_depthwise(s)) return depthwise_transposed(s, g, filters, bias, x);
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

// filters [o, c / groups, kh, kw] = sum over images and outputs of g times the patch it saw.
template <class T>
void filter_gradient(const Shape& s, const T* x, const T* g, T* filters) {
  if (is_depthwise(s)) return depthwise_filter_gradient(s, x, g, filters);
  const Kernels<T> k;
  const int64_t depth = s.depth(), pixels = s.pixels(), size = s.o * depth;
  const int64_t channels = piece(s.channels(), kBlockDepth / s.taps());
  const int64_t cuts = ceil_div(s.channels(), channels);
  const Blocks blocks(s, std::min(kBlockPixels, kBlockElements / (channels * s.taps())));
  // Vectors run along the filters, or where those are few along the patches.
  const bool upright = s.filters() >= k.gemm.lanes / 2 || s.filters() >= depth;
  // Images in equal parts, each with a sum of its own.
  const int64_t most = std::clamp<int64_t>(kPartialElements / size, 1, kTasks);
  const int64_t share = std::max<int64_t>(1, ceil_div(s.n, most));
  const int64_t parts = std::max<int64_t>(1, ceil_div(s.n, share));
  T* sums = workspace<T>(parts * size, kSharedSlot);  // each a matrix for every group

  run_tasks(parts * s.groups * cuts, s.flops() / k.gemm.flops_per_ns, [&](int64_t task) {
    const int64_t part = task / (s.groups * cuts), group = task / cuts % s.groups;
    const int64_t c = task % cuts * channels, count = std::min(channels, s.channels() - c);
    const int64_t rows = count * s.taps();
    T* sum = sums + part * size + group * depth * s.filters();
    bool begun = false;
    for (int64_t n = part * share; n < std::min(s.n, (part + 1) * share); ++n) {
      const T* in = x + (n * s.c + group * s.channels() + c) * s.h * s.w;
      const T* out = g + (n * s.o + group * s.filters()) * pixels;
      for (int64_t i = 0; i < blocks.count; ++i, begun = true) {
        const auto b = blocks[i];
        const int64_t place = b.row * s.ow + b.col;
        const Start start = begun ? Start::chain : Start::zero;
        Matrix<T> patches{in + place, pixels, 1};
        if (!s.plain()) {
          const ConvWindow window = s.window(count, b.row, b.col, b.rows, b.cols);
          const Workspace<T> work(window, rows, b.pixels());
          k.conv.open(window, in, work.window);
          k.conv.gather(window, s.taps_of(b.rows, b.cols), work.window, work.patches, work.ld);
          patches = {work.patches, work.ld, 1};
        }
        if (upright)
          multiply(k.gemm, rows, s.filters(), b.pixels(), patches, {out + place, 1, pixels},
                   sum + c * s.taps() * s.filters(), s.filters(), start);
        else
          multiply(k.gemm, s.filters(), rows, b.pixels(), {out + place, pixels, 1},
                   {patches.data, 1, patches.rs}, sum + c * s.taps(), depth, start);
      }
    }
    if (!begun && c == 0)  // an empty batch
      for (int64_t i = 0; i < s.filters(); ++i) k.conv.zero(sum + i * depth, depth);
  });
  parallel_for(s.groups, kNsPerElement * double(size) * double(parts), [&](int64_t group) {
    const int64_t first = group * depth * s.filters();
    if (upright)
      k.conv.sum_transposed(parts, size, depth, s.filters(), sums + first, filters + first, depth);
    else
      k.conv.sum_transposed(parts, size, 1, s.filters() * depth, sums + first, filters + first, 1);
  });
}

// ---- the ops: attributes (stride, padding before the image, dilation, groups, size), where `size`
// are the last dimensions of the result: any are meaningful, as the image is 0 outside.

Dims with_size(const Call& c, int64_t first, int64_t second) {
  Dims shape{first, second};
  const ListAttr size = list_attr(c, 4);
  for (int64_t i = 0; i < size.n; ++i) shape.push(size.items[i]);
  return shape;
}

void check(const Call& c, const char* first, const char* second) {
  const Array &a = c.in[0], &b = c.in[1];
  require_f32_or_f64(c, 0, first);
  if (!given(c, 1)) fail(ErrorKind::type, "%s: %s is None; expected a Tensor", c.name, second);
  if (b.dtype != a.dtype)
    fail(ErrorKind::runtime, "%s: %s is %s and %s is %s; expected the same dtype", c.name, first,
         dtype_name(a.dtype), second, dtype_name(b.dtype));
  if ((a.ndim() != 3 && a.ndim() != 4) || a.ndim() != b.ndim())
    fail(ErrorKind::runtime, "%s: %s %s, %s %s: expected both with 3 dimensions, or with 4", c.name,
         first, to_string(a.shape).c_str(), second, to_string(b.shape).c_str());
  for (int i = 1; i < a.ndim(); ++i)
    if (a.shape[i] == 0 || b.shape[i] == 0)
      fail(ErrorKind::runtime, "%s: %s %s, %s %s: only the batch may be empty", c.name, first,
           to_string(a.shape).c_str(), second, to_string(b.shape).c_str());
  const int64_t dims = a.ndim() - 2;
  for (int i : {0, 1, 2, 4}) {
    const ListAttr list = list_attr(c, i);
    if (list.n != dims)
      fail(ErrorKind::runtime, "%s: attribute %d has %lld numbers; expected %lld", c.name, i,
           (long long)list.n, (long long)dims);
    for (int64_t j = 0; j < dims; ++j)
      if (list.items[j] < (i == 1 ? 0 : 1))
        fail(ErrorKind::runtime, "%s: attribute %d holds %lld, which is too small", c.name, i,
             (long long)list.items[j]);
  }
  if (integer_attr(c, 3) < 1)
    fail(ErrorKind::runtime, "%s: groups is %lld; it must be positive", c.name,
         (long long)integer_attr(c, 3));
}

void require_equal(const Call& c, int64_t got, int64_t expected, const char* what) {
  if (got == expected) return;
  fail(ErrorKind::runtime, "%s: %s and %s with groups=%lld: %s is %lld; expected %lld", c.name,
       to_string(c.in[0].shape).c_str(), to_string(c.in[1].shape).c_str(),
       (long long)integer_attr(c, 3), what, (long long)got, (long long)expected);
}

void require_groups(const Call& c, int64_t channels, const char* what) {
  const int64_t groups = integer_attr(c, 3);
  if (channels % groups)
    fail(ErrorKind::runtime, "%s: %lld %s do not divide into %lld groups", c.name,
         (long long)channels, what, (long long)groups);
}

void require_bias(const Call& c, int64_t channels) {
  if (given(c, 2)) require(c, 2, "bias", c.in[0].dtype, Dims{channels});
}

void prepare_forward(Call& c) {
  check(c, "input", "weight");
  const Dims &x = c.in[0].shape, &w = c.in[1].shape;
  require_groups(c, w[0], "filters");
  require_equal(c, x[1], w[1] * integer_attr(c, 3), "the number of input channels");
  require_bias(c, w[0]);
  c.out[0] = empty(with_size(c, x[0], w[0]), c.in[0].dtype);
}

void prepare_transposed(Call& c) {
  check(c, "input", "weight");
  const Dims &g = c.in[0].shape, &w = c.in[1].shape;
  require_groups(c, w[0], "input channels");
  require_equal(c, g[1], w[0], "the number of input channels");
  const int64_t channels = w[1] * integer_attr(c, 3);
  require_bias(c, channels);
  c.out[0] = empty(with_size(c, g[0], channels), c.in[0].dtype);
}

void prepare_filter_gradient(Call& c) {
  check(c, "input", "grad");
  const Dims &x = c.in[0].shape, &g = c.in[1].shape;
  require_groups(c, x[1], "input channels");
  require_groups(c, g[1], "filters");
  require_equal(c, g[0], x[0], "the batch");
  c.out[0] = empty(with_size(c, g[1], x[1] / integer_attr(c, 3)), c.in[0].dtype);
}

template <class F>
void by_type(const Call& c, F f) {
  if (c.out[0].numel() == 0) return;
  if (c.in[0].dtype == DType::f32)
    f(float());
  else
    f(double());
}

template <class T>
const T* optional(const Call& c, int i) {
  return given(c, i) ? c.in[i].data<T>() : nullptr;
}

void execute_forward(const Call& c) {
  by_type(c, [&](auto zero) {
    using T = decltype(zero);
    forward<T>(Shape(c, c.in[0].shape, c.in[1].shape, c.out[0].shape), c.in[0].data<T>(),
               c.in[1].data<T>(), optional<T>(c, 2), c.out[0].data<T>());
  });
}

void execute_transposed(const Call& c) {
  by_type(c, [&](auto zero) {
    using T = decltype(zero);
    transposed<T>(Shape(c, c.out[0].shape, c.in[1].shape, c.in[0].shape), c.in[0].data<T>(),
                  c.in[1].data<T>(), optional<T>(c, 2), c.out[0].data<T>());
  });
}

void execute_filter_gradient(const Call& c) {
  by_type(c, [&](auto zero) {
    using T = decltype(zero);
    filter_gradient<T>(Shape(c, c.in[0].shape, c.out[0].shape, c.in[1].shape), c.in[0].data<T>(),
                       c.in[1].data<T>(), c.out[0].data<T>());
  });
}

// Of a call whose image, filters and result are these.
double product_flops(const Call& c, const Array& x, const Array& w, const Array& y) {
  return c.out[0].numel() ? Shape(c, x.shape, w.shape, y.shape).flops() : 0;
}

const Op kOps[] = {
    with_flops({"convolution",
                "Cross-correlation of images (N, C, ...) with filters (O, C / groups, ...).",
                Kind::opaque, 3, 1, 1, 0b11, 0, true, prepare_forward, execute_forward},
               [](const Call& c) { return product_flops(c, c.in[0], c.in[1], c.out[0]); }),
    with_flops({"conv_transpose", "The transpose of convolution in its image.", Kind::opaque, 3, 1,
                1, 0b11, 0, true, prepare_transposed, execute_transposed},
               [](const Call& c) { return product_flops(c, c.out[0], c.in[1], c.in[0]); }),
    with_flops(
        {"conv_weight", "The transpose of convolution in its filters, from image and gradient.",
         Kind::opaque, 2, 1, 1, 0b11, 0, true, prepare_filter_gradient, execute_filter_gradient},
        [](const Call& c) { return product_flops(c, c.in[0], c.out[0], c.in[1]); }),
};

}  // namespace

const OpTable kConvOps{kOps, int(sizeof kOps / sizeof *kOps)};

}  // namespace backtrail
