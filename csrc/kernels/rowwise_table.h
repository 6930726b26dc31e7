// Kernels over contiguous rows of n elements: softmax, norms, cross entropy. No row depends on
// another, so rows may be cut into tasks anywhere; only the gradients of norm weights are summed
// over the rows of one call.
#pragma once
#include <cstdint>

namespace backtrail {

// Rows of a cross entropy; see ops::CrossEntropy for the formulas.
template <class T>
struct CrossEntropyRows {
  int64_t classes;
  int64_t ignore_index;  // rows with this label have loss and gradient 0
  T smoothing;
  const T* logits;         // [rows, classes]
  const int64_t* targets;  // [rows], each valid or ignore_index
  const T* weight;         // [classes] or null
  T* max;                  // [rows], written by forward, read by backward; likewise
  T* log_sum;              // [rows] log(sum(exp(logits - max)))
  T* loss;                 // [rows], forward only
  // The rest is for backward only.
  const T* grad;  // of row i at grad[i * grad_stride]
  int64_t grad_stride;
  T divisor;     // of grad
  T weight_sum;  // over all classes
  T* dlogits;
};

// `stream` writes past the caches: for outputs much larger than them.
template <class T>
struct RowwiseTable {
  void (*softmax)(int64_t rows, int64_t n, const T* x, T* y, bool stream);
  void (*softmax_backward)(int64_t rows, int64_t n, const T* g, const T* y, T* dx, bool stream);
  void (*log_softmax)(int64_t rows, int64_t n, const T* x, T* y, bool stream);
  void (*log_softmax_backward)(int64_t rows, int64_t n, const T* g, const T* y, T* dx, bool stream);

  // weight, bias: [n] or null. mean, rstd: [rows].
  void (*rms_norm)(int64_t rows, int64_t n, const T* x, const T* weight, T eps, T* y, T* rstd);
  void (*layer_norm)(int64_t rows, int64_t n, const T* x, const T* weight, const T* bias, T eps,
                     T* y, T* mean, T* rstd);
  // dweight, dbias: [n], summed over these rows (0 for none); or null.
  void (*rms_norm_backward)(int64_t rows, int64_t n, const T* g, const T* x, const T* weight,
                            const T* rstd, T* dx, T* dweight);
  void (*layer_norm_backward)(int64_t rows, int64_t n, const T* g, const T* x, const T* weight,
                              const T* mean, const T* rstd, T* dx, T* dweight, T* dbias);

  void (*cross_entropy)(const CrossEntropyRows<T>& r, int64_t begin, int64_t end);
  void (*cross_entropy_backward)(const CrossEntropyRows<T>& r, int64_t begin, int64_t end,
                                 bool stream);

  T (*sum)(int64_t n, const T* x);
  // y[j] = sum over i < rows of x[i * n + j].
  void (*sum_rows)(int64_t rows, int64_t n, const T* x, T* y);
};

}  // namespace backtrail
