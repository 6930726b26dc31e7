// All that a file with ops of your own includes: `#include <backtrail/op.h>`.
//
//   struct Snake {
//     static constexpr auto name = "snake";
//     static constexpr auto doc = "x + sin(a x)^2 / a (Ziyin et al., 2020).";
//     float a = 1.0f;
//     template <class V> V forward(V x) const { V s = sin(V(a) * x); return x + s * s / V(a); }
//   };
//   BACKTRAIL_OPS(Snake)
//
// One struct is one op. Its members with defaults are its attributes; the arguments of `forward`
// say its kind. A `backward` may be written; else the derivative comes from `forward`, to any
// order.
//
//   pointwise  V forward(V x, ...): V is a vector, or `typename V::Mask` for a bool input
//   reduction  T forward(Row<const T> x, ...)
//   row-wise   void forward(Row<const T> x, ..., Row<T> y); `int64_t length(int64_t n)` if y is of
//              another length than x
//   opaque     void forward(Array<const T> x, ..., Array<T> y, ...); `Shape shape(const Shape& x,
//              ...)` gives the shape of y, std::array<Shape, N> those of N outputs
//
// V and T are parameters of the template: T is float, double, or Var, a double that records what is
// computed from it. All are const members; they may throw: see host.h for what becomes of it.
// Inputs may also be Row or Array of const bool or const int64_t, which have no gradient.
// `backward` takes the gradients of the outputs, what `reads` names (by default the inputs), then
// where to write the gradient of each input of T: T or Row<const T>, rows, Row<T>; or arrays
// likewise.
//
// Optional members, static constexpr: `reads`, `inputs` (const char*[]: names for Python), `orders`
// (how many derivatives there are, by default no end), `differentiable`, `cost`, `range`.
#pragma once
#include "backtrail/array.h"
#include "backtrail/library.h"
#include "backtrail/numbers.h"
#include "backtrail/parallel.h"
#include "backtrail/pointwise.h"
#include "backtrail/row.h"
