// Recurrent layers, one direction over all steps: RNN, LSTM, GRU. The part of the input is one
// product over all steps; then each step adds the part of the hidden state, and its cell follows
// while the numbers are near.
#include <algorithm>

#include "exec/arguments.h"
#include "exec/check.h"
#include "exec/gemm.h"
#include "exec/workspace.h"
#include "kernels/table.h"

namespace backtrail {
namespace {

constexpr double kCellNs = 1;           // of one gate of one unit
constexpr double kPackNs = 0.3;         // of one weight
constexpr double kSerialNs = 20e3;      // below this one thread does it all
constexpr double kJoinNs = 5e3;         // from here a step is worth waiting for the other threads
constexpr double kNearBytes = 8 << 20;  // a weight that a thread may read at every step
constexpr int64_t kLeastRows = 4;       // of a task: fewer would read the weight for too little
constexpr int64_t kPackRows = 8;        // rows multiplied, in all steps, that repay packing
constexpr int kPackedSlot = 1;          // of scratch(), on the thread of the caller

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

template <class F>
void by_type(const Call& c, F f) {
  if (c.in[0].dtype == DType::f64)
    f(double(), *kernels().recurrent_f64, *kernels().gemm_f64);
  else
    f(float(), *kernels().recurrent_f32, *kernels().gemm_f32);
}

template <class T>
T* optional(const Call& c, int i) {
  return given(c, i) ? c.in[i].data<T>() : nullptr;
}
// p + offset, of what is there.
template <class T>
T* shift(T* p, int64_t offset) {
  return p ? p + offset : nullptr;
}

// What the attributes and shapes of a call say: attributes (reverse) or, of an RNN, (reverse,
// relu).
struct Layer {
  Cell cell;
  bool reverse;
  int64_t steps, batch, hidden;

  Layer(const Call& c, Cell kind, const Array& sequence, const Array& w_hh)
      : cell(kind == Cell::rnn_tanh && integer_attr(c, 1) ? Cell::rnn_relu : kind),
        reverse(integer_attr(c, 0) != 0),
        steps(sequence.shape[0]),
        batch(sequence.shape[1]),
        hidden(w_hh.shape[1]) {}
  int64_t gates() const { return gates_of(cell); }
  int64_t kept() const { return kept_of(cell); }
  // Where the step that is done s-th lies in a sequence.
  int64_t at(int64_t s) const { return reverse ? steps - 1 - s : s; }
};

// The recurrent weight on the right of a product at every step: `parts` matrices [k, n] side by
// side, packed once if there are steps enough, else as they lie.
template <class T>
class StepWeight {
 public:
  StepWeight(const GemmTable<T>& kernels, const Layer& l, int64_t parts, int64_t k, int64_t n,
             MatView<const T> w)
      : kernels_(kernels), n_(n), depth_(gemm_depth(k)), w_(w) {
    if (l.steps == 1 || l.steps * l.batch < kPackRows) return;
    const int64_t lanes = kernels.lanes, across = ceil_div(n, lanes);
    panel_ = (k + 1) * lanes;  // odd: panels in different cache sets
    T* out = static_cast<T*>(scratch(size_t(parts * across * panel_) * sizeof(T), kPackedSlot));
    packed_ = out;
    parallel_for(parts * across, double(parts * k * n) * kPackNs, [&](int64_t task) {
      const int64_t j = task % across * lanes;
      kernels.pack_b(k, std::min(lanes, n - j), w.data + (task / across * n + j) * w.cs, w.rs, w.cs,
                     out + task * panel_, panel_);
    });
  }

  bool packed() const { return packed_; }
  // Whether columns may run on from one part into the next.
  bool joined() const { return !packed_ || n_ % kernels_.lanes == 0; }
  int64_t workspace() const { return a_panel_size(kernels_.mr, depth_); }

