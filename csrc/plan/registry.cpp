#include "plan/registry.h"

#include <cstring>
#include <deque>
#include <vector>

#include "kernels/table.h"
#include "ops/all.h"

namespace backtrail {
namespace {

// What the traces of the derivatives tell: which gradients are the incoming one as it is, and which
// inputs each of them uses.
void inspect_derivatives(const PointwiseRecord& r, Op& op) {
  for (int j = 0; r.differentiable && j < r.n_inputs; ++j) {
    if (r.mask_inputs >> j & 1) continue;
    const Trace plain = r.trace(j, true), full = r.trace(j, false);
    if (full.overflow)
      fail(ErrorKind::runtime, "op '%s': its derivative has more than %d steps", r.name,
           Trace::kMax);
    if (plain.result.reg == 0) op.passes |= 1u << j;
    auto use = [&](TraceArg a) {  // registers: the gradient, then the inputs
      if (a.reg >= 1 && a.reg <= r.n_inputs) op.needs[j] |= 1u << (a.reg - 1);
    };
    use(full.result);
    for (int i = 0; i < full.n_instrs; ++i)
      for (int k = 0; k < full.instrs[i].n_args; ++k) use(full.instrs[i].args[k]);
    if (!(uint32_t(r.reads) & 1)) op.needs[j] = 0;
  }
}

struct Registry {
  std::vector<const Op*> ops;
  std::deque<Op> pointwise;
  std::deque<PointwiseRecord> records;

  const Op* add(const PointwiseRecord& record) {
    records.push_back(record);
    const PointwiseRecord& r = records.back();
    const uint32_t inputs = uint32_t(r.reads) & 1 ? (1u << r.n_inputs) - 1 : 0;
    const uint32_t output = uint32_t(r.reads) & 2 ? 1 : 0;
    pointwise.push_back(Op{r.name, r.doc, Kind::pointwise, r.n_inputs, 1, 1, inputs, output,
                           r.differentiable, nullptr, nullptr, true, 0, &r});
    inspect_derivatives(r, pointwise.back());
    ops.push_back(&pointwise.back());
    return &pointwise.back();
  }

  template <class... Built>
  void add_all(meta::List<Built...>) {
    std::vector<PointwiseTable> tables;
    for (const PointwiseTables* family : kernels().pointwise)
      tables.insert(tables.end(), family->tables, family->tables + family->count);
    int i = 0;
    auto one = [&](PointwiseRecord r) {
      r.kernels = tables[size_t(i++)];
      add(r);
    };
    (one(pointwise_record<Built>()), ...);
  }

  Registry() {
    add_all(ops::All{});
    for (const OpTable* t :
         {&kReduceOps, &kViewOps, &kCopyOps, &kMatmulOps, &kRowwiseOps, &kAttentionOps, &kConvOps,
          &kPoolOps, &kRecurrentOps, &kIndexOps, &kSortOps, &kRandomOps, &kLinearCrossEntropyOps})
      for (int i = 0; i < t->count; ++i) ops.push_back(&t->ops[i]);
  }
};

Registry& registry() {
  static Registry* r = new Registry;
  return *r;
}

}  // namespace

const Op* const* builtin_ops(int& count) {
  auto& ops = registry().ops;
  count = int(ops.size());
  return ops.data();
}

const Op* find_op(const char* name) {
  for (const Op* op : registry().ops)
    if (!std::strcmp(op->name, name)) return op;
  return nullptr;
}

const Op* register_pointwise(const PointwiseRecord& record) {
  if (find_op(record.name)) fail(ErrorKind::value, "an op named '%s' exists already", record.name);
  return registry().add(record);
}

}  // namespace backtrail
