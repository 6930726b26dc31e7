// An op as the executor sees it: how its outputs are made, how they are filled, and what its
// derivative needs kept. Pointwise ops come from a PointwiseRecord; all others are one Op each.
#pragma once
#include <initializer_list>
#include <string>

#include "backtrail/pointwise.h"
#include "core/array.h"
#include "core/error.h"

namespace backtrail {

enum class Kind : uint8_t { pointwise, reduction, rowwise, view, opaque };

// One attribute of a call: a number, a list of integers, or nothing (Python's None).
struct AttrValue {
  enum Type : uint8_t { none, integer, real, list } type = none;
  int64_t i = 0;  // an integer or bool; also the length of a list
  double f = 0;   // any number
  const int64_t* items = nullptr;
  bool given() const { return type != none; }
};

constexpr int kMaxOutputs = 8;
constexpr int kMostJoined = 8;

// What is to follow at once where elements of an op's first output are final: run(context, i, rows,
// n, stride) for elements [i + r * stride, i + r * stride + n) of the dense array, each of them
// once, on the thread that made them.
struct Then {
  void (*run)(const void* context, int64_t i, int64_t rows, int64_t n, int64_t stride);
  const void* context;
};

// What makes the dense first input of an op piece by piece: fill(context, i, n, room) returns where
// elements [i, i + n) now lie, in `room` or in the input's own memory; each is asked for once.
struct Feed {
  const void* (*fill)(const void* context, int64_t i, int64_t n, void* room);
  const void* context;
  double cost;  // nanoseconds an element
};

// One execution of an op. `in` may hold empty Arrays where an optional input was None.
struct Call {
  const char* name;
  const Array* in;
  int n_in;
  const AttrValue* attrs;
  int n_attrs;
  Array* out;
  int n_out;
  const void* self = nullptr;  // Op::self
};

struct Op {
  const char* name;
  const char* doc;
  Kind kind;
  int n_inputs;   // if differentiable at most kMaxInputs; or -1: any number
  int n_outputs;  // outputs after the first `n_public` exist for the derivative only
  int n_public;   // 0: as many as prepare() says by setting call.n_out (at most kMaxOutputs)
  uint32_t saves_inputs;  // bit j: the derivative reads input j; likewise the outputs
  uint32_t saves_outputs;
  bool differentiable;
  void (*prepare)(Call&);        // check the inputs; allocate (or, for a view, alias) the outputs
  void (*execute)(const Call&);  // fill them, without the GIL when large; null for a view
  bool strided = false;  // takes inputs of any strides; others get dense ones (and no bfloat16)
  uint32_t rows = 0;     // bit j: of input j only the rows (the last dimension) must be dense
  const PointwiseRecord* pointwise = nullptr;  // of a pointwise op
  uint32_t passes = 0;  // bit j: at default attributes the gradient of input j is the incoming one
  void (*execute_joined)(const Call*, int n) = nullptr;      // calls that share their first input
  void (*execute_then)(const Call&, const Then&) = nullptr;  // execute, with what follows
  // execute, with what comes before; and whether it can.
  void (*execute_fed)(const Call&, const Feed&) = nullptr;
  bool (*takes_feed)(const Call&) = nullptr;
  uint32_t overwrites = 0;    // bit j: the first output may lie where input j does
  bool bf16 = false;          // takes bfloat16 as it is, and gives it
  bool random = false;        // its last two attributes are the seed and offset of a stream
  bool reads_values = false;  // the shape of its result depends on the values of its inputs
  double (*flops)(const Call&) = nullptr;  // floating point operations; null: one an element
  uint32_t needs[kMaxInputs] = {};  // the saved inputs that the gradient of input j really uses
  // Of an op of a library: what its functions belong to, and its attributes.
  const void* self = nullptr;
  const Attr* attrs = nullptr;
  int n_attrs = 0;
};

constexpr Op depends_on_values(Op op) {
  op.reads_values = true;
  return op;
}

constexpr Op with_then(Op op, void (*execute_then)(const Call&, const Then&),
                       void (*execute_joined)(const Call*, int) = nullptr) {
  op.execute_then = execute_then;
  op.execute_joined = execute_joined;
  return op;
}

// Not followed by, nor joined with, others for that type.
constexpr Op takes_bf16(Op op) {
  op.bf16 = true;
  return op;
}

// The saved inputs that the gradient of each input reads; without it, each reads all.
constexpr Op needing(std::initializer_list<uint32_t> needs, Op op) {
  int j = 0;
  for (uint32_t n : needs) op.needs[j++] = n;
  return op;
}

constexpr Op in_place(Op op, uint32_t overwrites) {
  op.overwrites = overwrites;
  return op;
}

constexpr Op with_flops(Op op, double (*flops)(const Call&)) {
  op.flops = flops;
  return op;
}

// A table of ops, defined beside the functions it names.
struct OpTable {
  const Op* ops;
  int count;
};
extern const OpTable kReduceOps, kViewOps, kCopyOps, kMatmulOps;  // reduce, view, copy, matmul .cpp
extern const OpTable kRowwiseOps, kAttentionOps, kRecurrentOps;   // rowwise, attention, recurrent
extern const OpTable kConvOps, kPoolOps;                          // conv, pool .cpp
extern const OpTable kIndexOps, kSortOps, kRandomOps, kLinearCrossEntropyOps;

// Helpers shared by the `prepare` functions; each message names the op.
void require_floating(const Call& c, int input, const char* what);
Array contiguous(const Array& a);                    // itself when it is already
Array dense_rows(const Array& a);                    // itself when its last dimension is dense
Array convert(const Array& a, DType dtype);          // contiguous, with elements of that type
void copy_into(const Array& from, const Array& to);  // same shape; converts; any strides
Array sum_to(const Array& a, const Dims& shape);     // undo a broadcast: add up what was repeated

}  // namespace backtrail
