// Kernels of pooling: the largest or the mean of what a window sees, plane by plane.
#pragma once
#include <cstdint>

namespace backtrail {

// One dimension of pooling: where each window begins and ends. A kernel of 0 is adaptive: windows
// cover the input evenly.
struct PoolAxis {
  int64_t size, out, kernel, stride, padding, dilation;

  int64_t corner(int64_t i) const { return i * stride - padding; }  // may lie outside
  // Places begin, begin + dilation, ... before end, all of them inside.
  int64_t begin(int64_t i) const {
    if (kernel == 0) return i * size / out;
    const int64_t first = corner(i);
    return first >= 0 ? first : first + (-first + dilation - 1) / dilation * dilation;
  }
  int64_t end(int64_t i) const {
    if (kernel == 0) return ((i + 1) * size + out - 1) / out;
    const int64_t last = corner(i) + (kernel - 1) * dilation + 1;
    return last < size ? last : size;
  }
  // The window's length with its part in the padding.
  int64_t length(int64_t i) const {
    if (kernel == 0) return end(i) - begin(i);
    return (corner(i) + kernel < size + padding ? corner(i) + kernel : size + padding) - corner(i);
  }
  bool halves() const {
    return kernel == 2 && stride == 2 && padding == 0 && dilation == 1 && 2 * out <= size;
  }
};

struct PoolShape {
  PoolAxis h, w;
  bool count_padding;  // of means
  int64_t divisor;     // of means, in place of the window's size; or 0

  int64_t in() const { return h.size * w.size; }
  int64_t out() const { return h.out * w.out; }
};

// One plane each. `where`: the place of the largest element in its plane; -1 for a window that sees
// nothing.
template <class T>
struct PoolTable {
  void (*max)(const PoolShape& s, const T* x, T* y, int32_t* where);
  void (*max_backward)(const PoolShape& s, const T* g, const int32_t* where, T* dx);
  void (*mean)(const PoolShape& s, const T* x, T* y);
  void (*mean_backward)(const PoolShape& s, const T* g, T* dx);
};

}  // namespace backtrail
