#include "core/array.h"

#include <cstdlib>
#include <cstring>
#include <vector>

#include "core/error.h"

namespace backtrail {

void Dims::push(int64_t x) {
  if (n == kMaxDims) fail(ErrorKind::runtime, "a tensor can have at most %d dimensions", kMaxDims);
  v[n++] = x;
}

std::string to_string(const Dims& shape) {
  std::string s = "(";
  for (int i = 0; i < shape.n; ++i) {
    if (i) s += ", ";
    s += std::to_string(shape[i]);
  }
  return s + (shape.n == 1 ? ",)" : ")");
}

bool Array::contiguous() const {
  int64_t expected = 1;
  for (int i = shape.n - 1; i >= 0; --i) {
    if (shape[i] == 0) return true;
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

Dims contiguous_strides(const Dims& shape) {
  Dims s;
  s.n = shape.n;
  int64_t step = 1;
  for (int i = shape.n - 1; i >= 0; --i) {
    s[i] = step;
    step *= shape[i] > 0 ? shape[i] : 1;
  }
  return s;
}

Array empty(const Dims& shape, DType dtype) {
  int64_t numel = 1;
  for (int i = 0; i < shape.n; ++i) {
    if (shape[i] < 0)
      fail(ErrorKind::runtime, "a tensor cannot have the shape %s: sizes must not be negative",
           to_string(shape).c_str());
    if (__builtin_mul_overflow(numel, shape[i], &numel))
      fail(ErrorKind::memory, "out of memory: a tensor of shape %s has too many elements",
           to_string(shape).c_str());
  }
  Array a;
  if (numel > (int64_t(1) << 46))
    fail(ErrorKind::memory, "out of memory: a tensor of shape %s has too many elements",
         to_string(shape).c_str());
  a.storage = allocate(size_t(numel) * item_size(dtype));
  a.shape = shape;
  a.strides = contiguous_strides(shape);
  a.dtype = dtype;
  return a;
}

Array zeros(const Dims& shape, DType dtype) {
  Array a = empty(shape, dtype);
  std::memset(a.storage->data, 0, a.storage->bytes);
  return a;
}

Dims broadcast(const char* op, const Dims& a, const Dims& b) {
  Dims out;
  out.n = a.n > b.n ? a.n : b.n;
  for (int i = 0; i < out.n; ++i) {
    int ia = i - (out.n - a.n), ib = i - (out.n - b.n);
    int64_t x = ia < 0 ? 1 : a[ia], y = ib < 0 ? 1 : b[ib];
    if (x != y && x != 1 && y != 1)
      fail(ErrorKind::runtime,
           "%s: shapes %s and %s do not broadcast: at dimension %d the sizes are %lld and %lld; "
           "they must be equal, or one of them 1",
           op, to_string(a).c_str(), to_string(b).c_str(), i, (long long)x, (long long)y);
    out[i] = x == 1 ? y : x;
  }
  return out;
}

Array expand(const Array& a, const Dims& shape) {
  Array out = a;
  out.shape = shape;
  out.strides.n = shape.n;
  for (int i = 0; i < shape.n; ++i) {
    int ia = i - (shape.n - a.shape.n);
    out.strides[i] = ia < 0 || (a.shape[ia] == 1 && shape[i] != 1) ? 0 : a.strides[ia];
  }
  return out;
}

int wrap_dim(const char* op, int64_t dim, int ndim) {
  int64_t range = ndim ? ndim : 1;
  if (dim < -range || dim >= range)
    fail(ErrorKind::index, "%s: dimension %lld is out of range: expected one in [%lld, %lld]", op,
         (long long)dim, (long long)-range, (long long)range - 1);
  return int(dim < 0 ? dim + range : dim);
}

bool overlaps_shifted(const Array& a, const Array& b) {
  if (a.storage.get() != b.storage.get() || !a.numel() || !b.numel()) return false;
  if (a.offset == b.offset && a.shape == b.shape && a.dtype == b.dtype) {
    bool same = true;
    for (int i = 0; i < a.ndim(); ++i)
      if (a.shape[i] > 1 && a.strides[i] != b.strides[i]) same = false;
    if (same) return false;
  }
  auto range = [](const Array& x, int64_t& lo, int64_t& hi) {
    lo = hi = x.offset * int64_t(x.item());
    hi += int64_t(x.item());
    for (int i = 0; i < x.ndim(); ++i) {
      int64_t reach = (x.shape[i] - 1) * x.strides[i] * int64_t(x.item());
      (reach < 0 ? lo : hi) += reach;
    }
  };
  int64_t alo, ahi, blo, bhi;
  range(a, alo, ahi);
  range(b, blo, bhi);
  return alo < bhi && blo < ahi;
}

bool overlaps_itself(const Array& a) {
  // Dimensions from the shortest step on: each must step over all that the ones before reach.
  int order[kMaxDims], n = 0;
  for (int i = 0; i < a.ndim(); ++i) {
    if (a.shape[i] == 0) return false;
    if (a.shape[i] == 1) continue;
    if (a.strides[i] == 0) return true;
    int k = n++;
    for (; k > 0 && std::abs(a.strides[order[k - 1]]) > std::abs(a.strides[i]); --k)
      order[k] = order[k - 1];
    order[k] = i;
  }
  int64_t reach = 0;
  bool apart = true;
  for (int k = 0; k < n; ++k) {
    const int64_t step = std::abs(a.strides[order[k]]);
    apart = apart && step > reach;
    reach += (a.shape[order[k]] - 1) * step;
  }
  if (apart) return false;
  // Windows, or sizes and strides of as_strided: every place is looked at.
  if (a.numel() > reach + 1) return true;
  std::vector<bool> taken(size_t(reach) + 1);
  for (int64_t i = 0; i < a.numel(); ++i) {
    int64_t at = 0, rest = i;
    for (int k = 0; k < n; ++k) {
      const int d = order[k];
      at += rest % a.shape[d] * std::abs(a.strides[d]);
      rest /= a.shape[d];
    }
    if (taken[size_t(at)]) return true;
    taken[size_t(at)] = true;
  }
  return false;
}

}  // namespace backtrail
