// What a library of ops hands to backtrail: a record of each op, and functions that let no exception
// out. BACKTRAIL_OPS, at the end, is the one thing of this file that an author uses.
#pragma once
#include <cstdio>
#include <cstring>
#include <new>
#include <stdexcept>

#include "backtrail/abi.h"
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

// What backtrail offers; set when the library is opened.
inline const backtrail_host*& host() {
  static const backtrail_host* given = nullptr;
  return given;
}

// Thrown where backtrail has an error already and only the way out is wanted.
struct Stopped {};

inline void error(uint32_t kind, const char* op, const char* text) {
  char all[1024];
  const std::size_t n = std::strlen(op);
  const bool named = !std::strncmp(text, op, n) && text[n] == ':';
  std::snprintf(all, sizeof all, named ? "%.0s%s" : "%s: %s", op, text);
  host()->error(kind, all);
}

// To be called where an exception is caught: it becomes an error of `op`.
inline void report(const char* op) {
  try {
    throw;
  } catch (const Stopped&) {
  } catch (const std::invalid_argument& e) {
    error(BACKTRAIL_VALUE_ERROR, op, e.what());
  } catch (const std::domain_error& e) {
    error(BACKTRAIL_VALUE_ERROR, op, e.what());
  } catch (const std::out_of_range& e) {
    error(BACKTRAIL_INDEX_ERROR, op, e.what());
  } catch (const std::bad_alloc&) {
    error(BACKTRAIL_MEMORY_ERROR, op, "out of memory");
  } catch (const std::exception& e) {
    error(BACKTRAIL_RUNTIME_ERROR, op, e.what());
  } catch (...) {
    error(BACKTRAIL_RUNTIME_ERROR, op, "it threw something that is no std::exception");
  }
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

template <class Op>
backtrail_op make_op() {
  return pointwise_op<Op>();
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
#define BACKTRAIL_OPS(...)                                                                       \
  extern "C" __attribute__((visibility("default"), used)) const backtrail_library                \
      backtrail_library_v1 = {sizeof(backtrail_library),        BACKTRAIL_ABI_MAJOR,             \
                              BACKTRAIL_ABI_MINOR,              BACKTRAIL_HEADERS_VERSION,       \
                              ::backtrail::library::isa(),      __VERSION__,                     \
                              ::backtrail::library::open<__VA_ARGS__>};
