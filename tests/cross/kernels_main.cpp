// A small program without Python that runs ops through the plan and checks their values: what shows
// that the kernels work on another CPU. Exits with 1 when a value is wrong.
#include <cmath>
#include <cstdio>
#include <functional>
#include <vector>

#include "exec/gemm.h"
#include "exec/loop.h"
#include "kernels/table.h"
#include "library/registry.h"

using namespace backtrail;

namespace {

int failures = 0;

void check(const char* what, int64_t at, double got, double expected, double tolerance) {
  if (std::fabs(got - expected) <= tolerance * (1 + std::fabs(expected))) return;
  if (std::isnan(got) && std::isnan(expected)) return;
  if (++failures < 20)
    std::printf("%s: element %lld is %.9g; expected %.9g\n", what, static_cast<long long>(at), got,
                expected);
}

const Op& op(const char* name) {
  const Op* found = find_op(name);
  if (!found) fail(ErrorKind::runtime, "no op '%s'", name);
  return *found;
}

template <class T>
constexpr DType kType = sizeof(T) == 4 ? DType::f32 : DType::f64;

// Numbers between low and high that repeat late.
template <class T>
Array numbers(const Dims& shape, double low, double high) {
  Array a = empty(shape, kType<T>);
  for (int64_t i = 0; i < a.numel(); ++i)
    a.data<T>()[i] = T(low + (high - low) * std::fmod(0.618 * double(i + 1), 1.0));
  return a;
}

Array pointwise(const Op& o, const std::vector<Array>& in) {
  const PointwiseRecord& r = *o.pointwise;
  Array out = empty(in[0].shape, r.mask_output ? DType::b8 : in[0].dtype);
  Operand operands[kMaxInputs];
  for (size_t j = 0; j < in.size(); ++j) operands[j].array = &in[j];
  double attrs[kMaxAttrs];
  for (int i = 0; i < r.n_attrs; ++i) attrs[i] = r.attrs[i].value;
  run_pointwise(r.kernels.forward, in[0].dtype, r.mask_inputs, r.mask_output, operands,
                int(in.size()), out, attrs, r.cost, r.name);
  return out;
}

Array run(const char* name, const std::vector<Array>& in,
          const std::vector<AttrValue>& attrs = {}) {
  const Op& o = op(name);
  Array out[kMaxOutputs];
  Call call{name, in.data(), int(in.size()), attrs.data(), int(attrs.size()), out, o.n_outputs};
  o.prepare(call);
  if (o.execute) o.execute(call);
  return out[0];
}

AttrValue integer(int64_t i) {
  AttrValue v;
  v.type = AttrValue::integer;
  v.i = i;
  v.f = double(i);
  return v;
}

// Functions of one number against the C library's, in full vectors and in what is left over.
template <class T>
void check_functions(double tolerance) {
  const struct {
    const char* name;
    double low, high;
    std::function<double(double)> expected;
  } cases[] = {
      {"exp", -20, 20, [](double x) { return std::exp(x); }},
      {"log", 0.01, 100, [](double x) { return std::log(x); }},
      {"sin", -30, 30, [](double x) { return std::sin(x); }},
      {"tanh", -4, 4, [](double x) { return std::tanh(x); }},
      {"erf", -3, 3, [](double x) { return std::erf(x); }},
      {"sqrt", 0, 9, [](double x) { return std::sqrt(x); }},
      {"round", -9, 9, [](double x) { return std::nearbyint(x); }},
      {"sigmoid", -9, 9, [](double x) { return 1 / (1 + std::exp(-x)); }},
      {"silu", -9, 9, [](double x) { return x / (1 + std::exp(-x)); }},
  };
  for (const auto& c : cases)
    for (int64_t n : {1, 7, 16, 1003}) {
      Array x = numbers<T>(Dims{n}, c.low, c.high), y = pointwise(op(c.name), {x});
      for (int64_t i = 0; i < n; ++i)
        check(c.name, i, y.data<T>()[i], c.expected(x.data<T>()[i]), tolerance);
    }
}

// Every pointwise op: the value and the gradients of an element are the same bits wherever it lies.
template <class T>
void check_every_pointwise() {
  int count;
  const Op* const* all = builtin_ops(count);
  for (int k = 0; k < count; ++k) {
    const PointwiseRecord* r = all[k]->pointwise;
    if (!r || !r->floats || r->mask_inputs) continue;
    std::vector<Array> in, last;
    for (int j = 0; j < r->n_inputs; ++j) {
      in.push_back(numbers<T>(Dims{37}, r->range.low, r->range.high));
      last.push_back(in.back());
      last.back().shape = Dims{1};
      last.back().offset = 36;
    }
    Array y = pointwise(*all[k], in), z = pointwise(*all[k], last);
    if (r->mask_output)
      check(r->name, 36, y.data<bool>()[36], z.data<bool>()[0], 0);
    else
      check(r->name, 36, y.data<T>()[36], z.data<T>()[0], 0);
  }
}

template <class T>
void check_rows(double tolerance) {
  const int64_t rows = 5, n = 131;
  Array x = numbers<T>(Dims{rows, n}, -2, 3);
  Array sum = run("sum", {x}, {integer(1), integer(0)}), soft = run("softmax", {x});
  for (int64_t i = 0; i < rows; ++i) {
    const T* row = x.data<T>() + i * n;
    double total = 0, e = 0;
    for (int64_t j = 0; j < n; ++j) total += row[j], e += std::exp(double(row[j]));
    check("sum", i, sum.data<T>()[i], total, tolerance * 10);
    for (int64_t j = 0; j < n; ++j)
      check("softmax", i * n + j, soft.data<T>()[i * n + j], std::exp(double(row[j])) / e,
            tolerance);
  }
}

template <class T>
void check_matmul(double tolerance) {
  for (int64_t m : {1, 3, 70}) {
    const int64_t k = 205, n = 45;
    Array a = numbers<T>(Dims{m, k}, -1, 1), b = numbers<T>(Dims{k, n}, -1, 1);
    Array c = run("matmul", {a, b});
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t p = 0; p < k; ++p)
          sum += double(a.data<T>()[i * k + p]) * b.data<T>()[p * n + j];
        check("matmul", i * n + j, c.data<T>()[i * n + j], sum, tolerance * 10);
      }
  }
}

