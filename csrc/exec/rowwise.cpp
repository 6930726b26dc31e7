// Softmax, norms and cross entropy: their checks, outputs, and how rows are cut into tasks.
#include <algorithm>

#include "core/parallel.h"
#include "exec/check.h"
#include "exec/op.h"
#include "exec/rows.h"
#include "kernels/table.h"

namespace backtrail {
namespace {

constexpr int64_t kStreamBytes = int64_t(16) << 20;  // outputs this large would not stay in cache
constexpr int64_t kMostPartials = 32;                // of a sum over rows
constexpr int kPartialSlot = 1;                      // of scratch(); what follows a row uses 0

// Calls f with an element of the type of input 0 and the kernels for that type.
template <class F>
void by_type(const Call& c, F f) {
  if (c.in[0].dtype == DType::f64)
    f(double(), *kernels().rowwise_f64);
  else
    f(float(), *kernels().rowwise_f32);
}

template <class T>
T* optional(const Call& c, int i) {
  return given(c, i) ? c.in[i].data<T>() : nullptr;
}

struct Rows {
  int64_t rows, n;
};

// Rows [begin, end) of the first output are final.
void follow(const Then* then, int64_t begin, int64_t end, int64_t n) {
  if (then) then->run(then->context, begin * n, 1, (end - begin) * n, 0);
}
// The two ways to execute an op whose rows something may follow.
template <void (*run)(const Call&, const Then*)>
void alone(const Call& c) {
  run(c, nullptr);
}
template <void (*run)(const Call&, const Then*)>
void followed(const Call& c, const Then& then) {
  run(c, &then);
}
// Rows along the last dimension.
Rows last_dim(const Array& a) {
  const int64_t n = a.ndim() ? a.shape.back() : 1;
  return {n ? a.numel() / n : 0, n};
}

void prepare_softmax(Call& c) {
  require_f32_or_f64(c, 0, "input");
  c.out[0] = empty(c.in[0].shape, c.in[0].dtype);
}

void prepare_softmax_backward(Call& c) {
  require_f32_or_f64(c, 0, "grad");
  require(c, 1, "output", c.in[0].dtype, c.in[0].shape);
  c.out[0] = empty(c.in[0].shape, c.in[0].dtype);
}

bool streams(const Array& out) { return out.numel() * int64_t(out.item()) >= kStreamBytes; }

template <bool log>
void softmax(const Call& c, const Then* then) {
  by_type(c, [&](auto zero, const auto& k) {
    using T = decltype(zero);
    const T* x = c.in[0].data<T>();
    T* y = c.out[0].data<T>();
    const auto [rows, n] = last_dim(c.in[0]);
    each_rows(rows, n, 0.4, [&, n = n, stream = streams(c.out[0])](int64_t i, int64_t end) {
      (log ? k.log_softmax : k.softmax)(end - i, n, x + i * n, y + i * n, stream);
      follow(then, i, end, n);
    });
  });
}

template <bool log>
void softmax_backward(const Call& c, const Then* then) {
  by_type(c, [&](auto zero, const auto& k) {
    using T = decltype(zero);
    const T *g = c.in[0].data<T>(), *y = c.in[1].data<T>();
    T* dx = c.out[0].data<T>();
    const auto [rows, n] = last_dim(c.in[0]);
    each_rows(rows, n, 0.3, [&, n = n, stream = streams(c.out[0])](int64_t i, int64_t end) {
      (log ? k.log_softmax_backward : k.softmax_backward)(end - i, n, g + i * n, y + i * n,
                                                          dx + i * n, stream);
      follow(then, i, end, n);
    });
  });
}

// The number of elements normalised together, from attribute 0, and how many such rows `x` has.
Rows norm_rows(const Call& c, const Array& x) {
  const int64_t n = c.attrs[0].i, numel = x.numel();
  if (n < 0 || (n == 0 ? numel != 0 : numel % n != 0))
    fail(ErrorKind::runtime,
         "%s: input of shape %s cannot be normalised in rows of %lld elements: normalized_shape "
         "must be its last dimensions",
         c.name, to_string(x.shape).c_str(), (long long)n);
  return {n ? numel / n : 0, n};
}

void require_row(const Call& c, int i, const char* what, DType dtype, int64_t n) {
  if (!given(c, i)) return;
  if (c.in[i].dtype == dtype && c.in[i].numel() == n) return;
  require(c, i, what, dtype, Dims{n});
}

template <bool layer>  // layer_norm, else rms_norm
void prepare_norm(Call& c) {
  const Array& x = c.in[0];
  require_f32_or_f64(c, 0, "input");
  const Rows r = norm_rows(c, x);
  require_row(c, 1, "weight", x.dtype, r.n);
  if (layer) require_row(c, 2, "bias", x.dtype, r.n);
  c.out[0] = empty(x.shape, x.dtype);
  for (int i = 1; i <= 1 + layer; ++i) c.out[i] = empty(Dims{r.rows}, x.dtype);
}

void rms_norm(const Call& c, const Then* then) {
  by_type(c, [&](auto zero, const auto& k) {
    using T = decltype(zero);
    const T *x = c.in[0].data<T>(), *weight = optional<T>(c, 1);
    T *y = c.out[0].data<T>(), *rstd = c.out[1].data<T>();
    const auto [rows, n] = norm_rows(c, c.in[0]);
    const T epsilon = sizeof(T) == 8 ? T(0x1p-52) : T(0x1p-23);  // of the type, as torch's default
    const T eps = c.attrs[1].given() ? T(c.attrs[1].f) : epsilon;
    each_rows(rows, n, 0.15, [&, n = n](int64_t i, int64_t end) {
      k.rms_norm(end - i, n, x + i * n, weight, eps, y + i * n, rstd + i);
      follow(then, i, end, n);
    });
  });
}

void layer_norm(const Call& c, const Then* then) {
  by_type(c, [&](auto zero, const auto& k) {
    using T = decltype(zero);
    const T *x = c.in[0].data<T>(), *weight = optional<T>(c, 1), *bias = optional<T>(c, 2);
    T *y = c.out[0].data<T>(), *mean = c.out[1].data<T>(), *rstd = c.out[2].data<T>();
    const auto [rows, n] = norm_rows(c, c.in[0]);
    each_rows(rows, n, 0.2, [&, n = n, eps = T(c.attrs[1].f)](int64_t i, int64_t end) {
      k.layer_norm(end - i, n, x + i * n, weight, bias, eps, y + i * n, mean + i, rstd + i);
      follow(then, i, end, n);
    });
  });
}

template <bool layer>
void prepare_norm_backward(Call& c) {
  const Array& g = c.in[0];
  require_f32_or_f64(c, 0, "grad");
  require(c, 1, "input", g.dtype, g.shape);
  const Rows r = norm_rows(c, g);
  require_row(c, 2, "weight", g.dtype, r.n);
  if (layer) require(c, 3, "mean", g.dtype, Dims{r.rows});
  require(c, 3 + layer, "rstd", g.dtype, Dims{r.rows});
  c.out[0] = empty(g.shape, g.dtype);
  c.out[1] = empty(Dims{given(c, 2) ? r.n : 0}, g.dtype);
  if (layer) c.out[2] = empty(Dims{r.n}, g.dtype);
}

// The gradients of norm weights sum over rows: in blocks of rows cut by shape, each into a partial
// sum, then over the blocks. f(begin, end, to) does one block, of `sums` sums of n; out[0] may be
// null.
template <class T, class F>
void sum_over_rows(const RowwiseTable<T>& k, int64_t rows, int64_t n, double ns_per_element,
                   int sums, T* const* out, F f) {
  const int64_t least = ceil_div(kTaskElements, std::max<int64_t>(1, n));
  const int64_t size = std::max(least, ceil_div(rows, kMostPartials));
  if (rows <= size) return f(int64_t(0), rows, out);
  const int64_t blocks = ceil_div(rows, size);
  T* partials = static_cast<T*>(scratch(size_t(sums * blocks * n) * sizeof(T), kPartialSlot));
  parallel_for(blocks, double(rows) * (double(n) * ns_per_element + 20), [&](int64_t block) {
    T* to[2] = {out[0] ? partials + block * n : nullptr, partials + (blocks + block) * n};
    f(block * size, std::min(rows, (block + 1) * size), to);
  });
  for (int s = 0; s < sums; ++s)
    if (out[s]) k.sum_rows(blocks, n, partials + s * blocks * n, out[s]);
}

void rms_norm_backward(const Call& c, const Then* then) {
  by_type(c, [&](auto zero, const auto& k) {
    using T = decltype(zero);
    const T *g = c.in[0].data<T>(), *x = c.in[1].data<T>(), *weight = optional<T>(c, 2);
    const T* rstd = c.in[3].data<T>();
    T* dx = c.out[0].data<T>();
    const auto [rows, n] = norm_rows(c, c.in[0]);
    auto block = [&, n = n](int64_t i, int64_t end, T* dweight) {
      k.rms_norm_backward(end - i, n, g + i * n, x + i * n, weight, rstd + i, dx + i * n, dweight);
      follow(then, i, end, n);
    };
    if (!weight)
      return each_rows(rows, n, 0.2, [&](int64_t i, int64_t end) { block(i, end, nullptr); });
    T* out[] = {c.out[1].data<T>()};
    sum_over_rows(k, rows, n, 0.25, 1, out,
                  [&](int64_t i, int64_t end, T* const* to) { block(i, end, to[0]); });
  });
}

void layer_norm_backward(const Call& c, const Then* then) {
  by_type(c, [&](auto zero, const auto& k) {
    using T = decltype(zero);
    const T *g = c.in[0].data<T>(), *x = c.in[1].data<T>(), *weight = optional<T>(c, 2);
    const T *mean = c.in[3].data<T>(), *rstd = c.in[4].data<T>();
    T* dx = c.out[0].data<T>();
    const auto [rows, n] = norm_rows(c, c.in[0]);
    T* out[] = {weight ? c.out[1].data<T>() : nullptr, c.out[2].data<T>()};
    sum_over_rows(k, rows, n, 0.3, 2, out, [&, n = n](int64_t i, int64_t end, T* const* to) {
      k.layer_norm_backward(end - i, n, g + i * n, x + i * n, weight, mean + i, rstd + i,
                            dx + i * n, to[0], to[1]);
      follow(then, i, end, n);
    });
  });
}

// `at`: the index of logits among the inputs; targets and weight follow.
void check_cross_entropy(const Call& c, int at) {
  const Array &logits = c.in[at], &targets = c.in[at + 1];
  require_f32_or_f64(c, at, "input");
  if (logits.ndim() != 2)
    fail(ErrorKind::runtime, "%s: input has shape %s; expected (rows, classes)", c.name,
         to_string(logits.shape).c_str());
  if (targets.dtype != DType::i64)
    fail(ErrorKind::type, "%s: target has dtype %s; expected int64 class labels", c.name,
         dtype_name(targets.dtype));
  require(c, at + 1, "target", DType::i64, Dims{logits.shape[0]});
  if (given(c, at + 2)) require(c, at + 2, "weight", logits.dtype, Dims{logits.shape[1]});
  if (!(c.attrs[1].f >= 0 && c.attrs[1].f <= 1))
    fail(ErrorKind::runtime, "%s: label_smoothing is %g; expected a number from 0 to 1", c.name,
         c.attrs[1].f);
}

void prepare_cross_entropy(Call& c) {
  check_cross_entropy(c, 0);
  const DType dtype = c.in[0].dtype;
  const int64_t rows = c.in[0].shape[0];
  c.out[0] = empty(c.attrs[2].i == kNone ? Dims{rows} : Dims{}, dtype);
  c.out[1] = empty(Dims{2, rows}, dtype);
  c.out[2] = empty(Dims{1}, dtype);
}

void prepare_cross_entropy_backward(Call& c) {
  check_cross_entropy(c, 1);
  const Array& logits = c.in[1];
  const int64_t rows = logits.shape[0];
  require(c, 0, "grad", logits.dtype, c.attrs[2].i == kNone ? Dims{rows} : Dims{});
  require(c, 4, "log-sum-exp", logits.dtype, Dims{2, rows});
  require(c, 5, "total weight", logits.dtype, Dims{1});
  c.out[0] = empty(logits.shape, logits.dtype);
}

// What forward and backward share, with logits at input `at`. Fails for a label out of range.
template <class T>
CrossEntropyRows<T> cross_entropy_rows(const Call& c, int at) {
  CrossEntropyRows<T> r{};
  r.classes = c.in[at].shape[1];
  r.ignore_index = c.attrs[0].i;
  r.smoothing = T(c.attrs[1].f);
  r.logits = c.in[at].data<T>();
  r.targets = c.in[at + 1].data<int64_t>();
  r.weight = optional<T>(c, at + 2);
  check_labels(c, r, c.in[at].shape[0]);
  return r;
}

void cross_entropy(const Call& c) {
  by_type(c, [&](auto zero, const auto& k) {
    using T = decltype(zero);
    auto r = cross_entropy_rows<T>(c, 0);
    const int64_t rows = c.in[0].shape[0], reduction = c.attrs[2].i;
    T *loss = c.out[0].data<T>(), *total = c.out[2].data<T>();
    r.max = c.out[1].data<T>();
    r.log_sum = r.max + rows;
    r.loss = reduction == kNone ? loss : static_cast<T*>(scratch(size_t(rows) * sizeof(T)));
    each_rows(rows, r.classes, 0.3,
              [&](int64_t begin, int64_t end) { k.cross_entropy(r, begin, end); });
    *total = total_weight(r, rows);
    if (reduction != kNone) *loss = k.sum(rows, r.loss) / (reduction == kMean ? *total : T(1));
  });
}

void cross_entropy_backward(const Call& c) {
  auto run = [&](auto zero, const auto& k) {
    using T = decltype(zero);
    auto r = cross_entropy_rows<T>(c, 1);
    const int64_t rows = c.in[1].shape[0], reduction = c.attrs[2].i;
    r.max = c.in[4].data<T>();
    r.log_sum = r.max + rows;
    r.grad = c.in[0].data<T>();
    r.grad_stride = reduction == kNone;
    r.divisor = reduction == kMean ? *c.in[5].data<T>() : T(1);
    if (r.smoothing > T(0)) r.weight_sum = r.weight ? k.sum(r.classes, r.weight) : T(r.classes);
    r.dlogits = c.out[0].data<T>();
    each_rows(rows, r.classes, 0.3, [&, stream = streams(c.out[0])](int64_t begin, int64_t end) {
      k.cross_entropy_backward(r, begin, end, stream);
    });
  };
  by_type(c, run);
}

// name, doc, kind, inputs, outputs, public outputs, saved inputs, saved outputs, differentiable.
const Op kOps[] = {
    with_then({"softmax", "exp(input) over its sum along the last dimension.", Kind::rowwise, 1, 1,
               1, 0, 0b1, true, prepare_softmax, alone<softmax<false>>},
              followed<softmax<false>>),
    in_place(
        with_then({"softmax_backward", "Gradient of softmax from (grad, output).", Kind::rowwise, 2,
                   1, 1, 0, 0, false, prepare_softmax_backward, alone<softmax_backward<false>>},
                  followed<softmax_backward<false>>),
        0b11),
    with_then({"log_softmax", "Logarithm of softmax along the last dimension.", Kind::rowwise, 1, 1,
               1, 0, 0b1, true, prepare_softmax, alone<softmax<true>>},
              followed<softmax<true>>),
    in_place(with_then({"log_softmax_backward", "Gradient of log_softmax from (grad, output).",
                        Kind::rowwise, 2, 1, 1, 0, 0, false, prepare_softmax_backward,
                        alone<softmax_backward<true>>},
                       followed<softmax_backward<true>>),
             0b11),
    needing({3, 1},
            with_then({"rms_norm", "input over its root mean square, times weight.", Kind::rowwise,
                       2, 2, 1, 0b11, 0b10, true, prepare_norm<false>, alone<rms_norm>},
                      followed<rms_norm>)),
    in_place(
        with_then({"rms_norm_backward",
                   "Gradients of input and weight from (grad, input, weight, rstd).", Kind::rowwise,
                   4, 2, 2, 0, 0, false, prepare_norm_backward<false>, alone<rms_norm_backward>},
                  followed<rms_norm_backward>),
        0b11),
    needing({3, 1},
            with_then(
                {"layer_norm", "input less its mean over its deviation, times weight plus bias.",
                 Kind::rowwise, 3, 3, 1, 0b11, 0b110, true, prepare_norm<true>, alone<layer_norm>},
                followed<layer_norm>)),
    in_place(
        with_then({"layer_norm_backward",
                   "Gradients of input, weight and bias from (grad, input, weight, mean, rstd).",
                   Kind::rowwise, 5, 3, 3, 0, 0, false, prepare_norm_backward<true>,
                   alone<layer_norm_backward>},
                  followed<layer_norm_backward>),
        0b11),
    {"cross_entropy", "Negative log likelihood of labels under softmax(input).", Kind::rowwise, 3,
     3, 1, 0b111, 0b110, true, prepare_cross_entropy, cross_entropy},
    in_place({"cross_entropy_backward",
              "Gradient of input from (grad, input, target, weight, log-sum-exp, total weight).",
              Kind::rowwise, 6, 1, 1, 0, 0, false, prepare_cross_entropy_backward,
              cross_entropy_backward},
             0b10),
};

}  // namespace

const OpTable kRowwiseOps{kOps, int(sizeof kOps / sizeof kOps[0])};

}  // namespace backtrail
