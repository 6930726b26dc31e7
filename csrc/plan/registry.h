// Every op by name: the built-in ones and those that user libraries add.
#pragma once
#include "plan/op.h"

namespace backtrail {

// All built-in ops, made once. Pointers stay valid for ever.
const Op* const* builtin_ops(int& count);
const Op* find_op(const char* name);  // null when there is none

// Make an op from a record of a user's library; the name must be new.
const Op* register_pointwise(const PointwiseRecord& record);

}  // namespace backtrail
