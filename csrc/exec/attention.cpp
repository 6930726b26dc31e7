// Scaled dot-product attention: its checks, outputs, and how heads are cut into tasks.
#include <algorithm>
#include <cmath>

#include "exec/check.h"
#include "exec/observer.h"
#include "exec/op.h"
#include "exec/workspace.h"
#include "kernels/table.h"

namespace backtrail {
namespace {

constexpr int64_t kTaskQueries = 256;  // a multiple of every kernel's block of queries
constexpr double kNsPerFlop = 0.012;

// Checks q, k, v and mask at inputs `at`, `at` + 1, ...
void check(const Call& c, int at) {
  const Array &q = c.in[at], &k = c.in[at + 1], &v = c.in[at + 2];
  require_f32_or_f64(c, at, "query");
  if (q.ndim() != 4 || k.ndim() != 4 || v.ndim() != 4)
    fail(ErrorKind::runtime,
         "%s: query %s, key %s, value %s; expected (batch, heads, length, width)", c.name,
         to_string(q.shape).c_str(), to_string(k.shape).c_str(), to_string(v.shape).c_str());
  const int64_t b = q.shape[0], heads = q.shape[1], t = q.shape[2], d = q.shape[3];
  const int64_t s = k.shape[2];
  require(c, at + 1, "key", q.dtype, Dims{b, heads, s, d});
  require(c, at + 2, "value", q.dtype, Dims{b, heads, s, v.shape[3]});
  if (!given(c, at + 3)) return;
  const Dims& m = c.in[at + 3].shape;
  if (m.n != 4 || (m[0] != b && m[0] != 1) || (m[1] != heads && m[1] != 1))
    fail(ErrorKind::runtime,
         "%s: attn_mask has shape %s; expected (%lld or 1, %lld or 1, %lld, %lld)", c.name,
         to_string(m).c_str(), (long long)b, (long long)heads, (long long)t, (long long)s);
  require(c, at + 3, "attn_mask", q.dtype, Dims{m[0], m[1], t, s});
}

// (batch, heads, length, width) laid out as (batch, length, heads, width): joining the heads, as
// what follows an attention does, then needs no copy. Not where the rows of a head would fall into
// the same cache sets.
Array heads_apart(const Dims& shape, DType dtype) {
  const int64_t row = shape[1] * shape[3];
  Array a = empty(shape, dtype);
  if (row * int64_t(item_size(dtype)) % 4096 == 0) return a;
  a.strides = Dims{shape[2] * row, shape[3], row, 1};
  return a;
}

void prepare_attention(Call& c) {
  check(c, 0);
  const Dims &q = c.in[0].shape, &v = c.in[2].shape;
  // As in PyTorch the result lies as the query does.
  const Dims shape{q[0], q[1], q[2], v[3]};
  c.out[0] = c.in[0].contiguous() ? empty(shape, c.in[0].dtype) : heads_apart(shape, c.in[0].dtype);
  c.out[1] = empty(Dims{q[0], q[1], q[2]}, c.in[0].dtype);
}

void prepare_attention_backward(Call& c) {
  check(c, 1);
  const Dims &q = c.in[1].shape, &v = c.in[3].shape;
  const DType dtype = c.in[1].dtype;
  require(c, 0, "grad", dtype, Dims{q[0], q[1], q[2], v[3]});
  require(c, 5, "log-sum-exp", dtype, Dims{q[0], q[1], q[2]});
  for (int i = 0; i < 3; ++i) c.out[i] = heads_apart(c.in[i + 1].shape, dtype);
}

template <class F>
void by_type(const Call& c, F f) {
  if (c.in[0].dtype == DType::f64)
    f(double(), *kernels().attention_f64);
  else
    f(float(), *kernels().attention_f32);
}

// All heads of a call, with q, k, v and mask at inputs `at`, `at` + 1, ...
template <class T>
struct Heads {
  enum Role { kQ, kK, kV, kY, kG, kDq, kDk, kDv, kRoles };
  AttentionHead<T> first{};
  int64_t batch, heads;
  int64_t batch_stride[kRoles] = {}, head_stride[kRoles] = {};
  int64_t mask_batch, mask_head;  // strides

