// What convolution's products share: how they are cut, and the product of one block.
#pragma once
#include "exec/conv_shape.h"

namespace backtrail::conv {

constexpr int64_t kBlockElements = 96 << 10;  // of the patches of a block
constexpr int64_t kBlockDepth = 512;          // rows of patches, about
constexpr int64_t kFewPixels = 128;           // of an image that is too small by itself

// Element (i, j) lies at data[i * rs + j * cs].
template <class T>
struct Matrix {
  const T* data;
  int64_t rs, cs;
};

// c[m, n] = start + a[m, k] @ b[k, n] on this thread, c dense in rows; see GemmBlock. One chain of
// multiply-adds for each element, whatever the cuts.
template <class T>
void multiply(const GemmTable<T>& kernels, int64_t m, int64_t n, int64_t k, Matrix<T> a,
              Matrix<T> b, T* c, int64_t c_rs, Start start, const T* first = nullptr) {
  const int64_t depth = piece(k, kBlockDepth);
  // Rows of b that fall into the same cache sets are copied, too.
  const bool pack_b = b.cs != 1 || b.rs * int64_t(sizeof(T)) % 4096 == 0;
  const bool pack_a = n > 4 * kernels.lanes && m * k > 64 * 64;
  const int64_t panel = (depth + 1) * kernels.lanes;
  const int64_t b_size = pack_b ? ceil_div(n, kernels.lanes) * panel : 0;
  T* packed = workspace<T>(b_size + (pack_a ? a_panel_size(kernels.mr, depth) : 0), kPackSlot);
  GemmBlock<T> g{};
  g.m = m;
  g.n = n;
  g.a_rs = a.rs;
  g.a_cs = a.cs;
  g.a_panel = pack_a ? packed + b_size : nullptr;
  g.b_rs = pack_b ? kernels.lanes : b.rs;
  g.b_vs = pack_b ? panel : kernels.lanes;
  g.c = c;
  g.c_rs = c_rs;
  g.start = start;
  g.first = first;
  for (int64_t done = 0; done < k; done += g.k, g.start = Start::chain) {
    g.k = std::min(depth, k - done);
    g.a = a.data + done * a.cs;
    g.b = b.data + done * b.rs;
    if (pack_b) {
      kernels.pack_b(g.k, n, g.b, b.rs, b.cs, packed, panel);
      g.b = packed;
    }
    kernels.block(g);
  }
}

// Images of few pixels, several of which lie side by side in one matrix of patches.
inline bool are_small(const Shape& s) { return s.n > 1 && s.pixels() < kFewPixels; }

// Patches of a whole image, from a column on.
template <class T>
void whole_patches(const Shape& s, const ConvTable<T>& kernels, const ConvWindow& window,
                   const T* image, const Workspace<T>& work, int64_t column) {
  T* to = work.patches + column;
  if (!s.plain()) {
    kernels.open(window, image, work.window);
    return kernels.gather(window, s.taps_of(s.oh, s.ow), work.window, to, work.ld);
  }
  for (int64_t c = 0; c < window.channels; ++c)
    std::copy_n(image + c * s.pixels(), s.pixels(), to + c * work.ld);
}

}  // namespace backtrail::conv