  // c[m, cols] = start + a[m, k] @ (columns from j of `part` on) + bias; without an `a`, k is 0.
  // When packed, j is a multiple of the lanes, no threads are used, and `work` is needed.
  void multiply(int64_t m, int64_t part, int64_t j, int64_t cols, int64_t k, MatView<const T> a,
                MatView<T> c, Epilogue<T> e, T* work) const {
    if (!a.data) k = 0;
    if (!packed_) {
      const T* b = w_.data + (part * n_ + j) * w_.cs;
      return gemm<T>(kernels_, m, cols, k, a, {b, w_.rs, w_.cs}, c, e);
    }
    GemmBlock<T> g{};
    g.m = m;
    g.n = cols;
    g.a = a.data;
    g.a_rs = a.rs;
    g.a_cs = a.cs;
    g.a_panel = m * k > 64 * 64 ? work : nullptr;
    g.b = packed_ + (part * ceil_div(n_, kernels_.lanes) + j / kernels_.lanes) * panel_;
    g.b_rs = kernels_.lanes;
    g.b_vs = panel_;
    g.c = c.data;
    g.c_rs = c.rs;
    g.start = e.accumulate ? Start::sum : Start::zero;  // in the order of gemm()
    do {                                                // once even when k is 0
      g.k = std::min(depth_, k);
      k -= g.k;
      if (k == 0) g.bias = e.bias;
      kernels_.block(g);
      g.a += g.k;
      g.b += g.k * g.b_rs;
      g.start = Start::sum;
    } while (k > 0);
  }

