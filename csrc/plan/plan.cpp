// From a capture to a plan: dead steps out, constants folded, pointwise runs fused, buffers placed.
#include "plan/plan.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/parallel.h"

namespace backtrail {
namespace {

constexpr size_t kLargeArena = 1 << 20;

}  // namespace

Plan::Plan(std::unique_ptr<Capture> capture, int draw_count)
    : draws(size_t(draw_count)), capture_(std::move(capture)) {
  const auto& buffers = capture_->buffers;
  stubs_.resize(buffers.size());
  for (size_t b = 0; b < buffers.size(); ++b) {
    stubs_[b] = Storage{};
    stubs_[b].refs = 1;  // ours: no array of a node is ever the last
    stubs_[b].bytes = buffers[b].bytes;
    if (buffers[b].kind == CaptureBuffer::fixed) stubs_[b].data = buffers[b].hold->data;
  }
  fold();
  make_nodes();
  place();
  for (Node& n : nodes) {
    if (n.moves) continue;
    if (n.launch) n.launch->refresh();
    if (n.fused) n.fused->refresh();
  }
}

Plan::~Plan() { nodes.clear(); }  // before the storages that its arrays point to

// Steps whose result depends on nothing that can change run once, now.
void Plan::fold() {
  const auto& buffers = capture_->buffers;
  std::vector<int> writers(buffers.size(), 0);
  constant_.assign(buffers.size(), false);
  for (const Step& s : capture_->steps)
    for (const StepArray& a : s.out)
      if (a.buffer >= 0) ++writers[size_t(a.buffer)];
  std::vector<const Step*> once;
  for (const Step& s : capture_->steps) {
    bool fixed = s.stream < 0 && s.live < 0 && s.kind != Step::finite;
    for (const StepArray& a : s.in) fixed = fixed && (a.buffer < 0 || constant_[size_t(a.buffer)]);
    for (const StepArray& a : s.out)
      fixed =
          fixed && (a.buffer < 0 || (buffers[size_t(a.buffer)].kind == CaptureBuffer::internal &&
                                     writers[size_t(a.buffer)] == 1));
    if (fixed)
      for (const StepArray& a : s.out)
        if (a.buffer >= 0) constant_[size_t(a.buffer)] = true;
    (fixed ? once : steps_).push_back(&s);
  }
  remove_dead();

  std::vector<bool> read(buffers.size(), false);
  for (const Step* s : steps_)
    for (const StepArray& a : s->in)
      if (a.buffer >= 0) read[size_t(a.buffer)] = true;
  std::vector<const Step*> needed;
  for (size_t i = once.size(); i-- > 0;) {
    bool wanted = false;
    for (const StepArray& a : once[i]->out)
      wanted = wanted || (a.buffer >= 0 && read[size_t(a.buffer)]);
    if (!wanted) continue;
    for (const StepArray& a : once[i]->in)
      if (a.buffer >= 0) read[size_t(a.buffer)] = true;
    needed.push_back(once[i]);
  }
  folded = int(once.size());
  std::reverse(needed.begin(), needed.end());
  for (const Step* s : needed) {
    for (const StepArray& a : s->out) {
      if (a.buffer < 0) continue;
      StorageRef memory = allocate(buffers[size_t(a.buffer)].bytes);
      stubs_[size_t(a.buffer)].data = memory->data;
      constant_bytes += memory->bytes;
      held_.push_back(std::move(memory));
    }
    Node node = make(*s);
    run_node(node);
  }
}

void Plan::remove_dead() {
  const auto& buffers = capture_->buffers;
  std::vector<bool> live(buffers.size());
  for (size_t b = 0; b < buffers.size(); ++b) live[b] = buffers[b].kind != CaptureBuffer::internal;
  std::vector<const Step*> kept;
  for (size_t i = steps_.size(); i-- > 0;) {
    const Step& s = *steps_[i];
    bool needed = s.kind == Step::finite;
    for (const StepArray& a : s.out) needed = needed || (a.buffer >= 0 && live[size_t(a.buffer)]);
    if (!needed) {
      ++dead;
      continue;
    }
    for (const StepArray& a : s.in)
      if (a.buffer >= 0) live[size_t(a.buffer)] = true;
    kept.push_back(&s);
  }
  std::reverse(kept.begin(), kept.end());
  steps_ = std::move(kept);
}

Array Plan::array(const StepArray& a) {
  Array x;
  if (a.buffer < 0) return x;
  Storage& stub = stubs_[size_t(a.buffer)];
  ++stub.refs;
  x.storage = StorageRef(&stub);
  x.offset = a.offset;
  x.shape = a.shape;
  x.strides = a.strides;
  x.dtype = a.dtype;
  return x;
}

Node Plan::make(const Step& s) {
  Node n;
  n.step = &s;
  for (const StepArray& a : s.in) n.in.push_back(array(a));
  for (const StepArray& a : s.out) n.out.push_back(array(a));
  n.adam = s.adam_options;
  n.sgd = s.sgd_options;
  if (s.kind == Step::op) {
    n.attrs = s.attrs;
    size_t at = 0;
    for (AttrValue& a : n.attrs)
      if (a.type == AttrValue::list) a.items = s.lists.data() + at, at += size_t(a.i);
    n.call = {
        s.name,       n.in.data(),       int(n.in.size()), n.attrs.data(), int(n.attrs.size()),
        n.out.data(), int(n.out.size()), s.op_->self};
  }
  if (s.kind == Step::pointwise) {
    Operand in[kOperands];
    for (size_t j = 0; j < s.in.size(); ++j) {
      if (s.in[j].buffer >= 0)
        in[j].array = &n.in[j];
      else
        in[j].number = s.in[j].number, in[j].integer = s.in[j].integer;
    }
    n.launch.reset(new Launch(s.kernels, s.compute, s.masks, s.mask_output, in, int(s.in.size()),
                              n.out[0], s.values, s.cost));
    n.launch->divides = divides_integers(s.name, s.compute);
    if (constant_.size() && !s.out.empty() && constant_[size_t(s.out[0].buffer)])
      n.launch->refresh();
  }
  return n;
}

// One node for each step, or for several that are computed together.
void Plan::make_nodes() {
  const auto& buffers = capture_->buffers;
  uses_.assign(buffers.size(), 0);
  for (const Step* s : steps_) count_uses(*s, 1);
  local_.assign(buffers.size(), false);
  for (int i = 0; i < int(steps_.size());) {
    Node node;
    int n = 1;
    if (const int after = followers(steps_, i)) {
      node = make(*steps_[size_t(i)]);
      fuse(node, i + 1, after);
      n = 1 + after;
    } else if (n = joinable(steps_, i); n > 1) {
      join(node, i, n);
    } else if (n = fusible(steps_, i); feeds(node, i, n)) {
      const Step& reduction = *steps_[size_t(i + n)];
      count_uses(reduction, -1);  // it takes blocks from L1, too
      fuse(node, i, n);
      count_uses(reduction, 1);
      ++n;
    } else if (n > 1) {
      node.step = steps_[size_t(i)];
      fuse(node, i, n);
    } else {
      node = make(*steps_[size_t(i)]);
    }
    node.steps = n;
    nodes.push_back(std::move(node));
    i += n;
  }
}

// Whether the n pointwise steps from `first` on make what the next one reduces; if so, the node is
// made for that one.
bool Plan::feeds(Node& node, int first, int n) {
  const size_t next = size_t(first + n);
  if (next >= steps_.size() || steps_[size_t(first)]->kind != Step::pointwise ||
      steps_[next]->kind != Step::op || !steps_[next]->op_->execute_fed)
    return false;
  Node reduction = make(*steps_[next]);
  if (!reduces(steps_, first, n, reduction.call)) return false;
  node = std::move(reduction);
  node.feeds = true;
  return true;
}

// Make a node of n calls of one op.
void Plan::join(Node& node, int first, int n) {
  const size_t inputs = steps_[size_t(first)]->in.size(),
               outputs = steps_[size_t(first)]->out.size();
  for (int k = 0; k < n; ++k) {
    Node member = make(*steps_[size_t(first + k)]);
    if (k == 0) node.step = member.step;
    for (Array& a : member.in) node.in.push_back(std::move(a));
    for (Array& a : member.out) node.out.push_back(std::move(a));
    node.joined.push_back(member.call);
  }
  for (size_t k = 0; k < size_t(n); ++k) {  // the arrays have their last place now
    node.joined[k].in = node.in.data() + k * inputs;
    node.joined[k].out = node.out.data() + k * outputs;
    node.joined[k].attrs = nullptr;
    node.joined[k].n_attrs = 0;
  }
}

void Plan::count_uses(const Step& s, int by) {
  for (const StepArray& a : s.in)
    if (a.buffer >= 0) uses_[size_t(a.buffer)] += by;
  for (const StepArray& a : s.out)
    if (a.buffer >= 0) uses_[size_t(a.buffer)] += by;
}

// Give a node the n pointwise steps from `first` on. What no other step uses stays in L1.
void Plan::fuse(Node& node, int first, int n) {
  node.fused.reset(new Fused);
  for (int k = 0; k < n; ++k) count_uses(*steps_[size_t(first + k)], -1);
  std::vector<std::pair<int, int>> locals;  // buffer, block
  auto block = [&](const StepArray& a) {
    for (const auto& [buffer, number] : locals)
      if (buffer == a.buffer) return number;
    return -1;
  };
  for (int k = 0; k < n; ++k) {
    const Step& s = *steps_[size_t(first + k)];
    const size_t out = size_t(s.out[0].buffer);
    if (capture_->buffers[out].kind == CaptureBuffer::internal && uses_[out] == 0 && !local_[out]) {
      local_[out] = true;
      locals.emplace_back(int(out), int(locals.size()));
    }
    Node member = make(s);
    std::unique_ptr<Fused::Member> m(new Fused::Member{std::move(*member.launch), s.name, {}});
    for (size_t j = 0; j < s.in.size(); ++j) m->local[j] = block(s.in[j]);
    m->local[s.in.size()] = block(s.out[0]);
    node.fused->cost += s.cost;
    node.fused->members.push_back(std::move(m));
    node.fused->arrays.push_back(std::move(member.in));
    node.fused->arrays.push_back(std::move(member.out));
  }
  node.fused->locals = int(locals.size());
  for (int k = 0; k < n; ++k) count_uses(*steps_[size_t(first + k)], 1);
  // The launches point to arrays, which have their last place now.
  for (size_t k = 0; k < node.fused->members.size(); ++k) {
    Launch& l = node.fused->members[k]->launch;
    for (int j = 0; j < l.n_in; ++j) {
      const Array& a = node.fused->arrays[2 * k][size_t(j)];
      l.arrays[j] = a ? &a : nullptr;
    }
    l.arrays[l.n_in] = &node.fused->arrays[2 * k + 1][0];
  }
}

// Lifetimes, the arena, and which nodes change what lasts.
void Plan::place() {
  const auto& buffers = capture_->buffers;
  std::vector<Lifetime> lives(buffers.size(), Lifetime{-1, -1, 0});
  std::vector<bool> changed(buffers.size(), false);
  first_lasting = int(nodes.size());
  int step = 0;
  for (int i = 0; i < int(nodes.size()); ++i) {
    auto see = [&](const StepArray& a) {
      if (a.buffer < 0) return;
      Lifetime& life = lives[size_t(a.buffer)];
      if (life.first < 0) life = {i, i, buffers[size_t(a.buffer)].bytes};
      life.last = i;
    };
    for (int k = 0; k < nodes[size_t(i)].steps; ++k, ++step) {
      for (const StepArray& a : steps_[size_t(step)]->in) see(a);
      for (const StepArray& a : steps_[size_t(step)]->out) see(a);
    }
  }
  merge(lives);
  step = 0;
  for (int i = 0; i < int(nodes.size()); ++i) {
    Node& node = nodes[size_t(i)];
    auto see = [&](const StepArray& a, bool writes) {
      if (a.buffer < 0) return;
      const size_t b = size_t(a.buffer);
      const auto kind = buffers[size_t(host_[b])].kind;
      node.moves = node.moves || kind == CaptureBuffer::bound || kind == CaptureBuffer::output ||
                   (!writes && a.shape.product() == 1 && !constant_[b]);
      if (writes && (kind == CaptureBuffer::fixed || kind == CaptureBuffer::bound)) {
        changed[b] = true;
        first_lasting = std::min(first_lasting, i);
      }
    };
    for (int k = 0; k < node.steps; ++k, ++step) {
      for (const StepArray& a : steps_[size_t(step)]->in) see(a, false);
      for (const StepArray& a : steps_[size_t(step)]->out) see(a, true);
    }
    const Step& s = *node.step;
    if (s.kind >= Step::adam)
      for (const Array& a : node.in)
        if (a && (!a.contiguous() || (a.dtype != DType::f32 && a.dtype != DType::f64)))
          needs_gil = true;  // copies are made on the way
  }
  std::vector<Lifetime> placed;
  std::vector<size_t> which;
  for (size_t b = 0; b < buffers.size(); ++b) {
    if (changed[b]) written.push_back(int(b));
    if (buffers[b].kind != CaptureBuffer::internal || lives[b].first < 0 || constant_[b] ||
        local_[b])
      continue;
    unshared_bytes += buffers[b].bytes;
    if (host_[b] != int(b)) continue;
    placed.push_back(lives[b]);
    which.push_back(b);
  }
  arena_bytes = lay_out(placed);
  if (arena_bytes >= kLargeArena)
    empty_cache();  // of what the steps took when they ran by themselves
  StorageRef arena = allocate(arena_bytes);
  for (size_t i = 0; i < placed.size(); ++i)
    bind(int(which[i]), static_cast<char*>(arena->data) + placed[i].offset);
  held_.push_back(std::move(arena));
}

void Plan::run_node(Node& node) {
  execute(node);
  throw_kept_error();
}

void Plan::execute(Node& node) {
  if (node.fused && node.moves) node.fused->refresh();
  if (node.fused && !node.call.name) return node.fused->run();
  const Step& s = *node.step;
  switch (s.kind) {
    case Step::pointwise:
      if (node.moves) node.launch->refresh();
      return node.launch->run();
    case Step::op:
      if (!node.joined.empty())
        return s.op_->execute_joined(node.joined.data(), int(node.joined.size()));
      if (s.stream >= 0) {
        const RandomDraw& draw = draws[size_t(s.stream)];
        node.attrs[node.attrs.size() - 2].i = int64_t(draw.seed);
        node.attrs[node.attrs.size() - 1].i = int64_t(draw.offset);
      }
      if (node.feeds) {
        const Feed feed{[](const void* fused, int64_t i, int64_t n, void* room) {
                          return static_cast<const Fused*>(fused)->fill(i, n, room);
                        },
                        node.fused.get(), node.fused->cost};
        return s.op_->execute_fed(node.call, feed);
      }
      if (node.fused) {
        const Then then{[](const void* fused, int64_t i, int64_t rows, int64_t n, int64_t stride) {
                          static_cast<const Fused*>(fused)->rectangle(i, rows, n, stride);
                        },
                        node.fused.get()};
        return s.op_->execute_then(node.call, then);
      }
      return s.op_->execute(node.call);
    case Step::constant: std::memcpy(node.out[0].data(), s.bytes->data(), s.bytes->size()); return;
    case Step::setting: *node.out[0].data<double>() = node.setting; return;
    case Step::adam: {
      const Array* lists = node.in.data();
      return adam_step(lists, lists + s.n, lists + 2 * s.n, lists + 3 * s.n,
                       s.has_second ? lists + 4 * s.n : nullptr, s.n, node.adam);
    }
    case Step::sgd: {
      const Array* lists = node.in.data();
      return sgd_step(lists, lists + s.n, s.has_second ? lists + 2 * s.n : nullptr, s.n, node.sgd);
    }
    case Step::clip:
      clip_grads(node.in.data(), s.n, s.max_norm, s.norm_type, node.out.back());
      return;
    case Step::finite: return require_finite(node.in[0], s.name);
  }
}

void Plan::run() {
  Unobserved inside;
  failed = -1;
  for (size_t i = 0; i < nodes.size(); ++i) {
    try {
      if (int(i) >= first_lasting) {
        Uninterruptible whole;
        run_node(nodes[i]);
      } else {
        run_node(nodes[i]);
      }
    } catch (...) {
      failed = int(i);
      throw;
    }
  }
}

std::vector<double> Plan::profile(int runs) {
  using Clock = std::chrono::steady_clock;
  std::vector<std::vector<double>> times(nodes.size());
  Unobserved inside;
  Uninterruptible whole;
  for (int r = 0; r < runs; ++r)
    for (size_t i = 0; i < nodes.size(); ++i) {
      const auto start = Clock::now();
      run_node(nodes[i]);
      times[i].push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
  std::vector<double> medians;
  for (auto& t : times) {
    std::sort(t.begin(), t.end());
    medians.push_back(t.empty() ? 0 : t[t.size() / 2]);
  }
  return medians;
}

double Plan::flops(const Node& node) const {
  double sum = 0;
  if (node.step->kind == Step::op && node.step->op_->flops)
    for (const Call& c : node.joined.empty() ? std::vector<Call>{node.call} : node.joined)
      sum += node.step->op_->flops(c);
  else
    for (const Array& a : node.out)
      if (a) sum += double(a.numel());
  if (node.fused)
    for (const auto& m : node.fused->members) sum += double(m->launch.numel);
  return sum;
}

double Plan::bytes(const Node& node) const {
  double sum = 0;
  int first = 0;
  for (; &nodes[size_t(first)] != &node;) ++first;
  size_t step = 0;
  for (int i = 0; i < first; ++i) step += size_t(nodes[size_t(i)].steps);
  for (int k = 0; k < node.steps; ++k, ++step) {
    auto add = [&](const StepArray& a) {
      if (a.buffer >= 0 && !local_[size_t(a.buffer)])
        sum += double(a.shape.product()) * double(item_size(a.dtype));
    };
    for (const StepArray& a : steps_[step]->in) add(a);
    for (const StepArray& a : steps_[step]->out) add(a);
  }
  return sum;
}

}  // namespace backtrail
