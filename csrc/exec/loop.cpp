// Pointwise loops: flat runs, long rows, gathered blocks.
#include "exec/launch.h"

#include <algorithm>
#include <cstring>

#include "core/parallel.h"
#include "exec/observer.h"
#include "exec/op.h"
#include "exec/short_copy.h"
#include "kernels/table.h"

namespace backtrail {
namespace {

constexpr int64_t kSplats = 16;    // rows whose single elements are repeated at once
constexpr int64_t kLongRow = 128;  // rows of which run in place instead of being gathered

// Repeat one element over a 64-byte vector.
void splat(Splat& s, const void* element, size_t size) {
  kernels().copies->repeated(s.bytes, element, 0, 1, int64_t(64 / size), size);
}

PointwiseKernel choose(const PointwiseKernels& k, DType compute) {
  return compute == DType::f32 ? k.f32 : compute == DType::f64 ? k.f64 : k.i64;
}

// Copy elements [start, start + n) of the space between operand j at `base` and a dense block.
template <bool gather>
void transfer(const Space& s, int j, char* base, char* block, int64_t start, int64_t n,
              size_t size) {
  const CopyTable& copies = *kernels().copies;
  const int64_t item = int64_t(size);
  int64_t index[kMaxDims];
  int64_t offset = s.locate(j, start, index);
  const int last = s.n - 1;
  const int64_t step = s.strides[j][last], width = s.shape[last];
  while (n > 0) {
    const int64_t run = std::min(n, width - index[last]);
    char* p = base + offset * item;
    int64_t rows = 1;
    if (run == width && last > 0) {  // whole rows, as many as lie at equal distances
      const int64_t next = s.strides[j][last - 1];
      rows = std::min(n / width, s.shape[last - 1] - index[last - 1]);
      if (step == 1 && gather)
        copies.rows(block, width * item, p, next * item, rows, width * item);
      else if (step == 1)
        copies.rows(p, next * item, block, width * item, rows, width * item);
      else if (step == 0 && gather)
        copies.repeated(block, p, next, rows, width, size);
      else
        for (int64_t r = 0; r < rows; ++r) {
          char *there = p + r * next * item, *here = block + r * width * item;
          gather ? copies.strided(here, 1, there, step, width, size)
                 : copies.strided(there, step, here, 1, width, size);
        }
      offset += rows * next;
      index[last - 1] += rows;
    } else {
      gather ? copies.strided(block, 1, p, step, run, size)
             : copies.strided(p, step, block, 1, run, size);
      offset += run * step;
      index[last] += run;
      if (last > 0 && index[last] == width) {
        offset += s.strides[j][last - 1] - width * step;
        index[last] = 0;
        ++index[last - 1];
      }
    }
    block += rows * run * item;
    n -= rows * run;
    for (int d = last - 1; d > 0 && index[d] == s.shape[d]; --d) {
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
    const int64_t end = std::min(rows, first + rows_per_task);
    int64_t index[kMaxDims], offset[kOperands], mask[kOperands], item[kOperands];
    const void* in[kOperands];
    int varying[kOperands], n_varying = 0;
    Splat local[kOperands][kSplats];
    for (int j = 0; j <= l.n_in; ++j) {
      mask[j] = l.constant[j] || s.strides[j][last] == 0 ? 0 : -1;
      item[j] = int64_t(item_size(l.dtypes[j]));
      if (l.constant[j]) {
        in[j] = l.splats[j].bytes;
        continue;
      }
      varying[n_varying++] = j;
      offset[j] = s.locate(j, first * row, index) + begin * s.strides[j][last];
    }
    for (int64_t r = first; r < end;) {
      // Rows that follow at equal distances.
      const int64_t group =
          std::min({end - r, kSplats, last ? s.shape[last - 1] - index[last - 1] : 1});
      int64_t step[kOperands];
      for (int v = 0; v < n_varying; ++v) {
        const int j = varying[v];
        step[j] = last ? s.strides[j][last - 1] : 0;
        in[j] = l.base[j] + offset[j] * item[j];
        offset[j] += group * step[j];
        step[j] *= item[j];
        if (mask[j]) continue;
        kernels().copies->repeated(local[j], in[j], step[j] / item[j], group,
                                   int64_t(sizeof(Splat)) / item[j], size_t(item[j]));
        in[j] = local[j];
        step[j] = sizeof(Splat);
      }
      for (int64_t k = 0; k < group; ++k) {
        l.kernel(const_cast<void*>(in[l.n_in]), in, mask, n, l.attrs);
        for (int v = 0; v < n_varying; ++v)
          in[varying[v]] = static_cast<const char*>(in[varying[v]]) + step[varying[v]];
      }
      r += group;
      if (last) index[last - 1] += group;
      for (int d = last - 1; d > 0 && index[d] == s.shape[d]; --d) {
        for (int v = 0; v < n_varying; ++v) {
          const int64_t* strides = s.strides[varying[v]];
          offset[varying[v]] += strides[d - 1] - s.shape[d] * strides[d];
        }
        index[d] = 0;
        ++index[d - 1];
      }
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
      const int64_t item = int64_t(item_size(l.dtypes[j]));
      mask[j] = l.constant[j] ? 0 : l.dense[j] ? -1 : l.period - 1;
      in[j] = l.constant[j] ? l.splats[j].bytes : l.base[j] + (begin & mask[j]) * item;
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

void run_broadcast(const Launch& l) {
  const int input = l.dense[0];  // that is not the matrix
  const int64_t rows = l.space.shape[0], n = l.space.shape[1], step = l.space.strides[input][0];
  const int64_t item = int64_t(item_size(l.dtypes[input]));
  const char* other = l.base[input];
  if (!step) {
    char* row = static_cast<char*>(scratch(size_t(n * item) + sizeof(Splat), 3));
    std::memcpy(row, other, size_t(n * item));
    std::memcpy(row + n * item, other, sizeof(Splat));
    other = row;
  }
  int64_t per_task = Launch::task(l.numel) / n + 1;
  if (per_task > 16) per_task = per_task / 16 * 16;  // from one whole line to another
  parallel_for((rows + per_task - 1) / per_task, double(l.numel) * l.cost, [&](int64_t task) {
    const int64_t first = task * per_task, at = first * n * item;
    l.broadcast_kernel(l.base[2] + at, l.base[1 - input] + at, other + first * step * item, step,
                       std::min(per_task, rows - first), n, l.attrs);
  });
}

// The length of the one short row that an input is for every row of the result; else 0.
int64_t repeated_row(const Launch& l, int j) {
  const Space& s = l.space;
  const bool repeats = !l.constant[j] && s.n == 2 && s.strides[j][0] == 0 && s.strides[j][1] == 1 &&
                       s.shape[1] <= Launch::kBlock && l.arrays[j]->dtype == l.dtypes[j];
  return repeats ? s.shape[1] : 0;
}

// Whether an input has one element for each row of the result, which has two dimensions.
bool repeated_column(const Launch& l, int j) {
  const Space& s = l.space;
  return !l.constant[j] && s.n == 2 && s.strides[j][1] == 0 && l.arrays[j]->dtype == l.dtypes[j];
}

void run_blocks(const Launch& l) {
  // Blocks are of whole rows, where those are short.
  const int64_t width = l.space.shape[l.space.n - 1];
  const int64_t block = width < Launch::kBlock ? Launch::kBlock / width * width : Launch::kBlock;
  const int64_t size = Launch::task(l.numel) / block * block;
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
    bool column[kOperands];
    for (int j = 0; j < l.n_in; ++j) {  // so often that a block from any place in it can be read
      row[j] = repeated_row(l, j);
      column[j] = width < Launch::kBlock && repeated_column(l, j);
      const int64_t item = int64_t(item_size(l.dtypes[j])), most = (block + row[j]) * item;
      char* to = room + size_t(j) * Launch::kRoom;
      for (int64_t k = 0; row[j] && k < most; k += row[j] * item)
        copy_run(to + k, l.base[j], std::min(row[j] * item, most - k));
    }
    for (int64_t i = task * size; i < end; i += block) {
      const int64_t n = std::min(block, end - i);
      const void* in[kOperands];
      int64_t mask[kOperands];
      for (int j = 0; j < l.n_in; ++j) {
        mask[j] = l.constant[j] ? 0 : -1;
        char* own = room + size_t(j) * Launch::kRoom;
        if (column[j]) {
          const int64_t item = int64_t(item_size(l.dtypes[j])), step = l.space.strides[j][0];
          kernels().copies->repeated(own, l.base[j] + i / width * step * item, step, n / width,
                                     width, size_t(item));
          in[j] = own;
          continue;
        }
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
  // Whole rows lie in every task, whose kernels wrap around in them.
  const int64_t width = space.shape[last];
  bool periodic = same_types && dense[n_in] && !is_copy(kernel) && last == 1 && width >= 16 &&
                  width <= kBlock && (width & (width - 1)) == 0;
  for (int j = 0; periodic && j < n_in; ++j)
    periodic = constant[j] || dense[j] || (space.strides[j][0] == 0 && space.strides[j][1] == 1);
  if (periodic) {
    period = width;
    manner = flat;
    return;
  }
  // A row is so long that it fits in scratch memory and that a kernel's call would be felt.
  if (same_types && n_in == 2 && last == 1 && dense[2] && dense[0] != dense[1] && !constant[0] &&
      !constant[1] && width >= 64 / int64_t(item_size(compute)) && width <= 4 * kBlock) {
    const int input = dense[0];
    const auto* found = kernels().broadcasts->find(kernel);
    const int64_t* step = space.strides[input];
    if (found && (step[0] == 0 ? step[1] == 1 : step[1] == 0)) {
      broadcast_kernel = (step[0] ? found->column : found->row)[input];
      manner = broadcast;
      return;
    }
  }
  bool in_rows = same_types && space.shape[last] >= kLongRow;
  for (int j = 0; in_rows && j <= n_in; ++j)
    in_rows =
        constant[j] || space.strides[j][last] == 1 || (j < n_in && space.strides[j][last] == 0);
  manner = in_rows ? rows : blocks;
  if (manner == blocks && same_types && other_dim(*this) >= 0)
    manner = n_in == 1 && is_copy(kernel) ? transposed : tiles;
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

bool divides_integers(const char* op, DType compute) {
  if (compute != DType::i64) return false;
  for (const char* name : {"remainder", "floor_divide", "fmod", "trunc_divide"})
    if (!std::strcmp(op, name)) return true;
  return false;
}

// Kernels do not look for it: they compute whole vectors, with anything behind the last element.
static void refuse_zero(const Launch& l) {
  bool zero = false;
  if (l.constant[1]) {
    int64_t divisor;
    std::memcpy(&divisor, l.splats[1].bytes, sizeof divisor);
    zero = divisor == 0;
  } else {
    Unobserved copy;
    const Array divisors = convert(*l.arrays[1], DType::i64);
    const int64_t* d = divisors.data<int64_t>();
    for (int64_t i = 0, n = divisors.numel(); i < n; ++i) zero |= d[i] == 0;
  }
  if (zero) fail(ErrorKind::runtime, "ZeroDivisionError: integers are divided by 0");
}

void Launch::run() const {
  if (divides && manner != nothing) refuse_zero(*this);
  if (manner == flat)
    run_flat(*this);
  else if (manner == broadcast)
    run_broadcast(*this);
  else if (manner == rows)
    run_rows(*this, space);
  else if (manner == transposed)
    run_transposed(*this);
  else if (manner == tiles)
    run_tiles(*this);
  else if (manner == blocks)
    run_blocks(*this);
}

void run_pointwise(const PointwiseKernels& table, DType compute, unsigned masks, bool mask_output,
                   const Operand* in, int n_in, const Array& out, const double* attrs, double cost,
                   const char* name) {
  if (observer)
    observer->saw_pointwise(table, compute, masks, mask_output, in, n_in, out, attrs, cost, name);
  Launch launch(table, compute, masks, mask_output, in, n_in, out, attrs, cost);
  launch.divides = divides_integers(name, compute);
  launch.refresh();
  launch.run();
  throw_kept_error();
}

}  // namespace backtrail
