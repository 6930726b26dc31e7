// Reading and adding by index: within short rows, which are held in a register, and of long ones.
#pragma once
#include <cstdint>

namespace backtrail {

// Each of `rows` rows has `n` indices of its own into its `size` elements, at most 64 bytes. False
// when an index is not in [0, size): what was written is then without meaning.
template <class T>
struct IndexTable {
  // to[i * n + j] = from[i * from_step + index[i * n + j]]
  bool (*gather)(T* to, const T* from, int64_t from_step, int64_t size, const int64_t* index,
                 int64_t rows, int64_t n);
  // to[i * size + .] = from[i * size + .], then to[i * size + index[i * n + j]] += src[i * src_step
  // + j] in the order of j.
  bool (*scatter_add)(T* to, const T* from, int64_t size, const int64_t* index, const T* src,
                      int64_t src_step, int64_t rows, int64_t n);
  void (*add_scaled)(T* to, const T* src, int64_t n, T alpha);  // to[i] += alpha * src[i]
};

}  // namespace backtrail
