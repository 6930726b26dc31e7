// Moving elements without reading their values as numbers: cat, tril, triu, flip, roll,
// repeat_interleave, diag_embed; and one_hot and nonzero, which turn indices into a tensor and
// back.
#include "exec/rearrange.h"

#include <algorithm>

#include "core/layout.h"
#include "exec/arguments.h"
#include "kernels/table.h"

namespace backtrail {

// --- cat ---

// PyTorch lets an empty 1-d tensor be concatenated with anything.
static bool skipped(const Array& a) { return a.ndim() == 1 && a.shape[0] == 0; }

void prepare_cat(Call& c) {
  if (c.n_in < 1) fail(ErrorKind::runtime, "%s: expected at least one tensor", c.name);
  const Array* first = &c.in[0];
  for (int i = 0; i < c.n_in && skipped(*first); ++i) first = &c.in[i];
  int dim = wrap_dim(c.name, integer_attr(c, 0), first->ndim());
  if (first->ndim() == 0)
    fail(ErrorKind::runtime, "%s: tensors of no dimension cannot be concatenated", c.name);
  Dims shape = first->shape;
  shape[dim] = 0;
  for (int i = 0; i < c.n_in; ++i) {
    require_same_dtype(c, 0, i);
    if (skipped(c.in[i])) continue;
    Dims other = c.in[i].shape;
    int64_t size = dim < other.n ? other[dim] : 0;
    if (dim < other.n) other[dim] = 0;
    Dims expected = shape;
    expected[dim] = 0;
    if (other != expected)
      fail(ErrorKind::runtime, "%s: shapes %s and %s differ outside dimension %d", c.name,
           to_string(first->shape).c_str(), to_string(c.in[i].shape).c_str(), dim);
    shape[dim] += size;
  }
  c.out[0] = empty(shape, first->dtype);
}
void execute_cat(const Call& c) {
  const Array& out = c.out[0];
  Around shape(out.shape, wrap_dim(c.name, integer_attr(c, 0), out.ndim()));
  int64_t slice = shape.inner * int64_t(out.item()), row = shape.size * slice;
  if (!row || !shape.outer) return;
  // Rows are put together in the order of the output when their pieces have, on average, at least
  // so many bytes: two pieces only when they are long. Else piece by piece.
  constexpr int64_t kFew = 3, kMostTogether = 64, kShort = 32, kLong = 1024;
  const bool together = c.n_in <= kMostTogether && row >= (c.n_in < kFew ? kLong : kShort) * c.n_in;
  // Tasks own some rows of the output, and of long rows some columns, in bytes.
  int64_t wide = row < 262144 ? row : 131072, per_task = 131072 / row + 1;
  int64_t columns = chunks(row, wide);
  double work = double(row) * double(shape.outer) * 0.05 + double(shape.outer) * c.n_in * 5;
  parallel_for(columns * chunks(shape.outer, per_task), work, [&](int64_t t) {
    int64_t low = t % columns * wide, high = low + wide < row ? low + wide : row;
    int64_t first = t / columns * per_task;
    int64_t last = first + per_task < shape.outer ? first + per_task : shape.outer;
    auto bytes_of = [&](int64_t k) {  // in a row
      return c.in[k].numel() / shape.outer * int64_t(out.item());
    };
    if (columns == 1 && together) {
      Piece pieces[kMostTogether];
      int n = 0;
      for (int64_t k = 0; k < c.n_in; ++k)
        if (const int64_t bytes = bytes_of(k))
          pieces[n++] = {c.in[k].data() + first * bytes, bytes};
      kernels().copies->joined(out.data() + first * row, pieces, n, last - first);
      return;
    }
    for (int64_t k = 0, at = 0; k < c.n_in; ++k) {
      int64_t bytes = bytes_of(k);
      int64_t begin = at > low ? at : low, end = at + bytes < high ? at + bytes : high;
      const char* from = c.in[k].data() + (begin - at);
      char* to = out.data() + begin;
      if (begin < end)
        kernels().copies->rows(to + first * row, row, from + first * bytes, bytes, last - first,
                               end - begin);
      at += bytes;
    }
  });
}

// --- tril, triu ---

void prepare_triangle(Call& c) {
  if (c.in[0].ndim() < 2)
    fail(ErrorKind::runtime, "%s: got shape %s; expected at least 2 dimensions", c.name,
         to_string(c.in[0].shape).c_str());
  c.out[0] = empty(c.in[0].shape, c.in[0].dtype);
}
// Keep the columns up to the diagonal, or those from it on; zero bytes are 0 in every type.
template <bool lower>
static void execute_triangle(const Call& c) {
  const Array& x = c.in[0];
  int64_t item = int64_t(x.item());
  int64_t rows = x.shape[x.ndim() - 2], columns = x.shape.back(), row = columns * item;
  const int64_t diagonal = std::clamp(integer_attr(c, 0), -rows - 1, columns + 1);
  if (!x.numel()) return;
  for_chunks(
      x.numel() / columns, 5 + double(row) * 0.05,
      [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const char* from = x.data() + r * row;
          char* to = c.out[0].data() + r * row;
          int64_t edge = r % rows + diagonal + lower;  // the first column on the other side
          edge = (edge < 0 ? 0 : edge < columns ? edge : columns) * item;
          if constexpr (lower) {
            std::memcpy(to, from, size_t(edge));
            std::memset(to + edge, 0, size_t(row - edge));
          } else {
            std::memset(to, 0, size_t(edge));
            std::memcpy(to + edge, from + edge, size_t(row - edge));
          }
        }
      },
      65536 / (row + 1) + 1);
}

