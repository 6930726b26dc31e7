// Kernels of ops/comparison.h.
#include "ops/comparison.h"

#include "kernels/pointwise_table.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

extern const PointwiseTables comparison_tables;
const PointwiseTables comparison_tables = TablesOf<ops::Comparison>::value;

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