// A sum begun elsewhere, a bias, and a function of the finished elements, each applied once.
template <class T>
void check_epilogue(const GemmTable<T>& table, double tolerance) {
  const int64_t sizes[][3] = {{1, 1, 9},    {1, 40, 70},      {70, 1, 300},
                              {3, 50, 600}, {40, 3, 20},      {33, 65, 0},
                              {33, 65, 17}, {130, 200, 1100}, {10, 20, 9000}};
  for (const auto& [m, n, k] : sizes)
    for (int form = 0; form < 4; ++form) {  // which operands lie transposed
      const bool ta = form & 1, tb = form & 2;
      Array a = numbers<T>(Dims{m, k}, -1, 1), b = numbers<T>(Dims{k, n}, -1, 1);
      Array c = numbers<T>(Dims{m, n}, -1, 1), start = numbers<T>(Dims{m, n}, -1, 1);
      Array bias = numbers<T>(Dims{n}, -1, 1);
      const MatView<const T> va{a.data<const T>(), ta ? 1 : k, ta ? m : 1};
      const MatView<const T> vb{b.data<const T>(), tb ? 1 : n, tb ? k : 1};
      const T factor = 2;
      Epilogue<T> e;
      e.accumulate = true;
      e.bias = bias.data<const T>();
      e.context = &factor;
      e.after = [](const void* context, T* at, int64_t rs, int64_t rows, int64_t cols) {
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t j = 0; j < cols; ++j)
            at[i * rs + j] = *static_cast<const T*>(context) * at[i * rs + j] + 1;
      };
      gemm<T>(table, m, n, k, va, vb, {c.data<T>(), n, 1}, e);
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j) {
          double sum = double(start.data<T>()[i * n + j]) + bias.data<T>()[j];
          for (int64_t p = 0; p < k; ++p)
            sum += double(va.data[i * va.rs + p * va.cs]) * vb.data[p * vb.rs + j * vb.cs];
          check("epilogue", i * n + j, c.data<T>()[i * n + j], 2 * sum + 1, tolerance * 100);
        }
    }
}

}  // namespace

int main() {
  try {
    check_functions<float>(4e-7);
    check_functions<double>(1e-15);
    check_every_pointwise<float>();
    check_every_pointwise<double>();
    check_rows<float>(1e-6);
    check_rows<double>(1e-14);
    check_matmul<float>(1e-6);
    check_matmul<double>(1e-14);
    check_epilogue(*kernels().gemm_f32, 1e-6);
    check_epilogue(*kernels().gemm_f64, 1e-14);
  } catch (const Error& e) {
    std::printf("error: %s\n", e.what());
    return 1;
  }
  std::printf("kernels of '%s': %s\n", kernels().isa, failures ? "WRONG" : "all values right");
  return failures != 0;
}
