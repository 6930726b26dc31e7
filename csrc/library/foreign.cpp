// Ops of a library that are not pointwise, and their derivatives of any order, as ops like any
// other: checks, outputs, rows cut into tasks.
#include "library/foreign.h"

#include <algorithm>

#include "core/parallel.h"
#include "exec/check.h"
#include "exec/rows.h"

namespace backtrail {
namespace {

constexpr int kMostInputs = 31;            // a node keeps them by the bits of a word
constexpr double kDerivedNs = 60;          // an element of a derivative that is recorded, per order
constexpr int kRows = BACKTRAIL_MAX_ROWS;  // in one call of the library

const Derivative& self(const Call& c) { return *static_cast<const Derivative*>(c.self); }

uint32_t type_of(const Derivative& d, int like) {
  return like < d.of->record.n_inputs ? d.of->inputs[size_t(like)].type
                                      : uint32_t(BACKTRAIL_FLOATING);
}

bool on_rows(const Derivative& d) { return d.of->record.kind != BACKTRAIL_OPAQUE; }

void attributes(const Call& c, double* values) {
  for (int i = 0; i < c.n_attrs; ++i) values[i] = c.attrs[i].f;
}

// A call as the library sees it. What it points to must outlive it.
struct Foreign {
  backtrail_call call{};
  backtrail_array in[kMostInputs], out[kMaxOutputs];
  double attrs[kMaxAttrs];

  explicit Foreign(const Call& c) {
    const Derivative& d = self(c);
    attributes(c, attrs);
    for (int j = 0; j < c.n_in; ++j) set(in[j], c.in[j], true);
    call.size = sizeof call;
    call.order = uint32_t(d.order);
    call.derived = d.derived;
    call.n_in = c.n_in;
    call.n_out = c.n_out;
    call.attrs = attrs;
    call.in = in;
    call.out = out;
  }
  static void set(backtrail_array& to, const Array& a, bool given) {
    to = {};
    to.data = given ? a.data() : nullptr;
    to.n_dims = a.ndim();
    std::copy(a.shape.v, a.shape.v + a.ndim(), to.shape);
    to.type = a.dtype == DType::f32   ? BACKTRAIL_FLOAT32
              : a.dtype == DType::f64 ? BACKTRAIL_FLOAT64
              : a.dtype == DType::i64 ? BACKTRAIL_INT64
                                      : BACKTRAIL_BOOL;
  }
};

void check_types(const Call& c, const Derivative& d) {
  const Array* first = nullptr;
  for (int j = 0; j < c.n_in; ++j) {
    const Array& a = c.in[j];
    if (!a) fail(ErrorKind::type, "%s: input %d is None; expected a Tensor", c.name, j);
    const uint32_t type = type_of(d, d.in_like[size_t(j)]);
    const DType wanted = type == BACKTRAIL_INT64 ? DType::i64 : DType::b8;
    if (type != BACKTRAIL_FLOATING && a.dtype != wanted)
      fail(ErrorKind::type, "%s: input %d has dtype %s; expected %s", c.name, j,
           dtype_name(a.dtype), dtype_name(wanted));
    if (type != BACKTRAIL_FLOATING) continue;
    if (a.dtype != DType::f32 && a.dtype != DType::f64)
      fail(ErrorKind::type, "%s: input %d has dtype %s; expected float32 or float64", c.name, j,
           dtype_name(a.dtype));
    if (first && a.dtype != first->dtype)
      fail(ErrorKind::type, "%s: input %d has dtype %s; expected %s, as the other inputs", c.name,
           j, dtype_name(a.dtype), dtype_name(first->dtype));
    first = first ? first : &a;
  }
}

// What the shape rule says of the outputs of the op itself.
void output_shapes(const Call& c, const Derivative& d, Dims* shapes) {
  const backtrail_op& r = d.of->record;
  const Dims& x = c.in[0].shape;
  for (int j = 1; on_rows(d) && j < r.n_inputs; ++j)
    if (c.in[j].shape != x)
      fail(ErrorKind::runtime, "%s: input %d has shape %s; expected %s, as input 0", c.name, j,
           to_string(c.in[j].shape).c_str(), to_string(x).c_str());
  if (on_rows(d) && x.n == 0)
    fail(ErrorKind::runtime, "%s: input 0 has no dimension to go along", c.name);
  if (r.kind == BACKTRAIL_REDUCTION) {
    shapes[0] = x;
    --shapes[0].n;
    return;
  }
  Foreign f(c);
  f.call.order = 0;
  f.call.n_in = r.n_inputs;
  f.call.n_out = r.n_outputs;
  for (int i = 0; i < r.n_outputs; ++i) f.out[i] = {};
  r.shape(&f.call, f.out);
  throw_kept_error();
  for (int i = 0; i < r.n_outputs; ++i) {
    if (f.out[i].n_dims < 0 || f.out[i].n_dims > kMaxDims)
      fail(ErrorKind::runtime, "%s: its shape rule gave %d dimensions", c.name, f.out[i].n_dims);
    shapes[i] = Dims();
    double elements = 1;
    for (int k = 0; k < f.out[i].n_dims; ++k) {
      shapes[i].push(f.out[i].shape[k]);
      elements *= double(f.out[i].shape[k]);
    }
    for (int64_t n : shapes[i].n ? std::vector<int64_t>(shapes[i].v, shapes[i].v + shapes[i].n)
                                 : std::vector<int64_t>())
      if (n < 0 || elements > 1e15)
        fail(ErrorKind::runtime, "%s: its shape rule gave %s", c.name,
             to_string(shapes[i]).c_str());
  }
}

void prepare(Call& c) {
  const Derivative& d = self(c);
  const backtrail_op& r = d.of->record;
  check_types(c, d);
  Dims shapes[16 + kMaxOutputs];  // of the op's inputs and outputs
  for (int j = 0; j < r.n_inputs; ++j) shapes[j] = c.in[j].shape;
  output_shapes(c, d, shapes + r.n_inputs);
  DType dtype = DType::f32;
  bool floating = false;
  for (int j = 0; j < c.n_in; ++j) {
    const int like = d.in_like[size_t(j)];
    if (c.in[j].shape != shapes[like])
      fail(ErrorKind::runtime, "%s: input %d has shape %s; expected %s", c.name, j,
           to_string(c.in[j].shape).c_str(), to_string(shapes[like]).c_str());
    if (type_of(d, like) == BACKTRAIL_FLOATING) dtype = c.in[j].dtype, floating = true;
  }
  if (!floating) dtype = DType::f32;
  for (int i = 0; i < c.n_out; ++i) c.out[i] = empty(shapes[d.out_like[size_t(i)]], dtype);
}

// Where the rows of an array begin: any strides but in the row itself.
struct RowsOf {
  char* base;
  int64_t item, length;  // bytes of an element, elements of a row
  bool dense;
  Dims shape, strides;  // of the dimensions around

