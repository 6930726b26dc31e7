// Convolution and its two transposes: the image from the outputs, the filters from both. Each is
// bilinear and they are one another's derivatives, which gives gradients of every order.
//
// Patches of the image are brought together for a block of outputs that fits the L2 cache, and
// multiplied there; the matrix of all patches never exists. Every block is cut by the shape alone.
#include "exec/check.h"
#include "exec/conv_filters.h"
#include "exec/conv_image.h"

namespace backtrail {
namespace {

using namespace conv;

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
    needing(
        {2, 1},
        with_flops({"convolution",
                    "Cross-correlation of images (N, C, ...) with filters (O, C / groups, ...).",
                    Kind::opaque, 3, 1, 1, 0b11, 0, true, prepare_forward, execute_forward},
                   [](const Call& c) { return product_flops(c, c.in[0], c.in[1], c.out[0]); })),
    needing(
        {2, 1},
        with_flops({"conv_transpose", "The transpose of convolution in its image.", Kind::opaque, 3,
                    1, 1, 0b11, 0, true, prepare_transposed, execute_transposed},
                   [](const Call& c) { return product_flops(c, c.out[0], c.in[1], c.in[0]); })),
    needing({2, 1},
            with_flops({"conv_weight",
                        "The transpose of convolution in its filters, from image and gradient.",
                        Kind::opaque, 2, 1, 1, 0b11, 0, true, prepare_filter_gradient,
                        execute_filter_gradient},
                       [](const Call& c) { return product_flops(c, c.in[0], c.out[0], c.in[1]); })),
};

}  // namespace

const OpTable kConvOps{kOps, int(sizeof kOps / sizeof *kOps)};

}  // namespace backtrail
