// Pointwise loops: flat runs, long rows, gathered blocks.
#include "plan/launch.h"

#include <algorithm>
#include <cstring>

#include "core/parallel.h"
#include "kernels/table.h"
#include "plan/capture.h"
#include "plan/short_copy.h"

namespace backtrail {
namespace {

constexpr int64_t kLongRow = 128;  // rows of which run in place instead of being gathered

// Repeat one element over a 64-byte vector.
void splat(Splat& s, const void* element, size_t size) {
  for (size_t i = 0; i < 64; i += size) std::memcpy(s.bytes + i, element, size);
}

PointwiseKernel choose(const PointwiseKernels& k, DType compute) {
  return compute == DType::f32 ? k.f32 : compute == DType::f64 ? k.f64 : k.i64;
}

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
    if (step == 1 && run * int64_t(size) <= kShortCopy)
      gather ? copy_short(block, p, run * int64_t(size))
             : copy_short(p, block, run * int64_t(size));
    else if (gather && step == 0 && size == 4)
      fill_short(block, p, run);
    else if (gather)
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

// Rows long enough to run where they lie.
void run_rows(const Launch& l, const Space& s) {
  const int last = s.n - 1;
  const int64_t row = s.shape[last], rows = s.numel / row;
  const int64_t length = Launch::task(l.numel), cuts = (row + length - 1) / length;
  const int64_t rows_per_task = cuts > 1 ? 1 : std::max<int64_t>(1, length / row);
  const int64_t groups = (rows + rows_per_task - 1) / rows_per_task;
  parallel_for(groups * cuts, double(s.numel) * 0.5, [&](int64_t task) {
    const int64_t begin = task % cuts * length, n = std::min(length, row - begin);
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

}  // namespace

const void* Launch::load(int j, int64_t i, int64_t n, char* room) const {
  const DType from = arrays[j]->dtype, to = dtypes[j];
  const char* p = base[j] + i * int64_t(item_size(from));
  if (!dense[j]) {
    transfer<true>(space, j, base[j], room, i, n, item_size(from));
    p = room;
  }
  return from == to ? p : converted(j, p, n, room);
}

const void* Launch::converted(int j, const void* elements, int64_t n, char* room) const {
  char* to = room + kBlock * 8;
  kernels().numeric->convert[int(arrays[j]->dtype)][int(dtypes[j])](elements, to, n);
  return to;
}

void* Launch::target(int64_t i, char* room) const {
  const DType from = dtypes[n_in], to = arrays[n_in]->dtype;
  const bool in_place = from == to && dense[n_in];
  return in_place ? base[n_in] + i * int64_t(item_size(to)) : room;
}

void Launch::store(const void* result, int64_t i, int64_t n, char* room) const {
  const DType from = dtypes[n_in], to = arrays[n_in]->dtype;
  char* p = base[n_in] + i * int64_t(item_size(to));
  if (from != to) {
    char* converted = dense[n_in] ? p : room + kBlock * 8;
    kernels().numeric->convert[int(from)][int(to)](result, converted, n);
    result = converted;
  }
  if (!dense[n_in])
    transfer<false>(space, n_in, base[n_in], static_cast<char*>(const_cast<void*>(result)), i, n,
                    item_size(to));
}

namespace {

void run_flat(const Launch& l) {
  auto part = [&](int64_t begin, int64_t n) {
    const void* in[kOperands];
    int64_t mask[kOperands];
    for (int j = 0; j < l.n_in; ++j) {
      mask[j] = l.constant[j] ? 0 : -1;
      in[j] =
          l.constant[j] ? l.splats[j].bytes : l.base[j] + begin * int64_t(item_size(l.dtypes[j]));
    }
    l.kernel(l.base[l.n_in] + begin * int64_t(item_size(l.dtypes[l.n_in])), in, mask, n, l.attrs);
  };
  const int64_t size = Launch::task(l.numel);
  if (l.numel <= size) return part(0, l.numel);
  parallel_for((l.numel + size - 1) / size, double(l.numel) * l.cost, [&](int64_t task) {
    const int64_t begin = task * size;
    part(begin, std::min(size, l.numel - begin));
  });
}

// The length of the one short row that an input is for every row of the result; else 0.
int64_t repeated_row(const Launch& l, int j) {
  const Space& s = l.space;
  const bool repeats = !l.constant[j] && s.n == 2 && s.strides[j][0] == 0 && s.strides[j][1] == 1 &&
                       s.shape[1] <= Launch::kBlock && l.arrays[j]->dtype == l.dtypes[j];
  return repeats ? s.shape[1] : 0;
}

void run_blocks(const Launch& l) {
  const int64_t size = Launch::task(l.numel);
  // A copy into dense memory needs no room on the way.
  if (is_copy(l.kernel) && l.n_in == 1 && l.dense[1] && !l.dense[0] && !l.constant[0] &&
      l.arrays[0]->dtype == l.arrays[1]->dtype && l.arrays[0]->dtype == l.dtypes[0]) {
    const size_t item = item_size(l.dtypes[0]);
    return parallel_for((l.numel + size - 1) / size, double(l.numel) * 0.3, [&](int64_t task) {
      const int64_t i = task * size;
      transfer<true>(l.space, 0, l.base[0], l.base[1] + i * int64_t(item), i,
                     std::min(size, l.numel - i), item);
    });
  }
  parallel_for((l.numel + size - 1) / size, double(l.numel) * (l.cost + 1), [&](int64_t task) {
    char* room = static_cast<char*>(scratch(kOperands * Launch::kRoom, 3));
    const int64_t end = std::min(l.numel, (task + 1) * size);
    int64_t row[kOperands];
    for (int j = 0; j < l.n_in; ++j) {  // so often that a block from any place in it can be read
      row[j] = repeated_row(l, j);
      const int64_t item = int64_t(item_size(l.dtypes[j])), most = (Launch::kBlock + row[j]) * item;
      char* to = room + size_t(j) * Launch::kRoom;
      for (int64_t k = 0; row[j] && k < most; k += row[j] * item)
        copy_run(to + k, l.base[j], std::min(row[j] * item, most - k));
    }
    for (int64_t i = task * size; i < end; i += Launch::kBlock) {
      const int64_t n = std::min(Launch::kBlock, end - i);
      const void* in[kOperands];
      int64_t mask[kOperands];
      for (int j = 0; j < l.n_in; ++j) {
        mask[j] = l.constant[j] ? 0 : -1;
        char* own = room + size_t(j) * Launch::kRoom;
        in[j] = l.constant[j] ? l.splats[j].bytes
                : row[j]      ? own + i % row[j] * int64_t(item_size(l.dtypes[j]))
                              : l.load(j, i, n, own);
      }
      char* last = room + size_t(l.n_in) * Launch::kRoom;
      void* result = l.target(i, last);
      l.kernel(result, in, mask, n, l.attrs);
      l.store(result, i, n, last);
    }
  });
}

}  // namespace

namespace {

// The dimension along which the source of a copy is dense, where that is not the last one and it is
// long enough for tiles; -1 for none.
int other_dim(const Launch& l) {
  constexpr int64_t kLeast = 8;
  const Space& s = l.space;
  const int last = s.n - 1;
  if (s.strides[1][last] != 1 || s.shape[last] < 2) return -1;
  for (int d = 0; d < last; ++d)
    if (s.strides[0][d] == 1 && s.shape[d] >= kLeast) return d;
  return -1;
}

// Tiles of two dimensions, over all of the others.
void run_transposed(const Launch& l) {
  const Space& s = l.space;
  const int d = other_dim(l), last = s.n - 1;
  const size_t size = item_size(l.dtypes[0]);
  const int64_t band = std::max<int64_t>(16, Launch::task(l.numel) / s.shape[last] / 16 * 16);
  const int64_t bands = (s.shape[d] + band - 1) / band;
  const int64_t planes = s.numel / (s.shape[d] * s.shape[last]);
  parallel_for(planes * bands, double(s.numel) * 1.0, [&](int64_t task) {
    int64_t from = 0, to = 0, rest = task / bands;
    for (int k = last - 1; k >= 0; --k) {
      if (k == d) continue;
      from += rest % s.shape[k] * s.strides[0][k];
      to += rest % s.shape[k] * s.strides[1][k];
      rest /= s.shape[k];
    }
    const int64_t first = task % bands * band, rows = std::min(band, s.shape[d] - first);
    from += first;
    to += first * s.strides[1][d];
    kernels().numeric->copy_transposed(l.base[1] + to * int64_t(size), s.strides[1][d],
                                       l.base[0] + from * int64_t(size), s.strides[0][last], rows,
                                       s.shape[last], size);
  });
}

}  // namespace

Launch::Launch(const PointwiseKernels& table, DType compute, unsigned masks, bool mask_output,
               const Operand* in, int n_in_, const Array& out, const double* values, double cost_)
    : kernel(choose(table, compute)), n_in(n_in_), cost(cost_), numel(out.numel()) {
  if (values) std::memcpy(attrs, values, sizeof attrs);
  arrays[n_in] = &out;
  dtypes[n_in] = mask_output ? DType::b8 : compute;
  constant[n_in] = false;
  dense[n_in] = out.contiguous();
  manner = nothing;
  if (numel == 0) return;
  bool same_types = out.dtype == dtypes[n_in], simple = same_types && dense[n_in];
  for (int j = 0; j < n_in; ++j) {
    const Array* a = in[j].array;
    const DType want = masks >> j & 1 ? DType::b8 : compute;
    arrays[j] = a;
    dtypes[j] = want;
    constant[j] = !a || a->numel() == 1;
    if (!a) {
      char element[8];
      if (want == DType::f32) {
        float f = float(in[j].number);
        std::memcpy(element, &f, sizeof f);
      } else if (want == DType::f64) {
        std::memcpy(element, &in[j].number, 8);
      } else if (want == DType::i64) {
        std::memcpy(element, &in[j].integer, 8);
      } else {
        element[0] = in[j].number != 0;
      }
      splat(splats[j], element, item_size(want));
    }
    dense[j] = false;
    if (constant[j]) continue;
    dense[j] = a->shape == out.shape && a->contiguous();
    same_types = same_types && a->dtype == want;
    simple = simple && same_types && dense[j];
  }
  if (simple) {
    manner = flat;
    return;
  }
  const Array* varying[kOperands];
  for (int j = 0; j <= n_in; ++j) varying[j] = constant[j] ? nullptr : arrays[j];
  space = Space(out.shape, varying, n_in + 1);
  const int last = space.n - 1;
  bool in_rows = same_types && space.shape[last] >= kLongRow;
  for (int j = 0; in_rows && j <= n_in; ++j)
    in_rows =
        constant[j] || space.strides[j][last] == 1 || (j < n_in && space.strides[j][last] == 0);
  manner = in_rows ? rows : blocks;
  if (manner == blocks && same_types && n_in == 1 && is_copy(kernel) && other_dim(*this) >= 0)
    manner = transposed;
}

void Launch::refresh() {
  if (manner == nothing) return;
  for (int j = 0; j <= n_in; ++j) {
    const Array* a = arrays[j];
    if (!a) continue;
    base[j] = a->data();
    if (!constant[j]) continue;
    char element[8];
    kernels().numeric->convert[int(a->dtype)][int(dtypes[j])](base[j], element, 1);
    splat(splats[j], element, item_size(dtypes[j]));
  }
}

void Launch::run() const {
  if (manner == flat)
    run_flat(*this);
  else if (manner == rows)
    run_rows(*this, space);
  else if (manner == transposed)
    run_transposed(*this);
  else if (manner == blocks)
    run_blocks(*this);
}

void run_pointwise(const PointwiseKernels& table, DType compute, unsigned masks, bool mask_output,
                   const Operand* in, int n_in, const Array& out, const double* attrs, double cost,
                   const char* name) {
  if (capturing)
    record_pointwise(table, compute, masks, mask_output, in, n_in, out, attrs, cost, name);
  Launch launch(table, compute, masks, mask_output, in, n_in, out, attrs, cost);
  launch.refresh();
  launch.run();
}

}  // namespace backtrail
