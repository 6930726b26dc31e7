// Random ops. A seed and an offset are attributes, so that a replay or a derivative can make the
// same numbers again; they come as the bit patterns of unsigned integers.
//
// A call with `offset` uses no counter from offset + n on, where n is the number of elements of its
// output or of its input, whichever is greater: the next call's offset may be offset + n.
#include <algorithm>
#include <cmath>
#include <limits>

#include "exec/arguments.h"
#include "kernels/table.h"

namespace backtrail {
namespace {

constexpr int64_t kBlock = 1 << 14;  // elements of a task: a multiple of every group of draws
constexpr int64_t kPart = 1024;      // elements made at a time where they are converted after

RandomStream stream_attr(const Call& c, int a) {
  return {uint64_t(integer_attr(c, a)), uint64_t(integer_attr(c, a + 1))};
}

DType dtype_attr(const Call& c, int a) {
  int64_t code = integer_attr(c, a);
  if (code < 0 || code >= kDTypes)
    fail(ErrorKind::value, "%s: there is no dtype of code %lld", c.name, (long long)code);
  return DType(code);
}

// Elements [begin, end) of `out` from make(T* to, first, n), converted where T is not its type.
template <class T, class F>
void make_as(const Array& out, DType type, int64_t begin, int64_t end, F&& make) {
  if (out.dtype == type) return make(out.data<T>() + begin, begin, end - begin);
  alignas(64) T part[kPart];
  ConvertKernel convert = kernels().numeric->convert[int(type)][int(out.dtype)];
  for (int64_t i = begin; i < end; i += kPart) {
    int64_t n = std::min(kPart, end - i);
    make(part, i, n);
    convert(part, out.data() + i * int64_t(out.item()), n);
  }
}

// f(zero of float or double, its RandomTable).
template <class F>
void by_real(DType dtype, F&& f) {
  if (dtype == DType::f64)
    f(double(), *kernels().numeric->random_f64);
  else
    f(float(), *kernels().numeric->random_f32);
}

// --- uniform, normal: (shape, dtype, low, high, seed, offset), (shape, dtype, mean, std, ...) ---

void prepare_real(Call& c) {
  DType dtype = dtype_attr(c, 1);
  if (!is_floating(dtype))
    fail(ErrorKind::type, "%s: got %s; expected a floating point dtype", c.name, dtype_name(dtype));
  c.out[0] = empty(shape_attr(c, 0), dtype);
}
void prepare_uniform(Call& c) {
  double low = real_attr(c, 2, 0), high = real_attr(c, 3, 1);
  if (!(low <= high))
    fail(ErrorKind::runtime, "%s: low is %g and high is %g; low must not exceed high", c.name, low,
         high);
  prepare_real(c);
}
void prepare_normal(Call& c) {
  if (!(real_attr(c, 3, 1) >= 0))
    fail(ErrorKind::runtime, "%s: std is %g; it must not be negative", c.name, real_attr(c, 3, 1));
  prepare_real(c);
}

// `member` of the RandomTable fills the output.
template <class Member>
void execute_real(const Call& c, Member member, double ns_each) {
  const Array& out = c.out[0];
  RandomStream stream = stream_attr(c, 4);
  double a = real_attr(c, 2), b = real_attr(c, 3, 1);
  by_real(out.dtype, [&](auto zero, const auto& table) {
    using T = decltype(zero);
    for_chunks(
        out.numel(), ns_each * sizeof(T),
        [&](int64_t begin, int64_t end) {
          make_as<T>(
              out, compute_type(out.dtype), begin, end,
              [&](T* to, int64_t first, int64_t n) { member(table)(to, first, n, stream, a, b); });
        },
        kBlock);
  });
}
void execute_uniform(const Call& c) {
  execute_real(
      c, [](const auto& table) { return table.uniform; }, 0.1);
}
void execute_normal(const Call& c) {
  execute_real(
      c, [](const auto& table) { return table.normal; }, 0.4);
}

// --- randint: (shape, dtype, low, high, seed, offset); randperm: (n, seed, offset) ---

// A number in [0, range), by the upper half of a product: biased by less than range / 2^64.
uint64_t below(uint64_t bits, uint64_t range) {
  return uint64_t((unsigned __int128)(bits)*range >> 64);
}

void prepare_randint(Call& c) {
  int64_t low = integer_attr(c, 2), high = integer_attr(c, 3);
  if (low >= high)
    fail(ErrorKind::runtime, "%s: low is %lld and high is %lld; low must be less than high", c.name,
         (long long)low, (long long)high);
  c.out[0] = empty(shape_attr(c, 0), dtype_attr(c, 1));
}
void execute_randint(const Call& c) {
  const Array& out = c.out[0];
  RandomStream stream = stream_attr(c, 4);
  uint64_t low = uint64_t(integer_attr(c, 2)), range = uint64_t(integer_attr(c, 3)) - low;
  auto bits = kernels().numeric->random_bits;
  for_chunks(
      out.numel(), 2,
      [&](int64_t begin, int64_t end) {
        make_as<int64_t>(out, DType::i64, begin, end, [&](int64_t* to, int64_t first, int64_t n) {
          uint64_t* draws = reinterpret_cast<uint64_t*>(to);
          bits(draws, first, n, stream);
          for (int64_t i = 0; i < n; ++i) draws[i] = low + below(draws[i], range);
        });
      },
      kBlock);
}

void prepare_randperm(Call& c) {
  int64_t n = integer_attr(c, 0);
  if (n < 0)
    fail(ErrorKind::runtime, "%s: n is %lld; it must not be negative", c.name, (long long)n);
  c.out[0] = empty({n}, DType::i64);
}
// R. Durstenfeld's shuffle, 1964.
void execute_randperm(const Call& c) {
  int64_t n = c.out[0].numel(), *p = c.out[0].data<int64_t>();
  RandomStream stream = stream_attr(c, 1);
  for (int64_t i = 0; i < n; ++i) p[i] = i;
  alignas(64) uint64_t draws[kPart];
  for (int64_t begin = 0; begin < n; begin += kPart) {
    int64_t count = std::min(kPart, n - begin);
    kernels().numeric->random_bits(draws, begin, count, stream);
    for (int64_t i = begin; i < begin + count; ++i)
      std::swap(p[i], p[i + int64_t(below(draws[i - begin], uint64_t(n - i)))]);
  }
}

// --- bernoulli: p; (seed, offset).  dropout: x; (p, seed, offset) ---

void prepare_like(Call& c) {
  require_floating(c, 0, "input");
  c.out[0] = empty(c.in[0].shape, c.in[0].dtype);
}
void execute_bernoulli(const Call& c) {
  const Array& p = c.in[0];
  RandomStream stream = stream_attr(c, 0);
  std::atomic<bool> wrong{false};
  by_real(p.dtype, [&](auto zero, const auto& table) {
    using T = decltype(zero);
    for_chunks(
        p.numel(), 0.2 * sizeof(T),
        [&](int64_t begin, int64_t end) {
          const T* from = p.data<T>() + begin;
          bool fine = true;
          for (int64_t i = 0; i < end - begin; ++i) fine &= from[i] >= T(0) && from[i] <= T(1);
          if (!fine) wrong.store(true, std::memory_order_relaxed);
          table.bernoulli(c.out[0].data<T>() + begin, from, begin, end - begin, stream);
        },
        kBlock);
  });
  if (wrong) fail(ErrorKind::runtime, "%s: every probability must be within [0, 1]", c.name);
}

void prepare_dropout(Call& c) {
  double p = real_attr(c, 0, 0.5);
  if (!(p >= 0 && p <= 1))
    fail(ErrorKind::value, "%s: p is %g; it must be within [0, 1]", c.name, p);
  prepare_like(c);
}
void execute_dropout(const Call& c) {
  const Array& x = c.in[0];
  double p = real_attr(c, 0, 0.5);
  RandomStream stream = stream_attr(c, 1);
  by_real(x.dtype, [&](auto zero, const auto& table) {
    using T = decltype(zero);
    for_chunks(
        x.numel(), 0.1 * sizeof(T),
        [&](int64_t begin, int64_t end) {
          table.dropout(c.out[0].data<T>() + begin, x.data<T>() + begin, begin, end - begin, stream,
                        p);
        },
        kBlock);
  });
}

// --- multinomial: probs (n,) or (rows, n); (num_samples, replacement, seed, offset) ---

void prepare_multinomial(Call& c) {
  const Array& probs = c.in[0];
  int64_t samples = integer_attr(c, 0), n = probs.ndim() ? probs.shape.back() : 0;
  require_floating(c, 0, "probs");
  if (probs.ndim() < 1 || probs.ndim() > 2)
    fail(ErrorKind::runtime, "%s: probs has shape %s; it must have 1 or 2 dimensions", c.name,
         to_string(probs.shape).c_str());
  if (samples < 1)
    fail(ErrorKind::runtime, "%s: num_samples is %lld; it must be at least 1", c.name,
         (long long)samples);
  if (!integer_attr(c, 1) && samples > n)
    fail(ErrorKind::runtime,
         "%s: num_samples is %lld for %lld categories; there must be as many without replacement",
         c.name, (long long)samples, (long long)n);
  Dims shape = probs.shape;
  shape[shape.n - 1] = samples;
  c.out[0] = empty(shape, DType::i64);
}

// The sum of a row of probabilities, or NaN when one of them is not a number from 0 to infinity.
template <class T>
double checked_sum(const T* p, int64_t n, int64_t& positive) {
  double sum = 0;
  positive = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (!(p[i] >= T(0) && p[i] <= std::numeric_limits<T>::max())) return std::nan("");
    sum += double(p[i]);
    positive += p[i] > T(0);
  }
  return sum;
}

template <class T>
void sample_replacing(const T* p, int64_t n, int64_t samples, const double* draws, double* sums,
                      int64_t* out) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sums[i] = sum += double(p[i]);
  double below_sum = std::nextafter(sum, 0.0);  // so that rounding cannot pass the last category
  for (int64_t s = 0; s < samples; ++s)
    out[s] = std::upper_bound(sums, sums + n, std::min(draws[s] * sum, below_sum)) - sums;
}

