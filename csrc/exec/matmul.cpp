// Matrix products of tensors: 1-d and 2-d operands, batches that broadcast, any strides; and the
// affine map of a layer with its derivative.
#include <algorithm>
#include <vector>

#include "core/parallel.h"
#include "exec/gemm_bf16.h"
#include "exec/op.h"
#include "kernels/table.h"

namespace backtrail {
namespace {

template <class T>
const GemmTable<T>& table() {
  if constexpr (std::is_same_v<T, float>)
    return *kernels().gemm_f32;
  else
    return *kernels().gemm_f64;
}

// The last two dimensions as a matrix; a vector is one row, or one column when it is on the right.
struct Matrix {
  int64_t rows, cols, rs, cs;
};
Matrix matrix(const Array& a, bool right) {
  const int n = a.ndim();
  if (n == 1 && right) return {a.shape[0], 1, a.strides[0], 1};
  if (n == 1) return {1, a.shape[0], 0, a.strides[0]};
  return {a.shape[n - 2], a.shape[n - 1], a.strides[n - 2], a.strides[n - 1]};
}

Dims batch_shape(const Array& a) {
  Dims d;
  for (int i = 0; i + 2 < a.ndim(); ++i) d.push(a.shape[i]);
  return d;
}

void check_product(const Call& c) {
  const Array &a = c.in[0], &b = c.in[1];
  if (a.ndim() == 0 || b.ndim() == 0)
    fail(ErrorKind::runtime, "%s: %s @ %s: both must have at least 1 dimension", c.name,
         to_string(a.shape).c_str(), to_string(b.shape).c_str());
  if (a.dtype != b.dtype)
    fail(ErrorKind::runtime, "%s: lhs is %s and rhs is %s; expected the same dtype", c.name,
         dtype_name(a.dtype), dtype_name(b.dtype));
  if (a.dtype == DType::b8)
    fail(ErrorKind::type, "%s: not defined for %s", c.name, dtype_name(a.dtype));
  if (matrix(a, false).cols != matrix(b, true).rows)
    fail(ErrorKind::runtime, "%s: %s @ %s: lhs.shape[-1] must equal rhs.shape[%d]", c.name,
         to_string(a.shape).c_str(), to_string(b.shape).c_str(), b.ndim() == 1 ? 0 : -2);
}

void prepare_matmul(Call& c) {
  check_product(c);
  const Array &a = c.in[0], &b = c.in[1];
  Dims shape =
      a.ndim() > 2 || b.ndim() > 2 ? broadcast(c.name, batch_shape(a), batch_shape(b)) : Dims();
  if (a.ndim() > 1) shape.push(a.shape[a.ndim() - 2]);
  if (b.ndim() > 1) shape.push(b.shape[b.ndim() - 1]);
  c.out[0] = empty(shape, a.dtype);
}

// Integers, exact modulo 2^64.
void integer_product(int64_t m, int64_t n, int64_t k, MatView<const int64_t> a,
                     MatView<const int64_t> b, MatView<int64_t> c) {
  constexpr int64_t kRows = 16, kDepth = 64;  // of a task
  if (n == 1) {                               // a column of c is contiguous too
    std::swap(m, n);
    std::swap(a, b);
    a = {a.data, a.cs, a.rs};
    b = {b.data, b.cs, b.rs};
  }
  const double products = double(m) * double(n) * double(k);
  const bool by_columns = m == 1 && b.rs == 1 && a.cs == 1;
  if (by_columns)
    return parallel_for((n + kRows - 1) / kRows, products / 2, [&](int64_t task) {
      for (int64_t j = task * kRows; j < std::min(n, (task + 1) * kRows); ++j) {
        uint64_t sum = 0;
        for (int64_t p = 0; p < k; ++p) sum += uint64_t(a.data[p]) * uint64_t(b.data[p + j * b.cs]);
        c.data[j] = int64_t(sum);
      }
    });
  if (b.cs != 1 && n > 1) {  // its rows brought together
    int64_t* rows = static_cast<int64_t*>(scratch(size_t(k * n) * sizeof(int64_t)));
    parallel_for((k + kDepth - 1) / kDepth, double(k) * double(n), [&](int64_t task) {
      for (int64_t j = 0; j < n; ++j)
        for (int64_t p = task * kDepth; p < std::min(k, (task + 1) * kDepth); ++p)
          rows[p * n + j] = b.data[p * b.rs + j * b.cs];
    });
    b = {rows, n, 1};
  }
  parallel_for((m + kRows - 1) / kRows, products / 8, [&](int64_t task) {
    const int64_t i = task * kRows;
    kernels().integer_product(std::min(kRows, m - i), n, k, a.data + i * a.rs, a.rs, a.cs, b.data,
                              b.rs, c.data + i * c.rs, c.rs);
  });
}

// T is the type of elements as they lie in memory: uint16_t for bfloat16. Rows of c are dense.
template <class T>
void product(int64_t m, int64_t n, int64_t k, MatView<const T> a, MatView<const T> b, MatView<T> c,
             Epilogue<T> e = {}) {
  const int64_t none = 0;
  if constexpr (std::is_same_v<T, int64_t>)
    integer_product(m, n, k, a, b, c);
  else if constexpr (std::is_same_v<T, uint16_t>)
    gemm_bf16(1, &none, &none, m, n, k, a, b, c.data, e.bias);
  else
    gemm<T>(table<T>(), m, n, k, a, b, c, e);
}

// Offsets of every matrix of a batch of shape `batch` within `a`.
std::vector<int64_t> offsets(const Array& a, const Dims& batch) {
  Array view = a;
  view.shape.n = view.strides.n = std::max(0, a.ndim() - 2);
  view = expand(view, batch);
  std::vector<int64_t> all(size_t(batch.product()));
  int64_t index[kMaxDims] = {}, at = 0;
  for (auto& offset : all) {
    offset = at;
    for (int d = batch.n - 1; d >= 0; --d) {
      at += view.strides[d];
      if (++index[d] < batch[d]) break;
      at -= view.strides[d] * batch[d];
      index[d] = 0;
    }
  }
  return all;
}

template <class T>
void matmul_typed(const Call& c) {
  const Array &a = c.in[0], &b = c.in[1], &out = c.out[0];
  Matrix ma = matrix(a, false), mb = matrix(b, true);
  int64_t m = ma.rows, n = mb.cols, k = ma.cols;
  if (out.numel() == 0) return;
  MatView<const T> va{a.data<const T>(), ma.rs, ma.cs}, vb{b.data<const T>(), mb.rs, mb.cs};
  if (a.ndim() <= 2 && b.ndim() <= 2) return product<T>(m, n, k, va, vb, {out.data<T>(), n, 1});
  // One matrix on the right of dense rows: the batch is just more rows.
  if (b.ndim() <= 2 && a.contiguous())
    return product<T>(out.numel() / n, n, k, {va.data, k, 1}, vb, {out.data<T>(), n, 1});
  Dims batch = broadcast(c.name, batch_shape(a), batch_shape(b));
  auto ao = offsets(a, batch), bo = offsets(b, batch);
  std::vector<int64_t> co(ao.size());
  for (size_t i = 0; i < co.size(); ++i) co[i] = int64_t(i) * m * n;
  if constexpr (std::is_same_v<T, int64_t>) {
    for (size_t i = 0; i < co.size(); ++i)
      integer_product(m, n, k, {va.data + ao[i], va.rs, va.cs}, {vb.data + bo[i], vb.rs, vb.cs},
                      {out.data<T>() + co[i], n, 1});
    return;
  }
  const int64_t count = int64_t(co.size()), rows = b.ndim() <= 2 ? out.numel() / n : m;
  if constexpr (std::is_same_v<T, uint16_t>)
    gemm_bf16(count, ao.data(), bo.data(), m, n, k, va, vb, out.data<T>(), nullptr, rows);
  else if constexpr (std::is_floating_point_v<T>)
    gemm_batched<T>(table<T>(), count, ao.data(), bo.data(), co.data(), m, n, k, va, vb,
                    {out.data<T>(), n, 1}, {}, rows);
}

// Of narrow integers: in 64 bits, cut to the type's own at the end.
void narrow_product(const Call& c) {
  const Array wide[] = {convert(c.in[0], DType::i64), convert(c.in[1], DType::i64)};
  Array out = empty(c.out[0].shape, DType::i64);
  Call call = c;
  call.in = wide, call.out = &out;
  matmul_typed<int64_t>(call);
  copy_into(out, c.out[0]);
}

void execute_matmul(const Call& c) {
  switch (c.in[0].dtype) {
    case DType::f32: return matmul_typed<float>(c);
    case DType::f64: return matmul_typed<double>(c);
    case DType::bf16: return matmul_typed<uint16_t>(c);
    case DType::i64: return matmul_typed<int64_t>(c);
    default: return narrow_product(c);
  }
}

// linear: x (..., in), weight (out, in), bias (out) or None -> x @ weight.T + bias
int64_t rows_of(const Array& x) {
  int64_t rows = 1;
  for (int d = 0; d + 1 < x.ndim(); ++d) rows *= x.shape[d];
  return rows;
}

void prepare_linear(Call& c) {
  const Array &x = c.in[0], &w = c.in[1], &bias = c.in[2];
  if (x.ndim() == 0 || w.ndim() != 2 || x.shape.back() != w.shape[1])
    fail(ErrorKind::runtime,
         "%s: input %s, weight %s: weight must be (out, in) with in = input.shape[-1]", c.name,
         to_string(x.shape).c_str(), to_string(w.shape).c_str());
  if (bias && (bias.ndim() != 1 || bias.shape[0] != w.shape[0]))
    fail(ErrorKind::runtime, "%s: bias %s: expected (%lld,) for weight %s", c.name,
         to_string(bias.shape).c_str(), (long long)w.shape[0], to_string(w.shape).c_str());
  if (x.dtype != w.dtype || (bias && bias.dtype != x.dtype))
    fail(ErrorKind::runtime, "%s: input is %s, weight %s%s%s; expected the same dtype", c.name,
         dtype_name(x.dtype), dtype_name(w.dtype), bias ? ", bias " : "",
         bias ? dtype_name(bias.dtype) : "");
  require_floating(c, 0, "input");
  Dims shape = x.shape;
  shape[shape.n - 1] = w.shape[0];
  c.out[0] = empty(shape, x.dtype);
}

// An epilogue that tells where in the dense output its rectangles lie.
template <class T>
struct Following {
  const T* base;
  const Then* then;

