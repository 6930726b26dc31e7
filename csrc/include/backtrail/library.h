// What a library of ops hands to backtrail: a record of each op, and functions that let no
// exception out. BACKTRAIL_OPS, at the end, is the one thing of this file that an author uses.
#pragma once
#include "backtrail/abi.h"
#include "backtrail/host.h"
#include "backtrail/kinds.h"
#include "backtrail/parallel.h"
#include "backtrail/pointwise.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace library {

constexpr const char* isa() {
#if defined(BACKTRAIL_AVX512)
  return "v4";
#elif defined(BACKTRAIL_AVX2)
  return "v3";
#elif defined(__SSE4_2__)
  return "v2";
#else
  return "base";
#endif
}

// Kernels that let no exception out.
template <class Op>
struct Guarded {
  template <PointwiseKernel kernel>
  static void run(void* out, const void* const* in, const int64_t* mask, int64_t n,
                  const double* attrs) {
    try {
      kernel(out, in, mask, n, attrs);
    } catch (...) {
      report(Op::name);
    }
  }
  template <PointwiseKernel kernel>
  static constexpr PointwiseKernel of() {
    return run<kernel>;
  }
};

template <class Op>
const backtrail_trace* trace(int32_t input, const double* attrs) {
  static thread_local Trace program;
  static thread_local backtrail_trace result;
  try {
    program = meta::trace<Op>(input, attrs);
  } catch (...) {
    report(Op::name);
    return nullptr;
  }
  result.size = sizeof result;
  result.n_inputs = program.n_inputs;
  result.n_instrs = program.n_instrs;
  result.overflow = program.overflow;
  result.result = program.result;
  result.instrs = program.instrs;
  return &result;
}

// Names of the inputs, where the author gave some: `static constexpr const char* inputs[]`.
template <class Op, class = void>
struct InputNames {
  static constexpr const char* at(int) { return nullptr; }
};
template <class Op>
struct InputNames<Op, std::void_t<decltype(Op::inputs)>> {
  static constexpr const char* at(int i) { return Op::inputs[i]; }
};

// What all kinds of ops have in common. `inputs` and `attrs` have room for all.
template <class Op>
backtrail_op record(uint32_t kind, int n_inputs, int n_outputs, backtrail_input* inputs,
                    backtrail_attr* attrs, int n_attrs) {
  backtrail_op r{};
  r.size = sizeof r;
  r.kind = kind;
  r.name = Op::name;
  r.doc = Op::doc;
  r.n_inputs = n_inputs;
  r.n_outputs = n_outputs;
  r.n_attrs = n_attrs;
  r.inputs = inputs;
  r.attrs = attrs;
  r.orders = meta::Differentiable<Op>::value ? meta::Orders<Op>::value : 0;
  r.low = meta::SampleRange<Op>::value.low;
  r.high = meta::SampleRange<Op>::value.high;
  r.cost = meta::Cost<Op>::value;
  for (int i = 0; i < n_inputs; ++i)
    inputs[i] = {sizeof inputs[i], BACKTRAIL_FLOATING, InputNames<Op>::at(i)};
  for (int i = 0; i < n_attrs; ++i) {
    const Attr a = meta::attr<Op>(i);
    attrs[i] = {sizeof attrs[i], a.type, a.name, a.value};
  }
  return r;
}

template <class Op>
backtrail_op pointwise_op() {
  using S = meta::Shape<Op>;
  static backtrail_input inputs[kMaxInputs];
  static backtrail_attr attrs[kMaxAttrs + 1];
  static constexpr PointwiseTable table = pointwise_table<Op, Guarded<Op>>();
  backtrail_op r = record<Op>(BACKTRAIL_POINTWISE, S::inputs, 1, inputs, attrs, S::attrs);
  for (int j = 0; j < S::inputs; ++j)
    if (S::mask_inputs >> j & 1) inputs[j].type = BACKTRAIL_BOOL;
  const Reads reads = meta::vjp_reads<Op, false>();
  r.flags = (S::mask_output ? BACKTRAIL_MASK_OUTPUT : 0) |
            (meta::Floats<Op>::value ? BACKTRAIL_ON_FLOATS : 0) |
            (meta::Integers<Op>::value ? BACKTRAIL_ON_INTEGERS : 0) |
            (S::differentiable ? BACKTRAIL_DIFFERENTIABLE : 0) |
            (meta::HasBackward<Op>::value ? BACKTRAIL_WRITTEN_BACKWARD : 0) |
            (uint32_t(reads) & 1 ? BACKTRAIL_READS_INPUTS : 0) |
            (uint32_t(reads) & 2 ? BACKTRAIL_READS_OUTPUT : 0) |
            (meta::Attrs<Op>::count ? BACKTRAIL_SYMBOLIC_ATTRS : 0);
  r.forward = table.forward;
  r.vjp = table.vjp;
  r.derived = table.derived;
  r.trace = trace<Op>;
  return r;
}

