// Reading and writing by index: embedding, gather, scatter, index_select, index_add, x[i, j] and
// its assignment.
#include "exec/arguments.h"
#include "exec/index_rows.h"
#include "exec/rearrange.h"

namespace backtrail {
namespace {

// --- embedding ---

void prepare_embedding(Call& c) {
  const Array &weight = c.in[0], &indices = c.in[1];
  if (weight.ndim() != 2)
    fail(ErrorKind::runtime, "%s: weight has shape %s; it must have 2 dimensions", c.name,
         to_string(weight.shape).c_str());
  require_int64(c, 1, "indices");
  Dims shape = indices.shape;
  shape.push(weight.shape[1]);
  c.out[0] = empty(shape, weight.dtype);
}
void execute_embedding(const Call& c) {
  const Array &weight = c.in[0], &indices = c.in[1];
  const int64_t* index = indices.data<int64_t>();
  check_indices(c.name, index, indices.numel(), 0, weight.shape[0]);
  take_rows(Around(weight.shape, 0), weight.item(), index, indices.numel(), weight.data(),
            c.out[0].data());
}

void prepare_embedding_backward(Call& c) {
  const Array &grad = c.in[0], &indices = c.in[1];
  require_floating(c, 0, "grad");
  require_int64(c, 1, "indices");
  Dims shape = indices.shape;
  shape.push(grad.ndim() ? grad.shape.back() : 0);
  if (grad.shape != shape)
    fail(ErrorKind::runtime, "%s: grad has shape %s for indices of shape %s; expected %s", c.name,
         to_string(grad.shape).c_str(), to_string(indices.shape).c_str(), to_string(shape).c_str());
  c.out[0] = empty({integer_attr(c, 0), shape.back()}, grad.dtype);
}
void execute_embedding_backward(const Call& c) {
  const Array& out = c.out[0];
  const int64_t *index = c.in[1].data<int64_t>(), n = c.in[1].numel();
  check_indices(c.name, index, n, 0, out.shape[0]);
  zero_bytes(out.data(), out.numel() * int64_t(out.item()));
  int64_t padding = integer_attr(c, 1, -1);
  by_dtype(c.name, out.dtype, [&](auto zero) {
    using T = decltype(zero);
    add_rows<T>(Around(out.shape, 0), index, n, c.in[0].data<T>(), out.data<T>(), T(1), padding);
  });
}

// --- index_select, index_add ---

// The index of c.in[1], which has at most one dimension, into dimension attribute 0 of c.in[0].
int prepare_index_1d(Call& c) {
  require_int64(c, 1, "index");
  if (c.in[1].ndim() > 1)
    fail(ErrorKind::index, "%s: index has shape %s; it must have at most 1 dimension", c.name,
         to_string(c.in[1].shape).c_str());
  return wrap_dim(c.name, integer_attr(c, 0), c.in[0].ndim());
}

void prepare_index_select(Call& c) {
  int dim = prepare_index_1d(c);
  Dims shape = c.in[0].shape;
  if (shape.n) shape[dim] = c.in[1].numel();
  c.out[0] = empty(shape, c.in[0].dtype);
}
void execute_index_select(const Call& c) {
  const Array &x = c.in[0], &index = c.in[1];
  int dim = wrap_dim(c.name, integer_attr(c, 0), x.ndim());
  Around shape(x.shape, dim);
  check_indices(c.name, index.data<int64_t>(), index.numel(), dim, shape.size);
  take_rows(shape, x.item(), index.data<int64_t>(), x.ndim() ? index.numel() : 1, x.data(),
            c.out[0].data());
}

void prepare_index_add(Call& c) {
  const Array &x = c.in[0], &src = c.in[2];
  int dim = prepare_index_1d(c);
  require_same_dtype(c, 0, 2);
  Dims expected = x.shape;
  if (expected.n) expected[dim] = c.in[1].numel();
  if (src.shape != expected)
    fail(ErrorKind::runtime, "%s: source has shape %s; expected %s", c.name,
         to_string(src.shape).c_str(), to_string(expected).c_str());
  by_dtype(c.name, x.dtype, [](auto) {});
  c.out[0] = empty(x.shape, x.dtype);
}
void execute_index_add(const Call& c) {
  const Array &x = c.in[0], &index = c.in[1], &out = c.out[0];
  int dim = wrap_dim(c.name, integer_attr(c, 0), x.ndim());
  Around shape(x.shape, dim);
  check_indices(c.name, index.data<int64_t>(), index.numel(), dim, shape.size);
  copy_bytes(out.data(), x.data(), x.numel() * int64_t(x.item()));
  by_dtype(c.name, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    T alpha = is_floating(x.dtype) ? T(real_attr(c, 1, 1)) : T(integer_attr(c, 1, 1));
    add_rows<T>(shape, index.data<int64_t>(), index.numel(), c.in[2].data<T>(), out.data<T>(),
                alpha);
  });
}

// --- x[..., i, j, ...]: index tensors of one shape for adjacent dimensions ---

struct MultiIndex {
  const Array* index;  // [n]
  int n, first;
  Around shape{Dims{}, 0};  // the indexed dimensions are `size`

