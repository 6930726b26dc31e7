// What a text starts from that cpp_extension.load_inline compiles and that does not include op.h.
#pragma once
#include "backtrail/op.h"

using namespace backtrail;
