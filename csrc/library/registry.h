// Every op by name: the built-in ones and those that user libraries add.
#pragma once
#include <vector>

#include "exec/op.h"

namespace backtrail {

// All built-in ops, made once. Pointers stay valid for ever.
const Op* const* builtin_ops(int& count);
const Op* find_op(const char* name);  // null when there is none

// An op that a library added, in place of one of the same name.
void register_op(const Op& op);

// The Op of a pointwise record, which must stay where it is.
Op pointwise_op(const PointwiseRecord& record);

// The derivative of an input as primitive ops; `attrs` null: with the attributes as inputs.
struct Program {
  std::vector<TraceInstr> instrs;
  TraceArg result{-1, 0};
};
Program derivative_program(const PointwiseRecord& record, int input, const double* attrs);

}  // namespace backtrail
