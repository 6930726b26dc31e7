// Shape and Array: what opaque ops see of tensors. Arrays are dense, the last dimension innermost.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "backtrail/abi.h"
#include "backtrail/row.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

// Up to eight sizes.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) {
    for (int64_t n : sizes) push(n);
  }
  Shape(const int64_t* sizes, int n) {
    for (int i = 0; i < n; ++i) push(sizes[i]);
  }

  int size() const { return n_; }
  // A dimension may be counted from the end: x[-1] is the last.
  int64_t operator[](int dim) const { return sizes_[at(dim)]; }
  int64_t& operator[](int dim) { return sizes_[at(dim)]; }
  const int64_t* begin() const { return sizes_; }
  const int64_t* end() const { return sizes_ + n_; }
  void push(int64_t size) {
    if (n_ == BACKTRAIL_MAX_DIMS)
      throw std::invalid_argument("a shape of more than " + std::to_string(n_) + " dimensions");
    sizes_[n_++] = size;
  }
  int64_t numel() const {
    int64_t product = 1;
    for (int64_t n : *this) product *= n;
    return product;
  }
  friend bool operator==(const Shape& a, const Shape& b) {
    if (a.n_ != b.n_) return false;
    for (int i = 0; i < a.n_; ++i)
      if (a.sizes_[i] != b.sizes_[i]) return false;
    return true;
  }
  friend bool operator!=(const Shape& a, const Shape& b) { return !(a == b); }

 private:
  int at(int dim) const {
    const int i = dim < 0 ? dim + n_ : dim;
    if (i < 0 || i >= n_) {
      throw std::out_of_range("dimension " + std::to_string(dim) + " of a shape that has " +
                              std::to_string(n_));
    }
    return i;
  }
  int64_t sizes_[BACKTRAIL_MAX_DIMS] = {};
  int n_ = 0;
};

// "(2, 3)", for messages.
inline std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (int i = 0; i < shape.size(); ++i) {
    if (i) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + (shape.size() == 1 ? ",)" : ")");
}

// T is float, double, Var, bool or int64_t, const for inputs.
template <class T>
class Array {
 public:
  using Scalar = std::remove_const_t<T>;

  Array(T* data, const Shape& shape) : data_(data), shape_(shape) {}
  operator Array<const T>() const { return {data_, shape_}; }

  T* data() const { return data_; }  // no access through it is checked
  const Shape& shape() const { return shape_; }
  int dims() const { return shape_.size(); }
  int64_t size(int dim) const { return shape_[dim]; }
  int64_t numel() const { return shape_.numel(); }
  T* begin() const { return data_; }
  T* end() const { return data_ + numel(); }

  // One element, by an index for every dimension. Throws std::out_of_range for a wrong one.
  template <class... I>
  T& operator()(I... index) const {
    const int64_t all[] = {int64_t(index)..., 0};
    return data_[locate(all, int(sizeof...(I)), shape_.size())];
  }
  // The elements along the last dimension, by an index for every other.
  template <class... I>
  Row<T> row(I... index) const {
    const int64_t all[] = {int64_t(index)..., 0};
    const int64_t n = size(-1);
    return {data_ + locate(all, int(sizeof...(I)), shape_.size() - 1) * n, n};
  }

 private:
  int64_t locate(const int64_t* index, int n, int wanted) const {
    bool inside = n == wanted;
    int64_t offset = 0;
    for (int d = 0; inside && d < n; ++d) {
      const int64_t size = shape_.begin()[d];
      inside = uint64_t(index[d]) < uint64_t(size);
      offset = offset * size + index[d];
    }
    if (!inside) refuse(index, n);
    return offset;
  }
  [[noreturn]] __attribute__((noinline, cold)) void refuse(const int64_t* index, int n) const {
    std::string text = "index (";
    for (int d = 0; d < n; ++d) text += (d ? ", " : "") + std::to_string(index[d]);
    throw std::out_of_range(text + ") of an array of shape " + to_string(shape_));
  }

  T* data_;
  Shape shape_;
};

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
