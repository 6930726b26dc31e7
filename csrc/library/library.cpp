// Reading a library of ops: its version, its instruction set, its records.
#include <dlfcn.h>

#include <cctype>
#include <cstring>

#include "core/parallel.h"
#include "kernels/table.h"
#include "library/foreign.h"
#include "library/registry.h"

namespace backtrail {
namespace {

void keep(uint32_t kind, const char* text) {
  const ErrorKind kinds[] = {ErrorKind::runtime, ErrorKind::value, ErrorKind::type,
                             ErrorKind::index, ErrorKind::memory};
  keep_error(kind < 5 ? kinds[kind] : ErrorKind::runtime, text);
}

int run_tasks(int64_t tasks, double cost_ns, void (*body)(void*, int64_t), void* context) {
  try {
    detail::run_tasks(tasks, cost_ns, body, context);
    return 0;
  } catch (const Error& e) {
    keep_error(e.kind, e.what());
  } catch (const std::exception& e) {
    keep_error(ErrorKind::runtime, e.what());
  }
  return 1;
}

// What a library wrote, in the layout of this version.
template <class T>
T current(const T* record) {
  T now{};
  std::memcpy(&now, record, std::min<size_t>(record->size, sizeof now));
  now.size = sizeof now;
  return now;
}
// Record i of an array of them, each as large as the first says.
template <class T>
T current(const T* first, int i) {
  return current(
      reinterpret_cast<const T*>(reinterpret_cast<const char*>(first) + size_t(i) * first->size));
}

// Its symbol, once it is known that this program can use the library.
const backtrail_library* open(const char* path, const char* version) {
  void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!handle) fail(ErrorKind::runtime, "load_library: %s", dlerror());
  auto library = static_cast<const backtrail_library*>(dlsym(handle, "backtrail_library_v1"));
  const bool ancient = !library && dlsym(handle, "backtrail_ops");
  if (!library && !ancient)
    fail(ErrorKind::runtime, "load_library: %s defines no op; write BACKTRAIL_OPS(MyOp) in it",
         path);
  const unsigned major = library ? library->abi_major : 1, minor = library ? library->abi_minor : 0;
  if (major != BACKTRAIL_ABI_MAJOR || minor > BACKTRAIL_ABI_MINOR)
    fail(ErrorKind::runtime,
         "%s was built for version %u.%u of backtrail's op interface; this backtrail (%s) speaks "
         "%d.%d: rebuild it with this backtrail's headers%s",
         path, major, minor, version, BACKTRAIL_ABI_MAJOR, BACKTRAIL_ABI_MINOR,
         major < BACKTRAIL_ABI_MAJOR ? "" : ", or upgrade backtrail");
  bool runs = false;  // whether this CPU does
  const std::string isas = std::string(" ") + available_isas() + " ";
  runs = isas.find(std::string(" ") + library->isa + " ") != std::string::npos ||
         !std::strcmp(library->isa, "base");
  if (!runs)
    fail(ErrorKind::runtime,
         "%s was compiled for the instruction set %s; this CPU has: %s. Load the library that was "
         "compiled for one of these",
         path, library->isa, available_isas());
  return library;
}

bool is_name(const char* s) {
  if (!s || std::isdigit(static_cast<unsigned char>(*s)) || !*s) return false;
  for (; *s; ++s)
    if (!std::isalnum(static_cast<unsigned char>(*s)) && *s != '_') return false;
  return true;
}

void make_pointwise(const char* path, ForeignOp& f) {
  const backtrail_op& r = f.record;
  if (r.n_inputs > kMaxInputs || !(r.forward.f32 || r.forward.f64 || r.forward.i64))
    fail(ErrorKind::runtime, "%s: op '%s' has %d inputs, or no kernel", path, r.name, r.n_inputs);
  PointwiseRecord& p = f.pointwise;
  p.name = r.name;
  p.doc = r.doc;
  p.n_inputs = uint8_t(r.n_inputs);
  p.n_attrs = uint8_t(r.n_attrs);
  for (int j = 0; j < r.n_inputs; ++j)
    if (f.inputs[size_t(j)].type == BACKTRAIL_BOOL) p.mask_inputs |= uint8_t(1 << j);
  auto has = [&](uint32_t flag) { return (r.flags & flag) != 0; };
  p.mask_output = has(BACKTRAIL_MASK_OUTPUT);
  p.floats = has(BACKTRAIL_ON_FLOATS);
  p.integers = has(BACKTRAIL_ON_INTEGERS);
  p.differentiable = has(BACKTRAIL_DIFFERENTIABLE) && r.orders != 0 && r.vjp && r.trace;
  p.written_backward = has(BACKTRAIL_WRITTEN_BACKWARD);
  p.reads = Reads((has(BACKTRAIL_READS_INPUTS) ? 1 : 0) | (has(BACKTRAIL_READS_OUTPUT) ? 2 : 0));
  std::copy(f.attrs.begin(), f.attrs.end(), p.attrs);
  p.range = {r.low, r.high};
  p.cost = r.cost;
  p.kernels.forward = r.forward;
  for (int j = 0; j < r.n_inputs; ++j) {
    if (r.vjp) p.kernels.vjp[j] = r.vjp[j];
    if (r.derived) p.kernels.derived[j] = r.derived[j];
  }
  p.symbolic_attrs = has(BACKTRAIL_SYMBOLIC_ATTRS);
  p.foreign = &f.record;
  f.pointwise_op = pointwise_op(p);
  f.op = &f.pointwise_op;
}

std::unique_ptr<ForeignOp> read(const char* path, const backtrail_op& record,
                                const std::string& source) {
  auto f = std::make_unique<ForeignOp>();
  f->record = record;
  f->source = source;
  const backtrail_op& r = f->record;
  if (!is_name(r.name))
    fail(ErrorKind::value, "%s: '%s' is no name for an op: letters, digits and _", path,
         r.name ? r.name : "");
  if (!r.doc) f->record.doc = "";
  if (r.n_inputs < 1 || r.n_inputs > 16 || r.n_outputs < 1 || r.n_outputs > kMaxOutputs ||
      r.n_attrs < 0 || r.n_attrs > kMaxAttrs || !r.inputs || (r.n_attrs && !r.attrs))
    fail(ErrorKind::value,
         "%s: op '%s' has %d inputs, %d outputs and %d attributes; there may be 16, %d and %d",
         path, r.name, r.n_inputs, r.n_outputs, r.n_attrs, kMaxOutputs, kMaxAttrs);
  for (int j = 0; j < r.n_inputs; ++j) f->inputs.push_back(current(r.inputs, j));
  for (int i = 0; i < r.n_attrs; ++i) {
    const backtrail_attr a = current(r.attrs, i);
    if (!is_name(a.name) || a.type > BACKTRAIL_ATTR_BOOL)
      fail(ErrorKind::value, "%s: op '%s': attribute %d has no name or an unknown type", path,
           r.name, i);
    f->attrs.push_back({a.name, a.value, a.type});
  }
  if (r.kind == BACKTRAIL_POINTWISE) {
    make_pointwise(path, *f);
  } else {
    if (r.kind > BACKTRAIL_OPAQUE || !r.run || (!r.shape && r.kind != BACKTRAIL_REDUCTION))
      fail(ErrorKind::runtime, "%s: op '%s' is of an unknown kind, or lacks its functions", path,
           r.name);
    f->op = &general_op(*f);
  }
  return f;
}

std::vector<std::unique_ptr<ForeignOp>>& all_foreign() {
  static auto* ops = new std::vector<std::unique_ptr<ForeignOp>>;  // for ever: graphs point to them
  return *ops;
}

}  // namespace

