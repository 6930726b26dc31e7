// Recurrent cells, pointwise: what one step makes of its preactivations, and the derivative beside
// it.
//
// A cell reads G preactivations (`x` and `h` parts already added, except in a GRU) and leaves in
// their place what its derivative needs.
#pragma once
#include "ops/activation.h"
#include "ops/rowwise.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace ops {

struct TanhCurve {
  template <class V> static V forward(V x) { return tanh(x); }
  template <class V> static V backward(V g, V y) { return g * fma(-y, y, V(1)); }
};

// h' = curve(a).
template <class Curve> struct RnnCell {
  static constexpr int gates = 1, kept = 1;
  static constexpr bool has_memory = false, reads_hidden = false;
  template <class V> static void forward(V (&a)[1], V, V& h, V&) {
    h = a[0] = Curve::forward(a[0]);
  }
  // kept -> gradients of the preactivations; dh is replaced by a product.
  template <class V>
  static void backward(const V (&a)[1], V, V, V, V& dh, V&, V (&dx)[1], V (&)[1]) {
    dx[0] = Curve::backward(dh, a[0]);
  }
};

// i, f, o = sigmoid, g = tanh of (a_i, a_f, a_g, a_o); c' = f c + i g; h' = o tanh(c').
// https://doi.org/10.1162/neco.1997.9.8.1735, with forget gates
struct LstmCell {
  static constexpr int gates = 4, kept = 4;
  static constexpr bool has_memory = true, reads_hidden = false;
  template <class V> static void forward(V (&a)[4], V, V& h, V& c) {
    for (int k : {0, 1, 3}) a[k] = sigmoid(a[k]);
    a[2] = tanh(a[2]);
    c = fma(a[1], c, a[0] * a[2]);
    h = a[3] * tanh(c);
  }
  template <class V>
  static void backward(const V (&a)[4], V, V c_before, V c, V& dh, V& dc, V (&dx)[4], V (&)[4]) {
    const V t = tanh(c);
    dc = fma(dh * a[3], fma(-t, t, V(1)), dc);
    dx[0] = Sigmoid::backward(dc * a[2], a[0]);
    dx[1] = Sigmoid::backward(dc * c_before, a[1]);
    dx[2] = TanhCurve::backward(dc * a[0], a[2]);
    dx[3] = Sigmoid::backward(dh * t, a[3]);
    dc = dc * a[1];
  }
};

// r, z = sigmoid(a_r), sigmoid(a_z); n = tanh(a_n + r b) with b = h @ W_hn.T + b_hn;
// h' = (1 - z) n + z h. Keeps r, z, n, b. https://arxiv.org/abs/1406.1078
struct GruCell {
  static constexpr int gates = 3, kept = 4;
  static constexpr bool has_memory = false, reads_hidden = true;
  template <class V> static void forward(V (&a)[4], V h_before, V& h, V&) {
    a[0] = sigmoid(a[0]);
    a[1] = sigmoid(a[1]);
    a[2] = tanh(fma(a[0], a[3], a[2]));
    h = fma(a[1], h_before - a[2], a[2]);
  }
  // dx: by the part of x; dhidden: by the part of h, which differs in n.
  template <class V>
  static void backward(const V (&a)[4], V h_before, V, V, V& dh, V&, V (&dx)[3], V (&dhidden)[3]) {
    const V dn = TanhCurve::backward(dh * (V(1) - a[1]), a[2]);
    dx[0] = dhidden[0] = Sigmoid::backward(dn * a[3], a[0]);
    dx[1] = dhidden[1] = Sigmoid::backward(dh * (h_before - a[2]), a[1]);
    dx[2] = dn;
    dhidden[2] = dn * a[0];
    dh = dh * a[1];
  }
};

}  // namespace ops
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
