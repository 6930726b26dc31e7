// Ops that are not pointwise: what kind an op is, read off the arguments of its `forward`; and what
// runs one, or any derivative of it, on plain pointers.
//
//   reduction  template <class T> T forward(Row<const T> x, ...) const
//   row-wise   template <class T> void forward(Row<const T> x, ..., Row<T> y) const
//   opaque     template <class T> void forward(Array<const T> x, ..., Array<T> y, ...) const
#pragma once
#include <array>

#include "backtrail/array.h"
#include "backtrail/derive.h"
#include "backtrail/pointwise.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace meta {

// ---- arguments

enum class Form : uint8_t { none, value, row, array };

// One argument of forward or backward: its form, the type of its elements, whether it is written.
template <class A>
struct Argument {
  static constexpr Form form = Form::value;
  using Element = A;
  static constexpr bool written = false;
};
template <class T>
struct Argument<Row<T>> {
  static constexpr Form form = Form::row;
  using Element = std::remove_const_t<T>;
  static constexpr bool written = !std::is_const_v<T>;
};
template <class T>
struct Argument<Array<T>> {
  static constexpr Form form = Form::array;
  using Element = std::remove_const_t<T>;
  static constexpr bool written = !std::is_const_v<T>;
};

template <class Op, class = void>
struct RowForm {
  static constexpr Form value = Form::none;
};
template <class Op>
struct RowForm<Op, std::void_t<typename Forward<Op, float>::Args>> {
  template <class First, class... Rest>
  static constexpr Form of(List<First, Rest...>) {
    return Argument<First>::form;
  }
  static constexpr Form of(List<>) { return Form::none; }
  static constexpr Form value = of(typename Forward<Op, float>::Args());
};

template <class Op>
constexpr bool is_pointwise() {
  return RowForm<Op>::value != Form::row && RowForm<Op>::value != Form::array;
}

template <class Op, class = void>
struct HasGeneralBackward : std::false_type {};
template <class Op>
struct HasGeneralBackward<Op, std::void_t<decltype(&Op::template backward<float>)>>
    : std::true_type {};

template <class Op, class = void>
struct HasShape : std::false_type {};
template <class Op>
struct HasShape<Op, std::void_t<decltype(&Op::shape)>> : std::true_type {};
template <class Op, class = void>
struct HasLength : std::false_type {};
template <class Op>
struct HasLength<Op, std::void_t<decltype(&Op::length)>> : std::true_type {};

template <class E, class T>
constexpr uint32_t element_type() {
  static_assert(std::is_same_v<E, T> || std::is_same_v<E, bool> || std::is_same_v<E, int64_t>,
                "the elements of an input are T, bool or int64_t");
  return std::is_same_v<E, T>      ? BACKTRAIL_FLOATING
         : std::is_same_v<E, bool> ? BACKTRAIL_BOOL
                                   : BACKTRAIL_INT64;
}

// What `forward` of an op that is not pointwise takes.
template <class Op>
struct General {
  using Signature = Forward<Op, float>;
  using Args = typename Signature::Args;
  static constexpr Form form = RowForm<Op>::value;

  template <class... A>
  static constexpr int count_written(List<A...>) {
    return (0 + ... + int(Argument<A>::written));
  }
  template <class... A>
  static constexpr bool all_of_form(List<A...>) {
    return ((Argument<A>::form == form) && ...);
  }
  template <class... A>
  static constexpr bool inputs_first(List<A...>) {
    bool seen = false, good = true;
    ((good = good && !(seen && !Argument<A>::written), seen = seen || Argument<A>::written), ...);
    return good;
  }
  static constexpr bool reduces = form == Form::row && !std::is_void_v<typename Signature::Result>;
  static constexpr int written = count_written(Args());
  static constexpr int inputs = Args::size - written;
  static constexpr int outputs = reduces ? 1 : written;
  static_assert(all_of_form(Args()), "forward takes rows alone, or arrays alone");
  static_assert(inputs_first(Args()), "forward takes the inputs (of const), then the outputs");
  static_assert(inputs >= 1 && inputs <= 16, "an op has 1 to 16 inputs");
  static_assert(form != Form::row || (reduces ? written == 0 : written == 1),
                "a row-wise op writes to one Row<T>, its last argument; a reduction returns T");
  static_assert(form != Form::array || (outputs >= 1 && outputs <= BACKTRAIL_MAX_OUTPUTS),
                "forward of an op on arrays writes to 1 to 8 of them, its last arguments");
  static_assert(form != Form::array || HasShape<Op>::value,
                "an op on arrays has a member `Shape shape(const Shape& x, ...) const`: the shape "
                "of its output from those of its inputs");