void execute_tril(const Call& c) { execute_triangle<true>(c); }
void execute_triu(const Call& c) { execute_triangle<false>(c); }

// --- flip, roll ---

namespace {
// Where the elements of a dimension come from: reversed, or from `shift` places before, cyclically.
struct Source {
  bool reversed[kMaxDims] = {};
  int64_t shift[kMaxDims] = {};
};
}  // namespace

void prepare_flip(Call& c) {
  ListAttr dims = list_attr(c, 0);
  for (int64_t i = 0, seen = 0; i < dims.n; ++i) {
    int dim = wrap_dim(c.name, dims.items[i], c.in[0].ndim());
    if (seen >> dim & 1)
      fail(ErrorKind::runtime, "%s: dimension %d appears more than once", c.name, dim);
    seen |= int64_t(1) << dim;
  }
  c.out[0] = empty(c.in[0].shape, c.in[0].dtype);
}
void prepare_roll(Call& c) {
  ListAttr shifts = list_attr(c, 0), dims = list_attr(c, 1);
  if (shifts.n != dims.n && !(dims.n == 0 && shifts.n == 1))
    fail(ErrorKind::runtime, "%s: got %lld shifts for %lld dims; expected one for each", c.name,
         (long long)shifts.n, (long long)dims.n);
  for (int64_t i = 0; i < dims.n; ++i) wrap_dim(c.name, dims.items[i], c.in[0].ndim());
  c.out[0] = empty(c.in[0].shape, c.in[0].dtype);
}

// memcpy by vectors. What it does itself for long runs (rep movsb) is several times slower where
// source and destination lie nearly alike in their pages, as the rows of a rolled tensor do.
static void copy_rolled(char* dst, const char* src, int64_t bytes) {
  constexpr int64_t kPiece = 2048;
  const int64_t pieces = bytes / kPiece, done = pieces * kPiece;
  kernels().copies->rows(dst, kPiece, src, kPiece, pieces, kPiece);
  kernels().copies->rows(dst + done, 0, src + done, 0, 1, bytes - done);
}

