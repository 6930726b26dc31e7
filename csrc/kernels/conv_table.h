// Kernels of convolution: images to matrices of patches and back, and filters of one channel.
#pragma once
#include <cstdint>

namespace backtrail {

// A window on an image (contiguous planes) with zeros around it, copied close together. Its columns
// are sorted by their remainder modulo the stride: what a tap of the filter sees of one row of
// outputs is then contiguous, whatever the stride.
struct ConvWindow {
  int64_t channels, height, width;  // of the image
  int64_t row, col;                 // of its corner in the image; may lie outside
  int64_t rows, cols;               // cols: of each remainder
  int64_t phases;                   // the stride along a row

  int64_t plane() const { return rows * phases * cols; }
};

// The filter, and the rows and columns of outputs that are computed from a window.
struct ConvTaps {
  int64_t kernel_h, kernel_w, stride_h, dilation_h, dilation_w;
  int64_t out_rows, out_cols;

  int64_t count() const { return kernel_h * kernel_w; }
  // Place of a tap relative to the window's corner.
  int64_t at(const ConvWindow& w, int64_t i, int64_t j) const {
    const int64_t col = j * dilation_w;
    return (i * dilation_h * w.phases + col % w.phases) * w.cols + col / w.phases;
  }
  int64_t row_step(const ConvWindow& w) const { return stride_h * w.phases * w.cols; }
};

// Elements to leave free behind a window and behind a matrix of patches: rows are read and written
// by whole vectors.
constexpr int64_t kConvSlack = 64;

// `window` points to the elements of a ConvWindow, channel by channel; `patches` to a matrix with
// a row of stride `ld` for every channel and tap, and a column for every output.
template <class T>
struct ConvTable {
  int64_t lanes;

  void (*open)(const ConvWindow& w, const T* image, T* window);
  // The reverse: every element of the image from the window, 0 where it shows none, plus the
  // channel's bias (or null).
  void (*close)(const ConvWindow& w, const T* window, const T* bias, T* image);

  void (*gather)(const ConvWindow& w, const ConvTaps& t, const T* window, T* patches, int64_t ld);
  // Adds every patch to its place in the window.
  void (*scatter)(const ConvWindow& w, const ConvTaps& t, const T* patches, int64_t ld, T* window);

  // Filters of one channel, on a window of one channel; rows of outputs have stride `ld`.
  // y = (first, or y when accumulating) + filter * window
  void (*depthwise)(const ConvWindow& w, const ConvTaps& t, const T* window, const T* filter,
                    T first, bool accumulate, T* y, int64_t ld);
  // window += what g sends back through the filter
  void (*depthwise_scatter)(const ConvWindow& w, const ConvTaps& t, const T* g, int64_t ld,
                            const T* filter, T* window);
  // sums[tap] += sum of g times what the tap saw
  void (*depthwise_weight)(const ConvWindow& w, const ConvTaps& t, const T* window, const T* g,
                           int64_t ld, T* sums);

  void (*zero)(T* x, int64_t n);
  // y[j * ld + i] = sum over p < parts of x[p * size + i * cols + j], in ascending order, for
  // i < rows and j < cols.
  void (*sum_transposed)(int64_t parts, int64_t size, int64_t rows, int64_t cols, const T* x, T* y,
                         int64_t ld);
};

}  // namespace backtrail