  Heads(const Call& c, int at) {
    const Dims &q = c.in[at].shape, &k = c.in[at + 1].shape, &v = c.in[at + 2].shape;
    batch = q[0];
    heads = q[1];
    first.queries = q[2];
    first.width = q[3];
    first.keys = k[2];
    first.value_width = v[3];
    const AttrValue &scale = c.attrs[0], &causal = c.attrs[1];
    first.scale = T(scale.given() ? scale.f : 1 / std::sqrt(double(std::max<int64_t>(1, q[3]))));
    first.causal = causal.i != 0;
    use(first.q, c.in[at], kQ);
    use(first.k, c.in[at + 1], kK);
    use(first.v, c.in[at + 2], kV);
    mask_batch = mask_head = 0;
    if (given(c, at + 3)) {
      const Dims& m = c.in[at + 3].shape;
      first.mask = c.in[at + 3].data<T>();
      if (m[1] > 1) mask_head = m[2] * m[3];
      if (m[0] > 1) mask_batch = m[1] * m[2] * m[3];
    }
  }
  int64_t count() const { return batch * heads; }
  double flops() const {  // of one product of a head
    return 2.0 * double(first.queries) * double(first.keys) * double(first.width + 16) *
           (first.causal ? 0.5 : 1);
  }
  // Take the rows of an array's first head, and its strides as those of role `which`.
  template <class R>
  void use(Rows<R>& rows, const Array& a, Role which) {
    rows.data = a.data<T>();
    rows.stride = a.strides[2];
    batch_stride[which] = a.strides[0];
    head_stride[which] = a.strides[1];
  }
  AttentionHead<T> operator[](int64_t i) const {
    AttentionHead<T> h = first;
    const int64_t b = i / heads, k = i % heads;
    auto move = [&](auto& rows, Role which) {
      if (rows.data) rows.data += b * batch_stride[which] + k * head_stride[which];
    };
    move(h.q, kQ), move(h.k, kK), move(h.v, kV), move(h.y, kY);
    move(h.g, kG), move(h.dq, kDq), move(h.dk, kDk), move(h.dv, kDv);
    if (h.mask) h.mask += b * mask_batch + k * mask_head;
    h.lse += i * h.queries;
    return h;
  }
};

template <class T>
bool finite(T x) {
  return x - x == T(0);
}

// `a` with 0 for what is not finite, in `clean`; false where all of it is finite.
template <class T>
bool cleaned(const Array& a, Array& clean) {
  bool found = false;
  const int64_t rows = a.shape[2], width = a.shape[3];
  for (int64_t h = 0; h < a.shape[0] * a.shape[1] && !found; ++h) {
    const T* head = a.data<T>() + h / a.shape[1] * a.strides[0] + h % a.shape[1] * a.strides[1];
    for (int64_t r = 0; r < rows && !found; ++r) {
      const T* x = head + r * a.strides[2];
      int bad = 0;
      for (int64_t d = 0; d < width; ++d) bad |= !finite(x[d]);
      found = bad != 0;
    }
  }
  if (!found) return false;
  Unobserved copy;
  clean = empty(a.shape, a.dtype);
  copy_into(a, clean);
  T* x = clean.data<T>();
  for (int64_t i = 0, n = clean.numel(); i < n; ++i) x[i] = finite(x[i]) ? x[i] : T(0);
  return true;
}

// What stands at a hidden key must not reach anything, but 0 * NaN would: products are formed with
// keys and values (at inputs `at` + 1 and `at` + 2) in which it is 0.
template <class T>
struct CleanKeys {
  Array k, v;
  bool bad_k = false, bad_v = false;