static void rearrange(const Dims& shape, const Array& x, const Array& out, const Source& source) {
  int64_t numel = x.numel(), item = int64_t(x.item());
  int last = shape.n - 1;
  if (numel == 0) return;
  if (last < 0) return (void)std::memcpy(out.data(), x.data(), size_t(item));
  // Dimensions that stay as they are belong to the elements, unless those are to be reversed.
  for (; last > 0 && !source.reversed[last] && !source.shift[last] && !source.reversed[last - 1];
       --last)
    item *= shape[last], numel /= shape[last];
  int64_t width = shape[last], shift = source.shift[last];
  bool in_place = true;  // of rows
  for (int i = 0; i < last; ++i) in_place = in_place && !source.reversed[i] && !source.shift[i];
  const CopyTable& copies = *kernels().copies;
  constexpr int64_t kShortRow = 4096;  // bytes
  const int64_t bytes = width * item, turned = shift * item;
  if (in_place && !source.reversed[last] && bytes <= kShortRow)
    return for_chunks(
        numel / width, 2 + double(bytes) * 0.05,
        [&](int64_t begin, int64_t end) {
          const char* from = x.data() + begin * bytes;
          char* to = out.data() + begin * bytes;
          copies.rows(to, bytes, from + bytes - turned, bytes, end - begin, turned);
          copies.rows(to + turned, bytes, from, bytes, end - begin, bytes - turned);
        },
        kChunk / width + 1);
  constexpr int64_t kPiece = 65536;  // bytes of a long row that a task takes
  const int64_t pieces = source.reversed[last] ? 1 : chunks(bytes, kPiece);
  for_chunks(
      numel / width * pieces,
      10 + (source.reversed[last] ? 0.5 * double(width) : 0.02 * double(bytes) / double(pieces)),
      [&](int64_t first, int64_t end) {
        for (int64_t t = first; t < end; ++t) {
          const int64_t r = t / pieces;
          int64_t rest = r, stride = 1, row = 0;
          if (in_place) row = r;
          for (int i = last - 1; i >= 0 && !in_place; --i) {
            int64_t k = rest % shape[i];
            rest /= shape[i];
            k = source.reversed[i] ? shape[i] - 1 - k : k - source.shift[i];
            row += (k < 0 ? k + shape[i] : k) * stride;
            stride *= shape[i];
          }
          const char* from = x.data() + row * bytes;
          char* to = out.data() + r * bytes;
          if (source.reversed[last]) {
            copies.strided(to, 1, from + (width - 1) * item, -1, width, size_t(item));
            continue;
          }
          const int64_t low = t % pieces * kPiece, high = std::min(bytes, low + kPiece);
          const int64_t middle = std::clamp(turned, low, high);
          copy_rolled(to + low, from + bytes - turned + low, middle - low);
          copy_rolled(to + middle, from + middle - turned, high - middle);
        }
      },
      kPiece / (bytes / pieces + 1) + 1);
}
void execute_flip(const Call& c) {
  const Array& x = c.in[0];
  ListAttr dims = list_attr(c, 0);
  Source source;
  for (int64_t i = 0; i < dims.n; ++i)
    source.reversed[wrap_dim(c.name, dims.items[i], x.ndim())] = x.ndim() > 0;
  rearrange(x.shape, x, c.out[0], source);
}
void execute_roll(const Call& c) {
  const Array& x = c.in[0];
  ListAttr shifts = list_attr(c, 0), dims = list_attr(c, 1);
  Source source;
  if (!x.numel()) return;
  auto add = [&](int dim, int64_t size, int64_t by) {
    source.shift[dim] = ((source.shift[dim] + by % size) % size + size) % size;
  };
  if (dims.n == 0) {  // as if flattened
    if (shifts.n) add(0, x.numel(), shifts.items[0]);
    return rearrange({x.numel()}, x, c.out[0], source);
  }
  for (int64_t i = 0; i < dims.n; ++i) {
    int dim = wrap_dim(c.name, dims.items[i], x.ndim());
    if (x.ndim()) add(dim, x.shape[dim], shifts.items[i]);
  }
  rearrange(x.shape, x, c.out[0], source);
}

// --- repeat_interleave, diag_embed ---

void prepare_repeat_interleave(Call& c) {
  int64_t repeats = integer_attr(c, 0);
  int dim = wrap_dim(c.name, integer_attr(c, 1), c.in[0].ndim());
  if (repeats < 0)
    fail(ErrorKind::runtime, "%s: got %lld repeats; expected at least 0", c.name,
         (long long)repeats);
  Dims shape = c.in[0].shape;
  if (shape.n)
    checked_numel(c.name, {shape[dim], repeats}), shape[dim] *= repeats;
  else
    shape.push(repeats);
  c.out[0] = empty(shape, c.in[0].dtype);
}
void execute_repeat_interleave(const Call& c) {
  const Array& x = c.in[0];
  int64_t repeats = integer_attr(c, 0);
  Around shape(x.shape, wrap_dim(c.name, integer_attr(c, 1), x.ndim()));
  int64_t bytes = shape.inner * int64_t(x.item());
  auto each = [&](auto&& repeat) {  // repeat(r, to) for every slice
    for_chunks(
        shape.outer * shape.size, double(repeats) * (1 + double(bytes) * 0.05),
        [&](int64_t begin, int64_t end) {
          for (int64_t r = begin; r < end; ++r) repeat(r, c.out[0].data() + r * repeats * bytes);
        },
        kChunk / (bytes * repeats + 1) + 1);
  };
  if (shape.inner > 1)
    return each([&](int64_t r, char* to) {
      for (int64_t k = 0; k < repeats; ++k)
        std::memcpy(to + k * bytes, x.data() + r * bytes, size_t(bytes));
    });
  by_item_size(x.item(), [&](auto zero) {
    using T = decltype(zero);
    each([&](int64_t r, char* to) {
      for (int64_t k = 0; k < repeats; ++k) reinterpret_cast<T*>(to)[k] = x.data<T>()[r];
    });
  });
}

