// Pointwise ops. Such an op is one struct: its value, its derivative, and what the derivative
// reads. From it this header makes the kernels for every element type, the derivative of every
// input, and the traces from which Python differentiates it to any order.
//
//   struct Sigmoid {
//     static constexpr auto name = "sigmoid";
//     static constexpr auto doc = "Logistic function, 1 / (1 + exp(-x)).";
//     static constexpr auto reads = Reads::output;
//     template <class V> static V forward(V x) { ... }
//     template <class V> static V backward(V grad, V y) { return grad * y * (V(1) - y); }
//   };
//
// `forward` takes the inputs (V, or `typename V::Mask` for a bool input); it returns V or a Mask.
// `backward` takes the incoming gradient, then what `reads` names (inputs, output); it returns one
// V, or Grads<V, n> for n inputs. Left out, it is derived from `forward` on dual numbers. Both may
// be const members, which read the attributes: members of the struct with defaults; or static,
// which take them as trailing arguments. Optional members:
//   attrs     Attr[]: names and defaults of the trailing arguments
//   integers  true when the op also works on integers (kernels on int64)
//   floats    false when it works on integers or masks only
//   range     Range: where `forward` is defined and smooth, for tests
//   cost      nanoseconds an element, roughly, on one core
#pragma once
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "backtrail/abi.h"
#include "backtrail/attrs.h"
#include "backtrail/dual.h"
#include "backtrail/expr.h"
#include "backtrail/simd.h"
#include "backtrail/vmath.h"

