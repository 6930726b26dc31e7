// All that depends on the instruction set: one KernelTable for each, chosen once at load.
// Raw pointers in, raw pointers out; n is a count of elements, strides are in elements.
#pragma once
#include "kernels/attention_table.h"
#include "kernels/broadcast_table.h"
#include "kernels/conv_table.h"
#include "kernels/copy_table.h"
#include "kernels/gemm_table.h"
#include "kernels/index_table.h"
#include "kernels/numeric_table.h"
#include "kernels/pointwise_table.h"
#include "kernels/pool_table.h"
#include "kernels/recurrent_table.h"
#include "kernels/reduce_table.h"
#include "kernels/rowwise_table.h"

namespace backtrail {

struct KernelTable {
  const char* isa;                      // "v4", "v3", "v2" or "base"
  const PointwiseTables* pointwise[4];  // the families of ops/all.h, in its order
  const BroadcastTable* broadcasts;     // of a matrix with a row or a column
  const ReduceTable<float>* reduce_f32;
  const ReduceTable<double>* reduce_f64;
  const ReduceTable<int64_t>* reduce_i64;
  const RowwiseTable<float>* rowwise_f32;
  const RowwiseTable<double>* rowwise_f64;
  const AttentionTable<float>* attention_f32;
  const AttentionTable<double>* attention_f64;
  const RecurrentTable<float>* recurrent_f32;
  const RecurrentTable<double>* recurrent_f64;
  const GemmTable<float>* gemm_f32;
  const GemmTable<double>* gemm_f64;
  const PairsTable* pairs;          // of bfloat16
  const PairsTable* pairs_at_once;  // for CPUs with AVX512_BF16: the same bits; or null
  IntegerProduct integer_product;
  const ConvTable<float>* conv_f32;
  const ConvTable<double>* conv_f64;
  const PoolTable<float>* pool_f32;
  const PoolTable<double>* pool_f64;
  const NumericTable* numeric;  // conversions, random numbers, optimizer updates
  const CopyTable* copies;
  const IndexTable<float>* index_f32;
  const IndexTable<double>* index_f64;
};

// The table in use. BACKTRAIL_ISA=v2|v3|v4 overrides the choice (never beyond what the CPU has).
const KernelTable& kernels();
// The one whose pointwise ops have their written derivatives again by dual numbers, for tests.
const KernelTable& derived_kernels();
const PairsTable& pairs_kernels();  // its faster one that this CPU can run
const char* available_isas();       // "v2 v3 v4"

}  // namespace backtrail