 private:
  const GemmTable<T>& kernels_;
  int64_t n_, depth_;
  MatView<const T> w_;
  const T* packed_ = nullptr;
  int64_t panel_ = 0;
};

// A block of every step: rows of the batch and hidden units.
struct Block {
  int64_t row, rows, unit, units;
};

// product(s, block, work), then cell(s, block), for all steps s in turn and blocks that cover each
// of them. Rows do not depend on each other: cut by rows, a task walks all steps on its own. But
// each task then reads the whole weight at every step; where that is too much for the rows it has,
// steps are cut by units, and the threads wait for each other after each. No cut changes a bit.
template <class T, class Product, class C>
void sweep(const char* name, const Layer& l, int64_t steps, const GemmTable<T>& kernels,
           const StepWeight<T>& weight, Product&& product, C&& cell) {
  const int64_t B = l.batch, H = l.hidden, threads = num_threads();
  const double cell_ns = double(B * H * l.gates()) * kCellNs, weights = double(l.gates() * H * H);
  const double step_ns = 2 * double(B) * weights / kernels.flops_per_ns + cell_ns;
  if (B * H == 0) return;
  auto pieces = [&](int64_t n, int64_t unit) {
    return round_up(ceil_div(n, std::min(threads, n)), unit);
  };
  if (!weight.packed()) {  // products find threads themselves, and may depend on their shape
    const int64_t size = pieces(B, 1);
    for (int64_t s = 0; s < steps; ++s) {
      product(s, Block{0, B, 0, H}, nullptr);
      parallel_for(ceil_div(B, size), cell_ns, [&](int64_t task) {
        cell(s, Block{task * size, std::min(size, B - task * size), 0, H});
      });
    }
    return;
  }
  const bool near = weights * sizeof(T) <= kNearBytes && B >= kLeastRows * threads;
  if (near || step_ns < kJoinNs) {
    // The rows of one tile each, as many tasks for every thread.
    const int64_t tasks = round_up(ceil_div(B, kernels.mr), threads);
    const int64_t size = step_ns * double(steps) < kSerialNs ? B : ceil_div(B, tasks);
    return parallel_for_with<T>(name, weight.workspace(), ceil_div(B, size),
                                step_ns * double(steps), [&](int64_t task, T* work) {
                                  const int64_t row = task * size;
                                  const Block b{row, std::min(size, B - row), 0, H};
                                  for (int64_t s = 0; s < steps; ++s) {
                                    product(s, b, work);
                                    cell(s, b);
                                  }
                                });
  }
  const int64_t size = pieces(H, kernels.lanes);
  for (int64_t s = 0; s < steps; ++s)
    parallel_for_with<T>(name, weight.workspace(), ceil_div(H, size), step_ns,
                         [&](int64_t task, T* work) {
                           const Block b{0, B, task * size, std::min(size, H - task * size)};
                           product(s, b, work);
                           cell(s, b);
                         });
}

// ---- forward: x (T, B, I), w_ih (G H, I), w_hh (G H, H), bias (G H), h0 (B, H) and, of an LSTM,
// c0; of a GRU the bias of the hidden part (G H). All after w_hh may be None; attributes as in
// Layer.
// -> y (T, B, H), h of the last step, [its c,] what is kept for backward, [c of all steps].

template <Cell kind>
void prepare_forward(Call& c) {
  const Array &x = c.in[0], &w_hh = c.in[2];
  require_f32_or_f64(c, 0, "input");
  if (x.ndim() != 3 || w_hh.ndim() != 2)
    fail(ErrorKind::runtime,
         "%s: input %s, w_hh %s; expected (steps, batch, features) and (%d * "
         "hidden, hidden)",
         c.name, to_string(x.shape).c_str(), to_string(w_hh.shape).c_str(), gates_of(kind));
  const Layer l(c, kind, x, w_hh);
  if (l.steps == 0)
    fail(ErrorKind::runtime, "%s: input %s has no steps; expected at least one", c.name,
         to_string(x.shape).c_str());
  const Dims state{l.batch, l.hidden}, bias{l.gates() * l.hidden};
  require(c, 1, "w_ih", x.dtype, Dims{bias[0], x.shape[2]});
  require(c, 2, "w_hh", x.dtype, Dims{bias[0], l.hidden});
  if (given(c, 3)) require(c, 3, "bias", x.dtype, bias);
  if (given(c, 4)) require(c, 4, "h0", x.dtype, state);
  if (kind == Cell::lstm && given(c, 5)) require(c, 5, "c0", x.dtype, state);
  if (kind == Cell::gru && given(c, 5)) require(c, 5, "hidden bias", x.dtype, bias);
  Array* out = c.out;
  *out++ = empty(Dims{l.steps, l.batch, l.hidden}, x.dtype);
  *out++ = empty(state, x.dtype);
  if (kind == Cell::lstm) *out++ = empty(state, x.dtype);
  if (kept_of(kind) > 1) *out++ = empty(Dims{l.steps, l.batch, l.kept() * l.hidden}, x.dtype);
  if (kind == Cell::lstm) *out++ = empty(Dims{l.steps, l.batch, l.hidden}, x.dtype);
}

template <Cell kind>
void execute_forward(const Call& call) {
  by_type(call, [&](auto zero, const auto& cells, const auto& gemms) {
    using T = decltype(zero);
    const Array &x = call.in[0], &w_ih = call.in[1], &w_hh = call.in[2];
    const Layer l(call, kind, x, w_hh);
    const int64_t H = l.hidden, inputs = x.shape[2], row = l.kept() * H, step_size = l.batch * H;
    const T *h0 = optional<T>(call, 4), *c0 = kind == Cell::lstm ? optional<T>(call, 5) : nullptr;
    const T* hidden_bias = kind == Cell::gru ? optional<T>(call, 5) : nullptr;
    T* y = call.out[0].data<T>();
    T* kept = y;     // an RNN keeps what it returns
    T* c = nullptr;  // [T, B, H]
    if (kind == Cell::gru) kept = call.out[2].data<T>();
    if (kind == Cell::lstm) kept = call.out[3].data<T>(), c = call.out[4].data<T>();

    Epilogue<T> e;
    e.bias = optional<T>(call, 3);
    gemm<T>(gemms, l.steps * l.batch, l.gates() * H, inputs, {x.data<T>(), inputs, 1},
            {w_ih.data<T>(), 1, inputs}, {kept, row, 1}, e);

    const StepWeight<T> weight(gemms, l, l.gates(), H, H, {w_hh.data<T>(), 1, H});
    auto h_before = [&](int64_t s) { return s ? y + l.at(s - 1) * step_size : h0; };
    auto product = [&](int64_t s, const Block& b, T* work) {
      T* gates = kept + (l.at(s) * l.batch + b.row) * row + b.unit;
      const MatView<const T> h{shift(h_before(s), b.row * H), H, 1};
      const bool joined = b.units == H && weight.joined();
      for (int64_t k = 0, count; k < l.gates(); k += count) {
        // The last gate of a GRU keeps the two parts apart.
        const bool apart = kind == Cell::gru && k == 2;
        Epilogue<T> add;
        add.accumulate = !apart;
        if (hidden_bias) add.bias = hidden_bias + k * H + b.unit;
        count = apart || !joined ? 1 : kind == Cell::gru ? 2 : l.gates();
        if (h.data || apart || add.bias)
          weight.multiply(b.rows, k, b.unit, b.units + (count - 1) * H, H, h,
                          {gates + (k + apart) * H, row, 1}, add, work);
      }
    };
    auto cell = [&](int64_t s, const Block& b) {
      const int64_t t = l.at(s), at = b.row * H + b.unit, here = t * step_size + at;
      CellStep<T> step{};
      step.rows = b.rows;
      step.units = b.units;
      step.hidden = H;
      step.kept = kept + (t * l.batch + b.row) * row + b.unit;
      step.h_before = shift(h_before(s), at);
      step.c_before = shift<const T>(s ? shift(c, l.at(s - 1) * step_size) : c0, at);
      step.h = y + here;
      step.c = shift(c, here);
      cells.forward[int(l.cell)](step);
    };
    sweep<T>(call.name, l, l.steps, gemms, weight, product, cell);

    const int64_t last = l.at(l.steps - 1) * step_size;
    std::copy_n(y + last, step_size, call.out[1].data<T>());
    if (kind == Cell::lstm) std::copy_n(c + last, step_size, call.out[2].data<T>());
  });
}

// ---- backward: w_hh, y, h0, gradients of y and of the last h, [what was kept, [c of all steps,
// c0, gradient of the last c]]; the attributes of the forward op, and whether dh0 and dc0 are
// needed.
// -> gradients of the gates (T, B, G H), w_hh, h0, [c0 | of the gates by the hidden part].

template <Cell kind>
void prepare_backward(Call& c) {
  const Array &w_hh = c.in[0], &y = c.in[1];
  require_f32_or_f64(c, 0, "w_hh");
  const Layer l(c, kind, y, w_hh);
  const Dims state{l.batch, l.hidden}, gates{l.steps, l.batch, l.gates() * l.hidden};
  require(c, 1, "output", w_hh.dtype, Dims{l.steps, l.batch, l.hidden});
  const Dims kept{l.steps, l.batch, l.kept() * l.hidden};
  const Dims shapes[] = {state, y.shape, state, kept, y.shape, state, state};
  const char* const names[] = {"h0", "grad", "grad of h", "gates", "cells", "c0", "grad of c"};
  for (int i = 2; i < c.n_in; ++i)
    if (given(c, i)) require(c, i, names[i - 2], w_hh.dtype, shapes[i - 2]);
  c.out[0] = empty(gates, w_hh.dtype);
  c.out[1] = empty(w_hh.shape, w_hh.dtype);
  c.out[2] = empty(state, w_hh.dtype);
  if (kind == Cell::lstm) c.out[3] = empty(state, w_hh.dtype);
  if (kind == Cell::gru) c.out[3] = empty(gates, w_hh.dtype);
}

template <class T>
void copy_or_zero(const T* from, int64_t n, T* to) {
  from ? std::copy_n(from, n, to) : std::fill_n(to, n, T(0));
}

template <Cell kind>
void execute_backward(const Call& call) {
  by_type(call, [&](auto zero, const auto& cells, const auto& gemms) {
    using T = decltype(zero);
    const Array& w_hh = call.in[0];
    const Layer l(call, kind, call.in[1], w_hh);
    const int64_t H = l.hidden, row = l.gates() * H, step_size = l.batch * H;
    const T *y = call.in[1].data<T>(), *h0 = optional<T>(call, 2), *grad = optional<T>(call, 3);
    T* c = optional<T>(call, 6);
    const T* c0 = optional<T>(call, 7);
    T* kept = kind == Cell::rnn_tanh ? call.in[1].data<T>() : call.in[5].data<T>();
    T *dx = call.out[0].data<T>(), *dw = call.out[1].data<T>(), *dh = call.out[2].data<T>();
    T* dc = kind == Cell::lstm ? call.out[3].data<T>() : nullptr;
    T* dhidden = kind == Cell::gru ? call.out[3].data<T>() : dx;
    const bool need_state = integer_attr(call, kind == Cell::rnn_tanh ? 2 : 1) != 0;
    copy_or_zero(optional<T>(call, 4), step_size, dh);
    if (dc) copy_or_zero(optional<T>(call, 8), step_size, dc);

    const StepWeight<T> weight(gemms, l, 1, row, H, {w_hh.data<T>(), H, 1});
    auto product = [&](int64_t back, const Block& b, T* work) {
      if (back == 0) return;  // on to dh, from the step that came after
      const int64_t after = (l.at(l.steps - back) * l.batch + b.row) * row;
      Epilogue<T> add;
      add.accumulate = kind == Cell::gru;
      weight.multiply(b.rows, 0, b.unit, b.units, row, {dhidden + after, row, 1},
                      {dh + b.row * H + b.unit, H, 1}, add, work);
    };
    auto cell = [&](int64_t back, const Block& b) {
      const int64_t s = l.steps - 1 - back;
      if (s < 0) return;
      const int64_t t = l.at(s), before = s ? l.at(s - 1) * step_size : 0;
      const int64_t at = b.row * H + b.unit, here = t * step_size + at;
      const int64_t gates = (t * l.batch + b.row) * row + b.unit;
      CellStep<T> step{};
      step.rows = b.rows;
      step.units = b.units;
      step.hidden = H;
      step.kept = kept + (t * l.batch + b.row) * l.kept() * H + b.unit;
      step.h_before = shift(s ? y + before : h0, at);
      step.c_before = shift<const T>(s ? shift(c, before) : c0, at);
      step.c = shift(c, here);
      step.grad_h = shift(grad, here);
      step.dh = dh + at;
      step.dc = shift(dc, at);
      step.dx = dx + gates;
      step.dhidden = dhidden + gates;
      cells.backward[int(l.cell)](step);
    };
    sweep<T>(call.name, l, l.steps + need_state, gemms, weight, product, cell);

    // dw_hh = sum over steps of dhidden.T @ h_before; the first step has h0.
    const int64_t shift = l.batch * (l.steps > 1), first = l.at(0) * l.batch;
    const T* later = dhidden + (l.reverse ? 0 : shift * row);
    gemm<T>(gemms, row, H, (l.steps - 1) * l.batch, {later, 1, row},
            {y + (l.reverse ? shift * H : 0), H, 1}, {dw, H, 1});
    Epilogue<T> add;
    add.accumulate = true;
    if (h0)
      gemm<T>(gemms, row, H, l.batch, {dhidden + first * row, 1, row}, {h0, H, 1}, {dw, H, 1}, add);
  });
}

// name, doc, kind, inputs, outputs, public outputs, saved inputs, saved outputs, differentiable.
double forward_flops(const Call& c) {  // of the products: every step with both weights
  const Dims& x = c.in[0].shape;
  return 2 * double(x[0] * x[1]) * double(c.in[1].numel() + c.in[2].numel());
}

double backward_flops(const Call& c) {  // gradients of the states before, and of w_hh
  const Dims& y = c.in[1].shape;
  return 4 * double(y[0] * y[1]) * double(c.in[0].numel());
}

const Op kOps[] = {
    with_flops(
        {"rnn", "One direction of a recurrent layer: h' = tanh or relu(w_ih x + w_hh h + bias).",
         Kind::opaque, 5, 2, 2, 0b11111, 0b1, true, prepare_forward<Cell::rnn_tanh>,
         execute_forward<Cell::rnn_tanh>},
        forward_flops),
    with_flops({"lstm", "One direction of an LSTM layer.", Kind::opaque, 6, 5, 3, 0b111111, 0b11001,
                true, prepare_forward<Cell::lstm>, execute_forward<Cell::lstm>},
               forward_flops),
    with_flops({"gru", "One direction of a GRU layer.", Kind::opaque, 6, 3, 2, 0b111111, 0b101,
                true, prepare_forward<Cell::gru>, execute_forward<Cell::gru>},
               forward_flops),
    with_flops({"rnn_backward", "Gradients of rnn for its gates, w_hh and h0.", Kind::opaque, 5, 3,
                3, 0, 0, false, prepare_backward<Cell::rnn_tanh>, execute_backward<Cell::rnn_tanh>},
               backward_flops),
    with_flops({"lstm_backward", "Gradients of lstm for its gates, w_hh, h0 and c0.", Kind::opaque,
                9, 4, 4, 0, 0, false, prepare_backward<Cell::lstm>, execute_backward<Cell::lstm>},
               backward_flops),
    with_flops(
        {"gru_backward",
         "Gradients of gru for its gates, w_hh and h0; for the hidden part's gates.", Kind::opaque,
         6, 4, 4, 0, 0, false, prepare_backward<Cell::gru>, execute_backward<Cell::gru>},
        backward_flops),
};

}  // namespace

const OpTable kRecurrentOps{kOps, int(sizeof kOps / sizeof kOps[0])};

}  // namespace backtrail
