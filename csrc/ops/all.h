// Every built-in pointwise op; the order is that of the kernel tables.
#pragma once
#include "ops/activation.h"
#include "ops/arithmetic.h"
#include "ops/comparison.h"
#include "ops/elementary.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace ops {

template <class... A, class... B, class... C, class... D>
meta::List<A..., B..., C..., D...> join(meta::List<A...>, meta::List<B...>, meta::List<C...>,
                                        meta::List<D...>);
using All = decltype(join(Arithmetic{}, Elementary{}, Comparison{}, Activations{}));

}  // namespace ops
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
