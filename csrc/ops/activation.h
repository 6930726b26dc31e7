// Activations: the bends between the layers of a network.
#pragma once
#include "backtrail/pointwise.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace ops {

struct Relu {
  static constexpr auto name = "relu";
  static constexpr auto doc = "max(input, 0); its slope at 0 is 0.";
  static constexpr auto reads = Reads::output;
  static constexpr bool integers = true;
  template <class V> static V forward(V x) { return select(x <= V(0), V(0), x); }
  template <class V> static V backward(V g, V y) { return select(y <= V(0), V(0), g); }
};

struct Relu6 {
  static constexpr auto name = "relu6";
  static constexpr auto doc = "min(max(input, 0), 6).";
  static constexpr auto reads = Reads::output;
  static constexpr bool integers = true;
  template <class V> static V forward(V x) { return min(max(x, V(0)), V(6)); }
  template <class V> static V backward(V g, V y) {
    return select((y <= V(0)) | (y >= V(6)), V(0), g);
  }
};

struct LeakyRelu {
  static constexpr auto name = "leaky_relu";
  static constexpr auto doc = "input where positive, negative_slope * input elsewhere.";
  static constexpr auto reads = Reads::inputs;
  static constexpr Attr attrs[] = {{"negative_slope", 0.01}};
  template <class V> static V forward(V x, V slope) { return select(x > V(0), x, slope * x); }
  template <class V> static V backward(V g, V x, V slope) { return select(x > V(0), g, slope * g); }
};

struct Elu {
  static constexpr auto name = "elu";
  static constexpr auto doc = "input where positive, alpha * (exp(input) - 1) elsewhere.";
  static constexpr double cost = 1;
  static constexpr Attr attrs[] = {{"alpha", 1}};
  template <class V> static V forward(V x, V alpha) {
    return select(x > V(0), x, alpha * expm1(min(x, V(0))));
  }
  // From the left at 0, where the second derivative is 0, as in PyTorch.
  template <class V> static V backward(V g, V x, V alpha) {
    return select(x > V(0), g, g * alpha * exp(select(x >= V(0), V(0), x)));
  }
};

struct Celu {
  static constexpr auto name = "celu";
  static constexpr auto doc = "input where positive, alpha * (exp(input / alpha) - 1) elsewhere.";
  static constexpr double cost = 1;
  static constexpr Attr attrs[] = {{"alpha", 1}};
  template <class V> static V forward(V x, V alpha) {
    return select(x > V(0), x, alpha * expm1(min(x, V(0)) / alpha));
  }
  template <class V> static V backward(V g, V x, V alpha) {
    return select(x > V(0), g, g * exp(select(x >= V(0), V(0), x) / alpha));
  }
};

struct Selu {
  static constexpr auto name = "selu";
  static constexpr auto doc = "Self-normalising ELU (Klambauer et al., 2017).";
  static constexpr double cost = 1;
  template <class V> static V forward(V x) {
    const V alpha(1.6732632423543772848), scale(1.0507009873554804934);
    return scale * select(x > V(0), x, alpha * expm1(min(x, V(0))));
  }
  template <class V> static V backward(V g, V x) {
    const V alpha(1.6732632423543772848), scale(1.0507009873554804934);
    return g * (scale * select(x > V(0), V(1), alpha * exp(select(x >= V(0), V(0), x))));
  }
};

struct Sigmoid {
  static constexpr auto name = "sigmoid";
  static constexpr auto doc = "Logistic function, 1 / (1 + exp(-input)).";
  static constexpr auto reads = Reads::output;
  static constexpr double cost = 1;
  template <class V> static V forward(V x) { return sigmoid(x); }
  template <class V> static V backward(V g, V y) { return g * (y * (V(1) - y)); }
};

struct LogSigmoid {
  static constexpr auto name = "logsigmoid";
  static constexpr auto doc = "log(sigmoid(input)), exact at both ends.";
  static constexpr double cost = 2;
  template <class V> static V forward(V x) { return logsigmoid(x); }
  template <class V> static V backward(V g, V x) { return g * sigmoid(-x); }
};

struct Softplus {
  static constexpr auto name = "softplus";
  static constexpr auto doc =
      "log(1 + exp(beta * input)) / beta; input itself above threshold / beta.";
  static constexpr double cost = 2;
  static constexpr Attr attrs[] = {{"beta", 1}, {"threshold", 20}};
  template <class V> static V forward(V x, V beta, V threshold) {
    V z = x * beta;
    return select(z > threshold, x, -logsigmoid(-z) / beta);
  }
  template <class V> static V backward(V g, V x, V beta, V threshold) {
    V z = x * beta;
    return select(z > threshold, g, g * sigmoid(z));
  }
};

