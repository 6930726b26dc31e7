// Kernels of ops/elementary.h.
#include "ops/elementary.h"

#include "kernels/pointwise_table.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

extern const PointwiseTables elementary_tables;
const PointwiseTables elementary_tables = TablesOf<ops::Elementary>::value;

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
