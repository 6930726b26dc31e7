// The attributes of an op: members of its struct with defaults, found by reflection; or a list
// `static constexpr Attr attrs[]` of trailing arguments.
//
// In C++20 names and types are read off the struct. In C++17 they are named once more, by a line
// BACKTRAIL_ATTRS(a, k) in the struct.
#pragma once
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "backtrail/abi.h"
#include "backtrail/simd.h"

// Whether the compiler can name members by itself.
#if __cplusplus >= 202002L && \
    ((defined(__clang__) && __clang_major__ >= 18) || (!defined(__clang__) && __GNUC__ >= 11))
#define BACKTRAIL_REFLECTS 1
#endif

#define BACKTRAIL_ATTRS(...)                                     \
  auto backtrail_attrs() const { return std::tie(__VA_ARGS__); } \
  auto backtrail_attrs() { return std::tie(__VA_ARGS__); }       \
  static constexpr const char* backtrail_attr_names() { return #__VA_ARGS__; }

namespace backtrail {

struct Attr {
  const char* name;
  double value;
  uint32_t type = BACKTRAIL_ATTR_DOUBLE;
};

inline namespace BACKTRAIL_TARGET {
namespace meta {

// The attributes that are trailing arguments.
template <class Op, class = void>
struct Attrs {
  static constexpr int count = 0;
  static constexpr Attr at(int) { return {nullptr, 0}; }
};
template <class Op>
struct Attrs<Op, std::void_t<decltype(Op::attrs)>> {
  static constexpr int count = int(sizeof(Op::attrs) / sizeof(Attr));
  static constexpr Attr at(int i) { return Op::attrs[i]; }
};

// Stands for the value of a member in a list of them: of one that an attribute may be, of any.
struct AnyNumber {
  template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
  operator T() const;
};
template <class Op>
struct Anything {
  template <class T, class = std::enable_if_t<!std::is_same_v<T, Op>>>
  operator T() const;
};

template <class Value, std::size_t>
using Repeat = Value;
template <class Op, class Value, std::size_t... I>
auto is_made_of(std::index_sequence<I...>, int)
    -> decltype(void(Op{Repeat<Value, I>()...}), std::true_type());
template <class Op, class Value, std::size_t... I>
std::false_type is_made_of(std::index_sequence<I...>, long);

// How many members the struct can be made of.
template <class Op, class Value, int N = BACKTRAIL_MAX_ATTRS + 1>
constexpr int count_members() {
  if constexpr (N == 0)
    return 0;
  else if constexpr (decltype(is_made_of<Op, Value>(std::make_index_sequence<N>(), 0))::value)
    return N;
  else
    return count_members<Op, Value, N - 1>();
}

template <class Op, class = void>
struct NamesAttrs : std::false_type {};
template <class Op>
struct NamesAttrs<Op, std::void_t<decltype(Op::backtrail_attr_names())>> : std::true_type {};

// References to the attributes of an op.
template <class Op>
constexpr auto tie_members(Op& op) {
  using Plain = std::remove_const_t<Op>;
  if constexpr (NamesAttrs<Plain>::value) {
    return op.backtrail_attrs();
  } else if constexpr (std::is_empty_v<Plain>) {
    return std::tuple<>();
  } else {
    static_assert(std::is_aggregate_v<Plain>,
                  "an op with attributes is a plain struct: all public, without constructors");
    constexpr int n = count_members<Plain, AnyNumber>();
    static_assert(n == count_members<Plain, Anything<Plain>>(),
                  "an attribute is a float, double, int, int64_t or bool");
    static_assert(n <= BACKTRAIL_MAX_ATTRS, "an op has at most 8 attributes");
#ifndef BACKTRAIL_REFLECTS
    static_assert(!sizeof(Op),
                  "this compiler cannot tell the names of the members that are the "
                  "op's attributes: write BACKTRAIL_ATTRS(first, second) in the "
                  "struct, or compile with -std=c++20");
#endif
#define BACKTRAIL_TIE(count, ...) \
  if constexpr (n == count) {     \
    auto& [__VA_ARGS__] = op;     \
    return std::tie(__VA_ARGS__); \
  } else
    BACKTRAIL_TIE(1, a)
    BACKTRAIL_TIE(2, a, b)
    BACKTRAIL_TIE(3, a, b, c)
    BACKTRAIL_TIE(4, a, b, c, d)
    BACKTRAIL_TIE(5, a, b, c, d, e)
    BACKTRAIL_TIE(6, a, b, c, d, e, f)
    BACKTRAIL_TIE(7, a, b, c, d, e, f, g)
    BACKTRAIL_TIE(8, a, b, c, d, e, f, g, h)
    return std::tuple<>();
#undef BACKTRAIL_TIE
  }
}

template <class Op>
using Members = decltype(tie_members(std::declval<Op&>()));
template <class Op>
constexpr int member_count() {
  return int(std::tuple_size_v<Members<Op>>);
}

// An op whose attributes have these values.
template <class Op>
BACKTRAIL_INLINE Op instance([[maybe_unused]] const double* values) {
  Op op{};
  if constexpr (!std::is_empty_v<Op>)
    std::apply(
        [&](auto&... member) {
          int i = 0;
          ((member = std::remove_reference_t<decltype(member)>(values[i++])), ...);
        },
        tie_members(op));
  return op;
}

template <class T>
constexpr uint32_t attr_type() {
  static_assert(
      std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, bool> ||
          (std::is_integral_v<T> && std::is_signed_v<T> && (sizeof(T) == 4 || sizeof(T) == 8)),
      "an attribute is a float, double, int, int64_t or bool");
  return std::is_same_v<T, float>    ? BACKTRAIL_ATTR_FLOAT
         : std::is_same_v<T, double> ? BACKTRAIL_ATTR_DOUBLE
         : std::is_same_v<T, bool>   ? BACKTRAIL_ATTR_BOOL
         : sizeof(T) == 4            ? BACKTRAIL_ATTR_INT
                                     : BACKTRAIL_ATTR_INT64;
}

constexpr bool in_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// The names of an op's members, made once.
struct MemberNames {
  static constexpr int kLongest = 63;
  char text[BACKTRAIL_MAX_ATTRS][kLongest + 1] = {};

  void set(int i, const char* from, const char* end) {
    for (int k = 0; from + k < end && k < kLongest; ++k) text[i][k] = from[k];
  }
};

#ifdef BACKTRAIL_REFLECTS
#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wundefined-var-template"
#endif
// Never defined: only the names of its parts are looked at.
template <class Op>
struct Held {
  Op value;
};
template <class Op>
extern const Held<Op> held;

template <class Op, std::size_t I>
constexpr auto member_of_held() {
  return &std::get<I>(tie_members(held<Op>.value));
}
template <auto pointer>
constexpr const char* name_of_pointer() {
  return __PRETTY_FUNCTION__;  // ends with the member's name and brackets
}
template <class Op, std::size_t... I>
void reflect_names([[maybe_unused]] MemberNames& names, std::index_sequence<I...>) {
  auto one = [&](int i, const char* text) {
    const char* end = text;
    while (*end) ++end;
    while (end > text && !in_name(end[-1])) --end;
    const char* begin = end;
    while (begin > text && in_name(begin[-1])) --begin;
    names.set(i, begin, end);
  };
  (one(int(I), name_of_pointer<member_of_held<Op, I>()>()), ...);
}
#if defined(__clang__)
#pragma clang diagnostic pop
#endif
#endif

template <class Op>
MemberNames member_names() {
  MemberNames names;
  if constexpr (NamesAttrs<Op>::value) {
    const char* p = Op::backtrail_attr_names();
    for (int i = 0; i < member_count<Op>(); ++i) {
      while (*p && !in_name(*p)) ++p;
      const char* begin = p;
      while (in_name(*p)) ++p;
      names.set(i, begin, p);
    }
  } else {
#ifdef BACKTRAIL_REFLECTS
    reflect_names<Op>(names, std::make_index_sequence<std::size_t(member_count<Op>())>());
#endif
  }
  return names;
}

// Attribute i, of either form. Its name lives for ever.
template <class Op>
Attr attr(int i) {
  if constexpr (Attrs<Op>::count > 0 || std::is_empty_v<Op>) {
    return Attrs<Op>::at(i);
  } else {
    static const MemberNames names = member_names<Op>();
    Op op{};
    Attr found{};
    std::apply(
        [&](auto&... member) {
          int k = 0;
          ((found = k++ == i ? Attr{names.text[i], double(member),
                                    attr_type<std::remove_reference_t<decltype(member)>>()}
                             : found),
           ...);
        },
        tie_members(op));
    return found;
  }
}

}  // namespace meta
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
