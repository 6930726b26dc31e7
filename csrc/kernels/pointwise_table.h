// The kernels of a list of pointwise ops, in its order.
#pragma once
#include "backtrail/pointwise.h"

namespace backtrail {

struct PointwiseTables {
  const PointwiseTable* tables;
  int count;
};

inline namespace BACKTRAIL_TARGET {

#if defined(BACKTRAIL_DERIVED)
constexpr bool kDerived = true;  // this is the build of derived_kernels()
#else
constexpr bool kDerived = false;
#endif

template <class L>
struct TablesOf;
template <class... Op>
struct TablesOf<meta::List<Op...>> {
  static constexpr PointwiseTable tables[] = {pointwise_table<Op, Bare, kDerived>()...};
  static constexpr PointwiseTables value = {tables, int(sizeof...(Op))};
};

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
