// The output head of a classifier with many classes: cross entropy of input @ linear_weight.T, and
// its gradients, in chunks of rows, so that the logits of one chunk alone are ever held.
//
// The logits are needed for the loss and again for the gradients. So that they are computed once,
// the forward pass makes the gradients for an incoming gradient of 1, and the derivative scales
// them. A loss of each row (no reduction) has an incoming gradient of each row, known only in the
// backward pass: there they are made then. Where one chunk holds all rows, the results have the
// bits of linear and cross_entropy; sums over more of them are rounded in another place.
#include "core/parallel.h"
#include "exec/check.h"
#include "exec/gemm.h"
#include "exec/op.h"
#include "exec/rows.h"
#include "kernels/table.h"

namespace backtrail {
namespace {

// A chunk reads and writes linear_weight and its gradient once, for which it must have rows enough;
// beyond that it is better small.
constexpr int64_t kLeastRows = 256;
constexpr int64_t kLogits = int64_t(1) << 20;  // that a chunk of short rows has about

enum Input { kX, kW, kTarget, kBias, kClassWeight };
enum Wanted : int64_t { kForX = 1, kForW = 2, kForBias = 4 };

struct Sizes {
  int64_t rows, in, classes, chunk;

  // `at`: the index of `input` among the inputs of a call; the others follow.
  Sizes(const Call& c, int at)
      : rows(c.in[at].shape[0]), in(c.in[at].shape[1]), classes(c.in[at + kW].shape[0]) {
    const int64_t most = std::max(kLeastRows, kLogits / std::max<int64_t>(1, classes));
    const int64_t chunks = std::max<int64_t>(1, ceil_div(rows, most));
    chunk = ceil_div(rows, chunks);
  }
  // Logits, their largest and log-sum-exp by row, and the losses of all rows.
  int64_t workspace() const { return chunk * classes + 2 * chunk + rows; }
};

void check(const Call& c, int at) {
  const Array &x = c.in[at + kX], &w = c.in[at + kW], &target = c.in[at + kTarget];
  require_f32_or_f64(c, at, "input");
  if (x.ndim() != 2 || !w || w.ndim() != 2 || x.shape[1] != w.shape[1])
    fail(ErrorKind::runtime,
         "%s: input %s, linear_weight %s: expected (rows, in) and (classes, in)", c.name,
         to_string(x.shape).c_str(), w ? to_string(w.shape).c_str() : "None");
  require(c, at + kW, "linear_weight", x.dtype, w.shape);
  if (!target || target.dtype != DType::i64)
    fail(ErrorKind::type, "%s: target has dtype %s; expected int64 class labels", c.name,
         target ? dtype_name(target.dtype) : "None");
  require(c, at + kTarget, "target", DType::i64, Dims{x.shape[0]});
  if (given(c, at + kBias)) require(c, at + kBias, "linear_bias", x.dtype, Dims{w.shape[0]});
  if (given(c, at + kClassWeight))
    require(c, at + kClassWeight, "weight", x.dtype, Dims{w.shape[0]});
  if (!(c.attrs[1].f >= 0 && c.attrs[1].f <= 1))
    fail(ErrorKind::runtime, "%s: label_smoothing is %g; expected a number from 0 to 1", c.name,
         c.attrs[1].f);
}

// Outputs `first` and on: the gradients that are wanted, then the workspace.
void prepare_gradients(Call& c, int at, int first, int64_t wanted) {
  const Array &x = c.in[at + kX], &w = c.in[at + kW];
  c.out[first] = empty(wanted & kForX ? x.shape : Dims{0}, x.dtype);
  c.out[first + 1] = empty(wanted & kForW ? w.shape : Dims{0}, x.dtype);
  c.out[first + 2] = empty(wanted & kForBias ? Dims{w.shape[0]} : Dims{0}, x.dtype);
  c.out[first + 3] = empty(Dims{Sizes(c, at).workspace()}, x.dtype);
}

int64_t wanted_in_forward(const Call& c) { return c.attrs[2].i == kNone ? 0 : c.attrs[3].i; }

void prepare_forward(Call& c) {
  check(c, 0);
  c.out[0] = empty(c.attrs[2].i == kNone ? Dims{c.in[kX].shape[0]} : Dims{}, c.in[kX].dtype);
  prepare_gradients(c, 0, 1, wanted_in_forward(c));
}

void prepare_backward(Call& c) {
  check(c, 1);
  const Array& x = c.in[1 + kX];
  require(c, 0, "grad", x.dtype, c.attrs[2].i == kNone ? Dims{x.shape[0]} : Dims{});
  prepare_gradients(c, 1, 0, c.attrs[3].i);
}

template <class T>
struct Kernels {
  const RowwiseTable<T>& rows;
  const GemmTable<T>& gemm;
};

// Fills the wanted gradients (outputs `first` and on) and `loss` unless that is null. `grad`: the
// incoming gradient, of every row or of them all.
template <class T>
void run(const Kernels<T>& k, const Call& c, int at, int first, int64_t wanted, const T* grad,
         T* loss) {
  const Sizes s(c, at);
  const T* x = c.in[at + kX].data<T>();
  const T* w = c.in[at + kW].data<T>();
  T *dx = c.out[first].data<T>(), *dw = c.out[first + 1].data<T>(),
    *dbias = c.out[first + 2].data<T>(), *logits = c.out[first + 3].data<T>();
  CrossEntropyRows<T> r{};
  r.classes = s.classes;
  r.ignore_index = c.attrs[0].i;
  r.smoothing = T(c.attrs[1].f);
  r.logits = r.dlogits = logits;
  r.targets = c.in[at + kTarget].data<int64_t>();
  r.weight = given(c, at + kClassWeight) ? c.in[at + kClassWeight].data<T>() : nullptr;
  r.max = logits + s.chunk * s.classes;
  r.log_sum = r.max + s.chunk;
  const int64_t reduction = c.attrs[2].i;
  T* const losses = r.loss = loss && reduction == kNone ? loss : r.log_sum + s.chunk;
  check_labels(c, r, s.rows);
  r.grad = grad;
  r.grad_stride = reduction == kNone;
  r.divisor = reduction == kMean ? total_weight(r, s.rows) : T(1);
  if (r.smoothing > T(0)) r.weight_sum = r.weight ? k.rows.sum(s.classes, r.weight) : T(s.classes);

  const T one = 1;
  Epilogue<T> add_bias, more;
  if (given(c, at + kBias)) add_bias.bias = c.in[at + kBias].data<T>();
  if (s.rows == 0) {  // no chunk
    std::fill_n(dw, wanted & kForW ? s.classes * s.in : 0, T(0));
    std::fill_n(dbias, wanted & kForBias ? s.classes : 0, T(0));
  }
  for (int64_t begin = 0; begin < s.rows; begin += s.chunk) {
    const int64_t n = std::min(s.chunk, s.rows - begin);
    gemm<T>(k.gemm, n, s.classes, s.in, {x, s.in, 1}, {w, 1, s.in}, {logits, s.classes, 1},
            add_bias);
    each_rows(n, s.classes, wanted ? 0.6 : 0.3, [&](int64_t i, int64_t end) {
      k.rows.cross_entropy(r, i, end);
      if (wanted) k.rows.cross_entropy_backward(r, i, end, false);
    });
    if (wanted & kForX)
      gemm<T>(k.gemm, n, s.in, s.classes, {logits, s.classes, 1}, {w, s.in, 1},
              {dx + begin * s.in, s.in, 1});
    if (wanted & kForW)
      gemm<T>(k.gemm, s.classes, s.in, n, {logits, 1, s.classes}, {x, s.in, 1}, {dw, s.in, 1},
              more);
    if (wanted & kForBias)
      gemm<T>(k.gemm, 1, s.classes, n, {&one, 0, 0}, {logits, s.classes, 1}, {dbias, s.classes, 1},
              more);
    more.accumulate = true;
    x += n * s.in;
    r.targets += n;
    r.loss += n;
    r.grad += n * r.grad_stride;
  }
  if (loss && reduction != kNone) *loss = k.rows.sum(s.rows, losses) / r.divisor;
}

template <class F>
void by_type(const Call& c, F f) {
  if (c.in[0].dtype == DType::f64)
    f(double(), Kernels<double>{*kernels().rowwise_f64, *kernels().gemm_f64});
  else
    f(float(), Kernels<float>{*kernels().rowwise_f32, *kernels().gemm_f32});
}

void forward(const Call& c) {
  by_type(c, [&](auto one, const auto& k) {
    using T = decltype(one);
    one = 1;
    run<T>(k, c, 0, 1, wanted_in_forward(c), &one, c.out[0].data<T>());
  });
}

void backward(const Call& c) {
  by_type(c, [&](auto zero, const auto& k) {
    using T = decltype(zero);
    run<T>(k, c, 1, 0, c.attrs[3].i, c.in[0].data<T>(), nullptr);
  });
}

// name, doc, kind, inputs, outputs, public outputs, saved inputs, saved outputs, differentiable.
// Of the logits, and of the gradients of input and weight among outputs `first` and on.
double product_flops(const Call& c, int at, int first) {
  const Sizes s(c, at);
  const int products = 1 + (c.out[first].numel() > 0) + (c.out[first + 1].numel() > 0);
  return 2.0 * double(s.rows) * double(s.in) * double(s.classes) * products;
}

const Op kOps[] = {
    with_flops({"linear_cross_entropy",
                "Cross entropy of labels under softmax(input @ linear_weight.T + linear_bias).",
                Kind::opaque, 5, 5, 1, 0b11111, 0b1110, true, prepare_forward, forward},
               [](const Call& c) { return product_flops(c, 0, 1); }),
    with_flops({"linear_cross_entropy_backward",
                "Gradients of input, linear_weight and linear_bias from (grad, input, "
                "linear_weight, target, linear_bias, weight).",
                Kind::opaque, 6, 4, 3, 0, 0, false, prepare_backward, backward},
               [](const Call& c) { return product_flops(c, 1, 0); }),
};

}  // namespace

const OpTable kLinearCrossEntropyOps{kOps, int(sizeof kOps / sizeof kOps[0])};

}  // namespace backtrail
