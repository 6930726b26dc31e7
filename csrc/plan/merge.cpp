// Results that take over the memory of an input which no one needs any more.
#include <numeric>

#include "plan/plan.h"

namespace backtrail {
namespace {

bool is_whole(const StepArray& a, size_t bytes) {
  return a.offset == 0 && a.strides == contiguous_strides(a.shape) &&
         size_t(a.shape.product()) * item_size(a.dtype) == bytes;
}

bool touches(const Step& s, int buffer) {
  for (const auto* list : {&s.in, &s.out})
    for (const StepArray& a : *list)
      if (a.buffer == buffer) return true;
  return false;
}

}  // namespace

// A buffer that is last read by a node is given the place of one that this node writes, where each
// element is read before it is written: in pointwise steps, and in ops that say so.
void Plan::merge(std::vector<Lifetime>& lives) {
  const auto& buffers = capture_->buffers;
  host_.resize(buffers.size());
  std::iota(host_.begin(), host_.end(), 0);
  guests_.resize(buffers.size());
  // The steps [first, end) of node i touch `b` as one whole, reading it before `writer` at the
  // latest.
  auto ends_before = [&](int b, size_t first, size_t writer, size_t end) {
    for (size_t k = first; k < end; ++k) {
      for (const StepArray& a : steps_[k]->in)
        if (a.buffer == b && (k > writer || !is_whole(a, buffers[size_t(b)].bytes))) return false;
      for (const StepArray& a : steps_[k]->out)
        if (a.buffer == b) return false;
    }
    return true;
  };
  auto begins_at = [&](int b, size_t first, size_t writer) {
    for (size_t k = first; k <= writer; ++k) {
      for (const StepArray& a : steps_[k]->in)
        if (a.buffer == b) return false;
      for (const StepArray& a : steps_[k]->out)
        if (a.buffer == b && (k < writer || !is_whole(a, buffers[size_t(b)].bytes))) return false;
    }
    return true;
  };
  size_t first = 0;
  for (size_t i = 0; i < nodes.size(); first += size_t(nodes[i].steps), ++i) {
    const Node& node = nodes[i];
    const size_t end = first + size_t(node.steps);
    const bool is_op = node.step->kind == Step::op;
    const bool followed = is_op && node.fused && !node.feeds;  // by pointwise steps
    if (is_op ? !followed && (node.steps > 1 || !node.step->op_->overwrites)
              : node.step->kind != Step::pointwise)
      continue;
    for (size_t writer = first + followed; writer < end; ++writer) {
      const Step& s = *steps_[writer];
      const int to = s.out[0].buffer;
      if (to < 0 || local_[size_t(to)] || constant_[size_t(to)]) continue;
      const auto kind = buffers[size_t(to)].kind;
      if ((kind != CaptureBuffer::internal && kind != CaptureBuffer::output) ||
          lives[size_t(to)].first != int(i) || !guests_[size_t(to)].empty() ||
          !begins_at(to, first, writer))
        continue;
      auto try_input = [&](const StepArray& a, uint32_t allowed) {
        const int from = a.buffer;
        if (!allowed || from < 0 || from == to || !guests_[size_t(to)].empty()) return;
        const size_t f = size_t(from);
        // What the followed op makes is final when it is read; what it reads may be needed again.
        const bool made_here = followed && steps_[first]->out[0].buffer == from;
        if (followed && !made_here && touches(*steps_[first], from)) return;
        if (buffers[f].kind != CaptureBuffer::internal || local_[f] || constant_[f] ||
            host_[f] != from || lives[f].last != int(i) ||
            (lives[f].first >= int(i) && !made_here) ||
            buffers[f].bytes != buffers[size_t(to)].bytes || a.dtype != s.out[0].dtype ||
            !ends_before(from, first + made_here, writer, end))
          return;
        host_[f] = to;
        guests_[size_t(to)] = std::move(guests_[f]);
        for (int g : guests_[size_t(to)]) host_[size_t(g)] = to;
        guests_[size_t(to)].push_back(from);
        lives[size_t(to)].first = lives[f].first;
      };
      if (is_op && !followed) {
        for (size_t j = 0; j < s.in.size() && j < 32; ++j)
          try_input(s.in[j], s.op_->overwrites >> j & 1);
      } else {
        for (size_t k = first + followed; k <= writer; ++k)
          for (const StepArray& a : steps_[k]->in) try_input(a, 1);
      }
    }
  }
}

}  // namespace backtrail
