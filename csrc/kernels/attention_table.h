// Kernels of scaled dot-product attention, one head at a time.
#pragma once
#include <cstdint>

namespace backtrail {

// The rows of a matrix, each contiguous.
template <class T>
struct Rows {
  T* data;
  int64_t stride;
  T* operator[](int64_t i) const { return data + i * stride; }
};

// One head: y = softmax(scale * q @ k.T + mask) @ v.
template <class T>
struct AttentionHead {
  int64_t queries, keys, width, value_width;
  T scale;
  bool causal;         // query i sees the keys j <= i only
  Rows<const T> q, k;  // [queries, width], [keys, width]
  Rows<const T> v;     // [keys, value_width]
  const T* mask;       // [queries, keys], added to the scores; or null
  Rows<T> y;           // [queries, value_width], forward only
  T* lse;              // [queries] log(sum(exp(scores))), or +inf for a query that sees no key;
                       // written by forward, read by backward
  // The rest is for backward only.
  Rows<const T> g;     // like y
  Rows<T> dq, dk, dv;  // like q, k, v
};

template <class T>
struct AttentionTable {
  // `work`: room for work_size(head, backward) elements, 64-byte aligned.
  int64_t (*work_size)(const AttentionHead<T>& h, bool backward);
  void (*forward)(const AttentionHead<T>& h, int64_t begin, int64_t end, T* work);  // of queries
  void (*backward)(const AttentionHead<T>& h, T* work);
};

}  // namespace backtrail