const ForeignOp* foreign_of(const Op& op) {
  for (const auto& f : all_foreign())
    if (f->op == &op) return f.get();
  return nullptr;
}

std::vector<std::string> ForeignOp::input_names() const {
  std::vector<std::string> names;
  for (size_t j = 0; j < inputs.size(); ++j)
    names.push_back(inputs[j].name       ? inputs[j].name
                    : j == 0             ? "input"
                    : inputs.size() == 2 ? "other"
                                         : "tensor" + std::to_string(j));
  return names;
}

std::vector<const ForeignOp*> load_library(const char* path, const std::string& source,
                                           const char* version,
                                           const std::function<void(const ForeignOp&)>& check) {
  static const backtrail_host host{
      sizeof(backtrail_host), BACKTRAIL_ABI_MAJOR, BACKTRAIL_ABI_MINOR, version, keep, run_tasks};
  const backtrail_library* library = open(path, version);
  int32_t count = 0;
  const backtrail_op* records = library->open(&host, &count);
  throw_kept_error();
  if (!records || count < 1) fail(ErrorKind::runtime, "load_library: %s defines no op", path);
  std::vector<std::unique_ptr<ForeignOp>> made;
  for (int i = 0; i < count; ++i) {
    made.push_back(read(path, current(records, i), source));
    const char* name = made.back()->record.name;
    for (int k = 0; k < i; ++k)
      if (!std::strcmp(made[size_t(k)]->record.name, name))
        fail(ErrorKind::value, "%s defines two ops named '%s'", path, name);
    if (const Op* old = find_op(name)) {
      const ForeignOp* before = foreign_of(*old);
      if (!before)
        fail(ErrorKind::value, "%s: the name '%s' is taken: backtrail has an op of that name", path,
             name);
      if (source.empty() || before->source != source)
        fail(ErrorKind::value,
             "%s: the name '%s' is taken by the op of another library%s%s; rename one of them",
             path, name, before->source.empty() ? "" : ", made from ", before->source.c_str());
    }
    check(*made.back());
  }
  std::vector<const ForeignOp*> loaded;
  for (auto& f : made) {
    register_op(*f->op);
    loaded.push_back(f.get());
    all_foreign().push_back(std::move(f));
  }
  return loaded;
}

}  // namespace backtrail
