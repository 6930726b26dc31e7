// The module backtrail._core: the one file that sees pybind11, whose templates take long to
// compile.
#include <pybind11/pybind11.h>

#include <cstdio>
#include <cstdlib>

#include "bindings/args.h"
#include "bindings/gil.h"
#include "core/parallel.h"
#include "kernels/table.h"
#include "library/foreign.h"
#include "library/registry.h"

namespace py = pybind11;

namespace backtrail {
namespace {

// Called from a long kernel, with or without the GIL: has Python a signal to act on?
bool check_signals() {
  GilHold gil;
  return PyErr_CheckSignals() != 0;
}

// The functions of the module itself take their arguments as they come, and read them by Args.
using py::args;
using py::object;

Args read(const char* function, const args& given, Py_ssize_t least, Py_ssize_t most) {
  return Args(function, PySequence_Fast_ITEMS(given.ptr()), PyTuple_GET_SIZE(given.ptr()), least,
              most);
}
Args read(const char* function, const args& given, Py_ssize_t count) {
  return read(function, given, count, count);
}
object made(PyObject* o) {
  if (!o) throw py::error_already_set();
  return py::reinterpret_steal<object>(o);
}

object set_types(const args& given) {
  const Args a = read("set_types", given, 2);
  if (!PyType_Check(a[0]) ||
      !PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(a[0]), TensorBaseType) ||
      !PyTuple_Check(a[1]) || PyTuple_GET_SIZE(a[1]) != kDTypes)
    fail(ErrorKind::type, "set_types: expected a subclass of TensorBase and %d dtypes", kDTypes);
  TensorType = reinterpret_cast<PyTypeObject*>(Py_NewRef(a[0]));
  for (int i = 0; i < kDTypes; ++i) dtype_objects[i] = Py_NewRef(PyTuple_GET_ITEM(a[1], i));
  return py::none();
}

// The default of an attribute as Python has it.
object default_of(const Attr& a) {
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
object pointwise_info(const args& given) {
  const PointwiseRecord* r = read("pointwise_info", given, 1).op(0).pointwise;
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

// load_library(path, source="", check=None): load a user's library and register its ops, all or
// none; returns their handles. `check` is called with the name and the parameters of each before.
// Ops of the same source take the place of those loaded before.
object load(const args& given) {
  const Args a = read("load_library", given, 1, 3);
  const char* path = a.text(0, "path");
  const std::string source = a[1] == Py_None ? "" : a.text(1, "source");
  const auto check = py::reinterpret_borrow<object>(a[2]);
  auto checked = [&](const ForeignOp& f) {
    py::list parameters;
    for (const std::string& name : f.input_names()) parameters.append(name);
    if (f.record.kind == BACKTRAIL_REDUCTION || f.record.kind == BACKTRAIL_ROWWISE)
      parameters.append("dim");
    if (f.record.kind == BACKTRAIL_REDUCTION) parameters.append("keepdim");
    for (const Attr& attr : f.attrs) parameters.append(attr.name);
    if (!check.is_none()) check(f.record.name, parameters);
  };
  py::list handles;
  for (const ForeignOp* f : load_library(path, source, BACKTRAIL_VERSION, checked))
    handles.append(made(make_op(f->op)));
  return handles;
}

// derivative_op(op, derived=False): the op that computes the gradients of an op of a library that
// is not pointwise; and for each input of that one whether it has a gradient.
object derivative(const args& given) {
  const Args a = read("derivative_op", given, 1, 2);
  const Op& op = a.op(0);
  if (!op.self)
    fail(ErrorKind::type, "derivative_op: expected an Op of a library that is not pointwise");
  const Derivative& d = derivative_of(op, a[1] != Py_None && a.truth(1, "derived"));
  py::list has_gradient;
  for (const bool has : static_cast<const Derivative*>(op.self)->has_gradient)
    has_gradient.append(has);
  return py::make_tuple(made(make_op(&d.op)), has_gradient);
}

// What Python makes the function of a library's op from; None for a built-in op.
object foreign_info(const args& given) {
  const ForeignOp* f = foreign_of(read("foreign_info", given, 1).op(0));
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

object build_info(const args& given) {
  read("build_info", given, 0);
  py::dict d;
  d["isa"] = kernels().isa;
  d["available"] = available_isas();
  d["compiler"] = __VERSION__;
  d["version"] = BACKTRAIL_VERSION;
  d["openmp"] = _OPENMP;
  return d;
}

// broadcast_shape(name, shapes)
object broadcast_shape(const args& given) {
  const Args a = read("broadcast_shape", given, 2);
  const char* name = a.text(0, "name");
  const auto shapes = py::reinterpret_borrow<py::sequence>(a[1]);
  Dims all;
  for (size_t i = 0; i < shapes.size(); ++i) {
    const object shape = shapes[i];
    PyObject* one = shape.ptr();
    all = broadcast(name, all, Args(name, &one, 1, 1).dims(0, "shape"));
  }
  return made(size_of(all));
}

object get_threads(const args& given) {
  read("num_threads", given, 0);
  return py::int_(num_threads());
}
object set_threads(const args& given) {
  set_num_threads(read("set_num_threads", given, 1).integer(0, "n"));
  return py::none();
}

object shares_memory(const args& given) {
  const Args a = read("shares_memory", given, 2);
  return py::bool_(a.tensor(0, "a").storage.get() == a.tensor(1, "b").storage.get());
}
object overlaps(const args& given) {
  return py::bool_(overlaps_itself(read("overlaps_itself", given, 1).tensor(0, "tensor")));
}

// bump_version(tensor, writer)
object bump_version(const args& given) {
  const Args a = read("bump_version", given, 2);
  Storage& s = *a.tensor(0, "tensor").storage.get();
  const char* writer = a.text(1, "writer");
  ++s.version;
  s.writer = PyUnicode_AsUTF8(PyUnicode_InternFromString(writer));  // lives for ever
  return py::none();
}

object memory_stats(const args& given) {
  read("memory_stats", given, 0);
  const PoolStats s = pool_stats();
  py::dict d;
  d["in_use"] = s.in_use, d["cached"] = s.cached, d["peak"] = s.peak;
  return d;
}
object forget_peak(const args& given) {
  read("reset_peak", given, 0);
  reset_peak();
  return py::none();
}
object drop_cache(const args& given) {
  read("empty_cache", given, 0);
  empty_cache();
  return py::none();
}

// ---- for tests

object guard(const args& given) {
  guard_storages(int(read("guard_storages", given, 1).integer(0, "pattern")));
  return py::none();
}
object damage(const args& given) {
  return py::int_(guard_damage(*read("guard_damage", given, 1).tensor(0, "tensor").storage.get()));
}
object damage_released(const args& given) {
  read("released_damage", given, 0);
  return py::int_(released_damage());
}
object task_order(const args& given) {
  set_task_order(TaskOrder(read("set_task_order", given, 1).integer(0, "order")));
  return py::none();
}

struct Function {
  const char* name;
  object (*call)(const args&);
  const char* doc;
};
const Function kFunctions[] = {
    {"set_types", set_types, "Tell the core which Python classes its results have."},
    {"pointwise_info", pointwise_info, "What is known of a pointwise op, or None."},
    {"load_library", load, "Load a user's library; the handles of its ops."},
    {"foreign_info", foreign_info, "What is known of an op of a library, or None."},
    {"derivative_op", derivative, "The op of the gradients of an op of a library."},
    {"broadcast_shape", broadcast_shape,
     "The shape that these broadcast to; an error names the op."},
    {"build_info", build_info, "How the core was built, and what it runs on."},
    {"num_threads", get_threads, "How many threads large operations may use."},
    {"set_num_threads", set_threads, "Set how many threads large operations may use."},
    {"shares_memory", shares_memory, "Whether two tensors lie in one storage."},
    {"overlaps_itself", overlaps, "Whether several indices of a tensor share an element."},
    {"bump_version", bump_version, "Note that a tensor was changed in place, and by whom."},
    {"memory_stats", memory_stats, "Bytes in use, in the cache, and the most in use so far."},
    {"reset_peak", forget_peak, "Count the most in use from now on."},
    {"empty_cache", drop_cache, "Give cached memory back to the system."},
    {"guard_storages", guard, "For tests: fill and surround new memory by a byte."},
    {"guard_damage", damage, "For tests: where the zones around a tensor's memory were written."},
    {"released_damage", damage_released, "For tests: the same of memory that was released."},
    {"set_task_order", task_order,
     "For tests: 0 as usual, 1 on all threads however small, 2 the last task first."},
};

}  // namespace

PYBIND11_MODULE(_core_module, m) {
  m.doc() = "The C++ core of backtrail: arrays, ops, kernels and the steps of the graph.";
  py::register_local_exception_translator([](std::exception_ptr p) {
    try {
      std::rethrow_exception(p);
    } catch (const Error&) {
      set_python_error();
    }
  });
  kernels();  // an unsuitable CPU or BACKTRAIL_ISA is an ImportError, not a crash
  if (!make_tensor_type(m.ptr()) || !make_size_type(m.ptr()) || !make_op_type(m.ptr()) ||
      !make_node_type(m.ptr()) || !add_apply_functions(m.ptr()) || !add_engine_functions(m.ptr()) ||
      !add_view_functions(m.ptr()) || !add_capture(m.ptr()) || !add_creation_functions(m.ptr()) ||
      !add_exchange_functions(m.ptr()) || !add_optimizer_functions(m.ptr()))
    throw py::error_already_set();
  set_interrupt_check(check_signals);

  py::dict ops;
  int count;
  const Op* const* all = builtin_ops(count);
  for (int i = 0; i < count; ++i)
    ops[all[i]->name] = py::reinterpret_steal<py::object>(make_op(all[i]));
  m.attr("ops") = ops;

  for (const Function& f : kFunctions) m.def(f.name, f.call, f.doc);
}

}  // namespace backtrail

// pybind11 would wait for ever in a subinterpreter (mod_wsgi), whose threads PyGILState does not
// know.
extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {
  if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
    PyErr_SetString(PyExc_ImportError,
                    "backtrail cannot be imported in a subinterpreter, only in Python's main one");
    return nullptr;
  }
  return backtrail::PyInit__core_module();
}
