// Var: a number that records what is computed from it, and the sweep back over the record that
// gives derivatives. A sweep can itself be recorded, and so be differentiated again, to any order.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <new>
#include <type_traits>

#include "backtrail/numbers.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

namespace taped {

// How a recorded value was made.
enum class Step : uint8_t {
  // clang-format off
  leaf, constant, neg, add, sub, mul, div, pow, atan2, fmod,
  exp, exp2, expm1, log, log2, log10, log1p, sin, cos, tan, asin, acos, atan,
  sinh, cosh, tanh, asinh, acosh, atanh, erf, erfc, sigmoid, logsigmoid, sqrt, rsqrt,
  // clang-format on
};

// Room for plain values that grows and is not given back before its end.
template <class T>
class Room {
 public:
  Room() = default;
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;
  ~Room() { std::free(data_); }
  T* get(int64_t n) {  // what was in it stays
    if (n > capacity_) {
      const int64_t capacity = n + n / 2 + 256;
      void* grown = std::realloc(static_cast<void*>(data_), std::size_t(capacity) * sizeof(T));
      if (!grown) throw std::bad_alloc();
      data_ = static_cast<T*>(grown);
      capacity_ = capacity;
    }
    return data_;
  }
  T& operator[](int64_t i) { return data_[i]; }
  int64_t capacity() const { return capacity_; }
  void clear() {
    std::free(data_);
    data_ = nullptr;
    capacity_ = 0;
  }

 private:
  T* data_ = nullptr;
  int64_t capacity_ = 0;
};

class Tape;
// The tape that values of this thread are recorded on, or null.
inline Tape*& tape() {
  static thread_local Tape* current = nullptr;
  return current;
}

}  // namespace taped

// A double that records itself. Comparisons compare values.
class Var {
 public:
  Var() = default;
  template <class S, class = meta::IfNumbers<S>>
  Var(S number) : v(double(number)) {}
  Var(double number, int32_t index) : v(number), i(index) {}

  double value() const { return v; }
  bool constant() const { return i < 0; }
  bool is(double number) const { return i < 0 && v == number; }
  template <class S, class = meta::IfNumbers<S>>
  explicit operator S() const {
    return S(v);
  }

  double v = 0;
  int32_t i = -1;  // where on the tape; -1: a constant
};

namespace taped {

class Tape {
 public:
  struct Node {
    double v;
    int32_t a, b;  // what it was made from; b -1 where it is of one alone
    Step step;
  };

  void clear() { size_ = 0; }
  int64_t size() const { return size_; }
  Node& operator[](int64_t i) { return nodes_[i]; }
  void trim(int64_t most) {
    if (nodes_.capacity() > most) nodes_.clear();
  }

  Var push(Step step, double v, int32_t a = -1, int32_t b = -1) {
    if (size_ == INT32_MAX) throw std::bad_alloc();
    nodes_.get(size_ + 1)[size_] = Node{v, a, b, step};
    return Var(v, int32_t(size_++));
  }
  int32_t index(const Var& x) { return x.constant() ? push(Step::constant, x.v).i : x.i; }

 private:
  Room<Node> nodes_;
  int64_t size_ = 0;
};

__attribute__((noinline)) inline Var one(Step step, double v, const Var& a) {
  return a.constant() ? Var(v) : tape()->push(step, v, a.i);
}
__attribute__((noinline)) inline Var two(Step step, double v, const Var& a, const Var& b) {
  if (a.constant() && b.constant()) return Var(v);
  Tape& t = *tape();
  const int32_t i = t.index(a), j = t.index(b);
  return t.push(step, v, i, j);
}

}  // namespace taped

