// Views: other shapes and strides over the same bytes. No element is read or moved.
#include <algorithm>

#include "core/layout.h"
#include "exec/op.h"

namespace backtrail {
namespace {

Dims dims_of(const AttrValue& a) {
  Dims d;
  if (a.type == AttrValue::integer) d.push(a.i);
  if (a.type == AttrValue::list)
    for (int64_t i = 0; i < a.i; ++i) d.push(a.items[i]);
  return d;
}

// Replace a size of -1 by what the number of elements leaves.
Dims resolve_shape(const Call& c, Dims shape, int64_t numel) {
  int open = -1;
  Dims named;
  for (int i = 0; i < shape.n; ++i) {
    if (shape[i] == -1 && open < 0) {
      open = i;
      continue;
    }
    if (shape[i] < 0)
      fail(ErrorKind::runtime, "%s: %s is not a shape: at most one size may be -1, none less",
           c.name, to_string(shape).c_str());
    named.push(shape[i]);
  }
  int64_t known = checked_numel(c.name, named);
  if (open >= 0) {
    if (known == 0)
      fail(ErrorKind::runtime, "%s: the size -1 in %s is ambiguous for a tensor of %lld elements",
           c.name, to_string(shape).c_str(), (long long)numel);
    shape[open] = numel / known;
    known *= shape[open];
  }
  if (known != numel)
    fail(ErrorKind::runtime, "%s: shape %s has %lld elements; the input %s has %lld", c.name,
         to_string(shape).c_str(), (long long)known, to_string(c.in[0].shape).c_str(),
         (long long)numel);
  return shape;
}

// Strides that give `shape` over the elements of `a` in order; false when a copy would be needed.
bool view_strides(const Array& a, const Dims& shape, Dims& strides) {
  strides = contiguous_strides(shape);
  if (a.numel() == 0) return true;
  int old = a.ndim() - 1;
  int64_t left_in_chunk = 1, step = 1;  // of the current run of mergeable old dimensions
  for (int d = shape.n - 1; d >= 0; --d) {
    if (shape[d] == 1) continue;
    if (left_in_chunk == 1) {
      while (old >= 0 && a.shape[old] == 1) --old;
      if (old < 0) return false;
      step = a.strides[old];
      left_in_chunk = a.shape[old--];
      while (old >= 0) {
        if (a.shape[old] == 1) {
          --old;
          continue;
        }
        if (a.strides[old] != step * left_in_chunk) break;
        left_in_chunk *= a.shape[old--];
      }
    }
    if (left_in_chunk % shape[d]) return false;
    strides[d] = step;
    step *= shape[d];
    left_in_chunk /= shape[d];
  }
  return true;
}

void view(Call& c) {
  const Array& a = c.in[0];
  Array out = a;
  out.shape = resolve_shape(c, dims_of(c.attrs[0]), a.numel());
  if (!view_strides(a, out.shape, out.strides))
    fail(ErrorKind::runtime,
         "%s: shape %s with strides %s cannot be seen as %s without a copy; use reshape()", c.name,
         to_string(a.shape).c_str(), to_string(a.strides).c_str(), to_string(out.shape).c_str());
  c.out[0] = out;
}

void reshape(Call& c) {
  Array out = c.in[0];
  out.shape = resolve_shape(c, dims_of(c.attrs[0]), out.numel());
  if (!view_strides(c.in[0], out.shape, out.strides)) {
    out = contiguous(c.in[0]);
    out.shape = resolve_shape(c, dims_of(c.attrs[0]), out.numel());
    out.strides = contiguous_strides(out.shape);
  }
  c.out[0] = out;
}

void permute(Call& c) {
  const Array& a = c.in[0];
  Dims order = dims_of(c.attrs[0]);
  Array out = a;
  if (order.n != a.ndim())
    fail(ErrorKind::runtime, "%s: got %d dimensions %s for a tensor of shape %s", c.name, order.n,
         to_string(order).c_str(), to_string(a.shape).c_str());
  uint32_t seen = 0;
  for (int i = 0; i < order.n; ++i) {
    int d = wrap_dim(c.name, order[i], a.ndim());
    if (seen >> d & 1)
      fail(ErrorKind::runtime, "%s: dimension %d is named twice in %s", c.name, d,
           to_string(order).c_str());
    seen |= 1u << d;
    out.shape[i] = a.shape[d];
    out.strides[i] = a.strides[d];
  }
  c.out[0] = out;
}

void transpose(Call& c) {
  Array out = c.in[0];
  int i = wrap_dim(c.name, c.attrs[0].i, out.ndim()),
      j = wrap_dim(c.name, c.attrs[1].i, out.ndim());
  if (out.ndim()) {
    std::swap(out.shape[i], out.shape[j]);
    std::swap(out.strides[i], out.strides[j]);
  }
  c.out[0] = out;
}

void expand_op(Call& c) {
  const Array& a = c.in[0];
  Dims shape = dims_of(c.attrs[0]);
  const int added = shape.n - a.ndim();
  for (int i = 0; i < shape.n; ++i) {
    int64_t size = i < added ? -1 : a.shape[i - added];
    if (shape[i] == -1 && i >= added) shape[i] = size;
    if (added < 0 || shape[i] < 0 || (i >= added && size != 1 && size != shape[i]))
      fail(ErrorKind::runtime,
           "%s: shape %s cannot be expanded to %s: sizes must be equal, or 1 in the input", c.name,
           to_string(a.shape).c_str(), to_string(dims_of(c.attrs[0])).c_str());
  }
  if (added < 0)
    fail(ErrorKind::runtime, "%s: shape %s has more dimensions than %s", c.name,
         to_string(a.shape).c_str(), to_string(shape).c_str());
  checked_numel(c.name, shape);
  c.out[0] = expand(a, shape);
}

void squeeze(Call& c) {
  const Array& a = c.in[0];
  uint32_t named = 0;
  Dims dims = dims_of(c.attrs[0]);
  for (int i = 0; i < dims.n; ++i) named |= 1u << wrap_dim(c.name, dims[i], a.ndim());
  if (!c.attrs[0].given()) named = ~0u;
  Array out = a;
  out.shape.n = out.strides.n = 0;
  for (int d = 0; d < a.ndim(); ++d) {
    if (a.shape[d] == 1 && (named >> d & 1)) continue;
    out.shape.push(a.shape[d]);
    out.strides.push(a.strides[d]);
  }
  c.out[0] = out;
}

void unsqueeze(Call& c) {
  const Array& a = c.in[0];
  int at = wrap_dim(c.name, c.attrs[0].i, a.ndim() + 1);
  Array out = a;
  out.shape.push(1), out.strides.push(1);
  for (int d = a.ndim(); d > at; --d)
    out.shape[d] = a.shape[d - 1], out.strides[d] = a.strides[d - 1];
  out.shape[at] = 1;
  out.strides[at] = at < a.ndim() ? a.shape[at] * a.strides[at] : 1;
  c.out[0] = out;
}

// Cut one dimension to start, start + step, ...; bounds as in Python.
void cut(Array& a, int d, int64_t start, int64_t stop, int64_t step) {
  const int64_t size = a.shape[d];
  auto clip = [&](int64_t i) { return std::clamp<int64_t>(i < 0 ? i + size : i, 0, size); };
  start = clip(start), stop = clip(stop);
  a.offset += size && start < size ? start * a.strides[d] : 0;
  a.shape[d] = stop > start ? 1 + (stop - start - 1) / step : 0;
  if (a.shape[d] > 1) a.strides[d] *= step;  // else no element is a step away
}

// (dim, start, stop, step)
void slice(Call& c) {
  Array out = c.in[0];
  if (out.ndim() == 0) fail(ErrorKind::index, "%s: a 0-dim tensor cannot be sliced", c.name);
  if (c.attrs[3].i <= 0)
    fail(ErrorKind::value, "%s: step is %lld; it must be positive", c.name,
         (long long)c.attrs[3].i);
  cut(out, wrap_dim(c.name, c.attrs[0].i, out.ndim()), c.attrs[1].i, c.attrs[2].i, c.attrs[3].i);
  c.out[0] = out;
}

// (dim, sizes): one view for each size, at most kMaxOutputs.
void split(Call& c) {
  const Array& a = c.in[0];
  if (a.ndim() == 0) fail(ErrorKind::index, "%s: a 0-dim tensor cannot be split", c.name);
  const int d = wrap_dim(c.name, c.attrs[0].i, a.ndim());
  if (c.attrs[1].i > kMaxOutputs)
    fail(ErrorKind::value, "%s: %lld parts; at most %d", c.name, (long long)c.attrs[1].i,
         kMaxOutputs);
  c.n_out = int(c.attrs[1].i);
  int64_t start = 0;
  for (int i = 0; i < c.n_out; ++i) {
    const int64_t size = c.attrs[1].items[i];
    if (size < 0 || start + size > a.shape[d])
      fail(ErrorKind::runtime, "%s: part %d of size %lld does not fit in dimension %d of shape %s",
           c.name, i, (long long)size, d, to_string(a.shape).c_str());
    c.out[i] = a;
    cut(c.out[i], d, start, start + size, 1);
    start += size;
  }
  if (start != a.shape[d])
    fail(ErrorKind::runtime, "%s: the sizes add up to %lld; dimension %d of shape %s has %lld",
         c.name, (long long)start, d, to_string(a.shape).c_str(), (long long)a.shape[d]);
}

int64_t wrap_index(const Call& c, int64_t i, int64_t size, int d) {
  if (i < -size || i >= size)
    fail(ErrorKind::index, "%s: index %lld is out of range for dimension %d of size %lld", c.name,
         (long long)i, d, (long long)size);
  return i < 0 ? i + size : i;
}

void remove_dim(Array& a, int d, int64_t index) {
  a.offset += index * a.strides[d];
  for (int i = d; i + 1 < a.ndim(); ++i)
    a.shape[i] = a.shape[i + 1], a.strides[i] = a.strides[i + 1];
  --a.shape.n, --a.strides.n;
}

// (dim, index)
void select(Call& c) {
  Array out = c.in[0];
  if (out.ndim() == 0)
    fail(ErrorKind::index, "%s: a 0-dim tensor has no dimension to index", c.name);
  int d = wrap_dim(c.name, c.attrs[0].i, out.ndim());
  remove_dim(out, d, wrap_index(c, c.attrs[1].i, out.shape[d], d));
  c.out[0] = out;
}

// Python's x[...]: a list of (code, a, b, step) for each item: 0 an integer a, 1 a slice a:b:step,
// 2 a new dimension, 3 a whole dimension. Dimensions not named are kept.
void basic_index(Call& c) {
  Array out = c.in[0];
  int d = 0, original = 0;
  for (int64_t i = 0; i + 3 < c.attrs[0].i; i += 4) {
    const int64_t* item = c.attrs[0].items + i;
    if (item[0] != 2 && d >= out.ndim())
      fail(ErrorKind::index, "%s: too many indices for a tensor of shape %s", c.name,
           to_string(c.in[0].shape).c_str());
    if (item[0] == 0) {
      remove_dim(out, d, wrap_index(c, item[1], out.shape[d], original++));
    } else if (item[0] == 1) {
      if (item[3] <= 0)
        fail(ErrorKind::value, "%s: a slice's step is %lld; it must be positive", c.name,
             (long long)item[3]);
      cut(out, d++, item[1], item[2], item[3]), ++original;
    } else if (item[0] == 2) {
      out.shape.push(1), out.strides.push(1);
      for (int k = out.ndim() - 1; k > d; --k)
        out.shape[k] = out.shape[k - 1], out.strides[k] = out.strides[k - 1];
      out.shape[d] = 1, out.strides[d] = 1, ++d;
    } else {
      ++d, ++original;
    }
  }
  c.out[0] = out;
}

// (offset, dim1, dim2): the diagonal becomes the last dimension.
void diagonal(Call& c) {
  const Array& a = c.in[0];
  int i = wrap_dim(c.name, c.attrs[1].i, a.ndim()), j = wrap_dim(c.name, c.attrs[2].i, a.ndim());
  if (a.ndim() < 2 || i == j)
    fail(ErrorKind::runtime, "%s: needs two different dimensions; got %d and %d for shape %s",
         c.name, i, j, to_string(a.shape).c_str());
  const int64_t k = c.attrs[0].i;
  Array out = a;
  out.shape.n = out.strides.n = 0;
  for (int d = 0; d < a.ndim(); ++d)
    if (d != i && d != j) out.shape.push(a.shape[d]), out.strides.push(a.strides[d]);
  int64_t length =
      k >= 0 ? std::min(a.shape[i], a.shape[j] - k) : std::min(a.shape[i] + k, a.shape[j]);
  length = std::max<int64_t>(length, 0);
  if (length) out.offset += k >= 0 ? k * a.strides[j] : -k * a.strides[i];
  out.shape.push(length), out.strides.push(a.strides[i] + a.strides[j]);
  c.out[0] = out;
}

// (dim, size, step): windows along a dimension, which becomes their number; their elements come
// last.
void unfold(Call& c) {
  Array out = c.in[0];
  const int64_t size = c.attrs[1].i, step = c.attrs[2].i;
  int d = wrap_dim(c.name, c.attrs[0].i, out.ndim());
  if (out.ndim() == 0) out.shape.push(1), out.strides.push(1);
  const bool scalar = c.in[0].ndim() == 0;
  if (size < 0 || size > out.shape[d] || step <= 0)
    fail(ErrorKind::runtime, "%s: windows of %lld every %lld do not fit dimension %d of shape %s",
         c.name, (long long)size, (long long)step, d, to_string(out.shape).c_str());
  out.shape.push(size), out.strides.push(out.strides[d]);
  out.shape[d] = (out.shape[d] - size) / step + 1;
  if (out.shape[d] > 1) out.strides[d] *= step;
  checked_numel(c.name, out.shape);
  if (scalar) out.shape = Dims{size}, out.strides = Dims{1};  // a number has one window
  c.out[0] = out;
}

// (shape, strides, offset in elements of the storage)
void as_strided(Call& c) {
  Array out = c.in[0];
  out.shape = dims_of(c.attrs[0]);
  out.strides = dims_of(c.attrs[1]);
  if (c.attrs[2].given()) out.offset = c.attrs[2].i;
  __int128 reach = out.offset;
  if (out.shape.n != out.strides.n)
    fail(ErrorKind::runtime, "%s: got %d sizes and %d strides", c.name, out.shape.n, out.strides.n);
  for (int d = 0; d < out.ndim(); ++d) {
    if (out.shape[d] < 0 || out.strides[d] < 0)
      fail(ErrorKind::runtime, "%s: sizes %s and strides %s must not be negative", c.name,
           to_string(out.shape).c_str(), to_string(out.strides).c_str());
    reach += __int128(out.shape[d] - 1) * out.strides[d];
  }
  const int64_t room = int64_t(out.storage->bytes / out.item());
  if (out.offset < 0 || (checked_numel(c.name, out.shape) && reach >= room))
    fail(ErrorKind::runtime,
         "%s: sizes %s, strides %s and offset %lld reach beyond a storage of %lld elements", c.name,
         to_string(out.shape).c_str(), to_string(out.strides).c_str(), (long long)out.offset,
         (long long)room);
  c.out[0] = out;
}

void alias(Call& c) { c.out[0] = c.in[0]; }

constexpr Op view_op(const char* name, const char* doc, void (*prepare)(Call&)) {
  return {name, doc, Kind::view, 1, 1, 1, 0, 0, true, prepare, nullptr, true};
}

const Op kOps[] = {
    view_op("view", "The same elements under another shape, without a copy.", view),
    view_op("reshape", "The same elements under another shape, copied only where needed.", reshape),
    view_op("permute", "Dimensions in another order.", permute),
    view_op("transpose", "Two dimensions exchanged.", transpose),
    view_op("expand", "Dimensions of size 1 repeated without a copy.", expand_op),
    view_op("squeeze", "Dimensions of size 1 removed.", squeeze),
    view_op("unsqueeze", "A dimension of size 1 inserted.", unsqueeze),
    view_op("slice", "Every step-th element from start to stop along a dimension.", slice),
    {"split", "Views of neighbouring parts of a dimension.", Kind::view, 1, kMaxOutputs, 0, 0, 0,
     true, split, nullptr, true},
    view_op("select", "One index of a dimension, which disappears.", select),
    view_op("basic_index", "Integers, slices and None as in x[...].", basic_index),
    view_op("diagonal", "The diagonal of two dimensions.", diagonal),
    view_op("unfold", "Sliding windows along a dimension.", unfold),
    view_op("as_strided", "Any shape and strides over the storage.", as_strided),
    view_op("alias", "The tensor itself.", alias),
};

}  // namespace

const OpTable kViewOps = {kOps, int(sizeof kOps / sizeof *kOps)};

}  // namespace backtrail
