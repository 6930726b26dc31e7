// Derivatives of any order of a function of Vars.
//
// F_0 is the function. F_k takes the floating inputs of F_{k-1} and a gradient for each of its
// outputs, C_k; it gives the gradients of these inputs. So with I_0 the inputs and O_0 the outputs
// of the function: C_k is like O_{k-1}, I_k = I_{k-1} + C_k, and O_k is like I_{k-1}.
#pragma once
#include <cstdint>

#include "backtrail/tape.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace taped {

constexpr int kMaxArrays = 40;

// The number of arrays in I_k and O_k.
struct Counts {
  int inputs, outputs;
};
constexpr Counts counts(int order, int inputs, int outputs) {
  Counts now{inputs, outputs};
  for (int k = 1; k <= order; ++k) now = {now.inputs + now.outputs, now.inputs};
  return now;
}

struct Variables {
  Var* data = nullptr;
  int64_t n = 0;
};

// What one derivative needs, kept by each thread for the next.
struct Workspace {
  Tape tape;
  Room<Var> vars, adjoint_vars;
  Room<double> adjoints;

  static Workspace& mine() {
    static thread_local Workspace w;
    return w;
  }
  void trim() {  // what a large one took is given back
    constexpr int64_t kMost = 1 << 20;
    tape.trim(kMost);
    if (vars.capacity() > kMost) vars.clear();
    if (adjoint_vars.capacity() > kMost) adjoint_vars.clear();
    if (adjoints.capacity() > kMost) adjoints.clear();
  }
};

class Recording {
 public:
  explicit Recording(Tape& t) {
    t.clear();
    tape() = &t;
  }
  ~Recording() { tape() = nullptr; }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
};

// Values of a call, float or double.
struct Values {
  void* data = nullptr;
  bool single = false;
  double get(int64_t i) const {
    return single ? double(static_cast<float*>(data)[i]) : static_cast<double*>(data)[i];
  }
  void set(int64_t i, double v) const {
    if (single)
      static_cast<float*>(data)[i] = float(v);
    else
      static_cast<double*>(data)[i] = v;
  }
};

// Run F_`order`, order >= 1. `sizes`: elements of the arrays of I_0, then of O_0. `given[j]` are
// the values of array j of I_order, `found[j]` the results, like array j of I_{order-1}.
// `forward(Variables* inputs, Variables* outputs)` computes the outputs.
template <class Forward>
__attribute__((noinline)) void derive(int order, int n_inputs, int n_outputs, const int64_t* sizes,
                                      const Values* given, const Values* found, Forward forward) {
  Workspace& w = Workspace::mine();
  // Arrays of I_{order-1}, then of every O_m below order.
  const int inputs = counts(order - 1, n_inputs, n_outputs).inputs;
  Variables in[kMaxArrays], out[kMaxArrays];
  int64_t size_of[kMaxArrays];  // of the arrays of I_order
  int n = n_inputs;
  for (int j = 0; j < n_inputs; ++j) size_of[j] = sizes[j];
  int64_t room = 0;
  for (int k = 1; k <= order; ++k) {  // C_k is like O_{k-1}: the outputs, or I_{k-2}
    const int like = k == 1 ? n_outputs : counts(k - 2, n_inputs, n_outputs).inputs;
    for (int j = 0; j < like; ++j) size_of[n++] = k == 1 ? sizes[n_inputs + j] : size_of[j];
  }
  for (int j = 0; j < inputs; ++j) room += size_of[j];
  for (int j = 0; j < n_outputs; ++j) room += sizes[n_inputs + j];
  for (int m = 1; m < order; ++m)
    for (int j = 0; j < counts(m - 1, n_inputs, n_outputs).inputs; ++j) room += size_of[j];
  Var* next = w.vars.get(room);
  auto take = [&](int64_t size) {
    Variables v{next, size};
    next += size;
    for (int64_t e = 0; e < size; ++e) v.data[e] = Var(0);
    return v;
  };

  Recording recording(w.tape);
  for (int j = 0; j < inputs; ++j) {
    in[j] = take(size_of[j]);
    for (int64_t e = 0; e < in[j].n; ++e) in[j].data[e] = w.tape.push(Step::leaf, given[j].get(e));
  }
  int outputs = n_outputs;
  for (int i = 0; i < n_outputs; ++i) out[i] = take(sizes[n_inputs + i]);
  forward(in, out);
  int gradients = n_inputs;  // where C_m begins among the arrays of I_order
  for (int m = 1; m < order; ++m) {
    const int64_t top = w.tape.size();
    Var* adjoints = w.adjoint_vars.get(top);
    for (int64_t i = 0; i < top; ++i) adjoints[i] = Var(0);
    for (int i = 0; i < outputs; ++i)
      for (int64_t e = 0; e < out[i].n; ++e)
        if (!out[i].data[e].constant()) adjoints[out[i].data[e].i] += in[gradients + i].data[e];
    sweep<Var>(w.tape, top, adjoints);
    gradients += outputs;
    outputs = counts(m - 1, n_inputs, n_outputs).inputs;
    for (int j = 0; j < outputs; ++j) {
      out[j] = take(in[j].n);
      for (int64_t e = 0; e < in[j].n; ++e) out[j].data[e] = adjoints[in[j].data[e].i];
    }
  }
  const int64_t top = w.tape.size();
  double* adjoints = w.adjoints.get(top);
  for (int64_t i = 0; i < top; ++i) adjoints[i] = 0;
  for (int i = 0; i < outputs; ++i)
    for (int64_t e = 0; e < out[i].n; ++e)
      if (!out[i].data[e].constant()) adjoints[out[i].data[e].i] += given[gradients + i].get(e);
  sweep<double>(w.tape, top, adjoints);
  for (int j = 0; j < inputs; ++j)
    for (int64_t e = 0; e < in[j].n; ++e) found[j].set(e, adjoints[in[j].data[e].i]);
}

}  // namespace taped
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
