// A pointwise call made ready to run: which kernel, on what, in which manner. A plan
// keeps one for each of its nodes; an eager call makes one and runs it.
#pragma once
#include <algorithm>

#include "exec/loop.h"
#include "kernels/broadcast_table.h"

namespace backtrail {

constexpr int kOperands = kMaxInputs + 2;  // a derivative's gradient and inputs, and the output

struct Splat {
  alignas(64) char bytes[64];
};

// The iteration space with dimensions merged where every operand allows it.
struct Space {
  int n = 0;
  int64_t shape[kMaxDims];
  int64_t strides[kOperands][kMaxDims];
  int64_t numel = 1;

  Space() = default;
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

struct Launch {
  PointwiseKernel kernel;
  int n_in;
  double cost;
  int64_t numel;
  double attrs[kMaxAttrs];
  const Array* arrays[kOperands];  // the inputs, then the output; null for a number
  DType dtypes[kOperands];         // what the kernel reads and writes
  bool constant[kOperands];        // one element for all, repeated in `splats`
  bool dense[kOperands];           // lies as the result is numbered
  enum Manner : uint8_t {
    nothing,     // there are no elements
    flat,        // one run of dense operands, and of rows that repeat at a power of two
    broadcast,   // a dense matrix with a row or a column, by a kernel of its own
    rows,        // long rows, each where it lies
    blocks,      // any strides and dtypes: gathered, computed in L1, scattered
    transposed,  // a copy whose source is dense along another dimension
    tiles,       // an input is dense along another dimension than the output: gathered in tiles
  } manner;
  char* base[kOperands];
  BroadcastKernel broadcast_kernel = nullptr;
  int64_t period = 0;    // of the inputs of a flat run that are neither constant nor dense
  bool divides = false;  // by integers, among which there may be no 0
  Splat splats[kOperands];
  Space space;  // but of flat runs

  // The arrays must stay where they are for as long as the launch is used.
  Launch(const PointwiseKernels& table, DType compute, unsigned masks, bool mask_output,
         const Operand* in, int n_in, const Array& out, const double* attrs, double cost);
  void refresh();  // addresses and single elements, which may have changed
  void run() const;

  // Elements [i, i + n) of input j as the kernel takes them: where they lie, or in `room`, which
  // holds kBlock elements of 8 bytes twice. Not for constants.
  const void* load(int j, int64_t i, int64_t n, char* room) const;
  const void* converted(int j, const void* elements, int64_t n, char* room) const;
  // Where the kernel is to write elements [i, i + n), and what brings them to their place.
  void* target(int64_t i, char* room) const;
  void store(const void* result, int64_t i, int64_t n, char* room) const;

  static constexpr int64_t kBlock = 1024;  // elements of a block in L1
  // Elements of a task: at most 16384.
  static int64_t task(int64_t numel) {
    return std::clamp((numel / 8 + kBlock - 1) / kBlock * kBlock, 2 * kBlock, 16 * kBlock);
  }
  static constexpr size_t kRoom = 2 * kBlock * 8;
};

// The manners of exec/tiles.cpp, and the dimension along which an input is dense where that is not
// the last one, along which the output is, and it is long enough for tiles; -1 for none.
int other_dim(const Launch& l);
void run_transposed(const Launch& l);
void run_tiles(const Launch& l);

bool is_copy(PointwiseKernel kernel);  // moves elements, whatever they mean
bool divides_integers(const char* op, DType compute);

}  // namespace backtrail