  CleanKeys(const Call& c, int at, Heads<T>& heads) {
    if (!heads.first.causal && !heads.first.mask) return;  // no key is hidden
    bad_k = cleaned<T>(c.in[at + 1], k), bad_v = cleaned<T>(c.in[at + 2], v);
    if (bad_k) heads.use(heads.first.k, k, heads.kK);
    if (bad_v) heads.use(heads.first.v, v, heads.kV);
  }
};

// What is not finite, brought to the queries that see it. `dirty` are the heads as they were given.
template <class T>
void show(const Heads<T>& dirty, const Heads<T>& heads, const CleanKeys<T>& clean) {
  for (int64_t n = 0; n < heads.count(); ++n) {
    const AttentionHead<T> given = dirty[n], h = heads[n];
    for (int64_t j = 0; j < h.keys; ++j) {
      bool bad_key = false, bad_value = false;
      for (int64_t d = 0; clean.bad_k && d < h.width; ++d) bad_key |= !finite(given.k[j][d]);
      for (int64_t d = 0; clean.bad_v && d < h.value_width; ++d)
        bad_value |= !finite(given.v[j][d]);
      if (!bad_key && !bad_value) continue;
      for (int64_t i = h.causal ? j : 0; i < h.queries; ++i) {
        if (h.mask && h.mask[i * h.keys + j] == -T(INFINITY)) continue;
        if (bad_key) h.lse[i] = T(NAN);
        for (int64_t d = 0; d < h.value_width; ++d)
          if (bad_key || !finite(given.v[j][d])) h.y[i][d] += bad_key ? T(NAN) : given.v[j][d];
      }
    }
  }
}

void attention(const Call& c) {
  by_type(c, [&](auto zero, const auto& k) {
    using T = decltype(zero);
    Heads<T> heads(c, 0);
    const Heads<T> given = heads;
    const CleanKeys<T> clean(c, 0, heads);
    heads.use(heads.first.y, c.out[0], heads.kY);
    heads.first.lse = c.out[1].data<T>();
    const int64_t queries = heads.first.queries;
    const int64_t groups = (queries + kTaskQueries - 1) / kTaskQueries;
    parallel_for_with<T>("attention", k.work_size(heads.first, false), heads.count() * groups,
                         2 * kNsPerFlop * double(heads.count()) * heads.flops(),
                         [&](int64_t task, T* work) {
                           const int64_t begin = task % groups * kTaskQueries;
                           const int64_t end = std::min(queries, begin + kTaskQueries);
                           k.forward(heads[task / groups], begin, end, work);
                         });
    if (clean.bad_k || clean.bad_v) show(given, heads, clean);
  });
}

void attention_backward(const Call& c) {
  by_type(c, [&](auto zero, const auto& k) {
    using T = decltype(zero);
    Heads<T> heads(c, 1);
    const CleanKeys<T> clean(c, 1, heads);
    heads.use(heads.first.g, c.in[0], heads.kG);
    heads.first.lse = c.in[5].data<T>();
    heads.use(heads.first.dq, c.out[0], heads.kDq);
    heads.use(heads.first.dk, c.out[1], heads.kDk);
    heads.use(heads.first.dv, c.out[2], heads.kDv);
    parallel_for_with<T>("attention", k.work_size(heads.first, true), heads.count(),
                         5 * kNsPerFlop * double(heads.count()) * heads.flops(),
                         [&](int64_t task, T* work) { k.backward(heads[task], work); });
  });
}

// name, doc, kind, inputs, outputs, public outputs, saved inputs, saved outputs, differentiable.
// Of `qk` products as long as a query and `v` as long as a value, for each pair that is looked at.
double product_flops(const Call& c, int at, double qk, double v) {
  const Dims& q = c.in[at].shape;
  const int64_t queries = q[2], keys = c.in[at + 1].shape[2];
  int64_t pairs = queries * keys;
  if (c.attrs[1].i)
    for (int64_t i = 0; i < queries; ++i) pairs -= std::max<int64_t>(0, keys - 1 - i);
  const double lengths = qk * double(q[3]) + v * double(c.in[at + 2].shape[3]);
  return 2 * double(q[0]) * double(q[1]) * double(pairs) * lengths;
}

const Op kOps[] = {
    with_flops({"attention", "softmax(scale * query @ key.T + attn_mask) @ value.", Kind::opaque, 4,
                2, 1, 0b1111, 0b10, true, prepare_attention, attention, false, 0b0111},
               [](const Call& c) { return product_flops(c, 0, 1, 1); }),
    with_flops(
        {"attention_backward",
         "Gradients of query, key, value from (grad, query, key, value, attn_mask, log-sum-exp).",
         Kind::opaque, 6, 3, 3, 0, 0, false, prepare_attention_backward, attention_backward, false,
         0b1111},
        [](const Call& c) { return product_flops(c, 1, 3, 2); }),
};

}  // namespace

const OpTable kAttentionOps{kOps, int(sizeof kOps / sizeof kOps[0])};

}  // namespace backtrail
