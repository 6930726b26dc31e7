#include "plan/loop.h"

#include <algorithm>
#include <cstring>

#include "core/parallel.h"
#include "kernels/table.h"

namespace backtrail {
namespace {

constexpr int kOperands = kMaxInputs + 2;  // a derivative's gradient and inputs, and the output
constexpr int64_t kBlock = 1024;           // elements a gathered block holds
constexpr int64_t kTask = 16384;           // elements a task holds
constexpr int64_t kLongRow = 128;          // rows of which run in place instead of being gathered

struct Splat {
  alignas(64) char bytes[64];
};

// Repeat one element over a 64-byte vector.
void splat(Splat& s, const void* element, size_t size) {
  for (size_t i = 0; i < 64; i += size) std::memcpy(s.bytes + i, element, size);
}

PointwiseKernel choose(const PointwiseKernels& k, DType compute) {
  return compute == DType::f32 ? k.f32 : compute == DType::f64 ? k.f64 : k.i64;
}

// The iteration space with dimensions merged where every operand allows it.
struct Space {
  int n = 0;
  int64_t shape[kMaxDims];
  int64_t strides[kOperands][kMaxDims];
  int64_t numel = 1;

  Space(const Dims& full, const Array* const* arrays, int count) {
    for (int d = 0; d < full.n; ++d) {
      numel *= full[d];
      if (full[d] == 1) continue;
      int64_t step[kOperands];
      for (int j = 0; j < count; ++j) {
        const Array* a = arrays[j];
        int k = a ? d - (full.n - a->shape.n) : -1;
        step[j] = k < 0 || a->shape[k] == 1 ? 0 : a->strides[k];
      }
      bool merges = n > 0;
      for (int j = 0; merges && j < count; ++j) merges = strides[j][n - 1] == step[j] * full[d];
      if (!merges) ++n;
      shape[n - 1] = merges ? shape[n - 1] * full[d] : full[d];
      for (int j = 0; j < count; ++j) strides[j][n - 1] = step[j];
    }
    if (n == 0) {
      n = 1, shape[0] = 1;
      for (int j = 0; j < count; ++j) strides[j][0] = 0;
    }
  }