// A constant factor of 0 is a derivative that does not exist: it gives 0 whatever the other is.
inline Var operator-(const Var& a) { return taped::one(taped::Step::neg, -a.v, a); }
inline Var operator+(const Var& a, const Var& b) {
  return a.is(0) ? b : b.is(0) ? a : taped::two(taped::Step::add, a.v + b.v, a, b);
}
inline Var operator-(const Var& a, const Var& b) {
  return b.is(0) ? a : a.is(0) ? -b : taped::two(taped::Step::sub, a.v - b.v, a, b);
}
inline Var operator*(const Var& a, const Var& b) {
  if (a.constant() && b.constant()) return Var(a.v * b.v);
  if (a.is(0) || b.is(0)) return Var(0);
  return a.is(1) ? b : b.is(1) ? a : taped::two(taped::Step::mul, a.v * b.v, a, b);
}
inline Var operator/(const Var& a, const Var& b) {
  if (a.is(0) && !b.constant()) return a;
  return b.is(1) ? a : taped::two(taped::Step::div, a.v / b.v, a, b);
}
inline Var& operator+=(Var& a, const Var& b) { return a = a + b; }
inline Var& operator-=(Var& a, const Var& b) { return a = a - b; }
inline Var& operator*=(Var& a, const Var& b) { return a = a * b; }
inline Var& operator/=(Var& a, const Var& b) { return a = a / b; }
inline bool operator<(const Var& a, const Var& b) { return a.v < b.v; }
inline bool operator<=(const Var& a, const Var& b) { return a.v <= b.v; }
inline bool operator>(const Var& a, const Var& b) { return a.v > b.v; }
inline bool operator>=(const Var& a, const Var& b) { return a.v >= b.v; }
inline bool operator==(const Var& a, const Var& b) { return a.v == b.v; }
inline bool operator!=(const Var& a, const Var& b) { return a.v != b.v; }

// Templates, so that what a file does not use is not compiled.
#define BACKTRAIL_ONE(f)                                               \
  template <class X, class = std::enable_if_t<std::is_same_v<X, Var>>> \
  inline Var f(const X& a) {                                           \
    return taped::one(taped::Step::f, f(a.v), a);                      \
  }
BACKTRAIL_ONE(exp)
BACKTRAIL_ONE(exp2)
BACKTRAIL_ONE(expm1)
BACKTRAIL_ONE(log)
BACKTRAIL_ONE(log2)
BACKTRAIL_ONE(log10)
BACKTRAIL_ONE(log1p)
BACKTRAIL_ONE(sin)
BACKTRAIL_ONE(cos)
BACKTRAIL_ONE(tan)
BACKTRAIL_ONE(asin)
BACKTRAIL_ONE(acos)
BACKTRAIL_ONE(atan)
BACKTRAIL_ONE(sinh)
BACKTRAIL_ONE(cosh)
BACKTRAIL_ONE(tanh)
BACKTRAIL_ONE(asinh)
BACKTRAIL_ONE(acosh)
BACKTRAIL_ONE(atanh)
BACKTRAIL_ONE(erf)
BACKTRAIL_ONE(erfc)
BACKTRAIL_ONE(sigmoid)
BACKTRAIL_ONE(logsigmoid)
BACKTRAIL_ONE(sqrt)
BACKTRAIL_ONE(rsqrt)
#undef BACKTRAIL_ONE
inline Var floor(const Var& a) { return floor(a.v); }
inline Var ceil(const Var& a) { return ceil(a.v); }
inline Var trunc(const Var& a) { return trunc(a.v); }
inline Var round(const Var& a) { return round(a.v); }
inline bool isnan(const Var& a) { return isnan(a.v); }
inline bool isinf(const Var& a) { return isinf(a.v); }
inline double value(const Var& a) { return a.v; }
inline Var select(bool condition, const Var& a, const Var& b) { return condition ? a : b; }
inline Var fma(const Var& a, const Var& b, const Var& c) { return a * b + c; }
inline Var abs(const Var& a) { return a.v > 0 ? a : a.v < 0 ? -a : Var(a.v == a.v ? 0 : a.v); }
// Ties, NaN and the slope at 0 as for dual numbers.
inline Var max(const Var& a, const Var& b) {
  return a.v > b.v ? a : a.v < b.v ? b : a.v == b.v ? (a + b) * Var(0.5) : a + b;
}
inline Var min(const Var& a, const Var& b) {
  return a.v < b.v ? a : a.v > b.v ? b : a.v == b.v ? (a + b) * Var(0.5) : a + b;
}
inline Var copysign(const Var& a, const Var& b) {
  if (a.v == 0) return copysign(a.v, b.v);
  return copysign(1.0, a.v) == copysign(1.0, b.v) ? a : -a;
}
inline Var pow(const Var& a, const Var& b) {
  if (b.is(1)) return a;
  if (b.is(2)) return a * a;
  return b.is(0) ? Var(1) : taped::two(taped::Step::pow, pow(a.v, b.v), a, b);
}
inline Var atan2(const Var& a, const Var& b) {
  return taped::two(taped::Step::atan2, atan2(a.v, b.v), a, b);
}

