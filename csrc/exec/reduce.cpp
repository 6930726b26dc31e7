// Reductions over any dimensions: sum, mean, prod, amax, amin, and the largest or smallest with its
// index. Long reductions are cut into fixed blocks whose partial results are reduced again, so the
// order of additions depends on the shape alone.
#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "exec/observer.h"
#include "exec/op.h"
#include "kernels/table.h"

namespace backtrail {
namespace {

constexpr int64_t kRowBlock = 8192;    // elements of a row that one kernel call reduces
constexpr int64_t kColumnBlock = 256;  // rows that one kernel call adds up
constexpr int64_t kColumnWidth = 1024;
constexpr double kNsPerElement = 0.15;
constexpr int64_t kFeedBlock = 1 << 16;  // most elements that a feed makes at a time
constexpr int kRoomSlot = 1, kResultSlot = 2, kFeedSlot = 3;  // of scratch(); a feed uses 0

template <class T>
const ReduceTable<T>& table() {
  if constexpr (std::is_same_v<T, float>)
    return *kernels().reduce_f32;
  else if constexpr (std::is_same_v<T, double>)
    return *kernels().reduce_f64;
  else
    return *kernels().reduce_i64;
}

// The input as [outer, n, inner] with n reduced. Where the reduced dimensions are not neighbours in
// dense memory, the elements are first copied in the order `order` with the reduced ones last.
struct Layout {
  int64_t outer = 1, n = 1, inner = 1;
  bool copy = false;
  Dims order;
};

uint32_t reduced_bits(const Call& c, const AttrValue& dims, int ndim) {
  if (!dims.given() || (dims.type == AttrValue::list && dims.i == 0)) return ~0u;
  uint32_t bits = 0;
  int64_t count = dims.type == AttrValue::list ? dims.i : 1;
  for (int64_t i = 0; i < count; ++i) {
    int64_t given = dims.type == AttrValue::list ? dims.items[i] : dims.i;
    uint32_t bit = 1u << wrap_dim(c.name, given, ndim);
    if (bits & bit)
      fail(ErrorKind::runtime, "%s: dimension %lld is named twice", c.name, (long long)given);
    bits |= bit;
  }
  return bits;
}

Layout layout(const Array& a, uint32_t bits, bool rows_only) {
  Layout l;
  // 0: before the reduced dimensions, 1: within, 2: after.
  int place = 0;
  bool adjacent = true;
  for (int d = 0; d < a.ndim(); ++d) {
    bool reduced = bits >> d & 1;
    if (a.shape[d] == 1) continue;
    if (reduced && place == 2) adjacent = false;
    if (reduced) place = 1;
    if (!reduced && place == 1) place = 2;
    (reduced ? l.n : place == 2 ? l.inner : l.outer) *= a.shape[d];
  }
  if (l.n == 1 && !rows_only) std::swap(l.outer, l.inner);  // one row to reduce, and many columns
  l.copy = !adjacent || !a.contiguous() || a.dtype != compute_type(a.dtype) ||
           (rows_only && l.inner > 1);
  if (l.copy && (!adjacent || rows_only)) {
    l.outer *= l.inner, l.inner = 1;
    for (int d = 0; d < a.ndim(); ++d)
      if (!(bits >> d & 1)) l.order.push(d);
    for (int d = 0; d < a.ndim(); ++d)
      if (bits >> d & 1) l.order.push(d);
  } else {
    for (int d = 0; d < a.ndim(); ++d) l.order.push(d);
  }
  return l;
}

Dims reduced_shape(const Array& a, uint32_t bits, bool keepdim) {
  Dims shape;
  for (int d = 0; d < a.ndim(); ++d) {
    bool reduced = bits >> d & 1;
    if (!reduced || keepdim) shape.push(reduced ? 1 : a.shape[d]);
  }
  return shape;
}

// The dense elements that the kernels read: the input itself, or its copy in `workspace`.
template <class T>
const T* dense(const Array& a, const Layout& l, const Array& workspace) {
  if (!l.copy) return a.data<T>();
  Array view = a, target = workspace;
  for (int d = 0; d < a.ndim(); ++d) {
    view.shape[d] = a.shape[int(l.order[d])];
    view.strides[d] = a.strides[int(l.order[d])];
  }
  target.shape = view.shape;
  target.strides = contiguous_strides(view.shape);
  copy_into(view, target);
  return workspace.data<T>();
}

Array workspace_for(const Array& a, const Layout& l) {
  return empty(l.copy ? Dims{a.numel()} : Dims{0}, compute_type(a.dtype));
}

// Room for the partial results of every level, on this thread.
template <class T>
T* partials(int64_t count, int64_t n, int64_t block) {
  int64_t total = 0;
  for (int64_t blocks = n; blocks > block;) {
    blocks = (blocks + block - 1) / block;
    total += blocks * count;
  }
  return total ? static_cast<T*>(scratch(size_t(total) * sizeof(T), kRoomSlot)) : nullptr;
}

// The elements that are reduced: they lie at `data`, or come from a feed.
template <class T>
struct Input {
  const T* data;
  const Feed* feed = nullptr;
  double cost = kNsPerElement;

