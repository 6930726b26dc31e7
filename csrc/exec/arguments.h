// What `prepare` and `execute` functions share: reading attributes, checking indices, choosing code
// by element type, and plain copies on several threads.
#pragma once
#include <atomic>
#include <cstring>

#include "core/parallel.h"
#include "exec/op.h"

namespace backtrail {

inline int64_t integer_attr(const Call& c, int a, int64_t otherwise = 0) {
  if (a >= c.n_attrs || !c.attrs[a].given()) return otherwise;
  return c.attrs[a].type == AttrValue::real ? int64_t(c.attrs[a].f) : c.attrs[a].i;
}
inline double real_attr(const Call& c, int a, double otherwise = 0) {
  return a < c.n_attrs && c.attrs[a].given() ? c.attrs[a].f : otherwise;
}

// A list of integers, or an integer as a list of one; None is empty.
struct ListAttr {
  const int64_t* items = nullptr;
  int64_t n = 0;
};
inline ListAttr list_attr(const Call& c, int a) {
  if (a >= c.n_attrs || !c.attrs[a].given()) return {};
  const AttrValue& v = c.attrs[a];
  return v.type == AttrValue::list ? ListAttr{v.items, v.i} : ListAttr{&v.i, 1};
}
inline Dims shape_attr(const Call& c, int a) {
  ListAttr list = list_attr(c, a);
  Dims shape;
  for (int64_t i = 0; i < list.n; ++i) shape.push(list.items[i]);
  return shape;
}

inline void require_int64(const Call& c, int input, const char* what) {
  if (c.in[input].dtype != DType::i64)
    fail(ErrorKind::type, "%s: %s is %s; it must be int64", c.name, what,
         dtype_name(c.in[input].dtype));
}
inline void require_same_dtype(const Call& c, int a, int b) {
  if (c.in[a].dtype != c.in[b].dtype)
    fail(ErrorKind::type, "%s: got %s and %s; the element types must be equal", c.name,
         dtype_name(c.in[a].dtype), dtype_name(c.in[b].dtype));
}

[[noreturn]] inline void fail_index(const char* op, int64_t index, int dim, int64_t size) {
  fail(ErrorKind::index, "%s: index %lld is out of range for dimension %d of size %lld", op,
       (long long)index, dim, (long long)size);
}

constexpr int64_t kChunk = int64_t(1) << 15;  // elements of one task where nothing else decides
inline int64_t chunks(int64_t n, int64_t chunk = kChunk) { return (n + chunk - 1) / chunk; }

// body(begin, end) over pieces of [0, n), on several threads when it is worth it.
template <class F>
void for_chunks(int64_t n, double ns_each, F&& body, int64_t chunk = kChunk) {
  parallel_for(chunks(n, chunk), double(n) * ns_each, [&](int64_t t) {
    int64_t end = (t + 1) * chunk;
    body(t * chunk, end < n ? end : n);
  });
}

// Throw unless every index is in [low, size).
inline bool in_range(const int64_t* index, int64_t n, int64_t size, int64_t low = 0) {
  uint64_t signs = 0;  // top bit: some index - low or size - 1 - index is negative
  for (int64_t i = 0; i < n; ++i) {
    uint64_t x = uint64_t(index[i]);
    signs |= (x - uint64_t(low)) | (uint64_t(size - 1) - x);
  }
  return !(signs >> 63);
}

// The same, telling `wrong` of it.
inline bool in_range(const int64_t* index, int64_t n, int64_t size, std::atomic<bool>& wrong) {
  if (in_range(index, n, size)) return true;
  wrong.store(true, std::memory_order_relaxed);
  return false;
}

[[noreturn]] inline void fail_indices(const char* op, const int64_t* index, int64_t n, int dim,
                                      int64_t size, int64_t low = 0) {
  for (int64_t i = 0; i < n; ++i)
    if (index[i] < low || index[i] >= size) fail_index(op, index[i], dim, size);
  fail(ErrorKind::index, "%s: the indices changed while they were read", op);
}

inline void check_indices(const char* op, const int64_t* index, int64_t n, int dim, int64_t size,
                          int64_t low = 0) {
  std::atomic<bool> wrong{false};
  for_chunks(n, 0.5, [&](int64_t begin, int64_t end) {
    if (!in_range(index + begin, end - begin, size, low))
      wrong.store(true, std::memory_order_relaxed);
  });
  if (wrong) fail_indices(op, index, n, dim, size, low);
}

inline void copy_bytes(void* dst, const void* src, int64_t bytes) {
  for_chunks(
      bytes, 0.05,
      [&](int64_t begin, int64_t end) {
        std::memcpy(static_cast<char*>(dst) + begin, static_cast<const char*>(src) + begin,
                    size_t(end - begin));
      },
      1 << 18);
}
inline void zero_bytes(void* dst, int64_t bytes) {
  for_chunks(
      bytes, 0.03,
      [&](int64_t begin, int64_t end) {
        std::memset(static_cast<char*>(dst) + begin, 0, size_t(end - begin));
      },
      1 << 18);
}

// Calls f with an unsigned integer of `item_size` bytes.
template <class F>
void by_item_size(size_t item_size, F&& f) {
  switch (item_size) {
    case 1: return f(uint8_t());
    case 2: return f(uint16_t());
    case 4: return f(uint32_t());
    default: return f(uint64_t());
  }
}

// Calls f with a zero of the element type.
template <class F>
void by_dtype(const char* op, DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32: return f(float());
    case DType::f64: return f(double());
    case DType::i64: return f(int64_t());
    case DType::i32: return f(int32_t());
    case DType::u8: return f(uint8_t());
    case DType::b8: return f(bool());
    default: fail(ErrorKind::type, "%s: not implemented for %s", op, dtype_name(dtype));
  }
}

// A shape seen as (outer, size, inner) around one dimension.
struct Around {
  int64_t outer = 1, size = 1, inner = 1;
  Around(const Dims& shape, int dim) : size(shape.n ? shape[dim] : 1) {
    for (int i = 0; i < dim; ++i) outer *= shape[i];
    for (int i = dim + 1; i < shape.n; ++i) inner *= shape[i];
  }
};

}  // namespace backtrail
