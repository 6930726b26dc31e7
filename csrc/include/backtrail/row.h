// Row: the elements of one row, dense in memory; and loops over rows.
//
// map, sum, max and min run a function of single values over whole rows: `f` is a generic lambda,
// which sees vectors for float and double and variables where a derivative is recorded. Sums have a
// fixed order, the same on every instruction set.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "backtrail/numbers.h"
#include "backtrail/tape.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

// T is float, double, Var, bool or int64_t, const for inputs.
template <class T>
class Row {
 public:
  using Scalar = std::remove_const_t<T>;

  Row(T* data, int64_t size) : data_(data), size_(size) {}
  operator Row<const T>() const { return {data_, size_}; }

  T* data() const { return data_; }
  int64_t size() const { return size_; }
  T& operator[](int64_t i) const { return data_[i]; }
  T* begin() const { return data_; }
  T* end() const { return data_ + size_; }

 private:
  T* data_;
  int64_t size_;
};

namespace over_rows {

// The type that `f` sees elements of T as, for results of type R: a vector, or one value.
template <class R>
constexpr bool is_vector = std::is_same_v<R, float> || std::is_same_v<R, double>;

template <class R, class T>
BACKTRAIL_INLINE auto load(const Row<T>& x, int64_t i) {
  using E = std::remove_const_t<T>;
  static_assert(std::is_same_v<E, R> || std::is_same_v<E, bool>,
                "map, sum, max and min take rows of the result's type and of bool; write a loop");
  if constexpr (std::is_same_v<E, bool>)
    return Vec<R>::Mask::load(x.data() + i);
  else
    return Vec<R>::load(x.data() + i);
}
template <class R, class T>
BACKTRAIL_INLINE auto load(const Row<T>& x, int64_t i, int64_t n) {
  if constexpr (std::is_same_v<std::remove_const_t<T>, bool>)
    return Vec<R>::Mask::load(x.data() + i, n);
  else
    return Vec<R>::load(x.data() + i, n);
}

// combine(...) of f(x...) over all elements; `none` is what there is before the first.
template <class R, class Combine, class F, class... X>
inline Vec<R> fold(int64_t n, double none, Combine combine, F f, const X&... x) {
  using V = Vec<R>;
  constexpr int64_t L = V::lanes;
  constexpr int64_t kFlush = 256 * L;  // so that the error of a long sum does not grow with it
  V total(none);
  for (int64_t i = 0; i < n;) {
    const int64_t end = n - i > kFlush ? i + kFlush : n;
    V part[4] = {V(none), V(none), V(none), V(none)};
    for (; i + 4 * L <= end; i += 4 * L)
      for (int k = 0; k < 4; ++k) part[k] = combine(part[k], V(f(load<R>(x, i + k * L)...)));
    for (int k = 0; i + L <= end; i += L, ++k) part[k] = combine(part[k], V(f(load<R>(x, i)...)));
    if (i < end) {
      const V last(f(load<R>(x, i, end - i)...));
      part[3] = combine(part[3], select(V::Mask::first(end - i), last, V(none)));
      i = end;
    }
    total = combine(total, combine(combine(part[0], part[1]), combine(part[2], part[3])));
  }
  return total;
}

template <class T, class... More>
void require_sizes(const char* what, const Row<T>& first, const More&... more) {
  if (((more.size() != first.size()) || ...))
    throw std::invalid_argument(std::string(what) + ": the rows differ in length");
}

}  // namespace over_rows

// y[i] = f(x[i]...) for all i.
template <class T, class F, class... X>
inline void map(Row<T> y, F f, const Row<X>&... x) {
  over_rows::require_sizes("map", y, x...);
  if constexpr (over_rows::is_vector<T>) {
    using V = Vec<T>;
    const int64_t n = y.size();
    int64_t i = 0;
    for (; i + V::lanes <= n; i += V::lanes) V(f(over_rows::load<T>(x, i)...)).store(y.data() + i);
    if (i < n) V(f(over_rows::load<T>(x, i, n - i)...)).store(y.data() + i, n - i);
  } else {
    for (int64_t i = 0; i < y.size(); ++i) y[i] = f(x[i]...);
  }
}

// The sum of f(x[i], more[i]...) over all i; T is the type of x's elements.
template <class T, class F, class... More>
inline auto sum(const Row<T>& x, F f, const Row<More>&... more) {
  using R = std::remove_const_t<T>;
  over_rows::require_sizes("sum", x, more...);
  if constexpr (over_rows::is_vector<R>) {
    auto add = [](Vec<R> a, Vec<R> b) BACKTRAIL_ALWAYS_INLINE { return a + b; };
    return reduce_add(over_rows::fold<R>(x.size(), 0, add, f, x, more...));
  } else {
    R total(0);
    for (int64_t i = 0; i < x.size(); ++i) total += R(f(x[i], more[i]...));
    return total;
  }
}
template <class T>
inline auto sum(const Row<T>& x) {
  return sum(x, [](auto v) BACKTRAIL_ALWAYS_INLINE { return v; });
}

// The largest element: NaN if there is one, -inf of an empty row.
template <class T, class F>
inline auto max(const Row<T>& x, F f) {
  using R = std::remove_const_t<T>;
  if constexpr (over_rows::is_vector<R>) {
    auto larger = [](Vec<R> a, Vec<R> b) BACKTRAIL_ALWAYS_INLINE { return max(a, b); };
    return reduce_max(over_rows::fold<R>(x.size(), -__builtin_inf(), larger, f, x));
  } else if constexpr (std::is_same_v<R, int64_t>) {
    R most = INT64_MIN;
    for (R v : x) {
      const R y(f(v));
      most = y > most ? y : most;
    }
    return most;
  } else {
    R most(-__builtin_inf());
    for (const R& v : x) most = max(most, R(f(v)));
    return most;
  }
}
template <class T>
inline auto max(const Row<T>& x) {
  return max(x, [](auto v) BACKTRAIL_ALWAYS_INLINE { return v; });
}

// The smallest element: NaN if there is one, inf of an empty row.
template <class T, class F>
inline auto min(const Row<T>& x, F f) {
  using R = std::remove_const_t<T>;
  if constexpr (over_rows::is_vector<R>) {
    auto smaller = [](Vec<R> a, Vec<R> b) BACKTRAIL_ALWAYS_INLINE { return min(a, b); };
    return reduce_min(over_rows::fold<R>(x.size(), __builtin_inf(), smaller, f, x));
  } else if constexpr (std::is_same_v<R, int64_t>) {
    R least = INT64_MAX;
    for (R v : x) {
      const R y(f(v));
      least = y < least ? y : least;
    }
    return least;
  } else {
    R least(__builtin_inf());
    for (const R& v : x) least = min(least, R(f(v)));
    return least;
  }
}
template <class T>
inline auto min(const Row<T>& x) {
  return min(x, [](auto v) BACKTRAIL_ALWAYS_INLINE { return v; });
}

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