  static void after(const void* context, T* c, int64_t c_rs, int64_t rows, int64_t cols) {
    const auto& f = *static_cast<const Following*>(context);
    f.then->run(f.then->context, c - f.base, rows, cols, c_rs);
  }
  void join(Epilogue<T>& e) const {
    if (!then) return;
    e.after = after;
    e.context = this;
  }
};

template <class T>
void linear_typed(const Call& c, const Then* then = nullptr) {
  const Array &x = c.in[0], &w = c.in[1], &bias = c.in[2];
  const int64_t k = w.shape[1], n = w.shape[0];
  Epilogue<T> e;
  const Following<T> following{c.out[0].data<T>(), then};
  following.join(e);
  if (bias) e.bias = bias.data<T>();
  product<T>(rows_of(x), n, k, {x.data<const T>(), k, 1},
             {w.data<const T>(), w.strides[1], w.strides[0]}, {c.out[0].data<T>(), n, 1}, e);
}

void execute_linear(const Call& c) {
  switch (c.in[0].dtype) {
    case DType::f32: return linear_typed<float>(c);
    case DType::f64: return linear_typed<double>(c);
    default: return linear_typed<uint16_t>(c);
  }
}
void execute_linear_then(const Call& c, const Then& then) {
  if (c.in[0].dtype == DType::f32)
    linear_typed<float>(c, &then);
  else
    linear_typed<double>(c, &then);
}

// Several maps of one input, of equal shapes and without bias, as a batch.
template <class T>
void linear_joined_typed(const Call* calls, int count) {
  const Array &x = calls[0].in[0], &w = calls[0].in[1];
  const int64_t k = w.shape[1], n = w.shape[0];
  int64_t x_at[kMostJoined] = {}, w_at[kMostJoined], y_at[kMostJoined];
  for (int i = 0; i < count; ++i) {  // distances between arrays of their own
    w_at[i] = (intptr_t(calls[i].in[1].data()) - intptr_t(w.data())) / intptr_t(sizeof(T));
    y_at[i] =
        (intptr_t(calls[i].out[0].data()) - intptr_t(calls[0].out[0].data())) / intptr_t(sizeof(T));
  }
  gemm_batched<T>(table<T>(), count, x_at, w_at, y_at, rows_of(x), n, k, {x.data<const T>(), k, 1},
                  {w.data<const T>(), w.strides[1], w.strides[0]},
                  {calls[0].out[0].data<T>(), n, 1});
}
void execute_linear_joined(const Call* calls, int count) {
  if (calls[0].in[0].dtype == DType::f32)
    linear_joined_typed<float>(calls, count);
  else
    linear_joined_typed<double>(calls, count);
}

// linear_backward: g (..., out), x, weight; (bits of what is needed: 1 x, 2 weight, 4 bias)
// -> dx, dweight, dbias, room; those not needed are empty.
void prepare_linear_backward(Call& c) {
  const Array &g = c.in[0], &x = c.in[1], &w = c.in[2];
  const int64_t need = c.attrs[0].i;
  c.out[0] = empty(need & 1 ? x.shape : Dims{0}, g.dtype);
  c.out[1] = empty(need & 2 ? w.shape : Dims{0}, g.dtype);
  c.out[2] = empty(need & 4 ? Dims{w.shape[0]} : Dims{0}, g.dtype);
  const bool wide = need & 4 && g.dtype == DType::bf16;  // for the sum over rows
  c.out[3] = empty(wide ? Dims{g.numel()} : Dims{0}, DType::f32);
}

template <class T>
void linear_backward_typed(const Call& c, const Then* then = nullptr) {
  const Array &g = c.in[0], &x = c.in[1], &w = c.in[2];
  const int64_t need = c.attrs[0].i, rows = rows_of(x), k = w.shape[1], n = w.shape[0];
  Epilogue<T> e;
  const Following<T> following{c.out[0].data<T>(), then};
  following.join(e);
  if (need & 1)
    product<T>(rows, k, n, {g.data<const T>(), n, 1},
               {w.data<const T>(), w.strides[0], w.strides[1]}, {c.out[0].data<T>(), k, 1}, e);
  if (need & 2)
    product<T>(n, k, rows, {g.data<const T>(), 1, n}, {x.data<const T>(), k, 1},
               {c.out[1].data<T>(), k, 1});
  if (need & 4) {
    Array flat = g;
    flat.shape = Dims{rows, n}, flat.strides = Dims{n, 1};
    Array out[2] = {c.out[2], c.out[3]};
    AttrValue attrs[2];
    attrs[0].type = attrs[1].type = AttrValue::integer;
    const Call sum{"sum", &flat, 1, attrs, 2, out, 2};
    kReduceOps.ops[0].execute(sum);
  }
}

void execute_linear_backward(const Call& c) {
  switch (c.in[0].dtype) {
    case DType::f32: return linear_backward_typed<float>(c);
    case DType::f64: return linear_backward_typed<double>(c);
    default: return linear_backward_typed<uint16_t>(c);
  }
}
void execute_linear_backward_then(const Call& c, const Then& then) {
  if (c.in[0].dtype == DType::f32)
    linear_backward_typed<float>(c, &then);
  else
    linear_backward_typed<double>(c, &then);
}

double product_flops(const Call& c) {
  return 2.0 * double(c.out[0].numel()) * double(c.in[0].shape.back());
}

double linear_backward_flops(const Call& c) {
  const double grad = double(c.in[0].numel()), in = double(c.in[2].shape[1]);
  return 2 * grad * in * ((c.out[0].numel() > 0) + (c.out[1].numel() > 0)) +
         (c.out[2].numel() > 0) * grad;
}

const Op kOps[] = {
    needing({2, 1}, takes_bf16(with_flops(
                        {"matmul", "Matrix product; leading dimensions are a batch and broadcast.",
                         Kind::opaque, 2, 1, 1, 3, 0, true, prepare_matmul, execute_matmul, true},
                        product_flops))),
    needing({2, 1},
            takes_bf16(with_flops(with_then({"linear", "input @ weight.T + bias.", Kind::opaque, 3,
                                             1, 1, 3, 0, true, prepare_linear, execute_linear},
                                            execute_linear_then, execute_linear_joined),
                                  product_flops))),
    takes_bf16(with_flops(
        with_then(
            {"linear_backward", "Gradients of linear for its input, weight and bias.", Kind::opaque,
             3, 4, 3, 0, 0, false, prepare_linear_backward, execute_linear_backward},
            execute_linear_backward_then),
        linear_backward_flops)),
};

}  // namespace

const OpTable kMatmulOps = {kOps, int(sizeof kOps / sizeof *kOps)};

}  // namespace backtrail
