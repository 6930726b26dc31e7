// Running sums and products along a dimension: x; (dim). Integers give int64. Floats are
// accumulated in float64 and rounded at each output.
#include "exec/scan.h"

#include "exec/arguments.h"

namespace backtrail {

void prepare_scan(Call& c) {
  const Array& x = c.in[0];
  wrap_dim(c.name, integer_attr(c, 0), x.ndim());
  by_dtype(c.name, x.dtype, [](auto) {});
  c.out[0] = empty(x.shape, is_floating(x.dtype) ? x.dtype : DType::i64);
}

// One chain in order for each position outside `dim`: columns of a block run side by side.
template <class F>
static void scan(const Call& c, int64_t start, F&& join) {
  const Array& x = c.in[0];
  Around shape(x.shape, wrap_dim(c.name, integer_attr(c, 0), x.ndim()));
  if (!x.numel()) return;
  constexpr int64_t kColumns = 256, kElements = 4096;  // of a task
  int64_t columns = chunks(shape.inner, kColumns), inner = shape.inner;
  by_dtype(c.name, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    using Sum = std::conditional_t<std::is_floating_point_v<T>, double, uint64_t>;
    using Out = std::conditional_t<std::is_floating_point_v<T>, T, int64_t>;
    constexpr int64_t kTogether = 4;  // rows, whose chains hide each other's latency
    if (inner == 1)
      return for_chunks(
          shape.outer, double(shape.size),
          [&](int64_t begin, int64_t end) {
            const int64_t n = shape.size;
            const T* from = x.data<T>() + begin * n;
            Out* to = c.out[0].data<Out>() + begin * n;
            for (; begin + kTogether <= end; begin += kTogether, from += kTogether * n) {
              Sum sums[kTogether];
              for (Sum& sum : sums) sum = Sum(start);
              for (int64_t k = 0; k < n; ++k, ++to)
#pragma GCC unroll 4
                for (int64_t r = 0; r < kTogether; ++r)
                  to[r * n] = Out(sums[r] = join(sums[r], Sum(from[r * n + k])));
              to += (kTogether - 1) * n;
            }
            for (; begin < end; ++begin, from += n, to += n) {
              Sum sum = Sum(start);
              for (int64_t k = 0; k < n; ++k) to[k] = Out(sum = join(sum, Sum(from[k])));
            }
          },
          std::max(kTogether, kElements / shape.size));
    int64_t per_task = kChunk / (shape.size * kColumns) + 1;
    for_chunks(
        shape.outer * columns, double(shape.size) * double(inner < kColumns ? inner : kColumns),
        [&](int64_t begin, int64_t end) {
          for (int64_t block = begin; block < end; ++block) {
            int64_t first = block % columns * kColumns;
            int64_t width = inner - first < kColumns ? inner - first : kColumns;
            int64_t at = block / columns * shape.size * inner + first;
            const T* from = x.data<T>() + at;
            Out* to = c.out[0].data<Out>() + at;
            Sum sums[kColumns];
            for (int64_t j = 0; j < width; ++j) sums[j] = Sum(start);
            for (int64_t k = 0; k < shape.size; ++k, from += inner, to += inner)
              for (int64_t j = 0; j < width; ++j)
                to[j] = Out(sums[j] = join(sums[j], Sum(from[j])));
          }
        },
        per_task);
  });
}

void execute_cumsum(const Call& c) {
  scan(c, 0, [](auto sum, auto x) { return sum + x; });
}
void execute_cumprod(const Call& c) {
  scan(c, 1, [](auto product, auto x) { return product * x; });
}

}  // namespace backtrail
