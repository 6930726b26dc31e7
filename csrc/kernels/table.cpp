// The table of one instruction set.
#include "kernels/table.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

extern const PointwiseTables arithmetic_tables, elementary_tables, comparison_tables,
    activation_tables;
extern const BroadcastTable broadcasts;
extern const ReduceTable<float> reduce_f32;
extern const ReduceTable<double> reduce_f64;
extern const ReduceTable<int64_t> reduce_i64;
extern const RowwiseTable<float> rowwise_f32;
extern const RowwiseTable<double> rowwise_f64;
extern const AttentionTable<float> attention_f32;
extern const AttentionTable<double> attention_f64;
extern const RecurrentTable<float> recurrent_f32;
extern const RecurrentTable<double> recurrent_f64;
extern const GemmTable<float> gemm_f32;
extern const GemmTable<double> gemm_f64;
extern const PairsTable pairs;
#if defined(__AVX512F__)
extern const PairsTable pairs_at_once;
constexpr const PairsTable* kPairsAtOnce = &pairs_at_once;
#else
constexpr const PairsTable* kPairsAtOnce = nullptr;
#endif
void integer_product(int64_t m, int64_t n, int64_t k, const int64_t* a, int64_t a_rs, int64_t a_cs,
                     const int64_t* b, int64_t b_rs, int64_t* c, int64_t c_rs);
extern const ConvTable<float> conv_f32;
extern const ConvTable<double> conv_f64;
extern const PoolTable<float> pool_f32;
extern const PoolTable<double> pool_f64;
extern const NumericTable numeric;
extern const CopyTable copies;
extern const IndexTable<float> index_f32;
extern const IndexTable<double> index_f64;

#define BACKTRAIL_NAME_(x) #x
#define BACKTRAIL_NAME(x) BACKTRAIL_NAME_(x)

extern const KernelTable table;
const KernelTable table = {
    BACKTRAIL_NAME(BACKTRAIL_TARGET),
    {&arithmetic_tables, &elementary_tables, &comparison_tables, &activation_tables},
    &broadcasts,
    &reduce_f32,
    &reduce_f64,
    &reduce_i64,
    &rowwise_f32,
    &rowwise_f64,
    &attention_f32,
    &attention_f64,
    &recurrent_f32,
    &recurrent_f64,
    &gemm_f32,
    &gemm_f64,
    &pairs,
    kPairsAtOnce,
    integer_product,
    &conv_f32,
    &conv_f64,
    &pool_f32,
    &pool_f64,
    &numeric,
    &copies,
    &index_f32,
    &index_f64};

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
