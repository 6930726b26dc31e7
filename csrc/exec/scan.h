// Running sums and products along a dimension; their rows in the op table are in sort.cpp.
#pragma once
#include "exec/op.h"

namespace backtrail {

void prepare_scan(Call&);
void execute_cumsum(const Call&);
void execute_cumprod(const Call&);

}  // namespace backtrail
