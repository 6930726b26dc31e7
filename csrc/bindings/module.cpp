// The module backtrail._core.
#include <cstdio>
#include <cstdlib>

#include "bindings/caster.h"
#include "core/parallel.h"
#include "kernels/table.h"
#include "library/foreign.h"
#include "library/registry.h"

namespace py = pybind11;

namespace backtrail {
namespace {

// Called from a long kernel, with or without the GIL: has Python a signal to act on?
bool check_signals() {
  PyGILState_STATE gil = PyGILState_Ensure();
  const bool stop = PyErr_CheckSignals() != 0;
  PyGILState_Release(gil);
  return stop;
}

void set_types(py::object tensor, py::object size, py::tuple dtypes) {
  if (!PyType_Check(tensor.ptr()) ||
      !PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(tensor.ptr()), TensorBaseType) ||
      !PyType_Check(size.ptr()) || dtypes.size() != size_t(kDTypes))
    fail(ErrorKind::type,
         "set_types: expected a subclass of TensorBase, one of tuple and %d dtypes", kDTypes);
  TensorType = reinterpret_cast<PyTypeObject*>(tensor.inc_ref().ptr());
  SizeType = reinterpret_cast<PyTypeObject*>(size.inc_ref().ptr());
  for (int i = 0; i < kDTypes; ++i) dtype_objects[i] = Py_NewRef(PyTuple_GET_ITEM(dtypes.ptr(), i));
}

// The default of an attribute as Python has it.
py::object default_of(const Attr& a) {
  if (a.type == BACKTRAIL_ATTR_BOOL) return py::bool_(a.value != 0);
  if (a.type == BACKTRAIL_ATTR_INT || a.type == BACKTRAIL_ATTR_INT64)
    return py::int_(int64_t(a.value));
  if (a.type != BACKTRAIL_ATTR_FLOAT) return py::float_(a.value);
  char text[32];  // of the numbers that are this float, the shortest
  for (int digits = 6; digits <= 9; ++digits) {
    std::snprintf(text, sizeof text, "%.*g", digits, a.value);
    if (double(std::strtof(text, nullptr)) == a.value) break;
  }
  return py::float_(std::strtod(text, nullptr));
}

// What tests and generated documents need to know of a pointwise op.
py::object pointwise_info(py::handle handle) {
  if (Py_TYPE(handle.ptr()) != OpType) fail(ErrorKind::type, "pointwise_info: expected an Op");
  const PointwiseRecord* r = as_op(handle.ptr())->op->pointwise;
  if (!r) return py::none();
  py::dict d, attrs;
  for (int i = 0; i < r->n_attrs; ++i) attrs[r->attrs[i].name] = default_of(r->attrs[i]);
  py::list masks;
  for (int j = 0; j < r->n_inputs; ++j) masks.append(bool(r->mask_inputs >> j & 1));
  d["attrs"] = attrs;
  d["attr_constants"] = r->n_attrs > 0 && r->foreign && !r->symbolic_attrs;
  d["mask_inputs"] = masks;
  d["mask_output"] = r->mask_output;
  d["integers"] = r->integers;
  d["floats"] = r->floats;
  d["written_backward"] = r->written_backward;
  d["reads_inputs"] = bool(uint32_t(r->reads) & 1);
  d["reads_output"] = bool(uint32_t(r->reads) & 2);
  d["range"] = py::make_tuple(r->range.low, r->range.high);
  return d;
}

// Load a user's library and register its ops, all or none; returns their handles. `check` is called
// with the name and the parameters of each before. Ops of the same source take the place of those
// loaded before.
py::list load(const std::string& path, const std::string& source, const py::object& check) {
  py::list handles;
  auto checked = [&](const ForeignOp& f) {
    py::list parameters = py::cast(f.input_names());
    if (f.record.kind == BACKTRAIL_REDUCTION || f.record.kind == BACKTRAIL_ROWWISE)
      parameters.append("dim");
    if (f.record.kind == BACKTRAIL_REDUCTION) parameters.append("keepdim");
    for (const Attr& a : f.attrs) parameters.append(a.name);
    if (!check.is_none()) check(f.record.name, parameters);
  };
  for (const ForeignOp* f : load_library(path.c_str(), source, BACKTRAIL_VERSION, checked))
    handles.append(py::reinterpret_steal<py::object>(make_op(f->op)));
  return handles;
}

// The op that computes the gradients of an op of a library that is not pointwise; and for each
// input of that one whether it has a gradient.
py::tuple derivative(py::handle handle, bool derived) {
  if (Py_TYPE(handle.ptr()) != OpType || !as_op(handle.ptr())->op->self)
    fail(ErrorKind::type, "derivative_op: expected an Op of a library that is not pointwise");
  const Op& op = *as_op(handle.ptr())->op;
  const Derivative& d = derivative_of(op, derived);
  return py::make_tuple(py::reinterpret_steal<py::object>(make_op(&d.op)),
                        static_cast<const Derivative*>(op.self)->has_gradient);
}

// What Python makes the function of a library's op from; None for a built-in op.
py::object foreign_info(py::handle handle) {
  if (Py_TYPE(handle.ptr()) != OpType) fail(ErrorKind::type, "foreign_info: expected an Op");
  const ForeignOp* f = foreign_of(*as_op(handle.ptr())->op);
  if (!f) return py::none();
  static const char* types[] = {"float32", "float64", "int64", "bool", "floating"};
  static const char* attr_types[] = {"float", "float", "int", "int", "bool"};
  py::dict d;
  py::list inputs, attrs;
  const std::vector<std::string> names = f->input_names();
  for (size_t j = 0; j < names.size(); ++j)
    inputs.append(py::make_tuple(names[j], types[f->inputs[j].type]));
  for (const Attr& a : f->attrs)
    attrs.append(py::make_tuple(a.name, attr_types[a.type], default_of(a)));
  d["inputs"] = inputs;
  d["attrs"] = attrs;
  d["source"] = f->source;
  d["range"] = py::make_tuple(f->record.low, f->record.high);
  d["written_backward"] = (f->record.flags & BACKTRAIL_WRITTEN_BACKWARD) != 0;
  return d;
}

py::dict build_info() {
  py::dict d;
  d["isa"] = kernels().isa;
  d["available"] = available_isas();
  d["compiler"] = __VERSION__;
  d["version"] = BACKTRAIL_VERSION;
  d["openmp"] = _OPENMP;
  return d;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The C++ core of backtrail: arrays, ops, kernels and the steps of the graph.";
  py::register_local_exception_translator([](std::exception_ptr p) {
    try {
      std::rethrow_exception(p);
    } catch (const Error&) {
      set_python_error();
    }
  });
  kernels();  // an unsuitable CPU or BACKTRAIL_ISA is an ImportError, not a crash
  if (!make_tensor_type(m.ptr()) || !make_graph_types(m.ptr()) || !add_apply_functions(m.ptr()) ||
      !add_engine_functions(m.ptr()))
    throw py::error_already_set();
  set_interrupt_check(check_signals);

  py::dict ops;
  int count;
  const Op* const* all = builtin_ops(count);
  for (int i = 0; i < count; ++i)
    ops[all[i]->name] = py::reinterpret_steal<py::object>(make_op(all[i]));
  m.attr("ops") = ops;

  m.def("set_types", &set_types, "Tell the core which Python classes its results have.");
  m.def("pointwise_info", &pointwise_info);
  m.def("load_library", &load, py::arg("path"), py::arg("source") = "",
        py::arg("check") = py::none());
  m.def("foreign_info", &foreign_info);
  m.def("derivative_op", &derivative, py::arg("op"), py::arg("derived") = false);
  m.def(
      "broadcast_shape",
      [](const char* name, const std::vector<Dims>& shapes) {
        Dims all;
        for (const Dims& s : shapes) all = broadcast(name, all, s);
        return all;
      },
      "The shape that these broadcast to; an error names the op.");
  m.def("build_info", &build_info);
  m.def("num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads);
  m.def("shares_memory",
        [](const Array& a, const Array& b) { return a.storage.get() == b.storage.get(); });
  m.def("overlaps_itself", &overlaps_itself);
  m.def("bump_version", [](const Array& a, const char* writer) {
    ++a.storage->version;
    a.storage->writer = PyUnicode_AsUTF8(PyUnicode_InternFromString(writer));  // lives for ever
  });
  m.def("memory_stats", [] {
    const PoolStats s = pool_stats();
    py::dict d;
    d["in_use"] = s.in_use, d["cached"] = s.cached, d["peak"] = s.peak;
    return d;
  });
  m.def("reset_peak", &reset_peak);
  m.def("guard_storages", &guard_storages, "For tests: fill and surround new memory by a byte.");
  m.def("guard_damage", [](const Array& a) { return guard_damage(*a.storage.get()); });
  m.def("released_damage", &released_damage);
  m.def(
      "set_task_order", [](int order) { set_task_order(static_cast<TaskOrder>(order)); },
      "For tests: 0 as usual, 1 on all threads however small, 2 the last task first.");
  m.def("empty_cache", &empty_cache);
  bind_capture(m);
  bind_creation(m);
  bind_exchange(m);
  bind_optimizer(m);
}

}  // namespace backtrail
