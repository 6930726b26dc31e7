// The BroadcastTable of one instruction set.
#include "kernels/broadcast_table.h"

#include "ops/arithmetic.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace {

// The matrix is read and written in whole vectors from end to end, of which one may begin in a row
// and end in the next.
template <class Op, class T, bool column, int input, std::size_t... K>
inline void broadcast_loop(T* out, const T* matrix, const T* other, int64_t step, int64_t rows,
                           int64_t n, const double* attrs, std::index_sequence<K...>) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes;
  [[maybe_unused]] const V a[] = {V(attrs[K])..., V(0)};
  auto apply = [&](const V& x, const V& y) BACKTRAIL_ALWAYS_INLINE {
    return input ? Op::template forward<V>(x, y, a[K]...) : Op::template forward<V>(y, x, a[K]...);
  };
  int64_t at = 0;  // in the row
  for (; rows > 0; --rows) {
    const V here = column ? V(*other) : V(0);
    for (; at + L <= n; at += L, matrix += L, out += L)
      apply(V::load(matrix), column ? here : V::load(other + at)).store(out);
    const int64_t left = n - at;
    at = 0;
    if (left > 0 && rows == 1) {
      apply(V::load(matrix, left), column ? here : V::load(other + n - left)).store(out, left);
    } else if (left > 0) {
      const V both =
          column ? select(V::Mask::first(left), here, V(other[step])) : V::load(other + n - left);
      apply(V::load(matrix), both).store(out);
      matrix += L, out += L;
      at = L - left;
    }
    if (column) other += step;
  }
}

template <class Op, class T, bool column, int input>
void broadcast(void* out, const void* matrix, const void* other, int64_t step, int64_t rows,
               int64_t n, const double* attrs) {
  broadcast_loop<Op, T, column, input>(static_cast<T*>(out), static_cast<const T*>(matrix),
                                       static_cast<const T*>(other), step, rows, n, attrs,
                                       typename Kernel<Op, T>::AttrIndex{});
}

template <class Op, class T>
constexpr BroadcastTable::Entry entry() {
  return {Kernel<Op, T>::forward,
          {broadcast<Op, T, false, 0>, broadcast<Op, T, false, 1>},
          {broadcast<Op, T, true, 0>, broadcast<Op, T, true, 1>}};
}

}  // namespace

extern const BroadcastTable broadcasts;
const BroadcastTable broadcasts = {{entry<ops::Add, float>(), entry<ops::Add, double>(),
                                    entry<ops::Sub, float>(), entry<ops::Sub, double>(),
                                    entry<ops::Mul, float>(), entry<ops::Mul, double>(),
                                    entry<ops::Div, float>(), entry<ops::Div, double>()}};

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
