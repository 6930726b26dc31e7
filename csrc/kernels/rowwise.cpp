// Row kernels of one instruction set: the formulas of ops/rowwise.h over many rows.
#include "kernels/rowwise_table.h"

#include "ops/rowwise.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace {

// Makes streamed stores visible before another thread is told that the rows are done.
void finish(bool stream) {
#if defined(__SSE2__)
  if (stream) _mm_sfence();
#else
  (void)stream;
#endif
}

// f(i, count) for groups of rows: kGroup at a time, then one at a time; count.value is a constant.
constexpr int kGroup = 2;
template <int Q>
struct Count {
  static constexpr int value = Q;
};
template <class F>
BACKTRAIL_INLINE void each_group(int64_t rows, F f) {
  int64_t i = 0;
  for (; i + kGroup <= rows; i += kGroup) f(i, Count<kGroup>{});
  for (; i < rows; ++i) f(i, Count<1>{});
}

template <class Op, class T>
void forward(int64_t rows, int64_t n, const T* x, T* y, bool stream) {
  if (n == 0) return;
  each_group(rows, [&](int64_t i, auto count) BACKTRAIL_LAMBDA {
    Op::template forward<count.value>(n, x + i * n, y + i * n, stream);
  });
  finish(stream);
}

template <class Op, class T>
void backward(int64_t rows, int64_t n, const T* g, const T* y, T* dx, bool stream) {
  if (n == 0) return;
  each_group(rows, [&](int64_t i, auto count) BACKTRAIL_LAMBDA {
    Op::template backward<count.value>(n, g + i * n, y + i * n, dx + i * n, stream);
  });
  finish(stream);
}

template <class T>
void clear(int64_t n, T* x) {
  if (x && n > 0) __builtin_memset(x, 0, std::size_t(n) * sizeof(T));
}

// f(i, rows) for runs of rows that stay in the L1 cache while norms go through them.
constexpr int64_t kRunRows = 32, kRunElements = 4096;
template <class F>
BACKTRAIL_INLINE void each_run(int64_t rows, int64_t n, F f) {
  int64_t size = n * kRunRows <= kRunElements ? kRunRows : kRunElements / n;
  if (size < kGroup) size = kGroup;
  for (int64_t i = 0; i < rows; i += size) f(i, rows - i < size ? rows - i : size);
}

template <class T>
void mean_of_rows(int64_t rows, int64_t n, T* sums) {
  ops::for_rows(rows, sums, [&](Vec<T> s) BACKTRAIL_LAMBDA { return s / Vec<T>(T(n)); });
}

template <class T>
void rms_norm(int64_t rows, int64_t n, const T* x, const T* weight, T eps, T* y, T* rstd) {
  each_run(rows, n, [&](int64_t at, int64_t size) BACKTRAIL_LAMBDA {
    each_group(size, [&](int64_t j, auto count) BACKTRAIL_LAMBDA {
      ops::RmsNorm::sums<count.value>(n, x + (at + j) * n, rstd + at + j);
    });
    ops::RmsNorm::scale(size, n, eps, rstd + at);
    each_group(size, [&](int64_t j, auto count) BACKTRAIL_LAMBDA {
      const int64_t i = at + j;
      ops::RmsNorm::apply<count.value>(n, x + i * n, weight, rstd + i, y + i * n);
    });
  });
}

template <class T>
void rms_norm_backward(int64_t rows, int64_t n, const T* g, const T* x, const T* weight,
                       const T* rstd, T* dx, T* dweight) {
  clear(n, dweight);
  each_group(rows, [&](int64_t i, auto count) BACKTRAIL_LAMBDA {
    ops::RmsNorm::backward<count.value>(n, g + i * n, x + i * n, weight, rstd + i, dx + i * n,
                                        dweight);
  });
}

