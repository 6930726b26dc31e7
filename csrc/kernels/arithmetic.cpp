// Kernels of ops/arithmetic.h.
#include "ops/arithmetic.h"

#include "kernels/pointwise_table.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

extern const PointwiseTables arithmetic_tables;
const PointwiseTables arithmetic_tables = TablesOf<ops::Arithmetic>::value;

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