inline Var fmod(const Var& a, const Var& b) {
  return taped::two(taped::Step::fmod, fmod(a.v, b.v), a, b);
}

namespace taped {

// The gradients of what a step was made from: g times the slope. S is double, or Var where the
// sweep is recorded itself. `of_b` false: that of b is not wanted.
template <class S>
void pull_back(Step step, const S& a, const S& b, const S& y, const S& g, bool of_b, S& da, S& db) {
  switch (step) {
    case Step::leaf:
    case Step::constant: return;
    case Step::neg: da = -g; return;
    case Step::add: da = g, db = g; return;
    case Step::sub: da = g, db = -g; return;
    case Step::mul: da = g * b, db = g * a; return;
    case Step::div: da = g / b, db = -(da * y); return;
    case Step::pow:
      da = g * b * pow(a, b - S(1));
      if (of_b) db = y == S(0) ? S(0) : g * y * log(a);
      return;
    case Step::atan2: {
      const Slopes<S> slopes = atan2_slopes(a, b);
      da = g * slopes.dy, db = g * slopes.dx;
      return;
    }
    case Step::fmod: da = g, db = -(g * trunc(a / b)); return;
    case Step::exp: da = g * y; return;
    case Step::exp2: da = g * y * S(0.69314718055994530942); return;
    case Step::expm1: da = g * exp(a); return;
    case Step::log: da = g / a; return;
    case Step::log2: da = g * S(1.44269504088896340736) / a; return;
    case Step::log10: da = g * S(0.43429448190325182765) / a; return;
    case Step::log1p: da = g / (S(1) + a); return;
    case Step::sin: da = g * cos(a); return;
    case Step::cos: da = -(g * sin(a)); return;
    case Step::tan: da = g * (S(1) + y * y); return;
    case Step::asin: da = g / sqrt(S(1) - a * a); return;
    case Step::acos: da = -(g / sqrt(S(1) - a * a)); return;
    case Step::atan: da = g / (S(1) + a * a); return;
    case Step::sinh: da = g * cosh(a); return;
    case Step::cosh: da = g * sinh(a); return;
    case Step::tanh: da = g * (S(1) - y * y); return;
    case Step::asinh: da = g / sqrt(a * a + S(1)); return;
    case Step::acosh: da = g / sqrt(a * a - S(1)); return;
    case Step::atanh: da = g / (S(1) - a * a); return;
    case Step::erf: da = g * S(1.12837916709551257390) * exp(-(a * a)); return;
    case Step::erfc: da = g * S(-1.12837916709551257390) * exp(-(a * a)); return;
    case Step::sigmoid: da = g * (y * sigmoid(-a)); return;
    case Step::logsigmoid: da = g * sigmoid(-a); return;
    case Step::sqrt: da = g * S(0.5) / y; return;
    case Step::rsqrt: da = g * S(-0.5) * y * y * y; return;
  }
}

// Go back from node `top` - 1 to the first: `adjoints` holds the gradients of all nodes.
template <class>
void sweep(Tape& t, int64_t top, double* adjoints) {
  for (int64_t i = top; i-- > 0;) {
    const Tape::Node& n = t[i];
    const double g = adjoints[i];
    if (g == 0 || n.a < 0) continue;
    const bool two = n.b >= 0;
    double da = 0, db = 0;
    pull_back<double>(n.step, t[n.a].v, two ? t[n.b].v : 0, n.v, g,
                      two && t[n.b].step != Step::constant, da, db);
    adjoints[n.a] += da;
    if (two) adjoints[n.b] += db;
  }
}
template <class>
void sweep(Tape& t, int64_t top, Var* adjoints) {
  for (int64_t i = top; i-- > 0;) {
    const Tape::Node n = t[i];  // a copy: the tape grows
    const Var g = adjoints[i];
    if (g.is(0) || n.a < 0) continue;
    auto var = [&](int32_t k) {
      return t[k].step == Step::constant ? Var(t[k].v) : Var(t[k].v, k);
    };
    const Var a = var(n.a), b = n.b >= 0 ? var(n.b) : Var(0);
    Var da, db;
    pull_back<Var>(n.step, a, b, Var(n.v, int32_t(i)), g, !b.constant(), da, db);
    if (!a.constant()) adjoints[n.a] += da;
    if (!b.constant()) adjoints[n.b] += db;
  }
}

}  // namespace taped
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