  // Elements [i, i + n), for the kernel to read at once.
  const T* at(int64_t i, int64_t n) const {
    if (!feed) return data + i;
    return static_cast<const T*>(
        feed->fill(feed->context, i, n, scratch(size_t(n) * sizeof(T), kFeedSlot)));
  }
};

template <class T>
void reduce_rows(Reduction op, const Input<T>& x, int64_t outer, int64_t n, T* out, T* room) {
  auto kernel = table<T>().rows[int(op)];
  if (n <= kRowBlock) {
    int64_t rows = std::max<int64_t>(1, kRowBlock / std::max<int64_t>(n, 1));
    parallel_for((outer + rows - 1) / rows, double(outer) * (double(n) * x.cost + 3),
                 [&](int64_t t) {
                   const int64_t first = t * rows, count = std::min(rows, outer - first);
                   kernel(x.at(first * n, count * n), count, n, out + first);
                 });
    return;
  }
  const int64_t blocks = (n + kRowBlock - 1) / kRowBlock;
  parallel_for(outer * blocks, double(outer) * double(n) * x.cost, [&](int64_t t) {
    const int64_t row = t / blocks, begin = t % blocks * kRowBlock;
    const int64_t count = std::min(kRowBlock, n - begin);
    kernel(x.at(row * n + begin, count), 1, count, room + t);
  });
  reduce_rows(op, Input<T>{room}, outer, blocks, out, room + outer * blocks);
}

template <class T>
void reduce_columns(Reduction op, const Input<T>& x, int64_t outer, int64_t n, int64_t inner,
                    T* out, T* room) {
  auto kernel = table<T>().columns[int(op)];
  const int64_t blocks = std::max<int64_t>(1, (n + kColumnBlock - 1) / kColumnBlock);
  const int64_t width = kColumnWidth, chunks = (inner + width - 1) / width;
  T* target = blocks == 1 ? out : room;
  parallel_for(
      outer * blocks * chunks, double(outer) * double(n) * double(inner) * x.cost, [&](int64_t t) {
        int64_t chunk = t % chunks * width, block = t / chunks % blocks;
        int64_t o = t / chunks / blocks, begin = block * kColumnBlock;
        const int64_t rows = std::min(kColumnBlock, n - begin);
        kernel(x.at((o * n + begin) * inner + chunk, rows * inner), rows, inner,
               std::min(width, inner - chunk), target + (o * blocks + block) * inner + chunk);
      });
  if (blocks > 1)
    reduce_columns(op, Input<T>{room}, outer, blocks, inner, out, room + outer * blocks * inner);
}

template <class T>
void reduce_typed(const Call& c, const Feed* feed, Reduction op, bool mean) {
  const Array &a = c.in[0], &out = c.out[0];
  const Layout l = layout(a, reduced_bits(c, c.attrs[0], a.ndim()), false);
  const int64_t count = out.numel();
  if (count == 0) return;
  const bool same = out.dtype == compute_type(a.dtype);
  T* result =
      same ? out.data<T>() : static_cast<T*>(scratch(size_t(count) * sizeof(T), kResultSlot));
  const Input<T> x = feed ? Input<T>{nullptr, feed, kNsPerElement + feed->cost}
                          : Input<T>{dense<T>(a, l, c.out[1])};
  if (l.inner == 1)
    reduce_rows(op, x, l.outer, l.n, result, partials<T>(l.outer, l.n, kRowBlock));
  else
    reduce_columns(op, x, l.outer, l.n, l.inner, result,
                   partials<T>(l.outer * l.inner, l.n, kColumnBlock));
  if (mean)
    for (int64_t i = 0; i < count; ++i) result[i] /= T(l.n);
  if (!same)
    kernels().numeric->convert[int(compute_type(a.dtype))][int(out.dtype)](result, out.data(),
                                                                           count);
}

template <Reduction op, bool mean>
void reduce(const Call& c, const Feed* feed) {
  switch (compute_type(c.in[0].dtype)) {
    case DType::f32: return reduce_typed<float>(c, feed, op, mean);
    case DType::f64: return reduce_typed<double>(c, feed, op, mean);
    default: return reduce_typed<int64_t>(c, feed, op, mean);
  }
}
template <Reduction op, bool mean>
void execute(const Call& c) {
  reduce<op, mean>(c, nullptr);
}
template <Reduction op, bool mean>
void execute_fed(const Call& c, const Feed& feed) {
  reduce<op, mean>(c, &feed);
}

// Elements are reduced in the order they lie in, in blocks that are not too large.
bool takes_feed(const Call& c) {
  const Array& a = c.in[0];
  const Layout l = layout(a, reduced_bits(c, c.attrs[0], a.ndim()), false);
  return !l.copy && (l.inner == 1 || (l.inner <= kColumnWidth &&
                                      std::min(l.n, kColumnBlock) * l.inner <= kFeedBlock));
}

template <Reduction op, bool mean>
void prepare(Call& c) {
  const Array& a = c.in[0];
  if (mean && !is_floating(a.dtype))
    fail(ErrorKind::runtime, "%s: the input is %s; expected a floating point tensor", c.name,
         dtype_name(a.dtype));
  uint32_t bits = reduced_bits(c, c.attrs[0], a.ndim());
  Layout l = layout(a, bits, false);
  constexpr bool extreme = op == Reduction::max || op == Reduction::min;
  if (extreme && l.n == 0)
    fail(ErrorKind::index, "%s: cannot reduce shape %s over a dimension of size 0", c.name,
         to_string(a.shape).c_str());
  DType dtype = extreme || is_floating(a.dtype) ? a.dtype : DType::i64;
  c.out[0] = empty(reduced_shape(a, bits, c.attrs[1].i), dtype);
  c.out[1] = workspace_for(a, l);
}

// Values and indices of the extreme along one dimension, or the index alone.
template <bool largest, bool index_only>
void prepare_arg(Call& c) {
  const Array& a = c.in[0];
  uint32_t bits = reduced_bits(c, c.attrs[0], a.ndim());
  Layout l = layout(a, bits, true);
  if (l.n == 0)
    fail(ErrorKind::index, "%s: cannot reduce shape %s over a dimension of size 0", c.name,
         to_string(a.shape).c_str());
  Dims shape = reduced_shape(a, bits, c.attrs[1].i);
  int o = 0;
  if (!index_only) c.out[o++] = empty(shape, a.dtype);
  c.out[o++] = empty(shape, DType::i64);
  c.out[o] = workspace_for(a, l);
}

template <class T, bool largest, bool index_only>
void arg_typed(const Call& c) {
  const Array& a = c.in[0];
  const Layout l = layout(a, reduced_bits(c, c.attrs[0], a.ndim()), true);
  if (c.out[0].numel() == 0) return;
  const T* x = dense<T>(a, l, c.out[index_only ? 1 : 2]);
  int64_t* index = c.out[index_only ? 0 : 1].template data<int64_t>();
  if (l.n == 1) {
    std::fill_n(index, l.outer, 0);
    if (!index_only)
      kernels().numeric->convert[int(compute_type(a.dtype))][int(a.dtype)](x, c.out[0].data(),
                                                                           l.outer);
    return;
  }
  auto kernel = largest ? table<T>().argmax : table<T>().argmin;
  const int64_t rows = std::max<int64_t>(1, kRowBlock / l.n);
  parallel_for((l.outer + rows - 1) / rows, double(l.outer) * (double(l.n) * 0.3 + 5),
               [&](int64_t t) {
                 int64_t first = t * rows;
                 kernel(x + first * l.n, std::min(rows, l.outer - first), l.n, index + first);
               });
  if (!index_only) {
    const DType from = compute_type(a.dtype), to = a.dtype;
    auto convert = kernels().numeric->convert[int(from)][int(to)];
    char* values = c.out[0].data();
    for (int64_t r = 0; r < l.outer; ++r)
      convert(x + r * l.n + index[r], values + r * int64_t(item_size(to)), 1);
  }
}

template <bool largest, bool index_only>
void execute_arg(const Call& c) {
  switch (compute_type(c.in[0].dtype)) {
    case DType::f32: return arg_typed<float, largest, index_only>(c);
    case DType::f64: return arg_typed<double, largest, index_only>(c);
    default: return arg_typed<int64_t, largest, index_only>(c);
  }
}

template <Reduction op, bool mean = false>
constexpr Op reduction(const char* name, const char* doc, uint32_t in, uint32_t out) {
  Op r{name, doc, Kind::reduction, 1, 2, 1, in, out, true, prepare<op, mean>, execute<op, mean>,
       true};
  r.execute_fed = execute_fed<op, mean>;
  r.takes_feed = takes_feed;
  return r;
}
template <bool largest, bool index_only>
constexpr Op extreme(const char* name, const char* doc) {
  return {name,
          doc,
          Kind::reduction,
          1,
          index_only ? 2 : 3,
          index_only ? 1 : 2,
          0,
          index_only ? 0u : 2u,
          !index_only,
          prepare_arg<largest, index_only>,
          execute_arg<largest, index_only>,
          true};
}

const Op kOps[] = {
    reduction<Reduction::sum>("sum", "Sum over dimensions.", 0, 0),
    reduction<Reduction::sum, true>("mean", "Mean over dimensions.", 0, 0),
    reduction<Reduction::prod>("prod", "Product over dimensions.", 1, 1),
    reduction<Reduction::max>("amax",
                              "Largest element over dimensions; equal ones share the slope.", 1, 1),
    reduction<Reduction::min>(
        "amin", "Smallest element over dimensions; equal ones share the slope.", 1, 1),
    extreme<true, false>("max_dim", "Largest elements along a dimension and their indices."),
    extreme<false, false>("min_dim", "Smallest elements along a dimension and their indices."),
    extreme<true, true>("argmax", "Indices of the largest elements along a dimension."),
    extreme<false, true>("argmin", "Indices of the smallest elements along a dimension."),
};

}  // namespace

Array sum_to(const Array& a, const Dims& shape) {
  if (a.shape == shape) return a;
  if (a.shape.product() == shape.product() && a.contiguous()) {  // nothing was repeated
    Array out = a;
    out.shape = shape;
    out.strides = contiguous_strides(shape);
    return out;
  }
  int64_t dims[kMaxDims];
  AttrValue attrs[2];
  attrs[0].type = AttrValue::list, attrs[0].items = dims;
  for (int d = 0; d < a.ndim(); ++d) {
    int k = d - (a.ndim() - shape.n);
    if (k < 0 || shape[k] != a.shape[d]) dims[attrs[0].i++] = d;
  }
  attrs[1].type = AttrValue::integer, attrs[1].i = 1;
  Array out[2];
  Call c{"sum", &a, 1, attrs, 2, out, 2};
  prepare<Reduction::sum, false>(c);
  run_op(kOps[0], c);
  out[0].shape = shape;
  out[0].strides = contiguous_strides(shape);
  return out[0];
}

const OpTable kReduceOps = {kOps, int(sizeof kOps / sizeof *kOps)};

}  // namespace backtrail
