// Recording: numbering storages and copying what a step was called with.
#include "plan/capture.h"

#include <cstring>

namespace backtrail {

namespace {

// Captures going on, on any thread: storages are freed with the GIL held, which guards this.
std::vector<Capture*> watchers;

void storage_freed(uint64_t serial) {
  for (Capture* t : watchers) t->freed(serial);
}

}  // namespace

Capture::Capture() : first_serial_(last_serial()) {
  watchers.push_back(this);
  watch_storages(storage_freed);
}

void Capture::close() {
  for (size_t i = 0; i < watchers.size(); ++i)
    if (watchers[i] == this) watchers.erase(watchers.begin() + int64_t(i));
  if (watchers.empty()) watch_storages(nullptr);
}

Capture::~Capture() { close(); }

void Capture::freed(uint64_t serial) {
  auto it = numbers_.find(serial);
  if (it != numbers_.end()) buffers[size_t(it->second)].alive = false;
}

int Capture::find(const Array& a) const {
  auto it = numbers_.find(a.storage->serial);
  return it == numbers_.end() ? -1 : it->second;
}

int Capture::buffer_of(const Array& a, bool reads) {
  const auto [it, fresh] = numbers_.try_emplace(a.storage->serial, int(buffers.size()));
  if (fresh) {
    CaptureBuffer b;
    b.bytes = a.storage->bytes;
    // What is read before it is written was there before, whoever made it; if it is anything.
    if (!is_new(a) || (reads && b.bytes)) {
      b.kind = CaptureBuffer::fixed;
      b.hold = a.storage;
    }
    buffers.push_back(std::move(b));
  }
  return it->second;
}

StepArray Capture::array(const Array& a, bool reads) {
  StepArray t;
  if (!a) return t;
  t.buffer = buffer_of(a, reads);
  t.offset = a.offset;
  t.shape = a.shape;
  t.strides = a.strides;
  t.dtype = a.dtype;
  return t;
}

StepArray Capture::written(const Array& a, const char* name) {
  StepArray t = array(a, false);
  if (t.buffer >= 0 && !buffers[size_t(t.buffer)].maker) buffers[size_t(t.buffer)].maker = name;
  return t;
}

void Capture::saw_pointwise(const PointwiseKernels& kernels, DType compute, unsigned masks,
                            bool mask_output, const Operand* in, int n_in, const Array& out,
                            const double* attrs, double cost, const char* name) {
  Step s{};
  s.kind = Step::pointwise;
  s.name = name;
  s.kernels = kernels;
  s.compute = compute;
  s.masks = masks;
  s.mask_output = mask_output;
  s.cost = cost;
  if (attrs) std::memcpy(s.values, attrs, sizeof s.values);
  for (int j = 0; j < n_in; ++j) {
    StepArray a;
    if (in[j].array)
      a = array(*in[j].array, true);
    else
      a.number = in[j].number, a.integer = in[j].integer;
    s.in.push_back(a);
  }
  s.out.push_back(written(out, name));
  steps.push_back(std::move(s));
}

void Capture::saw_op(const Op& op, const Call& c) {
  Step s{};
  s.kind = Step::op;
  s.name = op.name;
  s.op_ = &op;
  for (int j = 0; j < c.n_in; ++j) s.in.push_back(array(c.in[j], true));
  s.attrs.assign(c.attrs, c.attrs + c.n_attrs);
  for (const AttrValue& a : s.attrs)
    if (a.type == AttrValue::list) s.lists.insert(s.lists.end(), a.items, a.items + a.i);
  for (int i = 0; i < c.n_out; ++i) s.out.push_back(written(c.out[i], op.name));
  steps.push_back(std::move(s));
}

void Capture::saw_constant(const char* name, const Array& a) {
  Step s{};
  s.kind = Step::constant;
  s.name = name;
  s.out.push_back(written(a, name));
  const char* data = a.data();
  s.bytes = std::make_shared<std::vector<char>>(data, data + size_t(a.numel()) * a.item());
  steps.push_back(std::move(s));
}

Step& Capture::saw_update(Step::Kind kind, const char* name,
                          std::initializer_list<const Array*> lists, int n, int only_read,
                          const Array* extra) {
  Step s{};
  s.kind = kind;
  s.name = name;
  s.n = n;
  int number = 0;
  for (const Array* list : lists) {
    for (int i = 0; list && i < n; ++i) {
      s.in.push_back(array(list[i], true));
      if (number != only_read) s.out.push_back(s.in.back());
    }
    ++number;
  }
  if (extra) s.out.push_back(written(*extra, name));
  steps.push_back(std::move(s));
  return steps.back();
}

}  // namespace backtrail
