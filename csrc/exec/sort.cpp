// Ordering: sort, topk, searchsorted, unique; and the running sums and products of scan.h.
//
// A value becomes an unsigned key in the order of the result: NaN above everything, as in PyTorch,
// -0 equal to 0, all bits flipped when descending. A key beside its position sorts as one integer,
// so that every order is stable.
#include <algorithm>

#include "exec/arguments.h"
#include "exec/scan.h"
#include "kernels/table.h"

namespace backtrail {
namespace {

// --- keys ---

// As by_dtype(), with bools as the bytes they are.
template <class F>
void by_order(const char* op, DType dtype, F&& f) {
  by_dtype(op, dtype == DType::b8 ? DType::u8 : dtype, [&](auto zero) {
    if constexpr (!std::is_same_v<decltype(zero), bool>) f(zero);
  });
}

template <class T>
struct KeyOf {
  using type = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
};

template <class T>
auto key_of(T x) {
  using K = typename KeyOf<T>::type;
  constexpr K top = K(1) << (8 * sizeof(K) - 1);
  if constexpr (std::is_floating_point_v<T>) {
    if (x != x) return K(~K(0));
    if (x == T(0)) return top;
    K bits;
    std::memcpy(&bits, &x, sizeof(K));
    return K(bits ^ ((K(0) - (bits >> (8 * sizeof(K) - 1))) | top));  // negative: all bits
  } else {
    using Wide = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;
    return K(K(Wide(x)) ^ top);
  }
}

// A key and a position. Lines of 2^32 elements or more, and 8-byte keys, take the wide form.
struct WideEntry {
  uint64_t key_, at;
  bool operator<(const WideEntry& o) const { return key_ != o.key_ ? key_ < o.key_ : at < o.at; }
  int64_t position() const { return int64_t(at); }
  uint64_t key() const { return key_; }
  unsigned digit(int shift) const { return unsigned(key_ >> shift) & 0xFF; }
};
struct Entry {
  uint64_t both;  // key above, position below
  bool operator<(const Entry& o) const { return both < o.both; }
  int64_t position() const { return int64_t(both & 0xFFFFFFFF); }
  uint64_t key() const { return both >> 32; }
  unsigned digit(int shift) const { return unsigned(both >> (32 + shift)) & 0xFF; }
};

template <class E, class T>
E entry(T x, int64_t at, bool descending) {
  auto key = key_of(x);
  if (descending) key = decltype(key)(~key);
  if constexpr (std::is_same_v<E, WideEntry>)
    return {uint64_t(key), uint64_t(at)};
  else
    return {uint64_t(key) << 32 | uint64_t(at)};
}

// Calls f(zero of the element type, E()) with the entry that lines of `size` need.
template <class F>
void by_entry(const char* op, DType dtype, int64_t size, F&& f) {
  by_order(op, dtype, [&](auto zero) {
    if constexpr (sizeof(zero) == 8)
      f(zero, WideEntry());
    else if (size >> 32)
      f(zero, WideEntry());
    else
      f(zero, Entry());
  });
}

constexpr int64_t kFew = 16;

// How many of `most` keys stand before each, without a branch on what they hold; equal ones are in
// order.
template <int most, class K>
inline void count_before(const K* key, int* before) {
#pragma GCC unroll 16
  for (int i = 0; i < most; ++i) before[i] = i;
#pragma GCC unroll 16
  for (int i = 1; i < most; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < i; ++j) {
      const bool first = key[i] < key[j];
      before[j] += first;
      before[i] -= first;
    }
}

template <int most>
inline void rank_sort(Entry* a, int64_t n) {
  uint64_t entry[most];
  int before[most];
#pragma GCC unroll 16
  for (int i = 0; i < most; ++i) entry[i] = i < n ? a[i].both : ~uint64_t(0);
  count_before<most>(entry, before);
  for (int i = 0; i < int(n); ++i) a[before[i]].both = entry[i];
}

// The first k of a dense line of at most `most` elements.
template <int most, class T>
void rank_line(const T* from, int64_t n, int64_t k, bool descending, T* values, int64_t* indices) {
  using K = decltype(key_of(T()));
  const K flip = descending ? K(~K(0)) : K(0);
  K key[most];
  int before[most];
  T value[most];
  int64_t index[most];
  for (int i = 0; i < int(n); ++i) key[i] = K(key_of(from[i]) ^ flip);
  for (int i = int(n); i < most; ++i) key[i] = K(~K(0));
  count_before<most>(key, before);
  for (int i = 0; i < int(n); ++i) value[before[i]] = from[i], index[before[i]] = i;
  for (int i = 0; i < int(k); ++i) values[i] = value[i], indices[i] = index[i];
}

template <class E>
void sort_by_comparing(E* a, int64_t n) {
  if constexpr (std::is_same_v<E, Entry>)
    if (n <= kFew)
      return n <= 8 ? rank_sort<8>(a, n) : n <= 12 ? rank_sort<12>(a, n) : rank_sort<16>(a, n);
  std::sort(a, a + n);
}

// Sort n entries in key order, which begin in the order of their positions; `spare` has room for as
// many. Least significant digit first, skipping digits that are the same in all.
template <class E>
E* radix_sort(E* a, E* spare, int64_t n, int key_bytes) {
  if (n < 64 + 24 * key_bytes) {
    sort_by_comparing(a, n);
    return a;
  }
  static_assert(sizeof(int64_t) == 8);
  int64_t counts[8][256];
  std::memset(counts, 0, size_t(key_bytes) * sizeof counts[0]);
  for (int64_t i = 0; i < n; ++i)
    for (int b = 0; b < key_bytes; ++b) ++counts[b][a[i].digit(8 * b)];
  for (int b = 0; b < key_bytes; ++b) {
    int64_t* count = counts[b];
    if (count[a[0].digit(8 * b)] == n) continue;
    for (int64_t d = 0, sum = 0; d < 256; ++d) {
      int64_t c = count[d];
      count[d] = sum;
      sum += c;
    }
    for (int64_t i = 0; i < n; ++i) spare[count[a[i].digit(8 * b)]++] = a[i];
    std::swap(a, spare);
  }
  return a;
}

// Bytes of scratch for the entries of a line and as many again.
template <class E>
E* line_entries(int64_t n) {
  return static_cast<E*>(scratch(size_t(2 * n) * sizeof(E), 1));
}

// --- sort, topk: x; (dim, descending, stable) and x; (k, dim, largest, sorted) ---

void prepare_sort(Call& c) {
  wrap_dim(c.name, integer_attr(c, 0, -1), c.in[0].ndim());
  by_order(c.name, c.in[0].dtype, [](auto) {});
  c.out[0] = empty(c.in[0].shape, c.in[0].dtype);
  c.out[1] = empty(c.in[0].shape, DType::i64);
}

// For every line of x along `dim`, in tasks of whole lines: write the first k of select(entries,
// spare, n) as values and indices.
template <class T, class E, class F>
void order_lines(const Call& c, int dim, int64_t k, bool descending, double ns_each, F&& select) {
  const Array& x = c.in[0];
  Around shape(x.shape, dim);
  const int64_t n = shape.size;
  if (!shape.outer || !shape.inner || !n) return;
  // Neighbouring lines that are not dense are brought together, where there is room.
  constexpr int64_t kRoom = 1 << 20, kMost = 16;
  const int64_t group = std::min({shape.inner, kMost, kRoom / n});
  const int64_t groups = (shape.inner + group - 1) / std::max<int64_t>(group, 1);
  // The line at from[0], from[stride], ..., into values[0], values[inner], ...
  auto one = [&select, n, k, descending, inner = shape.inner](
                 E* entries, const T* from, int64_t stride, T* values, int64_t* indices) {
    const E* sorted = select(from, stride, entries, entries + n, n, descending);
    for (int64_t i = 0; i < k; ++i, values += inner, indices += inner) {
      const int64_t at = sorted[i].position();
      *values = from[at * stride];
      *indices = at;
    }
  };
  T* values = c.out[0].data<T>();
  int64_t* indices = c.out[1].data<int64_t>();
  if (group < 2)
    return for_chunks(
        shape.outer * shape.inner, ns_each * double(n),
        [&](int64_t begin, int64_t end) {
          E* entries = line_entries<E>(n);
          const int64_t inner = shape.inner;
          if (inner == 1 && n <= kFew) {
            const T* from = x.data<T>() + begin * n;
            const auto rank = n <= 8    ? rank_line<8, T>
                              : n <= 12 ? rank_line<12, T>
                                        : rank_line<16, T>;
            for (int64_t line = begin; line < end; ++line, from += n)
              rank(from, n, k, descending, values + line * k, indices + line * k);
            return;
          }
          for (int64_t line = begin; line < end; ++line) {
            const int64_t o = inner == 1 ? line : line / inner, j = line - o * inner;
            const int64_t to = o * k * inner + j;
            one(entries, x.data<T>() + o * n * inner + j, inner, values + to, indices + to);
          }
        },
        kChunk / n + 1);
  for_chunks(
      shape.outer * groups, ns_each * double(n * group),
      [&](int64_t begin, int64_t end) {
        T* dense = static_cast<T*>(scratch(size_t(group * n) * sizeof(T), 2));
        E* entries = line_entries<E>(n);
        for (int64_t g = begin; g < end; ++g) {
          int64_t o = g / groups, j = g % groups * group, count = std::min(group, shape.inner - j);
          kernels().copies->transposed(dense, n, x.data<T>() + o * n * shape.inner + j, shape.inner,
                                       count, n, sizeof(T));
          const int64_t to = o * k * shape.inner + j;
          for (int64_t i = 0; i < count; ++i)
            one(entries, dense + i * n, 1, values + to + i, indices + to + i);
        }
      },
      kChunk / (n * group) + 1);
}

void execute_sort(const Call& c) {
  const Array& x = c.in[0];
  int dim = wrap_dim(c.name, integer_attr(c, 0, -1), x.ndim());
  int64_t n = x.ndim() ? x.shape[dim] : 1;
  by_entry(c.name, x.dtype, n, [&](auto zero, auto e) {
    using T = decltype(zero);
    using E = decltype(e);
    order_lines<T, E>(
        c, dim, n, integer_attr(c, 1) != 0, 20,
        [](const T* from, int64_t stride, E* a, E* spare, int64_t n, bool descending) {
          for (int64_t i = 0; i < n; ++i) a[i] = entry<E>(from[i * stride], i, descending);
          return radix_sort(a, spare, n, int(sizeof(key_of(T()))));
        });
  });
}

void prepare_topk(Call& c) {
  const Array& x = c.in[0];
  int64_t k = integer_attr(c, 0);
  int dim = wrap_dim(c.name, integer_attr(c, 1, -1), x.ndim());
  int64_t size = x.ndim() ? x.shape[dim] : 1;
  if (k < 0 || k > size)
    fail(ErrorKind::runtime, "%s: k is %lld for dimension %d of size %lld; it must be within it",
         c.name, (long long)k, dim, (long long)size);
  by_order(c.name, x.dtype, [](auto) {});
  Dims shape = x.shape;
  if (shape.n) shape[dim] = k;
  c.out[0] = empty(shape, x.dtype);
  c.out[1] = empty(shape, DType::i64);
}

// The first i from `i` on with an entry below `limit`, or a few before it; else n. Positions only
// grow, so that an equal key is not below.
template <class T, class K>
int64_t skip_above(const T* from, int64_t i, int64_t n, K limit, bool descending) {
  constexpr int64_t kBlock = 32;
  const K flip = descending ? K(~K(0)) : K(0);
  for (; i + kBlock <= n; i += kBlock) {
    unsigned below = 0;
    for (int64_t j = 0; j < kBlock; ++j) below |= K(key_of(from[i + j]) ^ flip) < limit;
    if (below) return i;
  }
  return i;
}

// The k first entries, in order. Few of them are kept sorted; else there is a buffer of candidates
// below the k-th best so far, cut back to k whenever it is full.
template <class T, class E>
E* first_k(const T* from, int64_t stride, E* a, int64_t n, int64_t k, bool descending) {
  using K = decltype(key_of(T()));
  if (k == 0) return a;
  if (k == 1 && stride == 1) {
    constexpr K last = K(~K(0));
    const K flip = descending ? last : K(0);
    K best = last;
    for (int64_t i = 0; i < n; ++i) best = std::min(best, K(key_of(from[i]) ^ flip));
    int64_t i = best == last ? 0 : skip_above(from, 0, n, K(best + 1), descending);
    while (K(key_of(from[i]) ^ flip) != best) ++i;
    a[0] = entry<E>(from[i], i, descending);
    return a;
  }
  const bool few = k <= kFew;
  int64_t room = few ? k : std::min(n, 2 * k + 64), held = 0, i = 0;
  for (; i < n && held < room; ++i) a[held++] = entry<E>(from[i * stride], i, descending);
  if (few) sort_by_comparing(a, k);
  while (i < n) {
    if (!few) std::nth_element(a, a + (k - 1), a + held), held = k;
    E limit = a[k - 1];
    for (; i < n;) {
      if (stride == 1) i = skip_above(from, i, n, K(limit.key()), descending);
      const int64_t end = std::min(n, i + 32);
      if (few) {
        for (; i < end; ++i) {
          const E x = entry<E>(from[i * stride], i, descending);
          if (!(x < limit)) continue;
          int64_t at = k - 1;
          for (; at > 0 && x < a[at - 1]; --at) a[at] = a[at - 1];
          a[at] = x;
          limit = a[k - 1];
        }
      } else {
        for (; i < end && held < room; ++i) {
          a[held] = entry<E>(from[i * stride], i, descending);
          held += a[held] < limit;
        }
        if (held == room) break;
      }
    }
  }
  if (few) return a;
  if (held > k) std::nth_element(a, a + (k - 1), a + held);
  sort_by_comparing(a, k);
  return a;
}

void execute_topk(const Call& c) {
  const Array& x = c.in[0];
  int64_t k = x.ndim() ? integer_attr(c, 0) : 1;
  int dim = wrap_dim(c.name, integer_attr(c, 1, -1), x.ndim());
  by_entry(c.name, x.dtype, x.ndim() ? x.shape[dim] : 1, [&](auto zero, auto e) {
    using T = decltype(zero);
    using E = decltype(e);
    order_lines<T, E>(c, dim, k, integer_attr(c, 2, 1) != 0, 3,
                      [k](const T* from, int64_t stride, E* a, E*, int64_t n, bool descending) {
                        return first_k<T, E>(from, stride, a, n, k, descending);
                      });
  });
}

// --- searchsorted: sorted, values; (right) ---

void prepare_searchsorted(Call& c) {
  const Array &sorted = c.in[0], &values = c.in[1];
  require_same_dtype(c, 0, 1);
  by_order(c.name, sorted.dtype, [](auto) {});
  bool fits = sorted.ndim() == 1 || (sorted.ndim() > 1 && sorted.ndim() == values.ndim());
  for (int i = 0; fits && sorted.ndim() > 1 && i < sorted.ndim() - 1; ++i)
    fits = sorted.shape[i] == values.shape[i];
  if (!fits)
    fail(ErrorKind::runtime,
         "%s: a sorted sequence of shape %s for values of shape %s; it must be 1-d, or all but the "
         "last dimension must be equal",
         c.name, to_string(sorted.shape).c_str(), to_string(values.shape).c_str());
  c.out[0] = empty(values.shape, DType::i64);
}
// 0 or 1, which the compiler must not turn into a branch: nobody could predict it.
inline int64_t number(bool b) {
  int64_t n = b;
  asm("" : "+r"(n));
  return n;
}

// Where each of `count` values belongs among s[0, n), for several values at once: their steps wait
// for memory together. A step is the same whatever it finds.
template <class T, class Before>
void search(const T* s, int64_t n, const T* values, int64_t count, int64_t* out, Before before) {
  constexpr int kTogether = 8;
  for (int64_t i = 0; i < count; i += kTogether) {
    const int many = int(std::min<int64_t>(kTogether, count - i));
    T x[kTogether];
    int64_t low[kTogether] = {};
    for (int j = 0; j < kTogether; ++j) x[j] = values[i + (j < many ? j : 0)];
    for (int64_t rest = n; rest > 1;) {
      const int64_t half = rest / 2;
      for (int j = 0; j < kTogether; ++j) low[j] += before(s[low[j] + half - 1], x[j]) ? half : 0;
      rest -= half;
    }
    for (int j = 0; j < many; ++j) out[i + j] = low[j] + (n > 0 && before(s[low[j]], x[j]));
  }
}

void execute_searchsorted(const Call& c) {
  const Array &sorted = c.in[0], &values = c.in[1];
  const bool right = integer_attr(c, 0) != 0;
  const int64_t n = sorted.shape.back(), numel = values.numel();
  const int64_t line = sorted.ndim() == 1 ? numel : values.shape.back();  // values for one sequence
  if (!numel) return;
  by_order(c.name, sorted.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_chunks(
        numel, 10,
        [&](int64_t begin, int64_t end) {
          while (begin < end) {
            const T *s = sorted.data<T>() + begin / line * n, *x = values.data<T>() + begin;
            const int64_t count = std::min(end, (begin / line + 1) * line) - begin;
            int64_t* out = c.out[0].data<int64_t>() + begin;
            if (right)  // NaN belongs at the end, in the sequence and among the values
              search(s, n, x, count, out, [](T a, T b) { return number(a <= b) | number(b != b); });
            else
              search(s, n, x, count, out, [](T a, T b) { return number(a < b) | number(b != b); });
            begin += count;
          }
        },
        1024);
  });
}

// --- unique: x -> sorted values, inverse (of x's shape), counts ---

// The positions of x in sorted order are a private output, made by prepare() to know the shapes.
void prepare_unique(Call& c) {
  const Array& x = c.in[0];
  int64_t n = x.numel(), distinct = 0;
  c.out[1] = empty(x.shape, DType::i64);
  c.out[3] = empty({n}, DType::i64);
  by_entry(c.name, x.dtype, n, [&](auto zero, auto e) {
    using T = decltype(zero);
    using E = decltype(e);
    const T* p = x.data<T>();
    E* a = line_entries<E>(n);
    for (int64_t i = 0; i < n; ++i) a[i] = entry<E>(p[i], i, false);
    a = radix_sort(a, a + n, n, int(sizeof(key_of(T()))));
    int64_t* order = c.out[3].data<int64_t>();
    for (int64_t i = 0; i < n; ++i) {
      order[i] = a[i].position();
      distinct += i == 0 || p[order[i]] != p[order[i - 1]];
    }
  });
  c.out[0] = empty({distinct}, x.dtype);
  c.out[2] = empty({distinct}, DType::i64);
}
void execute_unique(const Call& c) {
  const Array& x = c.in[0];
  const int64_t *order = c.out[3].data<int64_t>(), n = x.numel();
  int64_t *inverse = c.out[1].data<int64_t>(), *counts = c.out[2].data<int64_t>();
  by_order(c.name, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* p = x.data<T>();
    T* values = c.out[0].data<T>();
    int64_t distinct = 0;
    for (int64_t i = 0; i < n; ++i) {
      T value = p[order[i]];
      if (i == 0 || value != p[order[i - 1]]) {
        values[distinct] = value;
        counts[distinct++] = 0;
      }
      ++counts[distinct - 1];
      inverse[order[i]] = distinct - 1;
    }
  });
}

