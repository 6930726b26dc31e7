// All that a file with ops of your own includes: `#include <backtrail/op.h>`.
#pragma once
#include "backtrail/library.h"
#include "backtrail/pointwise.h"