  RowsOf(const Array& a, int around) : base(a.data()), item(int64_t(a.item())), length(1) {
    dense = a.contiguous();
    for (int d = 0; d < a.ndim(); ++d) {
      if (d >= around) {
        length *= a.shape[d];
        continue;
      }
      shape.push(a.shape[d]);
      strides.push(a.strides[d]);
    }
  }
  void* at(int64_t row) const {
    if (dense) return base + row * length * item;
    int64_t offset = 0;
    for (int d = shape.n - 1; d >= 0; --d) {
      offset += row % shape[d] * strides[d];
      row /= shape[d];
    }
    return base + offset * item;
  }
};

double cost_of(const Derivative& d) {
  const bool written = d.order == 0 || (d.order == 1 && !d.derived &&
                                        (d.of->record.flags & BACKTRAIL_WRITTEN_BACKWARD));
  return written ? d.of->record.cost * (1 + d.order) : kDerivedNs * d.order;
}

void execute_rows(const Call& c, const Then* then) {
  const Derivative& d = self(c);
  const Dims& x = c.in[0].shape;
  const int around = x.n - 1;
  Foreign f(c);
  std::vector<RowsOf> arrays;
  for (int j = 0; j < c.n_in; ++j) arrays.emplace_back(c.in[j], around);
  for (int i = 0; i < c.n_out; ++i) {
    Foreign::set(f.out[i], c.out[i], true);
    arrays.emplace_back(c.out[i], around);
  }
  for (int j = 0; j < c.n_in + c.n_out; ++j) {  // the library sees one row
    backtrail_array& a = j < c.n_in ? f.in[j] : f.out[j - c.n_in];
    a.n_dims = 1;
    a.shape[0] = arrays[size_t(j)].length;
  }
  int64_t rows = 1;
  for (int k = 0; k < around; ++k) rows *= x[k];
  const int64_t m = arrays[size_t(c.n_in)].length;
  each_rows(rows, x.back(), cost_of(d), [&](int64_t begin, int64_t end) {
    void* places[(kMostInputs + kMaxOutputs) * kRows];
    for (int64_t r = begin; r < end && !error_is_kept(); r += kRows) {
      const int n = int(std::min<int64_t>(kRows, end - r));
      for (size_t j = 0; j < arrays.size(); ++j)
        for (int k = 0; k < n; ++k) places[int(j) * n + k] = arrays[j].at(r + k);
      backtrail_call call = f.call;
      call.n_rows = n;
      call.rows = places;
      d.of->record.run(&call);
    }
    if (then && !error_is_kept()) then->run(then->context, begin * m, 1, (end - begin) * m, 0);
  });
}
void execute_alone(const Call& c) { execute_rows(c, nullptr); }
void execute_followed(const Call& c, const Then& then) { execute_rows(c, &then); }

void execute_opaque(const Call& c) {
  Foreign f(c);
  for (int i = 0; i < c.n_out; ++i) Foreign::set(f.out[i], c.out[i], true);
  self(c).of->record.run(&f.call);
}

std::unique_ptr<Derivative> make(const ForeignOp& of, int order, bool derived) {
  const backtrail_op& r = of.record;
  auto d = std::make_unique<Derivative>();
  d->of = &of;
  d->order = order;
  d->derived = derived;
  const bool written = (r.flags & BACKTRAIL_WRITTEN_BACKWARD) && !derived;
  const bool reads_output = written && (r.flags & BACKTRAIL_READS_OUTPUT);
  std::vector<int> floating,
      outputs;  // of the order reached: its differentiable inputs, its outputs
  for (int j = 0; j < r.n_inputs; ++j) {
    d->in_like.push_back(j);
    if (of.inputs[size_t(j)].type == BACKTRAIL_FLOATING) floating.push_back(j);
    d->has_gradient.push_back(of.inputs[size_t(j)].type == BACKTRAIL_FLOATING);
  }
  for (int i = 0; i < r.n_outputs; ++i) outputs.push_back(r.n_inputs + i);
  if (order == 1 && reads_output)
    for (int i : outputs) d->in_like.push_back(i), d->has_gradient.push_back(false);
  for (int k = 1; k <= order; ++k) {
    const std::vector<int> gradients = outputs;
    outputs = floating;
    for (int like : gradients) {
      d->in_like.push_back(like);
      d->has_gradient.push_back(true);
      floating.push_back(like);
    }
  }
  d->out_like = outputs;
  const int n_in = int(d->in_like.size()), n_out = int(outputs.size());
  if (n_in > kMostInputs || n_out > kMaxOutputs)
    fail(ErrorKind::runtime,
         "%s: its derivative of order %d has %d inputs and %d outputs; there may be %d and %d",
         r.name, order, n_in, n_out, kMostInputs, kMaxOutputs);
  d->name = r.name;
  for (int k = 0; k < order; ++k) d->name += " backward";
  uint32_t saved = 0;
  for (int j = 0; j < n_in; ++j)
    if (order == 0 || d->has_gradient[size_t(j)] || j < r.n_inputs) saved |= 1u << j;
  Op& op = d->op;
  op = Op{d->name.c_str(),
          r.doc,
          r.kind == BACKTRAIL_REDUCTION ? Kind::reduction
          : r.kind == BACKTRAIL_ROWWISE ? Kind::rowwise
                                        : Kind::opaque,
          n_in,
          n_out,
          n_out,
          saved,
          order == 0 && reads_output ? (1u << n_out) - 1 : 0,
          (r.flags & BACKTRAIL_DIFFERENTIABLE) && r.orders != 0,
          prepare,
          on_rows(*d) ? execute_alone : execute_opaque};
  if (on_rows(*d)) {
    op.rows = ~0u >> 1;
    op.execute_then = execute_followed;
  }
  op.self = d.get();
  op.attrs = of.attrs.data();
  op.n_attrs = int(of.attrs.size());
  return d;
}

}  // namespace

const Op& general_op(ForeignOp& f) {
  f.derivatives.push_back(make(f, 0, false));
  return f.derivatives.back()->op;
}

const Derivative& derivative_of(const Op& op, bool derived) {
  const Derivative& before = *static_cast<const Derivative*>(op.self);
  ForeignOp& f = const_cast<ForeignOp&>(*before.of);
  const int order = before.order + 1;
  for (const auto& d : f.derivatives)
    if (d->order == order && d->derived == (derived && order == 1)) return *d;
  if (f.record.orders >= 0 && order > f.record.orders)
    fail(ErrorKind::runtime, "%s: it has derivatives up to order %d", f.record.name,
         f.record.orders);
  f.derivatives.push_back(make(f, order, derived && order == 1));
  return *f.derivatives.back();
}

}  // namespace backtrail
