#include "library/registry.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <iterator>
#include <vector>

#include "kernels/table.h"
#include "ops/all.h"

namespace backtrail {
namespace {

// What the traces of the derivatives tell: which gradients are the incoming one as it is, and which
// inputs each of them uses.
void inspect_derivatives(const PointwiseRecord& r, Op& op) {
  double defaults[kMaxAttrs];
  for (int i = 0; i < r.n_attrs; ++i) defaults[i] = r.attrs[i].value;
  const bool symbolic = !r.foreign || r.symbolic_attrs;
  for (int j = 0; r.differentiable && j < r.n_inputs; ++j) {
    if (r.mask_inputs >> j & 1) continue;
    Program plain;
    try {
      plain = derivative_program(r, j, defaults);
    } catch (const Error&) {  // the defaults are not valid ones: nothing is known
      op.needs[j] = op.saves_inputs;
      continue;
    }
    if (plain.result.reg == 0) op.passes |= 1u << j;
    if (!symbolic) {  // attributes are constants of the program: others may need more
      op.needs[j] = op.saves_inputs;
      continue;
    }
    const Program full = derivative_program(r, j, nullptr);
    auto use = [&](TraceArg a) {  // registers: the gradient, then the inputs
      if (a.reg >= 1 && a.reg <= r.n_inputs) op.needs[j] |= 1u << (a.reg - 1);
    };
    use(full.result);
    for (const TraceInstr& instr : full.instrs)
      for (int k = 0; k < instr.n_args; ++k) use(instr.args[k]);
    if (!(uint32_t(r.reads) & 1)) op.needs[j] = 0;
  }
}

struct Registry {
  std::vector<const Op*> ops;
  std::deque<Op> pointwise;
  std::deque<PointwiseRecord> records;

  void add(const PointwiseRecord& record) {
    records.push_back(record);
    pointwise.push_back(pointwise_op(records.back()));
    ops.push_back(&pointwise.back());
  }

  template <class... Built>
  void add_all(meta::List<Built...>) {
    std::vector<PointwiseTable> tables;
    for (size_t family = 0; family < std::size(kernels().pointwise); ++family) {
      const PointwiseTables& own = *kernels().pointwise[family];
      for (int i = 0; i < own.count; ++i) {
        tables.push_back(own.tables[i]);
        const auto& derived = derived_kernels().pointwise[family]->tables[i].derived;
        std::copy(std::begin(derived), std::end(derived), tables.back().derived);
      }
    }
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

void register_op(const Op& op) {
  for (const Op*& known : registry().ops)
    if (!std::strcmp(known->name, op.name)) {
      known = &op;
      return;
    }
  registry().ops.push_back(&op);
}

Op pointwise_op(const PointwiseRecord& r) {
  const uint32_t inputs = uint32_t(r.reads) & 1 ? (1u << r.n_inputs) - 1 : 0;
  const uint32_t output = uint32_t(r.reads) & 2 ? 1 : 0;
  Op op{r.name,           r.doc,   Kind::pointwise, r.n_inputs, 1, 1, inputs, output,
        r.differentiable, nullptr, nullptr,         true,       0, &r};
  inspect_derivatives(r, op);
  return op;
}

Program derivative_program(const PointwiseRecord& r, int input, const double* attrs) {
  Program p;
  bool overflow;
  if (r.foreign) {
    const backtrail_trace* t = r.foreign->trace(input, attrs);
    throw_kept_error();
    if (!t) fail(ErrorKind::runtime, "%s: its derivative could not be traced", r.name);
    p.instrs.assign(t->instrs, t->instrs + t->n_instrs);
    p.result = t->result;
    overflow = t->overflow != 0;
  } else {
    const Trace t = r.trace(input, attrs);
    p.instrs.assign(t.instrs, t.instrs + t.n_instrs);
    p.result = t.result;
    overflow = t.overflow;
  }
  if (overflow)
    fail(ErrorKind::runtime, "op '%s': its derivative has more than %d steps", r.name, Trace::kMax);
  return p;
}

}  // namespace backtrail