  bool flat(int j) const { return n == 1 && strides[j][0] == 1; }
  bool constant(int j) const {
    for (int d = 0; d < n; ++d)
      if (strides[j][d] != 0) return false;
    return true;
  }
  // Offset of element `i` of operand j, and its index in every dimension.
  int64_t locate(int j, int64_t i, int64_t* index) const {
    int64_t offset = 0;
    for (int d = n - 1; d >= 0; --d) {
      index[d] = i % shape[d];
      i /= shape[d];
      offset += index[d] * strides[j][d];
    }
    return offset;
  }
};

// Copy elements [start, start + n) of the space between operand j at `base` and a dense block.
template <bool gather>
void transfer(const Space& s, int j, char* base, char* block, int64_t start, int64_t n,
              size_t size) {
  auto copy = kernels().numeric->copy_strided;
  int64_t index[kMaxDims];
  int64_t offset = s.locate(j, start, index);
  const int last = s.n - 1;
  const int64_t step = s.strides[j][last];
  while (n > 0) {
    int64_t run = std::min(n, s.shape[last] - index[last]);
    char* p = base + offset * int64_t(size);
    if (gather)
      copy(block, 1, p, step, run, size);
    else
      copy(p, step, block, 1, run, size);
    block += run * int64_t(size);
    n -= run;
    offset += run * step;
    index[last] += run;
    for (int d = last; d > 0 && index[d] == s.shape[d]; --d) {
      offset += s.strides[j][d - 1] - s.shape[d] * s.strides[j][d];
      index[d] = 0;
      ++index[d - 1];
    }
  }
}

struct Launch {
  PointwiseKernel kernel;
  int n_in;
  const double* attrs;
  const Array* arrays[kOperands];  // the inputs, then the output; null for a number
  DType dtypes[kOperands];         // what the kernel reads and writes
  char* base[kOperands];
  Splat splats[kOperands];
  bool constant[kOperands];
};

// Rows long enough to run where they lie.
void run_rows(const Launch& l, const Space& s) {
  const int last = s.n - 1;
  const int64_t row = s.shape[last], rows = s.numel / row;
  const int64_t cuts = (row + kTask - 1) / kTask;
  const int64_t rows_per_task = cuts > 1 ? 1 : std::max<int64_t>(1, kTask / row);
  const int64_t groups = (rows + rows_per_task - 1) / rows_per_task;
  parallel_for(groups * cuts, double(s.numel) * 0.5, [&](int64_t task) {
    const int64_t begin = task % cuts * kTask, n = std::min(kTask, row - begin);
    const int64_t first = task / cuts * rows_per_task;
    for (int64_t r = first; r < std::min(rows, first + rows_per_task); ++r) {
      const void* in[kOperands];
      int64_t mask[kOperands];
      Splat local[kOperands];
      int64_t index[kMaxDims];
      char* out = nullptr;
      for (int j = 0; j <= l.n_in; ++j) {
        const size_t size = item_size(l.dtypes[j]);
        if (l.constant[j]) {
          in[j] = l.splats[j].bytes, mask[j] = 0;
          continue;
        }
        int64_t step = s.strides[j][last];
        char* p = l.base[j] + (s.locate(j, r * row, index) + begin * step) * int64_t(size);
        if (j == l.n_in) {
          out = p;
        } else if (step == 0) {
          splat(local[j], p, size);
          in[j] = local[j].bytes, mask[j] = 0;
        } else {
          in[j] = p, mask[j] = -1;
        }
      }
      l.kernel(out, in, mask, n, l.attrs);
    }
  });
}

// Any strides and dtypes: each block is gathered, computed in L1, and scattered.
void run_blocks(const Launch& l, const Space& s, double cost) {
  auto& convert = kernels().numeric->convert;
  const int64_t tasks = (s.numel + kTask - 1) / kTask;
  parallel_for(tasks, double(s.numel) * (cost + 1), [&](int64_t task) {
    constexpr size_t kBytes = kBlock * 8;
    char* room = static_cast<char*>(scratch(2 * kOperands * kBytes, 3));
    const int64_t end = std::min(s.numel, (task + 1) * kTask);
    for (int64_t i = task * kTask; i < end; i += kBlock) {
      const int64_t n = std::min(kBlock, end - i);
      const void* in[kOperands];
      int64_t mask[kOperands];
      for (int j = 0; j < l.n_in; ++j) {
        if (l.constant[j]) {
          in[j] = l.splats[j].bytes, mask[j] = 0;
          continue;
        }
        mask[j] = -1;
        const DType from = l.arrays[j]->dtype, to = l.dtypes[j];
        char *p = l.base[j] + i * int64_t(item_size(from)), *block = room + 2 * j * kBytes;
        if (!s.flat(j)) {
          transfer<true>(s, j, l.base[j], block, i, n, item_size(from));
          p = block;
        }
        if (from != to) {
          convert[int(from)][int(to)](p, block + kBytes, n);
          p = block + kBytes;
        }
        in[j] = p;
      }
      const int o = l.n_in;
      const DType from = l.dtypes[o], to = l.arrays[o]->dtype;
      const bool flat = s.flat(o);
      char *p = l.base[o] + i * int64_t(item_size(to)), *block = room + 2 * o * kBytes;
      char* result = from == to && flat ? p : block;
      l.kernel(result, in, mask, n, l.attrs);
      if (from != to) {
        char* converted = flat ? p : block + kBytes;
        convert[int(from)][int(to)](block, converted, n);
        result = converted;
      }
      if (!flat) transfer<false>(s, o, l.base[o], result, i, n, item_size(to));
    }
  });
}

}  // namespace

void run_pointwise(const PointwiseKernels& table, DType compute, unsigned masks, bool mask_output,
                   const Operand* in, int n_in, const Array& out, const double* attrs,
                   double cost) {
  Launch l;
  l.kernel = choose(table, compute);
  l.n_in = n_in;
  l.attrs = attrs;
  l.arrays[n_in] = &out;
  l.dtypes[n_in] = mask_output ? DType::b8 : compute;
  l.base[n_in] = out.data();
  l.constant[n_in] = false;
  bool same_types = out.dtype == l.dtypes[n_in], simple = same_types && out.contiguous();
  const int64_t numel = out.numel();
  if (numel == 0) return;
  for (int j = 0; j < n_in; ++j) {
    const Array* a = in[j].array;
    const DType want = masks >> j & 1 ? DType::b8 : compute;
    l.arrays[j] = a;
    l.dtypes[j] = want;
    l.base[j] = a ? a->data() : nullptr;
    l.constant[j] = !a || (a->numel() == 1);
    if (l.constant[j]) {
      char element[8];
      if (a) {
        kernels().numeric->convert[int(a->dtype)][int(want)](a->data(), element, 1);
      } else if (want == DType::f32) {
        float f = float(in[j].number);
        std::memcpy(element, &f, sizeof f);
      } else if (want == DType::f64) {
        std::memcpy(element, &in[j].number, 8);
      } else if (want == DType::i64) {
        std::memcpy(element, &in[j].integer, 8);
      } else {
        element[0] = in[j].number != 0;
      }
      splat(l.splats[j], element, item_size(want));
      continue;
    }
    same_types = same_types && a->dtype == want;
    simple = simple && same_types && a->shape == out.shape && a->contiguous();
  }
  if (simple) {  // one run of equal, dense operands
    const int64_t tasks = (numel + kTask - 1) / kTask;
    parallel_for(tasks, double(numel) * cost, [&](int64_t task) {
      const int64_t begin = task * kTask, n = std::min(kTask, numel - begin);
      const void* p[kOperands];
      int64_t mask[kOperands];
      for (int j = 0; j < l.n_in; ++j) {
        mask[j] = l.constant[j] ? 0 : -1;
        p[j] =
            l.constant[j] ? l.splats[j].bytes : l.base[j] + begin * int64_t(item_size(l.dtypes[j]));
      }
      l.kernel(l.base[l.n_in] + begin * int64_t(item_size(l.dtypes[l.n_in])), p, mask, n, l.attrs);
    });
    return;
  }
  for (int j = 0; j < n_in; ++j)
    if (l.constant[j]) l.arrays[j] = nullptr;
  Space s(out.shape, l.arrays, n_in + 1);
  const int last = s.n - 1;
  bool rows = same_types && s.shape[last] >= kLongRow;
  for (int j = 0; rows && j <= n_in; ++j)
    rows = l.constant[j] || s.strides[j][last] == 1 || (j < n_in && s.strides[j][last] == 0);
  if (rows)
    run_rows(l, s);
  else
    run_blocks(l, s, cost);
}

}  // namespace backtrail