  MultiIndex(const Call& c, int before) : index(c.in + before), n(c.n_in - before) {
    const Array& x = c.in[0];
    first = int(integer_attr(c, 0));
    if (n < 1 || first < 0 || first + n > x.ndim())
      fail(ErrorKind::index, "%s: too many indices: %d from dimension %d on, for shape %s", c.name,
           n, first, to_string(x.shape).c_str());
    for (int i = 0; i < n; ++i) {
      require_int64(c, before + i, "index");
      if (index[i].shape != index[0].shape)
        fail(ErrorKind::index, "%s: indices of shapes %s and %s; they must be broadcast first",
             c.name, to_string(index[0].shape).c_str(), to_string(index[i].shape).c_str());
    }
    for (int i = 0; i < x.ndim(); ++i)
      (i < first ? shape.outer : i < first + n ? shape.size : shape.inner) *= x.shape[i];
  }
  int64_t count() const { return index[0].numel(); }
  Dims result(const Dims& x) const {
    Dims r;
    for (int i = 0; i < first; ++i) r.push(x[i]);
    for (int i = 0; i < index[0].ndim(); ++i) r.push(index[0].shape[i]);
    for (int i = first + n; i < x.n; ++i) r.push(x[i]);
    return r;
  }
  // Positions along `shape.size`, in scratch memory; negative indices count from the end.
  const int64_t* positions(const Call& c) const {
    int64_t* at = static_cast<int64_t*>(scratch(size_t(count()) * sizeof(int64_t)));
    for (int k = 0; k < n; ++k) {
      int64_t size = c.in[0].shape[first + k];
      const int64_t* from = index[k].data<int64_t>();
      check_indices(c.name, from, count(), first + k, size, -size);
      for_chunks(count(), 0.5, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          at[i] = (k ? at[i] * size : 0) + from[i] + (from[i] < 0 ? size : 0);
      });
    }
    return at;
  }
};

void prepare_index(Call& c) {
  c.out[0] = empty(MultiIndex(c, 1).result(c.in[0].shape), c.in[0].dtype);
}
void execute_index(const Call& c) {
  MultiIndex m(c, 1);
  take_rows(m.shape, c.in[0].item(), m.positions(c), m.count(), c.in[0].data(), c.out[0].data());
}

void prepare_index_put(Call& c) {
  MultiIndex m(c, 2);
  require_same_dtype(c, 0, 1);
  Dims expected = m.result(c.in[0].shape);
  if (c.in[1].shape != expected)
    fail(ErrorKind::runtime, "%s: values have shape %s; the indexed part has %s", c.name,
         to_string(c.in[1].shape).c_str(), to_string(expected).c_str());
  if (integer_attr(c, 1)) by_dtype(c.name, c.in[0].dtype, [](auto) {});
  c.out[0] = empty(c.in[0].shape, c.in[0].dtype);
}
void execute_index_put(const Call& c) {
  const Array &x = c.in[0], &values = c.in[1], &out = c.out[0];
  MultiIndex m(c, 2);
  const int64_t* at = m.positions(c);
  copy_bytes(out.data(), x.data(), x.numel() * int64_t(x.item()));
  if (!integer_attr(c, 1))
    return put_rows(m.shape, x.item(), at, m.count(), values.data(), out.data());
  by_dtype(c.name, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    add_rows<T>(m.shape, at, m.count(), values.data<T>(), out.data<T>());
  });
}

