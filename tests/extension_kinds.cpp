// Ops of every kind that a user can write, for test_extension_kinds.py.
#include <backtrail/op.h>
using namespace backtrail;

struct Wave {  // attributes of every type
  static constexpr auto name = "wave_t";
  static constexpr auto doc = "Pointwise, with attributes as members.";
  float a = 0.1f;
  int k = 2;
  bool shifted = false;
  double b = 1;
  int64_t n = 3;
  template <class V>
  V forward(V x) const {
    if (!(a > 0)) throw std::invalid_argument("a must be > 0");
    V s = 0.5 * sin(V(a) * x) * double(k);
    return shifted ? s + b : max(s, -2) * x + n;
  }
};

struct LogSumExp {
  static constexpr auto name = "logsumexp_t";
  static constexpr auto doc = "A reduction with a derived derivative.";
  template <class T>
  T forward(Row<const T> x) const {
    T m = max(x);
    return m + log(sum(x, [m](auto v) { return exp(v - m); }));
  }
};

struct Distance {
  static constexpr auto name = "distance_t";
  static constexpr auto doc = "A reduction of two inputs with an attribute and a backward.";
  static constexpr const char* inputs[] = {"x", "target"};
  static constexpr auto reads = Reads::both;
  double scale = 2;
  template <class T>
  T forward(Row<const T> x, Row<const T> y) const {
    return T(scale) * sqrt(sum(
                          x, [](auto a, auto b) { return (a - b) * (a - b); }, y));
  }
  template <class T>
  void backward(T g, Row<const T> x, Row<const T> y, T d, Row<T> dx, Row<T> dy) const {
    const T f = d > 0 ? g * T(scale * scale) / d : T(0);
    map(
        dx, [f](auto a, auto b) { return f * (a - b); }, x, y);
    map(
        dy, [f](auto a, auto b) { return f * (b - a); }, x, y);
  }
};

struct MaskedSoftmax {
  static constexpr auto name = "masked_softmax_t";
  static constexpr auto doc = "Softmax where mask is true, 0 elsewhere.";
  double temperature = 1;
  template <class T>
  void forward(Row<const T> x, Row<const bool> mask, Row<T> y) const {
    const T m = max(x), t = T(temperature);
    map(
        y, [&](auto v, auto keep) { return select(keep, exp((v - m) / t), 0); }, x, mask);
    const T s = sum(y);
    if (s > 0)
      map(
          y, [s](auto v) { return v / s; }, y);
  }
};

struct Softmax {
  static constexpr auto name = "softmax_t";
  static constexpr auto doc = "Row-wise with a backward that reads the output.";
  static constexpr auto reads = Reads::output;
  template <class T>
  void forward(Row<const T> x, Row<T> y) const {
    const T m = max(x);
    map(
        y, [m](auto v) { return exp(v - m); }, x);
    const T s = sum(y);
    map(
        y, [s](auto v) { return v / s; }, y);
  }
  template <class T>
  void backward(Row<const T> g, Row<const T> y, Row<T> dx) const {
    const T dot = sum(
        g, [](auto a, auto b) { return a * b; }, y);
    map(
        dx, [dot](auto a, auto b) { return b * (a - dot); }, g, y);
  }
};

struct Differences {
  static constexpr auto name = "differences_t";
  static constexpr auto doc = "Row-wise with another length: x[i + lag] - x[i], squared.";
  int lag = 1;
  int64_t length(int64_t n) const { return n > lag ? n - lag : 0; }
  template <class T>
  void forward(Row<const T> x, Row<T> y) const {
    for (int64_t i = 0; i < y.size(); ++i) {
      const T d = x[i + lag] - x[i];
      y[i] = d * d;
    }
  }
};

struct Pairwise {
  static constexpr auto name = "pairwise_t";
  static constexpr auto doc = "Squared distances of rows, on several threads, with a backward.";
  Shape shape(const Shape& a, const Shape& b) const {
    if (a.size() != 2 || b.size() != 2 || a[1] != b[1])
      throw std::invalid_argument("expected (n, d) and (m, d); got " + to_string(a) + " and " +
                                  to_string(b));
    return {a[0], b[0]};
  }
  template <class T>
  void forward(Array<const T> a, Array<const T> b, Array<T> y) const {
    parallel_for(a.size(0), double(y.numel() * a.size(1)) * 3, [&](int64_t i) {
      for (int64_t j = 0; j < b.size(0); ++j) {
        T total = 0;
        for (int64_t k = 0; k < a.size(1); ++k) {
          const T d = a(i, k) - b(j, k);
          total += d * d;
        }
        y(i, j) = total;
      }
    });
  }
  template <class T>
  void backward(Array<const T> g, Array<const T> a, Array<const T> b, Array<T> da,
                Array<T> db) const {
    for (T& v : da) v = 0;
    for (T& v : db) v = 0;
    for (int64_t i = 0; i < a.size(0); ++i)
      for (int64_t j = 0; j < b.size(0); ++j)
        for (int64_t k = 0; k < a.size(1); ++k) {
          const T d = 2 * g(i, j) * (a(i, k) - b(j, k));
          da(i, k) += d;
          db(j, k) -= d;
        }
  }
};