// Category i waits for an exponential time of rate p[i]: those that come first, in that order, are
// a sample without replacement.
template <class T>
void sample_first(const T* p, int64_t n, int64_t samples, double* times, int64_t* order,
                  int64_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    times[i] = p[i] > T(0) ? times[i] / double(p[i]) : std::numeric_limits<double>::infinity();
    order[i] = i;
  }
  auto earlier = [&](int64_t a, int64_t b) {
    return times[a] != times[b] ? times[a] < times[b] : a < b;
  };
  std::partial_sort(order, order + samples, order + n, earlier);
  std::copy(order, order + samples, out);
}

void execute_multinomial(const Call& c) {
  const Array &probs = c.in[0], &out = c.out[0];
  int64_t samples = integer_attr(c, 0), n = probs.shape.back();
  int64_t rows = probs.ndim() == 2 ? probs.shape[0] : 1;
  bool replacement = integer_attr(c, 1) != 0;
  RandomStream stream = stream_attr(c, 2);
  int64_t draws = replacement ? rows * samples : rows * n;
  double* random = static_cast<double*>(scratch(size_t(draws) * sizeof(double), 0));
  double* space = static_cast<double*>(scratch(size_t(rows * n) * sizeof(double), 1));
  auto table = kernels().numeric->random_f64;
  for_chunks(
      draws, replacement ? 1 : 4,
      [&](int64_t begin, int64_t end) {
        if (replacement)
          table->uniform(random + begin, begin, end - begin, stream, 0, 1);
        else
          table->exponential(random + begin, begin, end - begin, stream);
      },
      kBlock);
  std::atomic<bool> wrong{false}, few{false};
  by_real(probs.dtype, [&](auto zero, const auto&) {
    using T = decltype(zero);
    parallel_for(rows, double(rows) * (double(n) * 3 + double(samples) * 20), [&](int64_t r) {
      const T* p = probs.data<T>() + r * n;
      int64_t positive, *to = out.data<int64_t>() + r * samples;
      double sum = checked_sum(p, n, positive);
      if (!(sum > 0 && sum <= std::numeric_limits<double>::max()))
        wrong = true;
      else if (!replacement && positive < samples)
        few = true;
      else if (replacement)
        sample_replacing(p, n, samples, random + r * samples, space + r * n, to);
      else
        sample_first(p, n, samples, random + r * n, reinterpret_cast<int64_t*>(space) + r * n, to);
    });
  });
  if (wrong)
    fail(ErrorKind::runtime,
         "%s: probabilities must be finite and not negative, with a positive sum in every row",
         c.name);
  if (few)
    fail(ErrorKind::runtime,
         "%s: num_samples is %lld without replacement; a row has fewer categories of positive "
         "probability",
         c.name, (long long)samples);
}

