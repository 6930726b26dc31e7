// What a shape takes up, and how a result lies in memory beside its inputs.
#pragma once
#include "core/array.h"

namespace backtrail {

// The product of the sizes, none of them negative; throws Error naming `op` where there is none.
int64_t checked_numel(const char* op, const Dims& shape);

// Strides of a dense array of that shape whose dimensions lie in the order they have in `inputs`
// (which broadcast to it; the first one decides), as in PyTorch.
Dims strides_like(const Array* const* inputs, int n, const Dims& shape);

}  // namespace backtrail