// --- gather, scatter, scatter_add: an index for each element ---

// Walks an index tensor along `dim`, beside `x` (of which `index` names positions along `dim`) and
// `other`, of the index's shape or larger.
struct Walk {
  bool last;  // `dim` is the last dimension
  int n = 0;  // dimensions of a line: all but `dim` and the last
  int64_t lines = 1, sizes[kMaxDims];
  int64_t steps[kMaxDims][3];  // strides of index, x and other
  int64_t along, strides[3];   // of `dim`
  int64_t width = 1;           // of the last dimension, when that is not `dim`

  Walk(const Dims& index, const Dims& x, const Dims& other, int dim) : last(dim >= index.n - 1) {
    Dims all[3] = {contiguous_strides(index), contiguous_strides(x), contiguous_strides(other)};
    along = index.n ? index[dim] : 1;
    for (int k = 0; k < 3; ++k) strides[k] = index.n ? all[k][dim] : 1;
    if (!last) width = index[index.n - 1];
    for (int i = 0; i < index.n - !last; ++i) {
      if (i == dim) continue;
      for (int k = 0; k < 3; ++k) steps[n][k] = all[k][i];
      lines *= sizes[n++] = index[i];
    }
  }

  int64_t step(int k) const { return n ? steps[n - 1][k] : 0; }  // from a line to the next

  // body(index offset, x offset, other offset, count, step) for runs of `count` indices; the
  // position of the j-th is in the row that begins j * step (0 or 1, a constant) after x's offset.
  // Before it check(index offset, count), for one run or several, which may say no.
  // Different lines and columns never meet in x; with `split`, neither do positions along `dim`.
  template <class C, class F>
  void run(bool split, C&& check, F&& body) const {
    int64_t total = lines * along * width;
    int64_t wide = width >= 256 && lines < 8 ? 64 : width ? width : 1;
    int64_t depth = split && along > 8192 ? 4096 : along ? along : 1;
    int64_t columns = chunks(width, wide), pieces = chunks(along, depth);
    int64_t per_task = kChunk / (depth * wide) + 1;
    parallel_for(chunks(lines, per_task) * columns * pieces, double(total) * 2, [&](int64_t t) {
      int64_t first = t / (columns * pieces) * per_task, c = t / pieces % columns * wide;
      int64_t p = t % pieces * depth;
      int64_t end_line = first + per_task < lines ? first + per_task : lines;
      int64_t w = c + wide < width ? wide : width - c, end = p + depth < along ? p + depth : along;
      int64_t at[kMaxDims], o[3] = {c, c, c};
      for (int64_t i = n - 1, rest = first; i >= 0; rest /= sizes[i], --i) {
        at[i] = rest % sizes[i];
        for (int k = 0; k < 3; ++k) o[k] += at[i] * steps[i][k];
      }
      // The index of whole lines is one run, of which some are looked at ahead.
      const int64_t ahead = last && pieces == 1 ? std::max<int64_t>(1, 1024 / along) : 1;
      const int64_t inmost = n ? sizes[n - 1] : 1;
      for (int64_t line = first; line < end_line;) {
        const int64_t group = std::min({ahead, end_line - line, n ? inmost - at[n - 1] : 1});
        if (last) {
          if (!check(o[0] + p, group * (end - p))) return;
          for (int64_t g = 0; g < group; ++g)
            body(o[0] + p + g * step(0), o[1] + g * step(1), o[2] + p + g * step(2), end - p,
                 std::integral_constant<int64_t, 0>());
        } else {
          for (int64_t q = p; q < end; ++q) {
            if (!check(o[0] + q * strides[0], w)) return;
            body(o[0] + q * strides[0], o[1], o[2] + q * strides[2], w,
                 std::integral_constant<int64_t, 1>());
          }
        }
        line += group;
        if (n) at[n - 1] += group;
        for (int k = 0; k < 3; ++k) o[k] += group * step(k);
        for (int i = n - 1; i > 0 && at[i] == sizes[i]; --i) {
          for (int k = 0; k < 3; ++k) o[k] += steps[i - 1][k] - sizes[i] * steps[i][k];
          at[i] = 0;
          ++at[i - 1];
        }
      }
    });
  }
};

