// Pooling over the last one or two dimensions: checks, outputs, and how planes are cut into tasks.
#include <algorithm>
#include <limits>

#include "core/parallel.h"
#include "exec/arguments.h"
#include "exec/check.h"
#include "kernels/table.h"

namespace backtrail {
namespace {

constexpr int64_t kTaskElements = 16 << 10;
constexpr double kNsPerElement = 0.5;

// Attributes (kernel, stride, padding, dilation, size), one number a dimension; `size` is that of
// the result. A kernel of 0 is adaptive. Means have (count_include_pad, divisor) behind them.
struct Pooling {
  PoolShape shape;
  int64_t planes;

  // `in`, `out`: the shapes before and after pooling.
  Pooling(const Call& c, const Dims& in, const Dims& out) {
    const int dims = int(list_attr(c, 4).n);
    auto axis = [&](int d) -> PoolAxis {  // counted from the last
      if (d >= dims) return {1, 1, 1, 1, 0, 1};
      auto number = [&](int a) { return list_attr(c, a).items[dims - 1 - d]; };
      const int64_t size = out[out.n - 1 - d], kernel = number(0);
      // Steps that are never taken are 1, however long they are.
      return {in[in.n - 1 - d],          size,      kernel,
              size == 1 ? 1 : number(1), number(2), kernel <= 1 ? 1 : number(3)};
    };
    shape = {axis(1), axis(0), integer_attr(c, 5, 1) != 0, integer_attr(c, 6)};
    planes = 1;
    for (int i = 0; i + dims < in.n; ++i) planes *= in[i];
  }
};

// The input's shape with its last dimensions replaced by the attribute `size`.
Dims resized(const Call& c) {
  Dims shape = c.in[0].shape;
  const ListAttr size = list_attr(c, 4);
  for (int i = 0; i < size.n; ++i) shape[shape.n - int(size.n) + i] = size.items[i];
  return shape;
}

void check(const Call& c, const char* what) {
  const Dims& x = c.in[0].shape;
  require_f32_or_f64(c, 0, what);
  const int64_t dims = list_attr(c, 4).n;
  if (dims < 1 || dims > 2 || x.n < dims)
    fail(ErrorKind::runtime,
         "%s: %s has shape %s and size has %lld numbers; expected 1 or 2 of "
         "them, and as many dimensions",
         c.name, what, to_string(x).c_str(), (long long)dims);
  for (int a = 0; a < 5; ++a) {
    const ListAttr list = list_attr(c, a);
    if (list.n != dims)
      fail(ErrorKind::runtime, "%s: attribute %d has %lld numbers; expected %lld", c.name, a,
           (long long)list.n, (long long)dims);
    for (int64_t i = 0; i < dims; ++i)
      if (list.items[i] < (a == 1 || a == 3 || a == 4 ? 1 : 0))
        fail(ErrorKind::runtime, "%s: attribute %d holds %lld, which is too small", c.name, a,
             (long long)list.items[i]);
  }
  int64_t plane = 1;
  bool large = false;
  for (int i = 0; i < dims; ++i)
    large |=
        __builtin_mul_overflow(plane, std::max(x[x.n - 1 - i], list_attr(c, 4).items[i]), &plane);
  if (large || plane > std::numeric_limits<int32_t>::max())
    fail(ErrorKind::runtime, "%s: %s has shape %s: a plane must have less than 2**31 elements",
         c.name, what, to_string(x).c_str());
  for (int i = 0; i < dims; ++i)
    if (x[x.n - 1 - i] == 0)
      fail(ErrorKind::runtime, "%s: %s has shape %s: there is nothing to pool", c.name, what,
           to_string(x).c_str());
}

// f(kernels, plane) for every plane, on several threads.
template <class F>
void for_planes(const Call& c, const Pooling& p, F f) {
  const int64_t each = p.shape.in() + p.shape.out();
  const int64_t share = std::max<int64_t>(1, kTaskElements / each);
  const int64_t one = 1;
  // What a window sees, for overlapping ones.
  const double work =
      std::max(double(p.shape.in()), double(p.shape.out()) *
                                         double(std::clamp(p.shape.h.kernel, one, p.shape.h.size)) *
                                         double(std::clamp(p.shape.w.kernel, one, p.shape.w.size)));
  parallel_for(chunks(p.planes, share), kNsPerElement * double(p.planes) * work, [&](int64_t t) {
    for (int64_t i = t * share; i < std::min(p.planes, (t + 1) * share); ++i)
      if (c.in[0].dtype == DType::f32)
        f(*kernels().pool_f32, float(), i);
      else
        f(*kernels().pool_f64, double(), i);
  });
}

void prepare_max(Call& c) {
  check(c, "input");
  c.out[0] = empty(resized(c), c.in[0].dtype);
  c.out[1] = empty(c.out[0].shape, DType::i32);
}

void execute_max(const Call& c) {
  const Pooling p(c, c.in[0].shape, c.out[0].shape);
  for_planes(c, p, [&](const auto& k, auto zero, int64_t i) {
    using T = decltype(zero);
    k.max(p.shape, c.in[0].data<T>() + i * p.shape.in(), c.out[0].data<T>() + i * p.shape.out(),
          c.out[1].data<int32_t>() + i * p.shape.out());
  });
}

void prepare_max_backward(Call& c) {
  check(c, "grad");
  require(c, 1, "indices", DType::i32, c.in[0].shape);
  c.out[0] = empty(resized(c), c.in[0].dtype);
}

void execute_max_backward(const Call& c) {
  const Pooling p(c, c.out[0].shape, c.in[0].shape);
  for_planes(c, p, [&](const auto& k, auto zero, int64_t i) {
    using T = decltype(zero);
    k.max_backward(p.shape, c.in[0].data<T>() + i * p.shape.out(),
                   c.in[1].data<int32_t>() + i * p.shape.out(),
                   c.out[0].data<T>() + i * p.shape.in());
  });
}

void prepare_mean(Call& c) {
  check(c, "input");
  c.out[0] = empty(resized(c), c.in[0].dtype);
}

void execute_mean(const Call& c) {
  const Pooling p(c, c.in[0].shape, c.out[0].shape);
  for_planes(c, p, [&](const auto& k, auto zero, int64_t i) {
    using T = decltype(zero);
    k.mean(p.shape, c.in[0].data<T>() + i * p.shape.in(), c.out[0].data<T>() + i * p.shape.out());
  });
}

void execute_mean_backward(const Call& c) {
  const Pooling p(c, c.out[0].shape, c.in[0].shape);
  for_planes(c, p, [&](const auto& k, auto zero, int64_t i) {
    using T = decltype(zero);
    k.mean_backward(p.shape, c.in[0].data<T>() + i * p.shape.out(),
                    c.out[0].data<T>() + i * p.shape.in());
  });
}

// name, doc, kind, inputs, outputs, public outputs, saved inputs, saved outputs, differentiable.
const Op kOps[] = {
    {"max_pool", "Largest element of every window, and its place in its plane.", Kind::opaque, 1, 2,
     2, 0, 0b10, true, prepare_max, execute_max},
    {"max_pool_backward", "Sends gradients to the places max_pool found.", Kind::opaque, 2, 1, 1,
     0b10, 0, true, prepare_max_backward, execute_max_backward},
    {"avg_pool", "Mean of every window.", Kind::opaque, 1, 1, 1, 0, 0, true, prepare_mean,
     execute_mean},
    {"avg_pool_backward", "The transpose of avg_pool.", Kind::opaque, 1, 1, 1, 0, 0, true,
     prepare_mean, execute_mean_backward},
};

}  // namespace

const OpTable kPoolOps{kOps, int(sizeof kOps / sizeof *kOps)};

}  // namespace backtrail