struct SineAndPick {
  static constexpr auto name = "sine_and_pick_t";
  static constexpr auto doc = "Two outputs, an index, derived derivatives.";
  std::array<Shape, 2> shape(const Shape& x, const Shape& i) const { return {x, i}; }
  template <class T>
  void forward(Array<const T> x, Array<const int64_t> index, Array<T> s, Array<T> picked) const {
    for (int64_t i = 0; i < x.size(0); ++i) s(i) = sin(x(i)) * x(0);
    for (int64_t i = 0; i < index.size(0); ++i) picked(i) = tanh(x(index(i)));
  }
};

struct Zoo {  // every function that a variable has
  static constexpr auto name = "zoo_t";
  static constexpr auto doc = "One function of each element, chosen by its place.";
  template <class T>
  T f(int64_t i, T x) const {
    switch (i) {
      case 0: return exp(x);
      case 1: return exp2(x);
      case 2: return expm1(x);
      case 3: return log(x);
      case 4: return log2(x);
      case 5: return log10(x);
      case 6: return log1p(x);
      case 7: return sin(x);
      case 8: return cos(x);
      case 9: return tan(x);
      case 10: return asin(x);
      case 11: return acos(x);
      case 12: return atan(x);
      case 13: return sinh(x);
      case 14: return cosh(x);
      case 15: return tanh(x);
      case 16: return asinh(x);
      case 17: return acosh(x + 1);
      case 18: return atanh(x);
      case 19: return erf(x);
      case 20: return erfc(x);
      case 21: return sqrt(x);
      case 22: return rsqrt(x);
      case 23: return pow(x, 2.5) + pow(x, x) + pow(2, x);
      case 24: return atan2(x, x * x + 1);
      case 25: return max(x, x * x) + min(x, 0.1) + abs(x - 1) + copysign(x, -1.0);
      case 26: return fma(x, x, x) - x / (1 + x) + select(x > 0.2, x * x, x);
      case 27: return isnan(x) || isinf(x) ? T(0) : floor(x) + round(x) + ceil(x) * x - (-x);
      default:
        x += 1;
        x *= x;
        x -= 0.5;
        x /= 3;
        return x;
    }
  }
  template <class T>
  void forward(Row<const T> x, Row<T> y) const {
    for (int64_t i = 0; i < x.size(); ++i) y[i] = f(i, x[i]);
  }
};

struct Faulty {
  static constexpr auto name = "faulty_t";
  static constexpr auto doc = "Throws what it is asked for.";
  int what = 0;
  Shape shape(const Shape& x) const {
    if (what == 6) return {-1};
    if (what == 7) return {1, 2, 3, 4, 5, 6, 7, 8, 9};
    return x;
  }
  template <class T>
  void forward(Array<const T> x, Array<T> y) const {
    if (what == 1) throw std::invalid_argument("no value");
    if (what == 2) throw std::out_of_range("no index");
    if (what == 3) throw std::bad_alloc();
    if (what == 4) throw std::runtime_error("no luck");
    if (what == 5) throw 5;
    if (what == 8) y(x.size(0)) = 1;
    if (what == 9)
      parallel_for(64, 1e9, [&](int64_t i) {
        if (i == 33) throw std::domain_error("in a task");
      });
    for (int64_t i = 0; i < x.numel(); ++i) y.data()[i] = x.data()[i];
  }
};

struct BadRow {
  static constexpr auto name = "bad_row_t";
  static constexpr auto doc = "Throws at a negative element.";
  template <class T>
  T forward(Row<const T> x) const {
    if (min(x) < 0) throw std::domain_error("a row has a negative element");
    return sum(x);
  }
};

struct Once {
  static constexpr auto name = "once_t";
  static constexpr auto doc = "Has a first derivative only.";
  static constexpr int orders = 1;
  template <class T>
  T forward(Row<const T> x) const {
    return sum(x) * 2;
  }
  template <class T>
  void backward(T g, Row<const T> x, Row<T> dx) const {
    for (int64_t i = 0; i < x.size(); ++i) dx[i] = 2 * g;
  }
};

BACKTRAIL_OPS(Wave, LogSumExp, Distance, MaskedSoftmax, Softmax, Differences, Pairwise, SineAndPick,
              Zoo, Faulty, BadRow, Once)