// An index tensor for dimension attribute 0 of c.in[0]; `other` has its shape or a larger one.
int prepare_gather_index(Call& c, const Dims& other, bool other_is_index) {
  const Array &x = c.in[0], &index = c.in[1];
  require_int64(c, 1, "index");
  int dim = wrap_dim(c.name, integer_attr(c, 0), x.ndim());
  int rank = x.ndim() ? x.ndim() : 1;
  bool fits = (index.ndim() ? index.ndim() : 1) == rank && (other.n ? other.n : 1) == rank;
  for (int i = 0; fits && i < index.ndim(); ++i) {
    if (i != dim && x.ndim() && index.shape[i] > x.shape[i]) fits = false;
    if (!other_is_index && other.n && index.shape[i] > other[i]) fits = false;
  }
  if (!fits && index.numel())
    fail(ErrorKind::runtime,
         "%s: index of shape %s for shape %s%s%s along dimension %d; the ranks must be equal and "
         "index no larger in the other dimensions",
         c.name, to_string(index.shape).c_str(), to_string(x.shape).c_str(),
         other_is_index ? "" : " and source ", other_is_index ? "" : to_string(other).c_str(), dim);
  return dim;
}

// Rows so short that a kernel holds one in a register: how many there are, 0 for none. `index` must
// have an own row for each.
template <class T>
int64_t short_rows(const Dims& x, const Dims& index, int dim) {
  constexpr int64_t kLanes = 64 / int64_t(sizeof(T));
  if (!x.n || x.n != index.n || dim != x.n - 1 || x[dim] > kLanes || !x[dim]) return 0;
  int64_t rows = 1;
  for (int i = 0; i < dim; ++i) {
    if (index[i] != x[i]) return 0;
    rows *= x[i];
  }
  return rows;
}

// run(first row, rows) says whether all indices were in range.
template <class F>
void for_short_rows(const Call& c, int dim, int64_t rows, F&& run) {
  const Array& index = c.in[1];
  const int64_t n = index.shape[dim];
  std::atomic<bool> wrong{false};
  for_chunks(
      rows, double(n),
      [&](int64_t begin, int64_t end) {
        if (!run(begin, end - begin)) wrong.store(true, std::memory_order_relaxed);
      },
      kChunk / (n + 1) + 1);
  if (wrong) fail_indices(c.name, index.data<int64_t>(), index.numel(), dim, c.in[0].shape[dim]);
}

void prepare_gather(Call& c) {
  prepare_gather_index(c, c.in[1].shape, true);
  c.out[0] = empty(c.in[1].shape, c.in[0].dtype);
}
// Rows held in a register, as all of their indices are; false where they are not so short.
template <class T>
bool gather_short(const Call& c, int dim, const IndexTable<T>& kernel) {
  const Array &x = c.in[0], &index = c.in[1];
  const int64_t rows = short_rows<T>(x.shape, index.shape, dim);
  if (!rows || index.shape[dim] > 64 / int64_t(sizeof(T))) return false;
  const int64_t size = x.shape[dim], n = index.shape[dim];
  for_short_rows(c, dim, rows, [&](int64_t first, int64_t count) {
    return kernel.gather(c.out[0].data<T>() + first * n, x.data<T>() + first * size, size, size,
                         index.data<int64_t>() + first * n, count, n);
  });
  return true;
}
void execute_gather(const Call& c) {
  const Array &x = c.in[0], &index = c.in[1];
  int dim = wrap_dim(c.name, integer_attr(c, 0), x.ndim());
  if (!index.numel()) return;
  const int64_t *at = index.data<int64_t>(), size = x.ndim() ? x.shape[dim] : 1;
  if (x.item() == 4 && gather_short(c, dim, *kernels().index_f32)) return;
  if (x.item() == 8 && gather_short(c, dim, *kernels().index_f64)) return;
  std::atomic<bool> wrong{false};
  Walk walk(index.shape, index.ndim() == x.ndim() ? x.shape : index.shape, index.shape, dim);
  by_item_size(x.item(), [&](auto zero) {
    using T = decltype(zero);
    const T* from = x.data<T>();
    auto check = [&](int64_t i, int64_t count) { return in_range(at + i, count, size, wrong); };
    walk.run(true, check,
             [=, to = c.out[0].data<T>(), along = walk.strides[1]](int64_t i, int64_t x0, int64_t,
                                                                   int64_t count, auto step) {
#pragma GCC unroll 8
               for (int64_t j = 0; j < count; ++j)
                 to[i + j] = from[x0 + j * step + at[i + j] * along];
             });
  });
  if (wrong) fail_indices(c.name, at, index.numel(), dim, size);
}

