// Which pointwise steps go together, and the loop that computes them.
#include "plan/fuse.h"

#include <algorithm>

#include "core/parallel.h"

namespace backtrail {
namespace {

constexpr int kMostMembers = 24;  // their blocks fit the L2 cache, nearly all the L1 cache

bool is_dense(const StepArray& a, int64_t numel) {
  return a.shape.product() == numel && a.strides == contiguous_strides(a.shape);
}

bool same_view(const StepArray& a, const StepArray& b) {
  return a.buffer == b.buffer && a.offset == b.offset && a.dtype == b.dtype;
}

// A step that goes over `numel` elements in order and converts none on the way out.
bool suits(const Step& s, int64_t numel) {
  if (s.kind != Step::pointwise) return false;
  const StepArray& out = s.out[0];
  return is_dense(out, numel) && out.dtype == (s.mask_output ? DType::b8 : s.compute);
}

// Whether `s` may follow `earlier`: each element it touches of what the other writes, or writes of
// what the other reads, is the very one the other has in hand.
bool follows(const Step& s, const Step& earlier, int64_t numel) {
  const StepArray &out = s.out[0], &before = earlier.out[0];
  for (const StepArray& a : s.in)
    if (a.buffer == before.buffer &&
        !(same_view(a, before) && is_dense(a, numel) && a.shape == before.shape))
      return false;
  if (out.buffer == before.buffer && !same_view(out, before)) return false;
  for (const StepArray& a : earlier.in)
    if (a.buffer == out.buffer && !(same_view(a, out) && is_dense(a, numel))) return false;
  return true;
}

}  // namespace

int fusible(const std::vector<const Step*>& steps, int first) {
  const Step& head = *steps[size_t(first)];
  if (head.kind != Step::pointwise) return 1;
  const int64_t numel = head.out[0].shape.product();
  if (numel <= 1 || !suits(head, numel)) return 1;
  int n = 1;
  for (; first + n < int(steps.size()) && n < kMostMembers; ++n) {
    const Step& s = *steps[size_t(first + n)];
    bool fits = suits(s, numel) && s.out[0].shape == head.out[0].shape;
    for (int k = 0; fits && k < n; ++k) fits = follows(s, *steps[size_t(first + k)], numel);
    if (!fits) break;
  }
  return n;
}

void Fused::refresh() {
  for (auto& m : members) m->launch.refresh();
}

void Fused::run() const {
  const int64_t numel = members[0]->launch.numel;
  const int64_t tasks = (numel + Launch::kTask - 1) / Launch::kTask;
  constexpr size_t kLocal = Launch::kBlock * 8;
  parallel_for(tasks, double(numel) * cost, [&](int64_t task) {
    char* blocks =
        static_cast<char*>(scratch(size_t(locals) * kLocal + kOperands * Launch::kRoom, 3));
    char* room = blocks + size_t(locals) * kLocal;
    const int64_t end = std::min(numel, (task + 1) * Launch::kTask);
    for (int64_t i = task * Launch::kTask; i < end; i += Launch::kBlock) {
      const int64_t n = std::min(Launch::kBlock, end - i);
      for (const auto& m : members) {
        const Launch& l = m->launch;
        const void* in[kOperands];
        int64_t mask[kOperands];
        for (int j = 0; j < l.n_in; ++j) {
          mask[j] = l.constant[j] ? 0 : -1;
          if (l.constant[j])
            in[j] = l.splats[j].bytes;
          else if (m->local[j] < 0)
            in[j] = l.load(j, i, n, room + size_t(j) * Launch::kRoom);
          else if (const DType have = l.arrays[j]->dtype; have == l.dtypes[j])
            in[j] = blocks + size_t(m->local[j]) * kLocal;
          else
            in[j] = l.converted(j, blocks + size_t(m->local[j]) * kLocal, n,
                                room + size_t(j) * Launch::kRoom);
        }
        void* out =
            m->local[l.n_in] >= 0 ? blocks + size_t(m->local[l.n_in]) * kLocal : l.target(i, room);
        l.kernel(out, in, mask, n, l.attrs);
      }
    }
  });
}

}  // namespace backtrail
