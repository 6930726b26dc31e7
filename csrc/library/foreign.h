// Ops that libraries add: what is kept of one, and how it becomes an Op as any other.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "exec/op.h"

namespace backtrail {

struct ForeignOp;

// An op that is not pointwise (order 0), or the derivative of that order: see backtrail_call. Each
// input and output is like one of the op's own: input j by number, output i after the inputs.
struct Derivative {
  const ForeignOp* of = nullptr;
  int order = 0;
  bool derived = false;  // even if one is written
  std::vector<int> in_like, out_like;
  std::vector<bool> has_gradient;  // which inputs the next order gives gradients of
  std::string name;
  Op op{};
};

// A record of a library in the layout of this version; what its own version lacks is 0.
struct ForeignOp {
  backtrail_op record{};
  std::vector<backtrail_input> inputs;
  std::vector<Attr> attrs;
  std::vector<backtrail_kernels> vjp, derived;
  std::string source;  // what the library was made from, or ""
  PointwiseRecord pointwise{};
  std::vector<std::unique_ptr<Derivative>> derivatives;  // those asked for; the op itself first
  Op pointwise_op{};
  const Op* op = nullptr;
  std::vector<std::string> input_names() const;  // the author's, or as built-in ops have them
};

// The Op of a record that is not pointwise.
const Op& general_op(ForeignOp& f);

// The op that computes the gradients of an op of a library that is not pointwise, or of such a
// derivative. `derived`: the first derivative from `forward`, even if one is written.
const Derivative& derivative_of(const Op& op, bool derived);

// Load a library and register its ops: all of them, or none. A name that an op has already is
// refused, unless that op came from the same (known) source: then the new one takes its place.
// `check` is called with each and may throw.
std::vector<const ForeignOp*> load_library(const char* path, const std::string& source,
                                           const char* version,
                                           const std::function<void(const ForeignOp&)>& check);

// The record of an op of a library; null for a built-in one.
const ForeignOp* foreign_of(const Op& op);

}  // namespace backtrail
