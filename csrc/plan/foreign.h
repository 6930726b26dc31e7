// Ops that libraries add: what is kept of one, and how it becomes an Op as any other.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "plan/op.h"

namespace backtrail {

// A record of a library in the layout of this version; what its own version lacks is 0.
struct ForeignOp {
  backtrail_op record{};
  std::vector<backtrail_input> inputs;
  std::vector<Attr> attrs;
  std::vector<backtrail_kernels> vjp, derived;
  std::string source;  // what the library was made from, or ""
  PointwiseRecord pointwise{};
  Op op{};
};

// Load a library and register its ops: all of them, or none. A name that an op has already is
// refused, unless that op came from the same (known) source: then the new one takes its place.
// `check` is called with the name of each and may throw.
std::vector<const ForeignOp*> load_library(const char* path, const std::string& source,
                                           const char* version,
                                           const std::function<void(const char*)>& check);

// The record of an op of a library; null for a built-in one.
const ForeignOp* foreign_of(const Op& op);

}  // namespace backtrail