// clang-format off
const Op kOps[] = {
    // name, doc, kind, inputs, outputs, public, saved inputs, saved outputs, differentiable
    {"sort", "Values and their indices in order along dim; stable; NaN is the largest.", Kind::opaque, 1, 2, 2, 0, 2, true, prepare_sort, execute_sort},
    {"topk", "The k largest (or smallest) values along dim, in order, and their indices.", Kind::opaque, 1, 2, 2, 0, 2, true, prepare_topk, execute_topk},
    {"searchsorted", "Where each value would be inserted to keep a sequence sorted.", Kind::opaque, 2, 1, 1, 0, 0, false, prepare_searchsorted, execute_searchsorted},
    depends_on_values({"unique", "Sorted distinct values, the place of each element among them, and their counts.", Kind::opaque, 1, 4, 3, 0, 0, false, prepare_unique, execute_unique}),
    {"cumsum", "Sum of the elements up to each one, along dim.", Kind::opaque, 1, 1, 1, 0, 0, true, prepare_scan, execute_cumsum},
    {"cumprod", "Product of the elements up to each one, along dim.", Kind::opaque, 1, 1, 1, 1, 1, true, prepare_scan, execute_cumprod},
};
// clang-format on

}  // namespace

const OpTable kSortOps = {kOps, int(sizeof(kOps) / sizeof(kOps[0]))};

}  // namespace backtrail