constexpr Op drawn(Op op) {
  op.random = true;
  return op;
}

// clang-format off
const Op kOps[] = {
    // name, doc, kind, inputs, outputs, public, saved inputs, saved outputs, differentiable
    drawn({"uniform", "Random numbers, evenly in [low, high).", Kind::opaque, 0, 1, 1, 0, 0, false, prepare_uniform, execute_uniform}),
    drawn({"normal", "Random numbers of a normal distribution.", Kind::opaque, 0, 1, 1, 0, 0, false, prepare_normal, execute_normal}),
    drawn({"randint", "Random integers, evenly in [low, high).", Kind::opaque, 0, 1, 1, 0, 0, false, prepare_randint, execute_randint}),
    drawn({"randperm", "A random order of 0 ... n - 1.", Kind::opaque, 0, 1, 1, 0, 0, false, prepare_randperm, execute_randperm}),
    drawn({"bernoulli", "1 with probability p, else 0.", Kind::opaque, 1, 1, 1, 0, 0, false, prepare_like, execute_bernoulli}),
    drawn({"dropout", "0 with probability p, else x / (1 - p); its derivative is itself.", Kind::opaque, 1, 1, 1, 0, 0, true, prepare_dropout, execute_dropout}),
    drawn({"multinomial", "Indices drawn with the probabilities of each row.", Kind::opaque, 1, 1, 1, 0, 0, false, prepare_multinomial, execute_multinomial}),
};
// clang-format on

}  // namespace

const OpTable kRandomOps = {kOps, int(sizeof(kOps) / sizeof(kOps[0]))};

}  // namespace backtrail