template <class T>
void layer_norm(int64_t rows, int64_t n, const T* x, const T* weight, const T* bias, T eps, T* y,
                T* mean, T* rstd) {
  each_run(rows, n, [&](int64_t at, int64_t size) BACKTRAIL_LAMBDA {
    each_group(size, [&](int64_t j, auto count) BACKTRAIL_LAMBDA {
      ops::LayerNorm::sums<count.value>(n, x + (at + j) * n, mean + at + j);
    });
    mean_of_rows(size, n, mean + at);
    each_group(size, [&](int64_t j, auto count) BACKTRAIL_LAMBDA {
      const int64_t i = at + j;
      ops::LayerNorm::squares<count.value>(n, x + i * n, mean + i, rstd + i);
    });
    ops::RmsNorm::scale(size, n, eps, rstd + at);
    each_group(size, [&](int64_t j, auto count) BACKTRAIL_LAMBDA {
      const int64_t i = at + j;
      ops::LayerNorm::apply<count.value>(n, x + i * n, weight, bias, mean + i, rstd + i, y + i * n);
    });
  });
}

template <class T>
void layer_norm_backward(int64_t rows, int64_t n, const T* g, const T* x, const T* weight,
                         const T* mean, const T* rstd, T* dx, T* dweight, T* dbias) {
  clear(n, dweight);
  clear(n, dbias);
  each_group(rows, [&](int64_t i, auto count) BACKTRAIL_LAMBDA {
    ops::LayerNorm::backward<count.value>(n, g + i * n, x + i * n, weight, mean + i, rstd + i,
                                          dx + i * n, dweight, dbias);
  });
}

template <class T>
void cross_entropy(const CrossEntropyRows<T>& r, int64_t begin, int64_t end) {
  const int64_t n = r.classes;
  each_group(end - begin, [&](int64_t j, auto count) BACKTRAIL_LAMBDA {
    const int64_t i = begin + j;
    ops::CrossEntropy::sum_exp<count.value>(n, r.logits + i * n, r.max + i, r.log_sum + i);
  });
  ops::each<T>(end - begin, [&](int64_t j, auto part) BACKTRAIL_LAMBDA {
    part.store(log(part.load(r.log_sum + begin + j)), r.log_sum + begin + j);
  });
  for (int64_t i = begin; i < end; ++i) {
    const int64_t label = r.targets[i];
    r.loss[i] = label == r.ignore_index
                    ? T(0)
                    : ops::CrossEntropy::forward(n, r.logits + i * n, label, r.weight, r.smoothing,
                                                 r.max[i], r.log_sum[i]);
  }
}

template <class T>
void cross_entropy_backward(const CrossEntropyRows<T>& r, int64_t begin, int64_t end, bool stream) {
  for (int64_t i = begin; i < end; ++i) {
    const int64_t label = r.targets[i];
    T* dlogits = r.dlogits + i * r.classes;
    if (label == r.ignore_index)
      clear(r.classes, dlogits);
    else
      ops::CrossEntropy::backward(r.grad[i * r.grad_stride] / r.divisor, r.classes,
                                  r.logits + i * r.classes, label, r.weight, r.weight_sum,
                                  r.smoothing, r.max[i], r.log_sum[i], dlogits, stream);
  }
  finish(stream);
}

template <class T>
T sum(int64_t n, const T* x) {
  Vec<T> total[1];
  ops::sum_row<T, 4>(n, total, [&](int64_t i, auto part, Vec<T>* s) BACKTRAIL_LAMBDA {
    s[0] += part.load(x + i);
  });
  return reduce_add(total[0]);
}

template <class T>
void sum_rows(int64_t rows, int64_t n, const T* x, T* y) {
  ops::each<T>(n, [&](int64_t j, auto part) BACKTRAIL_LAMBDA {
    Vec<T> total(0);
    for (int64_t i = 0; i < rows; ++i) total += part.load(x + i * n + j);
    part.store(total, y + j);
  });
}

template <class T>
constexpr RowwiseTable<T> make_table() {
  return {forward<ops::Softmax, T>,
          backward<ops::Softmax, T>,
          forward<ops::LogSoftmax, T>,
          backward<ops::LogSoftmax, T>,
          rms_norm<T>,
          layer_norm<T>,
          rms_norm_backward<T>,
          layer_norm_backward<T>,
          cross_entropy<T>,
          cross_entropy_backward<T>,
          sum<T>,
          sum_rows<T>};
}

}  // namespace

extern const RowwiseTable<float> rowwise_f32;
extern const RowwiseTable<double> rowwise_f64;
const RowwiseTable<float> rowwise_f32 = make_table<float>();
const RowwiseTable<double> rowwise_f64 = make_table<double>();

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