  template <class... A>
  static constexpr std::array<uint32_t, 17> types_of(List<A...>) {
    return {element_type<typename Argument<A>::Element, float>()...};
  }
  static constexpr std::array<uint32_t, 17> types = types_of(Args());
  static constexpr int floating() {
    int n = 0;
    for (int j = 0; j < inputs; ++j) n += types[std::size_t(j)] == BACKTRAIL_FLOATING;
    return n;
  }
  static constexpr bool differentiable = Differentiable<Op>::value && floating() > 0;
};

}  // namespace meta

namespace calls {

// One array of a call: where it lies now.
struct Place {
  void* data;
  Shape shape;  // of a row: its length
};

template <class A>
A argument(const Place& p) {
  using Element = typename meta::Argument<A>::Element;
  if constexpr (meta::Argument<A>::form == meta::Form::row)
    return A(static_cast<Element*>(p.data), p.shape[-1]);
  else if constexpr (meta::Argument<A>::form == meta::Form::array)
    return A(static_cast<Element*>(p.data), p.shape);
  else
    return *static_cast<const A*>(p.data);
}

// forward<T> on places: the inputs, then the outputs.
template <class Op, class T, class... A, std::size_t... I>
void forward(const Op& op, const Place* places, meta::List<A...>, std::index_sequence<I...>) {
  if constexpr (meta::General<Op>::reduces)
    *static_cast<T*>(places[sizeof...(A)].data) = op.template forward<T>(argument<A>(places[I])...);
  else
    op.template forward<T>(argument<A>(places[I])...);
}
template <class Op, class T>
void forward(const Op& op, const Place* places) {
  using Args = typename meta::Forward<Op, T>::Args;
  forward<Op, T>(op, places, Args(), std::make_index_sequence<std::size_t(Args::size)>());
}

// What the written derivative takes, in order: gradients, what it reads, gradients of the inputs.
template <class Op, class T>
using Backward = decltype(meta::signature(&Op::template backward<T>));

template <class Op>
constexpr bool reads(Reads what) {
  return (uint32_t(meta::WrittenReads<Op>::value) & uint32_t(what)) != 0;
}

template <class Op, class T, class... A, std::size_t... I>
void backward(const Op& op, const Place* places, meta::List<A...>, std::index_sequence<I...>) {
  op.template backward<T>(argument<A>(places[I])...);
}
// `in`: the inputs, the outputs if they are read, the gradients; `out`: those of the inputs.
template <class Op, class T>
void backward(const Op& op, const Place* in, const Place* out) {
  using G = meta::General<Op>;
  using Args = typename Backward<Op, T>::Args;
  constexpr int seen = reads<Op>(Reads::output) ? G::outputs : 0;
  constexpr int wanted =
      G::outputs + (reads<Op>(Reads::inputs) ? G::inputs : 0) + seen + G::floating();
  static_assert(Args::size == wanted,
                "backward takes the gradients of the outputs, what `reads` names (the inputs; the "
                "outputs), then where to write the gradient of each input of T");
  Place places[wanted + 1];
  int n = 0;
  for (int i = 0; i < G::outputs; ++i) places[n++] = in[G::inputs + seen + i];
  for (int j = 0; reads<Op>(Reads::inputs) && j < G::inputs; ++j) places[n++] = in[j];
  for (int i = 0; i < seen; ++i) places[n++] = in[G::inputs + i];
  for (int j = 0; j < G::floating(); ++j) places[n++] = out[j];
  backward<Op, T>(op, places, Args(), std::make_index_sequence<std::size_t(Args::size)>());
}

// The derivative of any order from forward<Var>, on floats if `single`, else on doubles. `in`: the
// inputs, then the gradients.
template <class Op>
__attribute__((noinline)) void derived(const Op& op, int order, bool single, const Place* in,
                                       int n_in, const Place* out, int n_out,
                                       const Shape* output_shapes) {
  using G = meta::General<Op>;
  auto floating = [](int j) { return G::types[std::size_t(j)] == BACKTRAIL_FLOATING; };
  taped::Values given[taped::kMaxArrays], found[taped::kMaxArrays];
  int64_t sizes[32];
  int n = 0;
  for (int j = 0; j < n_in; ++j)
    if (j >= G::inputs || floating(j)) given[n++] = {in[j].data, single};
  for (int i = 0; i < n_out; ++i) found[i] = {out[i].data, single};
  n = 0;
  for (int j = 0; j < G::inputs; ++j)
    if (floating(j)) sizes[n++] = in[j].shape.numel();
  for (int i = 0; i < G::outputs; ++i) sizes[n++] = output_shapes[i].numel();
  taped::derive(order, G::floating(), G::outputs, sizes, given, found,
                [&](taped::Variables* x, taped::Variables* y) {
                  Place places[17 + BACKTRAIL_MAX_OUTPUTS];
                  int k = 0;
                  for (int j = 0; j < G::inputs; ++j) {
                    places[j] = in[j];
                    if (floating(j)) places[j].data = x[k++].data;
                  }
                  for (int i = 0; i < G::outputs; ++i)
                    places[G::inputs + i] = {y[i].data, output_shapes[i]};
                  forward<Op, Var>(op, places);
                });
}

template <class Op>
Shape row_shape(const Op& op, const Shape& x) {
  using G = meta::General<Op>;
  if constexpr (G::reduces) {
    return Shape{1};
  } else if constexpr (meta::HasLength<Op>::value) {
    const int64_t n = op.length(x[-1]);
    if (n < 0) throw std::invalid_argument("length() gave " + std::to_string(n));
    return Shape{n};
  } else {
    return Shape{x[-1]};
  }
}

template <class Op, std::size_t... I>
std::array<Shape, std::size_t(meta::General<Op>::outputs)> output_shapes(
    const Op& op, const Place* in, std::index_sequence<I...>) {
  using Result = decltype(op.shape((void(I), Shape())...));
  if constexpr (std::is_same_v<Result, Shape>) {
    static_assert(meta::General<Op>::outputs == 1, "shape() returns std::array<Shape, outputs>");
    return {op.shape(in[I].shape...)};
  } else {
    return op.shape(in[I].shape...);
  }
}
template <class Op>
auto output_shapes(const Op& op, const Place* in) {
  return output_shapes(op, in, std::make_index_sequence<std::size_t(meta::General<Op>::inputs)>());
}

// A derivative of one row, or of one call on arrays.
template <class Op, class T>
void derivative(const Op& op, const backtrail_call& c, const Place* in, const Place* out) {
  using G = meta::General<Op>;
  if constexpr (meta::HasGeneralBackward<Op>::value)
    if (c.order == 1 && !c.derived) return backward<Op, T>(op, in, out);
  if constexpr (G::differentiable &&
                (meta::Orders<Op>::value < 0 || !meta::HasGeneralBackward<Op>::value ||
                 meta::Orders<Op>::value > 1)) {
    Shape shapes[BACKTRAIL_MAX_OUTPUTS];
    if constexpr (G::form == meta::Form::row) {
      shapes[0] = row_shape(op, in[0].shape);
    } else {  // the gradients of the outputs come first after the inputs
      for (int i = 0; i < G::outputs; ++i) shapes[i] = in[G::inputs + i].shape;
    }
    derived(op, int(c.order), sizeof(T) == 4, in, c.n_in, out, c.n_out, shapes);
  } else {
    throw std::logic_error("it has no such derivative");
  }
}

// All rows of a call, or its arrays. `places`: room for the inputs and outputs.
template <class Op, class T>
void call(const backtrail_call& c, Place* places) {
  const Op op = meta::instance<Op>(c.attrs);
  const int n = c.n_in + c.n_out;
  for (int j = 0; j < n; ++j) {
    const backtrail_array& a = j < c.n_in ? c.in[j] : c.out[j - c.n_in];
    places[j] = {a.data, {a.shape, a.n_dims}};
  }
  auto one = [&] {
    if (c.order == 0)
      forward<Op, T>(op, places);
    else
      derivative<Op, T>(op, c, places, places + c.n_in);
  };
  if constexpr (meta::General<Op>::form == meta::Form::row) {
    for (int r = 0; r < c.n_rows; ++r) {
      for (int j = 0; j < n; ++j) places[j].data = c.rows[j * c.n_rows + r];
      one();
    }
  } else {
    one();
    if (c.order > 0) taped::Workspace::mine().trim();
  }
}
template <class Op, class T>
void call(const backtrail_call& c) {
  using G = meta::General<Op>;
  if (c.order == 0) {
    Place places[G::inputs + G::outputs];
    return call<Op, T>(c, places);
  }
  Place places[taped::kMaxArrays];
  if (c.n_in + c.n_out > taped::kMaxArrays) throw std::length_error("too many arrays");
  call<Op, T>(c, places);
}

}  // namespace calls
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