namespace backtrail {

enum class Reads : uint8_t { nothing = 0, inputs = 1, output = 2, both = 3 };

struct Range {
  double low, high;
};

constexpr int kMaxInputs = 6;
constexpr int kMaxAttrs = BACKTRAIL_MAX_ATTRS;

using PointwiseKernel = backtrail_kernel;
using PointwiseKernels = backtrail_kernels;

// The kernels of one op for one instruction set.
struct PointwiseTable {
  PointwiseKernels forward;
  PointwiseKernels vjp[kMaxInputs];      // gradient of input j
  PointwiseKernels derived[kMaxInputs];  // a written one again by dual numbers, for tests
};

// All there is to know of a pointwise op, built-in or of a library.
struct PointwiseRecord {
  const char *name, *doc;
  uint8_t n_inputs, n_attrs;
  uint8_t mask_inputs;  // bit j: input j is bool
  bool mask_output, floats, integers, differentiable, written_backward;
  Reads reads;
  Attr attrs[kMaxAttrs];
  Range range;
  double cost;
  PointwiseTable kernels;
  bool symbolic_attrs;  // a trace can take the attributes as inputs
  // The derivative of an input as primitive ops, with attributes as inputs or of these values.
  Trace (*trace)(int input, const double* attrs);
  const backtrail_op* foreign;  // of a library, whose `trace` stands for the one above
};

inline namespace BACKTRAIL_TARGET {

// What `backward` of an op with several inputs returns.
template <class V, int N>
struct Grads {
  V v[N];
};
template <class V, class... R>
Grads(V, R...) -> Grads<V, 1 + sizeof...(R)>;

namespace meta {

template <class... T>
struct List {
  static constexpr int size = int(sizeof...(T));
};

template <int N, class Taken, class Rest>
struct Take {
  using type = Taken;
};
template <int N, class... A, class H, class... T>
struct Take<N, List<A...>, List<H, T...>>
    : Take<N, std::conditional_t<(int(sizeof...(A)) < N), List<A..., H>, List<A...>>, List<T...>> {
};

template <int N, class H, class... T>
auto drop(List<H, T...>) {
  if constexpr (N == 0)
    return List<H, T...>{};
  else
    return drop<N - 1>(List<T...>{});
}
template <int N>
List<> drop(List<>) {
  return {};
}

template <class R, class... A>
struct Signature {
  using Result = R;
  using Args = List<std::remove_cv_t<std::remove_reference_t<A>>...>;
};
template <class R, class... A>
Signature<R, A...> signature(R (*)(A...));
template <class R, class Op, class... A>
Signature<R, A...> signature(R (Op::*)(A...) const);

// Not const: what a message is for.
template <class R, class Op, class... A>
void signature(R (Op::*)(A...));

template <class Op, class V>
using Forward = decltype(signature(&Op::template forward<V>));

template <class Op, class = void>
struct HasBackward : std::false_type {};
template <class Op>
struct HasBackward<Op, std::void_t<decltype(&Op::template backward<Vec<float>>)>> : std::true_type {
};

// Optional members of an op and what stands for them.
#define BACKTRAIL_OPTIONAL(Name, member, type, ...)    \
  template <class Op, class = void>                    \
  struct Name {                                        \
    static constexpr type value = __VA_ARGS__;         \
  };                                                   \
  template <class Op>                                  \
  struct Name<Op, std::void_t<decltype(Op::member)>> { \
    static constexpr type value = Op::member;          \
  };
BACKTRAIL_OPTIONAL(Integers, integers, bool, false)
BACKTRAIL_OPTIONAL(Floats, floats, bool, true)
BACKTRAIL_OPTIONAL(Cost, cost, double, 0.4)
BACKTRAIL_OPTIONAL(WrittenReads, reads, Reads, Reads::inputs)
BACKTRAIL_OPTIONAL(SampleRange, range, Range, Range{-3, 3})
BACKTRAIL_OPTIONAL(Differentiable, differentiable, bool, true)
BACKTRAIL_OPTIONAL(Orders, orders, int, -1)
#undef BACKTRAIL_OPTIONAL

template <class V, class L>
struct CountInputs;
template <class V, class... A>
struct CountInputs<V, List<A...>> {
  static constexpr int mask_bits(int inputs) {
    int bits = 0, j = 0;
    ((bits |= j < inputs && !std::is_same_v<A, V> ? 1 << j : 0, ++j), ...);
    return bits;
  }
};

// What an op looks like from outside.
template <class Op>
struct Shape {
  using V = Vec<float>;
  using Args = typename Forward<Op, V>::Args;
  static constexpr int attrs = Attrs<Op>::count + member_count<Op>();  // all of one or the other
  static constexpr int inputs = Args::size - Attrs<Op>::count;
  static constexpr int mask_inputs = CountInputs<V, Args>::mask_bits(inputs);
  static constexpr bool mask_output = !std::is_same_v<typename Forward<Op, V>::Result, V>;
  static constexpr bool differentiable =
      !mask_output && Floats<Op>::value && Differentiable<Op>::value;
  static_assert(inputs >= 1 && inputs <= kMaxInputs, "an op has 1 to 6 inputs");
  static_assert(attrs <= kMaxAttrs, "an op has at most 8 attributes");
  static_assert(!Attrs<Op>::count || !member_count<Op>(),
                "attributes are members with defaults, or named in `attrs`: not both");
};

// What the derivative reads: a derived one needs the inputs.
template <class Op, bool derived>
constexpr Reads vjp_reads() {
  return derived || !HasBackward<Op>::value ? Reads::inputs : WrittenReads<Op>::value;
}

template <class Op, class V>
using Inputs = typename Take<Shape<Op>::inputs, List<>, typename Forward<Op, V>::Args>::type;

// Arguments of a derivative: the gradient, then what it reads.
template <Reads reads, class V, class... In>
auto vjp_inputs(List<In...>) {
  if constexpr (reads == Reads::nothing)
    return List<V>{};
  else if constexpr (reads == Reads::inputs)
    return List<V, In...>{};
  else if constexpr (reads == Reads::output)
    return List<V, V>{};
  else
    return List<V, In..., V>{};
}
template <class Op, bool derived, class V>
using VjpInputs = decltype(vjp_inputs<vjp_reads<Op, derived>(), V>(Inputs<Op, V>{}));

template <class V, int N>
inline V pick(const Grads<V, N>& g, int i) {
  return g.v[i];
}
template <class V>
inline V pick(const V& g, int) {
  return g;
}

// An argument of `forward` as a dual number, the variable when it is input I.
template <int I, int J, class V, class A>
inline auto seed(const A& a) {
  if constexpr (std::is_same_v<A, V>)
    return Dual<V>(a, V(I == J ? 1.0 : 0.0), I != J);
  else
    return a;
}
template <class Op, int I, class V, std::size_t... J, class... A>
inline V derive(const Op& op, std::index_sequence<J...>, const V& grad, const A&... a) {
  return grad * op.template forward<Dual<V>>(seed<I, int(J), V>(a)...).d;
}

// The gradient of input I from (grad, what the derivative reads, attributes).
template <class Op, int I, bool derived, class V, class... A>
inline V vjp(const Op& op, const V& grad, const A&... a) {
  if constexpr (derived || !HasBackward<Op>::value)
    return derive<Op, I, V>(op, std::make_index_sequence<sizeof...(a)>{}, grad, a...);
  else
    return pick(op.template backward<V>(grad, a...), I);
}

}  // namespace meta

template <class A, class T>
inline A load_argument(const void* p, int64_t i) {
  if constexpr (std::is_same_v<A, Vec<T>>)
    return A::load(static_cast<const T*>(p) + i);
  else
    return A::load(static_cast<const bool*>(p) + i);
}
template <class A, class T>
inline A load_argument(const void* p, int64_t i, int64_t n) {
  if constexpr (std::is_same_v<A, Vec<T>>)
    return A::load(static_cast<const T*>(p) + i, n);
  else
    return A::load(static_cast<const bool*>(p) + i, n);
}

// The loop of every pointwise kernel. `f` takes the inputs, then the attributes. The tail runs the
// same vector code on padded lanes, so that a value does not depend on its position.
template <class T, class F, class... In, std::size_t... I, std::size_t... K>
inline void pointwise_loop(void* out, const void* const* in, const int64_t* mask, int64_t n,
                           const double* attrs, F f, meta::List<In...>, std::index_sequence<I...>,
                           std::index_sequence<K...>) {
  using V = Vec<T>;
  using Result = decltype(f(load_argument<In, T>(in[I], 0)..., V(attrs[K])...));
  using Out = std::conditional_t<std::is_same_v<Result, V>, T, bool>;
  constexpr int64_t L = V::lanes;
  Out* o = static_cast<Out*>(out);
  // Copies that no store to `out` can change: they stay in registers.
  const void* const p[] = {in[I]...};
  const int64_t m[] = {mask[I]...};
  [[maybe_unused]] const V a[sizeof...(K) + 1] = {V(attrs[K])..., V(0)};
  int64_t i = 0;
  for (; i + L <= n; i += L) f(load_argument<In, T>(p[I], i & m[I])..., a[K]...).store(o + i);
  if (int64_t rest = n - i; rest > 0)
    f((m[I] ? load_argument<In, T>(p[I], i, rest) : load_argument<In, T>(p[I], 0))..., a[K]...)
        .store(o + i, rest);
}

// The kernels of one op for elements of type T.
template <class Op, class T>
struct Kernel {
  using V = Vec<T>;
  using AttrIndex = std::make_index_sequence<std::size_t(meta::Attrs<Op>::count)>;

  // Flattened: what an op calls works in registers only inside of the loop.
  [[gnu::flatten]] static void forward(void* out, const void* const* in, const int64_t* mask,
                                       int64_t n, const double* attrs) {
    using In = meta::Inputs<Op, V>;
    const Op op = meta::instance<Op>(attrs);
    pointwise_loop<T>(
        out, in, mask, n, attrs,
        [&op](const auto&... a) BACKTRAIL_ALWAYS_INLINE { return op.template forward<V>(a...); },
        In{}, std::make_index_sequence<std::size_t(In::size)>{}, AttrIndex{});
  }

  template <int I, bool derived>
  [[gnu::flatten]] static void vjp(void* out, const void* const* in, const int64_t* mask, int64_t n,
                                   const double* attrs) {
    using In = meta::VjpInputs<Op, derived, V>;
    const Op op = meta::instance<Op>(attrs);
    pointwise_loop<T>(
        out, in, mask, n, attrs,
        [&op](const V& g, const auto&... a)
            BACKTRAIL_ALWAYS_INLINE { return meta::vjp<Op, I, derived>(op, g, a...); },
        In{}, std::make_index_sequence<std::size_t(In::size)>{}, AttrIndex{});
  }
};

// Kernels as they are; a library puts something around them.
struct Bare {
  template <PointwiseKernel kernel>
  static constexpr PointwiseKernel of() {
    return kernel;
  }
};

template <class Op, class Around, bool derived, int I>
constexpr void fill_vjp(PointwiseTable& t) {
  using S = meta::Shape<Op>;
  if constexpr (S::differentiable && I < S::inputs) {
    if constexpr (!(S::mask_inputs >> I & 1)) {
      t.vjp[I] = {Around::template of<Kernel<Op, float>::template vjp<I, false>>(),
                  Around::template of<Kernel<Op, double>::template vjp<I, false>>(), nullptr};
      if constexpr (derived && meta::HasBackward<Op>::value)
        t.derived[I] = {nullptr, Around::template of<Kernel<Op, double>::template vjp<I, true>>(),
                        nullptr};
    }
    fill_vjp<Op, Around, derived, I + 1>(t);
  }
}

// Constant-initialised: no code of an instruction set runs before that set has been chosen.
// `derived`: with the kernels that tests hold written derivatives against.
template <class Op, class Around = Bare, bool derived = true>
constexpr PointwiseTable pointwise_table() {
  PointwiseTable t{};
  if constexpr (meta::Floats<Op>::value) {
    t.forward.f32 = Around::template of<Kernel<Op, float>::forward>();
    t.forward.f64 = Around::template of<Kernel<Op, double>::forward>();
  }
  if constexpr (meta::Integers<Op>::value)
    t.forward.i64 = Around::template of<Kernel<Op, int64_t>::forward>();
  fill_vjp<Op, Around, derived, 0>(t);
  return t;
}

namespace meta {

template <class A>
A symbol(Trace& t) {
  TraceArg input{t.n_inputs++, 0};
  if constexpr (std::is_same_v<A, Expr>)
    return Expr(input);
  else
    return A{input};
}

template <class, class T>
using Same = T;

// The program of the derivative of input I, recorded by running it on symbolic values: inputs are
// (grad, what it reads, trailing attributes); or without these, of the given values. Not used in
// kernel sources.
template <class Op, int I, class... In, class... K>
Trace trace_vjp(const double* attrs, List<In...>, List<K...>) {
  Trace t;
  int k = 0;
  [[maybe_unused]] auto attribute = [&] { return attrs ? Expr(attrs[k++]) : symbol<Expr>(t); };
  std::tuple<In..., Same<K, Expr>...> args{symbol<In>(t)..., Same<K, Expr>(attribute())...};
  double values[kMaxAttrs] = {};
  for (int i = 0; i < Shape<Op>::attrs; ++i) values[i] = attrs ? attrs[i] : attr<Op>(i).value;
  const Op op = instance<Op>(values);
  struct Scope {
    explicit Scope(Trace& trace) { recording() = &trace; }
    ~Scope() { recording() = nullptr; }
  } scope(t);
  t.result = std::apply([&op](const auto&... a) { return vjp<Op, I, false>(op, a...).arg; }, args);
  return pruned(t);
}

template <class Op, int I = 0>
Trace trace(int input, const double* attrs) {
  using S = Shape<Op>;
  if constexpr (S::differentiable && I < S::inputs) {
    if (input != I) return trace<Op, I + 1>(input, attrs);
    using All = typename Forward<Op, Expr>::Args;
    if constexpr (!(S::mask_inputs >> I & 1))
      return trace_vjp<Op, I>(attrs, VjpInputs<Op, false, Expr>{}, drop<S::inputs>(All{}));
  }
  return Trace{};
}

}  // namespace meta

// The record of an op with the kernels of the instruction set this is compiled for.
template <class Op>
PointwiseRecord pointwise_record() {
  using S = meta::Shape<Op>;
  PointwiseRecord r{};
  r.name = Op::name;
  r.doc = Op::doc;
  r.n_inputs = S::inputs;
  r.n_attrs = S::attrs;
  r.mask_inputs = S::mask_inputs;
  r.mask_output = S::mask_output;
  r.floats = meta::Floats<Op>::value;
  r.integers = meta::Integers<Op>::value;
  r.differentiable = S::differentiable;
  r.written_backward = meta::HasBackward<Op>::value;
  r.reads = meta::vjp_reads<Op, false>();
  for (int i = 0; i < S::attrs; ++i) r.attrs[i] = meta::attr<Op>(i);
  r.symbolic_attrs = meta::Attrs<Op>::count > 0;
  r.range = meta::SampleRange<Op>::value;
  r.cost = meta::Cost<Op>::value;
  r.trace = meta::trace<Op>;
  return r;
}

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
