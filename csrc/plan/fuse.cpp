// Which pointwise steps go together, and the loop that computes them.
#include "plan/fuse.h"

#include <algorithm>

#include "core/parallel.h"

namespace backtrail {
namespace {

constexpr size_t kLocal = Launch::kBlock * 8;  // bytes of a block in L1
constexpr int kSlot = 0;                       // of scratch(): no product uses it
constexpr int kMostMembers = 24;  // their blocks fit the L2 cache, nearly all the L1 cache

bool is_dense(const StepArray& a, int64_t numel) {
  return a.shape.product() == numel && a.strides == contiguous_strides(a.shape);
}

bool same_view(const StepArray& a, const StepArray& b) {
  return a.buffer == b.buffer && a.offset == b.offset && a.dtype == b.dtype;
}

// A step that goes over `numel` elements in order and converts none on the way out.
bool suits(const Step& s, int64_t numel) {
  if (s.kind != Step::pointwise || divides_integers(s.name, s.compute)) return false;
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

int followers(const std::vector<const Step*>& steps, int first) {
  const Step& head = *steps[size_t(first)];
  if (head.kind != Step::op || !head.op_->execute_then || first + 1 == int(steps.size())) return 0;
  const StepArray& out = head.out[0];
  const int64_t numel = out.shape.product();
  if (numel <= 1 || !is_dense(out, numel) || out.dtype == DType::bf16) return 0;
  auto alone = [&](const Step& s) {  // no other output, and no input, of the head is touched
    auto touches = [&](const StepArray& a) {
      for (size_t i = 1; i < head.out.size(); ++i)
        if (head.out[i].buffer >= 0 && a.buffer == head.out[i].buffer) return true;
      return false;
    };
    for (const StepArray& a : s.in)
      if (touches(a)) return false;
    for (const StepArray& a : head.in)
      if (a.buffer >= 0 && a.buffer == s.out[0].buffer) return false;
    return !touches(s.out[0]);
  };
  const Step& next = *steps[size_t(first) + 1];
  if (!suits(next, numel) || next.out[0].shape != out.shape) return 0;
  int n = 0;
  for (const int most = fusible(steps, first + 1); n < most; ++n) {
    const Step& s = *steps[size_t(first + 1 + n)];
    bool reads = n > 0;  // the first must be about the result
    for (const StepArray& a : s.in) {
      if (a.buffer != out.buffer) continue;
      if (!same_view(a, out) || a.shape != out.shape || !is_dense(a, numel)) return n;
      reads = true;
    }
    if (!reads || !alone(s)) break;
  }
  return n;
}

bool reduces(const std::vector<const Step*>& steps, int first, int n, const Call& call) {
  const Step &last = *steps[size_t(first + n - 1)], &s = *steps[size_t(first + n)];
  const StepArray &made = last.out[0], &read = s.in[0];
  const int64_t numel = made.shape.product();
  if (numel <= 1 || !suits(last, numel) || !same_view(read, made) || read.shape != made.shape ||
      !is_dense(read, numel))
    return false;
  for (int k = 0; k < n; ++k) {
    const Step& member = *steps[size_t(first + k)];
    for (const StepArray& out : s.out) {
      if (out.buffer < 0) continue;
      if (member.out[0].buffer == out.buffer) return false;
      for (const StepArray& a : member.in)
        if (a.buffer == out.buffer) return false;
    }
  }
  return s.op_->takes_feed(call);
}

int joinable(const std::vector<const Step*>& steps, int first) {
  const Step& head = *steps[size_t(first)];
  if (head.kind != Step::op || !head.op_->execute_joined || head.out[0].dtype == DType::bf16)
    return 1;
  auto simple = [](const Step& s) {  // an input, an array, nothing else
    for (size_t j = 2; j < s.in.size(); ++j)
      if (s.in[j].buffer >= 0) return false;
    return true;
  };
  if (!simple(head)) return 1;
  int n = 1;
  for (; n < kMostJoined && first + n < int(steps.size()); ++n) {
    const Step& s = *steps[size_t(first + n)];
    bool fits = s.kind == Step::op && s.op_ == head.op_ && simple(s) &&
                same_view(s.in[0], head.in[0]) && s.in[0].shape == head.in[0].shape &&
                s.in[0].strides == head.in[0].strides && s.in[1].shape == head.in[1].shape &&
                s.in[1].strides == head.in[1].strides;
    for (int k = 0; fits && k < n; ++k) {
      const int written = steps[size_t(first + k)]->out[0].buffer;
      fits = written != s.in[0].buffer && written != s.in[1].buffer && written != s.out[0].buffer;
    }
    if (!fits || followers(steps, first + n)) break;
  }
  return n;
}

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
  const int64_t size = Launch::task(numel);
  parallel_for((numel + size - 1) / size, double(numel) * cost, [&](int64_t task) {
    const int64_t i = task * size;
    rectangle(i, 1, std::min(size, numel - i), 0);
  });
}

void Fused::rectangle(int64_t i, int64_t rows, int64_t n, int64_t stride) const {
  if (n == stride) n *= rows, rows = 1;
  char* blocks = workspace();
  for (int64_t r = 0; r < rows; ++r, i += stride)
    for (int64_t k = 0; k < n; k += Launch::kBlock)
      block(i + k, std::min(Launch::kBlock, n - k), blocks, nullptr);
}

const void* Fused::fill(int64_t i, int64_t n, void* room) const {
  const Member& last = *members.back();
  const int j = last.launch.n_in;
  const int64_t item = int64_t(item_size(last.launch.dtypes[j]));
  char* blocks = workspace();
  char* to = last.local[j] < 0 ? last.launch.base[j] + i * item : static_cast<char*>(room);
  for (int64_t k = 0; k < n; k += Launch::kBlock)
    block(i + k, std::min(Launch::kBlock, n - k), blocks, to + k * item);
  return to;
}

char* Fused::workspace() const {
  const size_t bytes = size_t(locals) * kLocal + kOperands * Launch::kRoom;
  return static_cast<char*>(scratch(bytes, kSlot));
}

// At most kBlock elements from i on, through every member; the result to `last` if given.
void Fused::block(int64_t i, int64_t n, char* blocks, void* last) const {
  char* room = blocks + size_t(locals) * kLocal;
  for (const auto& m : members) {
    const Launch& l = m->launch;
    const void* in[kOperands];
    int64_t mask[kOperands];
    for (int j = 0; j < l.n_in; ++j) {
      char* own = room + size_t(j) * Launch::kRoom;
      const char* local = m->local[j] < 0 ? nullptr : blocks + size_t(m->local[j]) * kLocal;
      mask[j] = l.constant[j] ? 0 : -1;
      if (l.constant[j])
        in[j] = l.splats[j].bytes;
      else if (!local)
        in[j] = l.load(j, i, n, own);
      else
        in[j] = l.arrays[j]->dtype == l.dtypes[j] ? local : l.converted(j, local, n, own);
    }
    const int to = m->local[l.n_in];
    void* out = to < 0 ? l.target(i, room) : blocks + size_t(to) * kLocal;
    if (last && m == members.back()) out = last;
    l.kernel(out, in, mask, n, l.attrs);
  }
}

}  // namespace backtrail