struct Silu {
  static constexpr auto name = "silu";
  static constexpr auto doc = "input * sigmoid(input), also called swish.";
  static constexpr double cost = 1;
  template <class V> static V forward(V x) { return x * sigmoid(x); }
  template <class V> static V backward(V g, V x) {
    V s = sigmoid(x);
    return g * (s + x * (s * (V(1) - s)));
  }
};

struct Mish {
  static constexpr auto name = "mish";
  static constexpr auto doc = "input * tanh(softplus(input)).";
  static constexpr double cost = 4;
  template <class V> static V forward(V x) { return x * tanh(-logsigmoid(-x)); }
  template <class V> static V backward(V g, V x) {
    V t = tanh(-logsigmoid(-x));
    return g * (t + x * (V(1) - t * t) * sigmoid(x));
  }
};

struct Gelu {
  static constexpr auto name = "gelu";
  static constexpr auto doc = "input * Phi(input), Phi the normal distribution function (by erf).";
  static constexpr double cost = 2;
  template <class V> static V forward(V x) {
    return V(0.5) * x * (V(1) + erf(x * V(0.70710678118654752440)));
  }
  template <class V> static V backward(V g, V x) {
    V phi = V(0.39894228040143267794) * exp(V(-0.5) * x * x);
    V cdf = V(0.5) * (V(1) + erf(x * V(0.70710678118654752440)));
    return g * (cdf + select(isinf(x), V(0), x * phi));
  }
};

struct GeluTanh {
  static constexpr auto name = "gelu_tanh";
  static constexpr auto doc = "GELU by its tanh approximation (Hendrycks and Gimpel, 2016).";
  static constexpr double cost = 0.6;
  static constexpr double kScale = 0.79788456080286535588, kCubic = 0.044715;  // sqrt(2 / pi)
  // (1 + tanh(u)) / 2 is the logistic function of 2 u.
  template <class V> static V gate(V x) {
    return sigmoid(V(2 * kScale) * (x + V(kCubic) * (x * x * x)));
  }
  template <class V> static V forward(V x) { return x * gate(x); }
  template <class V> static V backward(V g, V x) {
    V near = min(max(x, V(-100)), V(100));  // beyond it the gate is 0 or 1, and powers overflow
    V s = gate(near);
    V bend = s * (V(1) - s) * (V(2 * kScale) * (V(1) + V(3 * kCubic) * (near * near))) * near;
    return g * (s + bend);
  }
};

struct Hardtanh {
  static constexpr auto name = "hardtanh";
  static constexpr auto doc = "input limited to [min_val, max_val]; its slope at both ends is 0.";
  static constexpr bool integers = true;
  static constexpr Attr attrs[] = {{"min_val", -1}, {"max_val", 1}};
  template <class V> static V forward(V x, V low, V high) { return min(max(x, low), high); }
  template <class V> static V backward(V g, V x, V low, V high) {
    return select((x <= low) | (x >= high), V(0), g);
  }
};

struct Hardsigmoid {
  static constexpr auto name = "hardsigmoid";
  static constexpr auto doc = "min(max(input + 3, 0), 6) / 6.";
  static constexpr auto range = Range{-2.5, 2.5};
  template <class V> static V forward(V x) { return min(max(x + V(3), V(0)), V(6)) / V(6); }
  template <class V> static V backward(V g, V x) {
    return select((x > V(-3)) & (x < V(3)), g / V(6), V(0));
  }
};

struct Hardswish {
  static constexpr auto name = "hardswish";
  static constexpr auto doc = "input * hardsigmoid(input).";
  static constexpr auto range = Range{-2.5, 2.5};
  template <class V> static V forward(V x) { return x * (min(max(x + V(3), V(0)), V(6)) / V(6)); }
  template <class V> static V backward(V g, V x) {
    V slope = x / V(3) + V(0.5);
    return select(x <= V(-3), V(0), select(x >= V(3), g, g * slope));
  }
};

struct BinaryCrossEntropy {
  static constexpr auto name = "binary_cross_entropy_terms";
  static constexpr auto doc = "-(t log p + (1 - t) log(1 - p)), each logarithm at least -100.";
  static constexpr auto range = Range{0.1, 0.9};
  static constexpr double cost = 2;
  template <class V> static V forward(V p, V t) {
    return -(t * max(log(p), V(-100)) + (V(1) - t) * max(log1p(-p), V(-100)));
  }
  // The slope is kept finite where p is 0 or 1, as in PyTorch.
  template <class V> static Grads<V, 2> backward(V g, V p, V t) {
    return {{g * (p - t) / max(p * (V(1) - p), V(1e-12)),
             g * (max(log1p(-p), V(-100)) - max(log(p), V(-100)))}};
  }
};

using Activations =
    meta::List<Relu, Relu6, LeakyRelu, Elu, Celu, Selu, Sigmoid, LogSigmoid, Softplus, Silu, Mish,
               Gelu, GeluTanh, Hardtanh, Hardsigmoid, Hardswish, BinaryCrossEntropy>;

}  // namespace ops
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
