// Pointwise loops over tiles: where an operand is dense along another dimension than the output.
#include <algorithm>

#include "core/parallel.h"
#include "exec/launch.h"
#include "kernels/table.h"

namespace backtrail {

int other_dim(const Launch& l) {
  constexpr int64_t kLeast = 8;
  const Space& s = l.space;
  const int last = s.n - 1;
  if (s.strides[l.n_in][last] != 1 || s.shape[last] < 2) return -1;
  for (int j = 0; j < l.n_in; ++j)
    for (int d = 0; d < last; ++d)
      if (!l.constant[j] && s.strides[j][d] == 1 && s.strides[j][last] > 1 && s.shape[d] >= kLeast)
        return d;
  return -1;
}

namespace {

// body(rows, columns, offset of every operand) for rectangles of at most `height` positions along d
// by `width` along the last dimension, over all of the others.
template <class F>
void each_rectangle(const Launch& l, int d, int64_t height, int64_t width, double ns_per_element,
                    F&& body) {
  const Space& s = l.space;
  const int last = s.n - 1;
  const int64_t down = (s.shape[d] + height - 1) / height;
  const int64_t across = (s.shape[last] + width - 1) / width;
  const int64_t planes = s.numel / (s.shape[d] * s.shape[last]);
  parallel_for(planes * down * across, double(s.numel) * ns_per_element, [&](int64_t task) {
    const int64_t column = task % across * width, row = task / across % down * height;
    int64_t at[kOperands] = {};
    for (int j = 0; j <= l.n_in; ++j) {
      if (l.constant[j]) continue;
      int64_t rest = task / (across * down);
      at[j] = row * s.strides[j][d] + column * s.strides[j][last];
      for (int k = last - 1; k >= 0; --k) {
        if (k == d) continue;
        at[j] += rest % s.shape[k] * s.strides[j][k];
        rest /= s.shape[k];
      }
    }
    body(std::min(height, s.shape[d] - row), std::min(width, s.shape[last] - column), at);
  });
}

}  // namespace

// A copy, in bands that the kernel cuts into tiles.
void run_transposed(const Launch& l) {
  const Space& s = l.space;
  const int d = other_dim(l), last = s.n - 1;
  const size_t size = item_size(l.dtypes[0]);
  const int64_t elements = Launch::task(l.numel);
  const int64_t height = std::max<int64_t>(16, elements / s.shape[last] / 16 * 16);
  const int64_t width = std::max<int64_t>(256, elements / std::min(height, s.shape[d]) / 16 * 16);
  each_rectangle(l, d, height, width, 1.0, [&](int64_t rows, int64_t cols, const int64_t* at) {
    kernels().copies->transposed(l.base[1] + at[1] * int64_t(size), s.strides[1][d],
                                 l.base[0] + at[0] * int64_t(size), s.strides[0][last], rows, cols,
                                 size);
  });
}

// A tile at a time, for which inputs that are not dense along its rows are gathered.
void run_tiles(const Launch& l) {
  constexpr int64_t kHeight = 16;
  // The longer a piece of a row is, the rarer memory must start anew; but all threads have a share.
  const int64_t most = std::clamp(l.numel / 8, 16 * Launch::kBlock, 128 * Launch::kBlock);
  const Space& s = l.space;
  const CopyTable& copies = *kernels().copies;
  const int d = other_dim(l), last = s.n - 1;
  const int64_t columns = s.shape[last];
  const bool whole = columns < 128;  // rows
  const int64_t height = whole                      ? most / columns / 16 * 16
                         : s.shape[d] < 2 * kHeight ? s.shape[d]
                                                    : kHeight;
  const int64_t width = whole ? columns : std::min(columns, most / height / 16 * 16);
  each_rectangle(
      l, d, height, width, l.cost + 1, [&](int64_t rows, int64_t cols, const int64_t* at) {
        char* room = static_cast<char*>(scratch(size_t((l.n_in + 1) * most * 8), 3));
        const void* in[kOperands];
        int64_t mask[kOperands], step[kOperands];  // from a row to the next, in bytes
        bool dense = true;
        for (int j = 0; j <= l.n_in; ++j) {
          mask[j] = l.constant[j] ? 0 : -1;
          in[j] = l.splats[j].bytes;
          step[j] = 0;
          if (l.constant[j]) continue;
          const int64_t item = int64_t(item_size(l.dtypes[j]));
          const int64_t down = s.strides[j][d], across = s.strides[j][last];
          const char* from = l.base[j] + at[j] * item;
          char* own = room + size_t(j * most * 8);
          in[j] = across == 1 ? from : own;
          step[j] = (across == 1 ? down : cols) * item;
          dense = dense && step[j] == cols * item;
          if (across != 1 && down == 1)
            copies.transposed(own, cols, from, across, rows, cols, size_t(item));
          for (int64_t r = 0; across != 1 && down != 1 && r < rows; ++r)
            copies.strided(own + r * cols * item, 1, from + r * down * item, across, cols,
                           size_t(item));
        }
        for (int64_t r = 0; r < (dense ? 1 : rows); ++r) {
          l.kernel(const_cast<void*>(in[l.n_in]), in, mask, dense ? rows * cols : cols, l.attrs);
          for (int j = 0; j <= l.n_in; ++j) in[j] = static_cast<const char*>(in[j]) + step[j];
        }
      });
}

}  // namespace backtrail
