#include "exec/optimizer.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "exec/arguments.h"
#include "kernels/table.h"
#include "ops/optimizer.h"

namespace backtrail {
namespace {

constexpr int64_t kBlock = 1 << 14;  // elements of a task
constexpr int kLists = 5;

// The arrays of one parameter, as kernels take them.
struct Group {
  void* data[kLists];
  int64_t n, first_block;
  bool f64;
};

// Lists of arrays to go through side by side: list[0] decides the type, list[1], if any, may have
// empty Arrays, which are passed over; list[1] is only read.
struct Lists {
  const char* name;
  const Array* list[kLists];
  int lists, n;

  bool given(int i) const { return list[0][i] && (lists == 1 || list[1][i]); }

  void check(int i) const {
    const Array& p = list[0][i];
    if (!is_floating(p.dtype))
      fail(ErrorKind::type, "%s: parameter %d is %s; expected a floating point dtype", name, i,
           dtype_name(p.dtype));
    for (int k = 1; k < lists; ++k) {
      const Array* a = list[k] ? &list[k][i] : nullptr;
      if (a && a->shape != p.shape)
        fail(ErrorKind::runtime, "%s: parameter %d has shape %s but its %s has %s", name, i,
             to_string(p.shape).c_str(), k == 1 ? "gradient" : "state",
             to_string(a->shape).c_str());
    }
  }
};

// f(group, begin, n) over blocks of all groups, as one set of tasks.
template <class F>
void each_block(const Group* groups, int count, double ns_each, F&& f) {
  int64_t blocks = 0, total = 0;
  for (int i = 0; i < count; ++i) {
    blocks += chunks(groups[i].n, kBlock);
    total += groups[i].n;
  }
  if (blocks == count && double(total) * ns_each < 10e3) {  // one small block each
    for (int i = 0; i < count; ++i) f(groups[i], 0, groups[i].n);
    return;
  }
  parallel_for(blocks, double(total) * ns_each, [&](int64_t block) {
    int low = 0, high = count;  // the last group whose first block is not after this one
    while (high - low > 1) {
      int middle = (low + high) / 2;
      (groups[middle].first_block <= block ? low : high) = middle;
    }
    const Group& g = groups[low];
    int64_t begin = (block - g.first_block) * kBlock;
    f(g, begin, g.n - begin < kBlock ? g.n - begin : kBlock);
  });
}

// run(groups, count) with all arrays as contiguous float32 or float64; those that were not are
// copied before, and back after.
template <class F>
void with_groups(const Lists& in, bool writes, F&& run) {
  constexpr int kFew = 64;
  Group few[kFew];
  std::vector<Group> many(size_t(in.n > kFew ? in.n : 0));
  Group* groups = in.n > kFew ? many.data() : few;
  struct Copy {
    Array work;
    const Array* original;
    bool written;
  };
  std::vector<Copy> copies;
  int count = 0;
  int64_t blocks = 0;
  for (int i = 0; i < in.n; ++i) {
    if (!in.given(i)) continue;
    in.check(i);
    Group& g = groups[count];
    DType dtype = compute_type(in.list[0][i].dtype);
    g.n = in.list[0][i].numel();
    if (g.n == 0) continue;
    g.f64 = dtype == DType::f64;
    g.first_block = blocks;
    blocks += chunks(g.n, kBlock);
    for (int k = 0; k < in.lists; ++k) {
      g.data[k] = nullptr;
      if (!in.list[k]) continue;
      const Array& a = in.list[k][i];
      if (a.dtype == dtype && a.contiguous()) {
        g.data[k] = a.data();
      } else {
        copies.push_back({convert(a, dtype), &a, writes && k != 1});
        g.data[k] = copies.back().work.data();
      }
    }
    ++count;
  }
  Uninterruptible all_or_nothing;
  run(groups, count);
  for (const Copy& copy : copies)
    if (copy.written) copy_into(copy.work, *copy.original);
}

// f(zero of the element type, its OptimizerTable).
template <class F>
void by_table(const Group& g, F&& f) {
  if (g.f64)
    f(double(), *kernels().numeric->optimizer_f64);
  else
    f(float(), *kernels().numeric->optimizer_f32);
}

template <class T>
T* at(const Group& g, int k, int64_t begin) {
  return g.data[k] ? static_cast<T*>(g.data[k]) + begin : nullptr;
}

AdamFactors adam_factors(const AdamOptions& o) {
  AdamFactors f;
  f.sign = o.maximize ? -1 : 1;
  f.decay = o.decoupled ? 0 : o.weight_decay;
  f.shrink = o.decoupled ? 1 - o.lr * o.weight_decay : 1;
  f.mean_weight = 1 - o.beta1;
  f.beta2 = o.beta2;
  f.scale = 1 / std::sqrt(1 - std::pow(o.beta2, double(o.step)));
  f.eps = o.eps;
  f.step_size = o.lr / (1 - std::pow(o.beta1, double(o.step)));
  return f;
}

}  // namespace

void adam_step(const Array* params, const Array* grads, const Array* exp_avgs,
               const Array* exp_avg_sqs, const Array* max_exp_avg_sqs, int n,
               const AdamOptions& options) {
  if (options.amsgrad && !max_exp_avg_sqs)
    fail(ErrorKind::value, "adam: amsgrad needs max_exp_avg_sqs");
  const AdamFactors factors = adam_factors(options);
  Lists lists{"adam",
              {params, grads, exp_avgs, exp_avg_sqs, options.amsgrad ? max_exp_avg_sqs : nullptr},
              kLists,
              n};
  with_groups(lists, true, [&](const Group* groups, int count) {
    each_block(groups, count, 0.5, [&](const Group& g, int64_t begin, int64_t size) {
      by_table(g, [&](auto zero, const auto& table) {
        using T = decltype(zero);
        table.adam(at<T>(g, 0, begin), at<T>(g, 1, begin), at<T>(g, 2, begin), at<T>(g, 3, begin),
                   at<T>(g, 4, begin), size, factors);
      });
    });
  });
}

void sgd_step(const Array* params, const Array* grads, const Array* momentum_buffers, int n,
              const SgdOptions& options) {
  if (options.momentum != 0 && !momentum_buffers)
    fail(ErrorKind::value, "sgd: momentum needs momentum_buffers");
  if (options.nesterov && (options.momentum <= 0 || options.dampening != 0))
    fail(ErrorKind::value, "sgd: nesterov needs a positive momentum and no dampening");
  const SgdFactors factors{options.maximize ? -1.0 : 1.0,
                           options.weight_decay,
                           options.momentum,
                           1 - options.dampening,
                           options.lr,
                           options.nesterov,
                           options.first};
  Lists lists{"sgd", {params, grads, options.momentum != 0 ? momentum_buffers : nullptr}, 3, n};
  with_groups(lists, true, [&](const Group* groups, int count) {
    each_block(groups, count, 0.3, [&](const Group& g, int64_t begin, int64_t size) {
      by_table(g, [&](auto zero, const auto& table) {
        using T = decltype(zero);
        table.sgd(at<T>(g, 0, begin), at<T>(g, 1, begin), at<T>(g, 2, begin), size, factors);
      });
    });
  });
}

double grad_norm(const Array* grads, int n, double p) {
  if (!(p > 0)) fail(ErrorKind::value, "grad_norm: norm_type is %g; it must be positive", p);
  double norm = 0;
  with_groups({"grad_norm", {grads}, 1, n}, false, [&](const Group* groups, int count) {
    const Group* last = groups + count - 1;
    int64_t blocks = count ? last->first_block + chunks(last->n, kBlock) : 0;
    double* parts = static_cast<double*>(scratch(size_t(blocks) * sizeof(double)));
    each_block(groups, count, 0.2, [&](const Group& g, int64_t begin, int64_t size) {
      by_table(g, [&](auto zero, const auto& table) {
        using T = decltype(zero);
        const T* x = at<T>(g, 0, begin);
        double& part = parts[g.first_block + begin / kBlock];
        if (p == 2)
          part = table.sum_squares(x, size);
        else if (p == 1)
          part = table.sum_abs(x, size);
        else if (std::isinf(p))
          part = table.max_abs(x, size);
        else
          for (part = 0; size > 0; --size) part += std::pow(std::fabs(double(*x++)), p);
      });
    });
    for (int64_t i = 0; i < blocks; ++i) {
      bool keep = parts[i] <= norm || norm != norm;
      norm = !std::isinf(p) ? norm + parts[i] : keep ? norm : parts[i];
    }
  });
  return p == 2 ? std::sqrt(norm) : p == 1 || std::isinf(p) ? norm : std::pow(norm, 1 / p);
}

void scale_all(const Array* arrays, int n, double factor) {
  with_groups({"scale", {arrays}, 1, n}, true, [&](const Group* groups, int count) {
    each_block(groups, count, 0.2, [&](const Group& g, int64_t begin, int64_t size) {
      by_table(g, [&](auto zero, const auto& table) {
        table.scale(at<decltype(zero)>(g, 0, begin), size, factor);
      });
    });
  });
}

bool clip_grads(const Array* grads, int n, double max_norm, double norm_type, const Array& norm) {
  const double total = grad_norm(grads, n, norm_type);
  const double factor = max_norm / (total + 1e-6);
  const bool scales = !(factor >= 1);
  if (scales) scale_all(grads, n, factor);
  if (norm.dtype == DType::f64)
    *norm.data<double>() = total;
  else
    *norm.data<float>() = float(total);
  return scales;
}

void require_finite(const Array& scalar, const char* name) {
  double value = 0;
  if (scalar.dtype == DType::f64) {
    value = *scalar.data<double>();
  } else if (scalar.dtype == DType::f32) {
    value = double(*scalar.data<float>());
  } else if (scalar.dtype == DType::bf16) {
    const uint32_t bits = uint32_t(*scalar.data<uint16_t>()) << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    value = double(wide);
  }
  if (!std::isfinite(value))
    fail(ErrorKind::value, "%s is %s", name,
         std::isnan(value) ? "nan"
         : value > 0       ? "inf"
                           : "-inf");
}

}  // namespace backtrail