// Runs an op that is not pointwise.
template <class Op>
void general_run(const backtrail_call* call) {
  try {
    for (int i = 0; i < call->n_out + call->n_in; ++i) {  // any floating one tells the type
      const backtrail_array& a = i < call->n_out ? call->out[i] : call->in[i - call->n_out];
      if (a.type == BACKTRAIL_FLOAT32) return calls::call<Op, float>(*call);
      if (a.type == BACKTRAIL_FLOAT64) return calls::call<Op, double>(*call);
    }
  } catch (...) {
    report(Op::name);
  }
}

// Shapes of the outputs.
template <class Op>
void general_shape(const backtrail_call* call, backtrail_array* out) {
  using G = meta::General<Op>;
  try {
    const Op op = meta::instance<Op>(call->attrs);
    calls::Place in[G::inputs];
    for (int j = 0; j < G::inputs; ++j) in[j] = {nullptr, {call->in[j].shape, call->in[j].n_dims}};
    auto set = [&](int i, const Shape& shape) {
      out[i].n_dims = shape.size();
      for (int d = 0; d < shape.size(); ++d) out[i].shape[d] = shape[d];
    };
    if constexpr (G::form == meta::Form::row) {
      Shape shape = in[0].shape;
      shape[-1] = calls::row_shape(op, shape)[0];
      set(0, shape);
    } else {
      const auto shapes = calls::output_shapes(op, in);
      for (int i = 0; i < G::outputs; ++i) set(i, shapes[std::size_t(i)]);
    }
  } catch (...) {
    report(Op::name);
  }
}

template <class Op>
backtrail_op general_op() {
  using G = meta::General<Op>;
  constexpr int n_attrs = meta::member_count<Op>();
  static_assert(!meta::Attrs<Op>::count,
                "the attributes of an op on rows or arrays are members with defaults");
  static backtrail_input inputs[G::inputs];
  static backtrail_attr attrs[n_attrs + 1];
  const uint32_t kind = G::reduces                   ? BACKTRAIL_REDUCTION
                        : G::form == meta::Form::row ? BACKTRAIL_ROWWISE
                                                     : BACKTRAIL_OPAQUE;
  backtrail_op r = record<Op>(kind, G::inputs, G::outputs, inputs, attrs, n_attrs);
  for (int j = 0; j < G::inputs; ++j) inputs[j].type = G::types[std::size_t(j)];
  constexpr bool written = meta::HasGeneralBackward<Op>::value;
  r.flags = (G::differentiable ? BACKTRAIL_DIFFERENTIABLE : 0) |
            (written ? BACKTRAIL_WRITTEN_BACKWARD : 0) | BACKTRAIL_READS_INPUTS |
            (written && calls::reads<Op>(Reads::output) ? BACKTRAIL_READS_OUTPUT : 0);
  r.run = general_run<Op>;
  r.shape = G::reduces ? nullptr : general_shape<Op>;
  return r;
}

template <class Op, class V, class = void>
struct HasForward : std::false_type {
  static constexpr bool is_const = true;
};
template <class Op, class V>
struct HasForward<Op, V, std::void_t<meta::Forward<Op, V>>> : std::true_type {
  static constexpr bool is_const = !std::is_void_v<meta::Forward<Op, V>>;
};

template <class Op>
backtrail_op make_op() {
  using OfVectors = HasForward<Op, Vec<float>>;
  using OfNumbers = HasForward<Op, float>;
  static_assert(OfVectors::value || OfNumbers::value,
                "an op has a member `template <class V> V forward(V x, ...) const`, on vectors, or "
                "one on rows or arrays of T: see op.h");
  static_assert(OfVectors::is_const && OfNumbers::is_const, "write `const` after forward(...)");
  if constexpr (!OfVectors::is_const || !OfNumbers::is_const)
    return {};
  else if constexpr (meta::is_pointwise<Op>())
    return pointwise_op<Op>();
  else
    return general_op<Op>();
}

template <class... Op>
const backtrail_op* open(const backtrail_host* given, int32_t* count) {
  host() = given;
  static const backtrail_op ops[] = {make_op<Op>()...};
  *count = int32_t(sizeof...(Op));
  return ops;
}

}  // namespace library
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail

// Once in a library: the ops that it adds, `BACKTRAIL_OPS(MyOp, MyOther)`.
#define BACKTRAIL_OPS(...)                                                     \
  extern "C" __attribute__((visibility("default"), used))                      \
  const backtrail_library backtrail_library_v1 = {sizeof(backtrail_library),   \
                                                  BACKTRAIL_ABI_MAJOR,         \
                                                  BACKTRAIL_ABI_MINOR,         \
                                                  BACKTRAIL_HEADERS_VERSION,   \
                                                  ::backtrail::library::isa(), \
                                                  __VERSION__,                 \
                                                  ::backtrail::library::open<__VA_ARGS__>};