void prepare_diag_embed(Call& c) {
  const Array& x = c.in[0];
  if (x.ndim() < 1)
    fail(ErrorKind::runtime, "%s: got a tensor of no dimension; expected at least 1", c.name);
  const int64_t offset = integer_attr(c, 0), most = int64_t(1) << 40;
  if (offset > most || offset < -most)
    fail(ErrorKind::memory, "%s: out of memory for a diagonal at %lld", c.name, (long long)offset);
  const int64_t size = x.shape.back() + (offset < 0 ? -offset : offset);
  Dims shape = x.shape;
  shape[shape.n - 1] = size;
  shape.push(size);
  c.out[0] = empty(shape, x.dtype);
}
void execute_diag_embed(const Call& c) {
  const Array &x = c.in[0], &out = c.out[0];
  int64_t offset = integer_attr(c, 0), n = x.shape.back(), size = out.shape.back();
  int64_t item = int64_t(x.item());
  zero_bytes(out.data(), out.numel() * item);
  int64_t start = offset < 0 ? -offset * size : offset;
  for (int64_t b = 0; n && b < x.numel() / n; ++b)
    kernels().copies->strided(out.data() + (b * size * size + start) * item, size + 1,
                              x.data() + b * n * item, 1, n, size_t(item));
}

// --- one_hot, nonzero ---

void prepare_one_hot(Call& c) {
  require_int64(c, 0, "indices");
  int64_t classes = integer_attr(c, 0, -1);
  if (classes < 0) {
    const int64_t* x = c.in[0].data<int64_t>();
    for (int64_t i = 0, n = c.in[0].numel(); i < n; ++i)
      if (x[i] >= classes && x[i] < INT64_MAX) classes = x[i] + 1;
    if (classes < 1)
      fail(ErrorKind::value, "%s: num_classes must be given when no index says it", c.name);
  }
  Dims shape = c.in[0].shape;
  shape.push(classes);
  c.out[0] = empty(shape, DType::i64);
}
void execute_one_hot(const Call& c) {
  const Array& out = c.out[0];
  const int64_t *x = c.in[0].data<int64_t>(), classes = out.shape.back();
  int64_t* y = out.data<int64_t>();
  check_indices(c.name, x, c.in[0].numel(), out.ndim() - 1, classes);
  zero_bytes(y, out.numel() * int64_t(sizeof(int64_t)));
  for_chunks(c.in[0].numel(), 3, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i * classes + x[i]] = 1;
  });
}

// The nonzero elements of each chunk.
static void count_nonzero(const Call& c, int64_t* counts) {
  const Array& x = c.in[0];
  by_dtype(c.name, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* p = x.data<T>();
    for_chunks(x.numel(), 0.5, [&](int64_t begin, int64_t end) {
      int64_t n = 0;
      for (int64_t i = begin; i < end; ++i) n += p[i] != T(0);
      counts[begin / kChunk] = n;
    });
  });
}
static int64_t* nonzero_counts(const Call& c) {
  int64_t* counts =
      static_cast<int64_t*>(scratch(size_t(chunks(c.in[0].numel()) + 1) * sizeof(int64_t)));
  count_nonzero(c, counts);
  return counts;
}
void prepare_nonzero(Call& c) {
  const int64_t* counts = nonzero_counts(c);
  int64_t total = 0;
  for (int64_t i = 0; i < chunks(c.in[0].numel()); ++i) total += counts[i];
  c.out[0] = empty({total, c.in[0].ndim()}, DType::i64);
}
void execute_nonzero(const Call& c) {
  const Array& x = c.in[0];
  int64_t* counts = nonzero_counts(c);
  for (int64_t i = 0, sum = 0; i < chunks(x.numel()); ++i) {
    int64_t n = counts[i];
    counts[i] = sum;
    sum += n;
  }
  by_dtype(c.name, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* p = x.data<T>();
    const int last = x.ndim() - 1;
    if (last < 0) return;
    for_chunks(x.numel(), 1, [&](int64_t begin, int64_t end) {
      int64_t at[kMaxDims], *out = c.out[0].data<int64_t>() + counts[begin / kChunk] * x.ndim();
      int64_t rest = begin, seen = begin;  // `at` is the index of element `seen`
      for (int k = last; k >= 0; rest /= x.shape[k], --k) at[k] = rest % x.shape[k];
      constexpr int64_t kPiece = 256;
      for (int64_t i = begin; i < end; i += kPiece) {
        int64_t found[kPiece], n = 0;  // without branches, whose direction nobody can predict
        for (int64_t j = i; j < (i + kPiece < end ? i + kPiece : end); ++j) {
          found[n] = j;
          n += p[j] != T(0);
        }
        for (int64_t j = 0; j < n; ++j) {
          at[last] += found[j] - seen;
          seen = found[j];
          for (int k = last; k > 0 && at[k] >= x.shape[k]; --k) {
            at[k - 1] += at[k] / x.shape[k];
            at[k] %= x.shape[k];
          }
          for (int k = 0; k <= last; ++k) *out++ = at[k];
        }
      }
    });
  });
}

}  // namespace backtrail