void prepare_scatter(Call& c) {
  prepare_gather_index(c, c.in[2].shape, false);
  require_same_dtype(c, 0, 2);
  c.out[0] = empty(c.in[0].shape, c.in[0].dtype);
}
void prepare_scatter_add(Call& c) {
  by_dtype(c.name, c.in[0].dtype, [](auto) {});
  prepare_scatter(c);
}
// update(to, from) over the elements named by the index, on a copy of x.
template <class T, class F>
void scatter(const Call& c, F&& update) {
  const Array &x = c.in[0], &index = c.in[1], &src = c.in[2], &out = c.out[0];
  int dim = wrap_dim(c.name, integer_attr(c, 0), x.ndim());
  const int64_t *at = index.data<int64_t>(), size = x.ndim() ? x.shape[dim] : 1;
  std::atomic<bool> wrong{false};
  // The copy of x: ahead of the lines that change it where these are all of its rows, else before.
  bool ahead = dim == x.ndim() - 1 && index.numel() > 0;
  for (int i = 0; ahead && i < dim; ++i) ahead = index.shape[i] == x.shape[i];
  if (!ahead) copy_bytes(out.data(), x.data(), x.numel() * int64_t(x.item()));
  if (!index.numel()) return;
  Dims one{1};
  Walk walk(index.ndim() ? index.shape : one, x.ndim() ? x.shape : one,
            src.ndim() ? src.shape : one, dim);
  const T* from = src.data<T>();
  T* to = out.data<T>();
  auto check = [&, along = walk.along](int64_t i, int64_t count) {
    if (ahead)
      std::memcpy(to + i / along * size, x.data<T>() + i / along * size,
                  size_t(count / along * size) * sizeof(T));
    return in_range(at + i, count, size, wrong);
  };
  walk.run(
      false, check,
      [=, along = walk.strides[1]](int64_t i, int64_t x0, int64_t s0, int64_t count, auto step) {
#pragma GCC unroll 4
        for (int64_t j = 0; j < count; ++j)
          update(to[x0 + j * step + at[i + j] * along], from[s0 + j]);
      });
  if (wrong) fail_indices(c.name, at, index.numel(), dim, size);
}
void execute_scatter(const Call& c) {
  by_item_size(c.in[0].item(), [&](auto zero) {
    using T = decltype(zero);
    scatter<T>(c, [](T& to, T from) { to = from; });
  });
}
// Rows held in a register; false where they are not so short.
template <class T>
bool scatter_add_short(const Call& c, const IndexTable<T>& kernel) {
  constexpr int64_t kMany = 64;  // indices of a row, from which its additions wait for each other
  const Array &x = c.in[0], &index = c.in[1], &src = c.in[2];
  const int dim = wrap_dim(c.name, integer_attr(c, 0), x.ndim());
  int64_t rows = index.numel() ? short_rows<T>(x.shape, index.shape, dim) : 0;
  for (int i = 0; rows && i < dim; ++i)
    if (src.shape[i] != x.shape[i]) rows = 0;
  if (!rows || index.shape[dim] > kMany) return false;
  const int64_t size = x.shape[dim], n = index.shape[dim], step = src.shape[dim];
  for_short_rows(c, dim, rows, [&](int64_t first, int64_t count) {
    return kernel.scatter_add(c.out[0].data<T>() + first * size, x.data<T>() + first * size, size,
                              index.data<int64_t>() + first * n, src.data<T>() + first * step, step,
                              count, n);
  });
  return true;
}
void execute_scatter_add(const Call& c) {
  if (c.in[0].dtype == DType::f32 && scatter_add_short(c, *kernels().index_f32)) return;
  if (c.in[0].dtype == DType::f64 && scatter_add_short(c, *kernels().index_f64)) return;
  by_dtype(c.name, c.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    scatter<T>(c, [](T& to, T from) { to = T(to + from); });
  });
}

