// Array: a typed, strided view of a Storage. Copying one copies the view, never the elements.
#pragma once
#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "core/storage.h"

namespace backtrail {

constexpr int kMaxDims = 8;

// A short list of sizes, strides or dimension numbers.
struct Dims {
  int n = 0;
  int64_t v[kMaxDims];

  Dims() = default;
  Dims(std::initializer_list<int64_t> values) {
    for (int64_t x : values) v[n++] = x;
  }
  int64_t& operator[](int i) { return v[i]; }
  int64_t operator[](int i) const { return v[i]; }
  int64_t back() const { return v[n - 1]; }
  void push(int64_t x);  // throws Error when there are more than kMaxDims
  int64_t product() const {
    int64_t p = 1;
    for (int i = 0; i < n; ++i) p *= v[i];
    return p;
  }
  bool operator==(const Dims& o) const {
    if (n != o.n) return false;
    for (int i = 0; i < n; ++i)
      if (v[i] != o.v[i]) return false;
    return true;
  }
  bool operator!=(const Dims& o) const { return !(*this == o); }
};

std::string to_string(const Dims& shape);  // "(2, 3)"

struct Array {
  StorageRef storage;
  int64_t offset = 0;   // in elements
  Dims shape, strides;  // strides in elements
  DType dtype = DType::f32;

  explicit operator bool() const { return bool(storage); }
  int64_t numel() const { return shape.product(); }
  int ndim() const { return shape.n; }
  size_t item() const { return item_size(dtype); }
  bool contiguous() const;
  template <class T = char>
  T* data() const {
    return reinterpret_cast<T*>(static_cast<char*>(storage->data) + offset * int64_t(item()));
  }
};

Dims contiguous_strides(const Dims& shape);
Array empty(const Dims& shape, DType dtype);
Array zeros(const Dims& shape, DType dtype);

// The shape that two shapes broadcast to. Throws Error naming `op` and both shapes.
Dims broadcast(const char* op, const Dims& a, const Dims& b);

// `a` seen as having `shape`: repeated dimensions get stride 0. `shape` must be a broadcast of it.
Array expand(const Array& a, const Dims& shape);

// Resolve a possibly negative dimension number; throws Error(index) naming `op`.
int wrap_dim(const char* op, int64_t dim, int ndim);

// True when the two views may touch the same byte but not element for element.
bool overlaps_shifted(const Array& a, const Array& b);
// True when some element of `a` is reachable by two indices (an expanded tensor).
bool overlaps_itself(const Array& a);

}  // namespace backtrail
