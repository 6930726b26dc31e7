// Symbolic values: run an expression on Expr and it is recorded as a short program of primitive
// ops, each of which is an op of the registry. Python replays the program of a derivative with
// tensors, and so differentiates it again, to any order.
#pragma once
#include "backtrail/abi.h"
#include "backtrail/logistic.h"
#include "backtrail/simd.h"

namespace backtrail {

using TraceArg = backtrail_trace_arg;
using TraceInstr = backtrail_trace_instr;

struct Trace {
  static constexpr int kMax = 256;
  int n_inputs = 0, n_instrs = 0;
  bool overflow = false;
  TraceArg result{-1, 0};
  TraceInstr instrs[kMax];  // those beyond n_instrs are not set
};

inline namespace BACKTRAIL_TARGET {

// The instructions that the result depends on, renumbered: a derivative that computes the gradients
// of all inputs is traced for one of them.
inline Trace pruned(const Trace& t) {
  bool live[Trace::kMax] = {};
  auto mark = [&](TraceArg a) {
    if (a.reg >= t.n_inputs) live[a.reg - t.n_inputs] = true;
  };
  mark(t.result);
  for (int i = t.n_instrs - 1; i >= 0; --i)
    for (int k = 0; live[i] && k < t.instrs[i].n_args; ++k) mark(t.instrs[i].args[k]);
  Trace out;
  out.n_inputs = t.n_inputs;
  out.overflow = t.overflow;
  int place[Trace::kMax] = {};
  auto renumber = [&](TraceArg a) {
    if (a.reg >= t.n_inputs) a.reg = place[a.reg - t.n_inputs];
    return a;
  };
  for (int i = 0; i < t.n_instrs; ++i) {
    if (!live[i]) continue;
    place[i] = t.n_inputs + out.n_instrs;
    TraceInstr& instr = out.instrs[out.n_instrs++] = t.instrs[i];
    for (int k = 0; k < instr.n_args; ++k) instr.args[k] = renumber(instr.args[k]);
  }
  out.result = renumber(t.result);
  return out;
}

// The trace being recorded on this thread.
inline Trace*& recording() {
  static thread_local Trace* current = nullptr;
  return current;
}

inline TraceArg record(const char* op, TraceArg a, TraceArg b = {-2, 0}, TraceArg c = {-2, 0}) {
  Trace& t = *recording();
  if (t.n_instrs == Trace::kMax) {
    t.overflow = true;
    return {-1, 0};
  }
  TraceInstr& i = t.instrs[t.n_instrs++];
  i = {op, 1 + (b.reg != -2) + (c.reg != -2), {a, b, c}};
  return {t.n_inputs + t.n_instrs - 1, 0};
}

struct ExprMask {
  TraceArg arg;
};

struct Expr {
  using Mask = ExprMask;
  TraceArg arg;
  Expr(double c) : arg{-1, c} {}
  explicit Expr(TraceArg a) : arg(a) {}
  bool is(double c) const { return arg.reg < 0 && arg.value == c; }
  bool constant() const { return arg.reg < 0; }
};

// clang-format off
inline Expr operator-(Expr a) { return a.constant() ? Expr(-a.arg.value) : Expr(record("neg", a.arg)); }
inline Expr operator+(Expr a, Expr b) {
  if (a.constant() && b.constant()) return Expr(a.arg.value + b.arg.value);
  return a.is(0) ? b : b.is(0) ? a : Expr(record("add", a.arg, b.arg));
}
inline Expr operator-(Expr a, Expr b) {
  if (a.constant() && b.constant()) return Expr(a.arg.value - b.arg.value);
  return b.is(0) ? a : a.is(0) ? -b : Expr(record("sub", a.arg, b.arg));
}
// A constant factor of 0 is a derivative that does not exist: it gives 0 whatever the other is.
inline Expr operator*(Expr a, Expr b) {
  if (a.constant() && b.constant()) return Expr(a.arg.value * b.arg.value);
  if (a.is(0) || b.is(0)) return Expr(0.0);
  return a.is(1) ? b : b.is(1) ? a : Expr(record("mul", a.arg, b.arg));
}
inline Expr operator/(Expr a, Expr b) {
  if (a.constant() && b.constant()) return Expr(a.arg.value / b.arg.value);
  if (a.is(0)) return a;
  return b.is(1) ? a : Expr(record("div", a.arg, b.arg));
}
inline ExprMask operator<(Expr a, Expr b) { return {record("lt", a.arg, b.arg)}; }
inline ExprMask operator<=(Expr a, Expr b) { return {record("le", a.arg, b.arg)}; }
inline ExprMask operator>(Expr a, Expr b) { return {record("gt", a.arg, b.arg)}; }
inline ExprMask operator>=(Expr a, Expr b) { return {record("ge", a.arg, b.arg)}; }
inline ExprMask operator==(Expr a, Expr b) { return {record("eq", a.arg, b.arg)}; }
inline ExprMask operator!=(Expr a, Expr b) { return {record("ne", a.arg, b.arg)}; }
inline ExprMask operator&(ExprMask a, ExprMask b) { return {record("logical_and", a.arg, b.arg)}; }
inline ExprMask operator|(ExprMask a, ExprMask b) { return {record("logical_or", a.arg, b.arg)}; }
inline ExprMask operator^(ExprMask a, ExprMask b) { return {record("logical_xor", a.arg, b.arg)}; }
inline ExprMask operator!(ExprMask a) { return {record("logical_not", a.arg)}; }
inline ExprMask isnan(Expr a) { return {record("isnan", a.arg)}; }
inline ExprMask isinf(Expr a) { return {record("isinf", a.arg)}; }

inline Expr select(ExprMask m, Expr a, Expr b) {
  if (a.constant() && b.is(a.arg.value)) return a;
  return Expr(record("where", m.arg, a.arg, b.arg));
}
inline Expr fma(Expr a, Expr b, Expr c) { return a * b + c; }
inline Expr min(Expr a, Expr b) { return Expr(record("minimum", a.arg, b.arg)); }
inline Expr max(Expr a, Expr b) { return Expr(record("maximum", a.arg, b.arg)); }
inline Expr pow(Expr a, Expr b) { return Expr(record("pow", a.arg, b.arg)); }
inline Expr atan2(Expr a, Expr b) { return Expr(record("atan2", a.arg, b.arg)); }
inline Expr fmod(Expr a, Expr b) { return Expr(record("fmod", a.arg, b.arg)); }
inline Expr trunc_divide(Expr a, Expr b) { return Expr(record("trunc_divide", a.arg, b.arg)); }
inline Expr floor_divide(Expr a, Expr b) { return Expr(record("floor_divide", a.arg, b.arg)); }
inline Expr copysign(Expr a, Expr b) { return Expr(record("copysign", a.arg, b.arg)); }

#define BACKTRAIL_PRIMITIVE(f) inline Expr f(Expr a) { return Expr(record(#f, a.arg)); }
BACKTRAIL_PRIMITIVE(abs) BACKTRAIL_PRIMITIVE(sqrt) BACKTRAIL_PRIMITIVE(rsqrt)
BACKTRAIL_PRIMITIVE(floor) BACKTRAIL_PRIMITIVE(ceil) BACKTRAIL_PRIMITIVE(trunc) BACKTRAIL_PRIMITIVE(round)
BACKTRAIL_PRIMITIVE(exp) BACKTRAIL_PRIMITIVE(exp2) BACKTRAIL_PRIMITIVE(expm1)
BACKTRAIL_PRIMITIVE(log) BACKTRAIL_PRIMITIVE(log2) BACKTRAIL_PRIMITIVE(log10) BACKTRAIL_PRIMITIVE(log1p)
BACKTRAIL_PRIMITIVE(sin) BACKTRAIL_PRIMITIVE(cos) BACKTRAIL_PRIMITIVE(tan)
BACKTRAIL_PRIMITIVE(asin) BACKTRAIL_PRIMITIVE(acos) BACKTRAIL_PRIMITIVE(atan)
BACKTRAIL_PRIMITIVE(sinh) BACKTRAIL_PRIMITIVE(cosh) BACKTRAIL_PRIMITIVE(tanh)
BACKTRAIL_PRIMITIVE(asinh) BACKTRAIL_PRIMITIVE(acosh) BACKTRAIL_PRIMITIVE(atanh)
BACKTRAIL_PRIMITIVE(erf) BACKTRAIL_PRIMITIVE(erfc)
#undef BACKTRAIL_PRIMITIVE
inline Expr sigmoid(Expr a) { return meta::logistic(a); }
inline Expr logsigmoid(Expr a) { return meta::log_logistic(a); }
// clang-format on

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