// clang-format off
const Op kOps[] = {
    // name, doc, kind, inputs, outputs, public, saved inputs, saved outputs, differentiable
    {"embedding", "Rows of weight (V, E) named by indices.", Kind::opaque, 2, 1, 1, 2, 0, true, prepare_embedding, execute_embedding},
    {"embedding_backward", "Add rows of grad into zeros (V, E) at indices.", Kind::opaque, 2, 1, 1, 2, 0, true, prepare_embedding_backward, execute_embedding_backward},
    {"gather", "out[i][j] = x[index[i][j]][j], for dim 0.", Kind::opaque, 2, 1, 1, 2, 0, true, prepare_gather, execute_gather},
    {"scatter", "x with x[index[i][j]][j] = src[i][j], for dim 0.", Kind::opaque, 3, 1, 1, 2, 0, true, prepare_scatter, execute_scatter},
    {"scatter_add", "x with x[index[i][j]][j] += src[i][j], for dim 0.", Kind::opaque, 3, 1, 1, 2, 0, true, prepare_scatter_add, execute_scatter_add},
    {"index_select", "Slices of x along dim named by a 1-d index.", Kind::opaque, 2, 1, 1, 2, 0, true, prepare_index_select, execute_index_select},
    {"index_add", "x plus alpha times src at a 1-d index along dim.", Kind::opaque, 3, 1, 1, 2, 0, true, prepare_index_add, execute_index_add},
    {"index", "x[..., i, j, ...] for index tensors of one shape.", Kind::opaque, -1, 1, 1, ~1u, 0, true, prepare_index, execute_index},
    {"index_put", "x with x[..., i, j, ...] = values, or += values.", Kind::opaque, -1, 1, 1, ~3u, 0, true, prepare_index_put, execute_index_put},
    {"cat", "The tensors one after another along dim.", Kind::opaque, -1, 1, 1, 0, 0, true, prepare_cat, execute_cat},
    {"tril", "The lower triangle of the last two dimensions, 0 above the diagonal.", Kind::opaque, 1, 1, 1, 0, 0, true, prepare_triangle, execute_tril},
    {"triu", "The upper triangle of the last two dimensions, 0 below the diagonal.", Kind::opaque, 1, 1, 1, 0, 0, true, prepare_triangle, execute_triu},
    {"flip", "Reverse the order of elements along dims.", Kind::opaque, 1, 1, 1, 0, 0, true, prepare_flip, execute_flip},
    {"roll", "Shift elements along dims, cyclically.", Kind::opaque, 1, 1, 1, 0, 0, true, prepare_roll, execute_roll},
    {"repeat_interleave", "Repeat each slice along dim.", Kind::opaque, 1, 1, 1, 0, 0, true, prepare_repeat_interleave, execute_repeat_interleave},
    {"diag_embed", "Matrices with the last dimension of x on a diagonal.", Kind::opaque, 1, 1, 1, 0, 0, true, prepare_diag_embed, execute_diag_embed},
    {"one_hot", "1 at each index of num_classes, 0 elsewhere.", Kind::opaque, 1, 1, 1, 0, 0, false, prepare_one_hot, execute_one_hot},
    depends_on_values({"nonzero", "Indices of the elements that are not 0, as rows.", Kind::opaque, 1, 1, 1, 0, 0, false, prepare_nonzero, execute_nonzero}),
};
// clang-format on

}  // namespace

const OpTable kIndexOps = {kOps, int(sizeof(kOps) / sizeof(kOps[0]))};

}  // namespace backtrail
