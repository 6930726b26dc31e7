// Kernels of ops/activation.h.
#include "ops/activation.h"

#include "kernels/pointwise_table.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

extern const PointwiseTables activation_tables;
const PointwiseTables activation_tables = TablesOf<ops::Activations>::value;

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
