// The door of every operation: apply(op, inputs, attrs) computes, and records a node when a
// gradient will be wanted. A plain C function: a call costs tens of nanoseconds, not hundreds.
#include "bindings/attributes.h"  // Python.h first
#include "bindings/gil.h"
#include "bindings/numbers.h"
#include "bindings/recording.h"
#include "bindings/ref.h"
#include "bindings/views.h"

#include <cstring>
#include <set>
#include <string>

#include "core/layout.h"
#include "core/parallel.h"
#include "exec/loop.h"
#include "library/registry.h"
#include "plan/capture.h"

namespace backtrail {

DType default_dtype = DType::f32;

namespace {

constexpr int64_t kReleaseAt = 16384;  // elements from which the GIL is released

[[noreturn]] void bad_input(const Op& op, int j, PyObject* o) {
  fail(ErrorKind::type, "%s: input %d is %s; expected a Tensor or a number", op.name, j,
       Py_TYPE(o)->tp_name);
}

// A number of Python or NumPy as an operand; its category (bool, integer, floating). `fits` is
// cleared where 64 bits do not hold an integer.
int operand_of(const Op& op, int j, PyObject* o, Operand& out, bool& fits) {
  Number n;
  if (!number_of(o, n)) bad_input(op, j, o);
  out.number = n.f;
  if (n.category < 2) {
    out.integer = n.i;
    fits &= n.fits;
  }
  return n.category;
}

[[noreturn]] void too_large(const Op& op) {
  PyErr_Format(PyExc_OverflowError, "%s: an integer does not fit in the 64 bits of int64", op.name);
  throw_raised();
}

// PyTorch's type promotion: tensors with dimensions decide, then 0-dim tensors, then numbers; a
// lower rank only counts when its category is higher.
struct Promotion {
  int best[3] = {-1, -1, -1};  // dtype by rank: with dimensions, 0-dim, number
  void add(int rank, DType t) {
    best[rank] = best[rank] < 0 ? int(t) : int(promote(DType(best[rank]), t));
  }
  DType result() const {
    int r = -1;
    for (int b : best)
      if (b >= 0 && (r < 0 || category(DType(b)) > category(DType(r)))) r = b;
    return DType(r);
  }
};

DType number_dtype(int cat) { return cat == 2 ? default_dtype : cat == 1 ? DType::i64 : DType::b8; }

// A bool is no number to these, as in PyTorch: a mask is negated with ~.
bool refuses_bools(const PointwiseRecord& r) {
  for (const char* name : {"sub", "neg", "abs"})
    if (std::strcmp(r.name, name) == 0) return true;
  return false;
}

struct Arguments {
  Array arrays[kMaxInputs];  // converted inputs of ops that are not pointwise
  Attributes attrs;
};

struct Result {
  Array out[kMaxOutputs];
  int n_public = 1;
};

void check_category(const char* name, DType result, const Array& target) {
  if (category(result) > category(target.dtype))
    fail(ErrorKind::runtime, "%s_: the result is %s and cannot be stored in place as %s", name,
         dtype_name(result), dtype_name(target.dtype));
}

void pointwise(const Op& op, PyObject* inputs, PyObject* attr_tuple, Result& result,
               const Array* target, const char* name) {
  const PointwiseRecord& r = *op.pointwise;
  const int n = int(PyTuple_GET_SIZE(inputs));
  if (n != r.n_inputs)
    fail(ErrorKind::type, "%s: got %d inputs; expected %d", op.name, n, r.n_inputs);
  double attrs[kMaxAttrs];
  attribute_values(r.name, r.attrs, r.n_attrs, attr_tuple, attrs);
  Operand in[kMaxInputs];
  Promotion types;
  const Array* first = nullptr;
  // Logic takes any number for its truth; a choice between values wants a bool.
  const bool all_masks = r.mask_inputs == (1u << n) - 1;
  bool same_shape = true, fits = true, in_order = true;
  const Array* arrays[kMaxInputs];
  int n_arrays = 0;
  for (int j = 0; j < n; ++j) {
    PyObject* o = PyTuple_GET_ITEM(inputs, j);
    const bool mask = r.mask_inputs >> j & 1;
    if (is_tensor(o)) {
      const Array& a = as_tensor(o)->array;
      if (mask && is_floating(a.dtype) && !all_masks)
        fail(ErrorKind::runtime, "%s: input %d is %s; expected bools", op.name, j,
             dtype_name(a.dtype));
      in[j].array = &a;
      arrays[n_arrays++] = &a;
      in_order = in_order && a.contiguous();
      if (!first)
        first = &a;
      else if (a.shape != first->shape)
        same_shape = false;
      if (!mask) types.add(a.ndim() ? 0 : 1, a.dtype);
      if (a.dtype == DType::b8 && refuses_bools(r))
        fail(ErrorKind::runtime,
             "%s: not defined for bools; use ~ or logical_not() to negate a mask, ^ to compare two",
             op.name);
    } else {
      int cat = operand_of(op, j, o, in[j], fits);
      if (!mask) types.add(2, number_dtype(cat));
    }
  }
  Dims shape = first ? first->shape : Dims();
  if (!same_shape)
    for (int j = 0; j < n; ++j)
      if (in[j].array) shape = broadcast(op.name, shape, in[j].array->shape);
  DType dtype =
      types.best[0] < 0 && types.best[1] < 0 && types.best[2] < 0 ? DType::b8 : types.result();
  DType compute = compute_type(dtype);
  const bool masks_only = types.best[0] < 0 && types.best[1] < 0 && types.best[2] < 0;
  if (masks_only) {
    compute = DType::f32;
  } else if (compute == DType::i64 && !r.integers) {
    dtype = compute = default_dtype;
  } else if (compute != DType::i64 && !r.floats) {
    fail(ErrorKind::runtime, "%s: not defined for %s; expected integers or bools", op.name,
         dtype_name(dtype));
  }
  if (!fits && compute == DType::i64) too_large(op);
  // The square of a bool is an integer, as in PyTorch.
  if (dtype == DType::b8 && compute == DType::i64 && !std::strcmp(op.name, "square"))
    dtype = DType::i64;
  if (r.mask_output) dtype = DType::b8;
  Array& out = result.out[0];
  if (target) {
    if (shape != target->shape && broadcast(op.name, shape, target->shape) != target->shape)
      fail(ErrorKind::runtime, "%s_: the result has shape %s; it does not fit in place into %s",
           name, to_string(shape).c_str(), to_string(target->shape).c_str());
    check_category(name, dtype, *target);
    out = *target;
    for (int j = 0; j < n; ++j)
      if (in[j].array && overlaps_shifted(*in[j].array, out)) {
        // Kept in the result so that it lives through the run.
        Array& copy = result.out[1 + j] = empty(in[j].array->shape, in[j].array->dtype);
        copy_into(*in[j].array, copy);
        in[j].array = &copy;
      }
  } else {
    out = empty(shape, dtype);
    if (!in_order) out.strides = strides_like(arrays, n_arrays, shape);
  }
  // While others run, `x.data = y` may give an input's tensor another array.
  const bool long_one = out.numel() >= kReleaseAt;
  Array held[kMaxInputs];
  for (int j = 0; long_one && j < n; ++j)
    if (in[j].array) in[j].array = &(held[j] = *in[j].array);
  GilRelease release(long_one);
  run_pointwise(r.kernels.forward, compute, r.mask_inputs, r.mask_output, in, n, out, attrs, r.cost,
                op.name);
}

void general(const Op& op, PyObject* inputs, PyObject* attr_tuple, Result& result, Arguments& a) {
  const int n = int(PyTuple_GET_SIZE(inputs));
  if (op.n_inputs >= 0 && n != op.n_inputs)
    fail(ErrorKind::type, "%s: got %d inputs; expected %d", op.name, n, op.n_inputs);
  a.attrs.parse(op, attr_tuple);
  // More than kMaxInputs (cat, stack): room of their own.
  Array* arrays = n <= kMaxInputs ? a.arrays : new Array[size_t(n)];
  struct Guard {
    Array* p;
    ~Guard() { delete[] p; }
  } guard{n <= kMaxInputs ? nullptr : arrays};
  int64_t elements = 0;
  bool narrow = false;
  for (int j = 0; j < n; ++j) {
    PyObject* o = PyTuple_GET_ITEM(inputs, j);
    if (o == Py_None) continue;
    if (!is_tensor(o))
      fail(ErrorKind::type, "%s: input %d is %s; expected a Tensor", op.name, j,
           Py_TYPE(o)->tp_name);
    const Array& x = as_tensor(o)->array;
    elements += x.numel();
    const bool pair = op.strided && op.kind == Kind::opaque && n == 2;
    const bool widen = x.dtype == DType::bf16 && !op.bf16 && op.kind != Kind::view &&
                       (op.kind != Kind::reduction || op.self) && (!op.strided || pair);
    narrow |= widen;
    arrays[j] = widen                          ? convert(x, DType::f32)
                : op.strided                   ? x
                : j < 32 && (op.rows >> j & 1) ? dense_rows(x)
                                               : contiguous(x);
  }
  if (op.n_inputs > 0 && !arrays[0])
    fail(ErrorKind::type, "%s: input 0 is None; expected a Tensor", op.name);
  if (op.reads_values) value_read(op.name);
  Call call{op.name,
            arrays,
            n,
            a.attrs.values,
            a.attrs.n,
            result.out,
            op.n_public ? op.n_outputs : kMaxOutputs,
            op.self};
  op.prepare(call);
  result.n_public = op.n_public ? op.n_public : call.n_out;
  if (op.execute) {
    for (int i = 0; i < call.n_out; ++i)
      if (result.out[i]) elements += result.out[i].numel();
    const bool long_one = elements >= kReleaseAt || (op.self && op.kind == Kind::opaque);
    GilRelease release(long_one);
    run_op(op, call);
    if (capturing() && op.random)
      capturing()->steps.back().stream = stream_of(op, a.attrs.values, a.attrs.n);
  }
  if (narrow)
    for (int i = 0; i < result.n_public; ++i)
      if (result.out[i].dtype == DType::f32) result.out[i] = convert(result.out[i], DType::bf16);
}

// Whether it is clone, whose result may go straight to where it is wanted.
bool is_plain_copy(const Op& op, PyObject* inputs, const Array& target) {
  static const Op* clone = find_op("clone");
  if (&op != clone || PyTuple_GET_SIZE(inputs) != 1 || !is_tensor(PyTuple_GET_ITEM(inputs, 0)))
    return false;
  const Array& from = as_tensor(PyTuple_GET_ITEM(inputs, 0))->array;
  return from.shape == target.shape && !overlaps_shifted(from, target) && !overlaps_itself(target);
}

bool wants_grad(const Op& op, PyObject* inputs) {
  if (!grad_mode || !op.differentiable) return false;
  for (Py_ssize_t j = 0; j < PyTuple_GET_SIZE(inputs); ++j) {
    PyObject* o = PyTuple_GET_ITEM(inputs, j);
    if (is_tensor(o) && as_tensor(o)->needs_grad()) return true;
  }
  return false;
}

PyObject* empty_tuple() {
  static PyObject* t = PyTuple_New(0);
  return t;
}

bool check_call(const char* name, PyObject* const* args, Py_ssize_t n, Py_ssize_t least) {
  if (n < least || Py_TYPE(args[0]) != OpType || !PyTuple_Check(args[1]) ||
      (n > 2 && !PyTuple_Check(args[2]))) {
    PyErr_Format(PyExc_TypeError, "%s: expected (Op, tuple of inputs, tuple of attributes)", name);
    return false;
  }
  return true;
}

// apply(op, inputs, attrs=()) -> Tensor, or a tuple of them for an op with several outputs.
PyObject* apply(PyObject*, PyObject* const* args, Py_ssize_t n) {
  if (!check_call("apply", args, n, 2)) return nullptr;
  return guarded([&]() -> PyObject* {
    static const Op* as_strided = find_op("as_strided");
    OpObject* handle = as_op(args[0]);
    const Op& op = *handle->op;
    PyObject *inputs = args[1], *attrs = n > 2 ? args[2] : nullptr;
    Result result;
    if (op.pointwise) {
      pointwise(op, inputs, attrs, result, nullptr, op.name);
    } else {
      Arguments a;
      general(op, inputs, attrs, result, a);
    }
    PyObject* outputs[kMaxOutputs] = {};
    bool ok = true;
    for (int i = 0; i < result.n_public; ++i) {
      outputs[i] = wrap(result.out[i]);
      if (!outputs[i])
        ok = false;
      else if (op.kind == Kind::view)
        mark_view(as_tensor(outputs[i]), as_tensor(PyTuple_GET_ITEM(inputs, 0)), !op.n_public);
    }
    if (ok && wants_grad(op, inputs)) {
      // What as_strided says is of the memory: its derivative needs to know the input's place, too.
      PyObject* place = &op == as_strided
                            ? place_in(result.out[0], as_tensor(PyTuple_GET_ITEM(inputs, 0))->array)
                            : Py_NewRef(attrs ? attrs : empty_tuple());
      NodeObject* node =
          place ? record(handle, inputs, place, outputs, result.n_public, result.out, inputs)
                : nullptr;
      ok = node != nullptr;
      Py_XDECREF(place);
      Py_XDECREF(reinterpret_cast<PyObject*>(node));
    }
    if (op.n_public == 1 && ok) return outputs[0];
    PyObject* all = ok ? PyTuple_New(result.n_public) : nullptr;
    for (int i = 0; i < result.n_public; ++i) {
      if (all)
        PyTuple_SET_ITEM(all, i, outputs[i]);
      else
        Py_XDECREF(outputs[i]);
    }
    return all;
  });
}

struct Reference {
  PyObject* object;
  ~Reference() { Py_XDECREF(object); }
};

// The inputs, with a copy in place of each that the derivative needs and that lies in `target`.
PyObject* copies_of_overwritten(const Op& op, PyObject* inputs, const Array& target) {
  const uint32_t needed = needed_inputs(op, inputs);
  PyObject* kept = PyTuple_New(PyTuple_GET_SIZE(inputs));
  for (Py_ssize_t j = 0; kept && j < PyTuple_GET_SIZE(inputs); ++j) {
    PyObject* o = PyTuple_GET_ITEM(inputs, j);
    if (is_tensor(o) && !bring_up_to_date(as_tensor(o))) {
      Py_DECREF(kept);
      return nullptr;
    }
    const bool overwritten = j < 32 && (needed >> j & 1) && is_tensor(o) &&
                             as_tensor(o)->array.storage.get() == target.storage.get();
    if (!overwritten) {
      PyTuple_SET_ITEM(kept, j, Py_NewRef(o));
      continue;
    }
    const Array& a = as_tensor(o)->array;
    Array copy = empty(a.shape, a.dtype);
    copy_into(a, copy);
    PyObject* c = wrap(copy);
    if (!c) {
      Py_DECREF(kept);
      return nullptr;
    }
    as_tensor(c)->grad_fn = Py_XNewRef(as_tensor(o)->grad_fn);
    as_tensor(c)->output = as_tensor(o)->output;
    PyTuple_SET_ITEM(kept, j, c);
  }
  return kept;
}

// Text that lives as long as the process: a storage remembers who wrote to it.
const char* kept_name(PyObject* text) {
  static std::set<std::string> names;
  const char* s = PyUnicode_Check(text) ? PyUnicode_AsUTF8(text) : nullptr;
  if (!s) fail(ErrorKind::type, "apply_: the name must be a str");
  return names.emplace(s).first->c_str();
}

// apply_(op, inputs, attrs, target, name=op.name): the same with the result written into `target`,
// which takes the place of the output in the graph. Returns target.
PyObject* apply_in_place(PyObject*, PyObject* const* args, Py_ssize_t n) {
  if (!check_call("apply_", args, n, 4) || !is_tensor(args[3])) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "apply_: the target must be a Tensor");
    return nullptr;
  }
  return guarded([&]() -> PyObject* {
    OpObject* handle = as_op(args[0]);
    const Op& op = *handle->op;
    PyObject *inputs = args[1], *target = args[3];
    TensorObject* t = as_tensor(target);
    const char* name = n > 4 ? kept_name(args[4]) : op.name;
    const bool graph = wants_grad(op, inputs) || (grad_mode && t->needs_grad());
    if (graph) {
      if (!bring_up_to_date(t)) return nullptr;
      check_recordable(name, t);
      // The new value comes from the base as it is, past other views on the way to this one.
      if (t->grad_fn && t->base && as_tensor(t->base)->grad_fn && !renew(t)) return nullptr;
    }
    stand_in_written(t->array);
    // All writes of `fill` are the same.
    if (overlaps_itself(t->array) && std::strcmp(op.name, "fill") != 0)
      fail(ErrorKind::runtime,
           "%s_: several indices of the target (shape %s) share one element; use clone() first",
           name, to_string(t->array.shape).c_str());
    // A value that the derivative reads and that is about to be overwritten is copied first.
    PyObject* kept = graph ? copies_of_overwritten(op, inputs, t->array) : Py_NewRef(inputs);
    if (!kept) return nullptr;
    Reference hold{kept};
    Result result;
    if (op.pointwise) {
      pointwise(op, inputs, args[2], result, &t->array, name);
    } else if (is_plain_copy(op, inputs, t->array)) {
      check_category(name, as_tensor(PyTuple_GET_ITEM(inputs, 0))->array.dtype, t->array);
      result.out[0] = t->array;
      copy_into(as_tensor(PyTuple_GET_ITEM(inputs, 0))->array, result.out[0]);
    } else {
      Arguments a;
      general(op, inputs, args[2], result, a);
      if (result.out[0].shape != t->array.shape)
        fail(ErrorKind::runtime, "%s_: the result has shape %s; it does not fit in place into %s",
             name, to_string(result.out[0].shape).c_str(), to_string(t->array.shape).c_str());
      check_category(name, result.out[0].dtype, t->array);
      copy_into(result.out[0], t->array);
      result.out[0] = t->array;
    }
    t->changed_by(name);
    if (graph) {
      t->seen = t->version();  // its own node is about to be replaced
      PyObject* outputs[] = {target};
      NodeObject* node = record(handle, inputs, args[2], outputs, 1, result.out, kept);
      if (!node) return nullptr;
      Py_DECREF(reinterpret_cast<PyObject*>(node));
      if (t->base && !rebase(t)) return nullptr;
    }
    return Py_NewRef(target);
  });
}

PyObject* set_grad_enabled(PyObject*, PyObject* on) {
  int value = PyObject_IsTrue(on);
  if (value < 0) return nullptr;
  bool before = grad_mode;
  grad_mode = value;
  return PyBool_FromLong(before);
}

PyObject* is_grad_enabled(PyObject*, PyObject*) { return PyBool_FromLong(grad_mode); }

PyObject* set_default_dtype(PyObject*, PyObject* dtype) {
  return guarded([&]() -> PyObject* {
    DType t = dtype_of(dtype);
    if (t != DType::f32 && t != DType::f64)
      fail(ErrorKind::type, "set_default_dtype: got %s; expected float32 or float64",
           dtype_name(t));
    default_dtype = t;
    Py_RETURN_NONE;
  });
}
PyObject* get_default_dtype(PyObject*, PyObject*) {
  return Py_NewRef(dtype_objects[int(default_dtype)]);
}

// result_type(*tensors or numbers): the dtype that arithmetic between them has.
PyObject* result_type(PyObject*, PyObject* const* args, Py_ssize_t n) {
  return guarded([&]() -> PyObject* {
    Promotion types;
    Op op{};
    op.name = "result_type";
    if (n == 0) fail(ErrorKind::type, "result_type: expected at least one tensor or number");
    for (Py_ssize_t j = 0; j < n; ++j) {
      Operand o;
      bool fits;
      if (is_tensor(args[j]))
        types.add(as_tensor(args[j])->array.ndim() ? 0 : 1, as_tensor(args[j])->array.dtype);
      else
        types.add(2, number_dtype(operand_of(op, int(j), args[j], o, fits)));
    }
    return Py_NewRef(dtype_objects[int(types.result())]);
  });
}

PyMethodDef functions[] = {
    {"apply", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(apply)), METH_FASTCALL,
     "apply(op, inputs, attrs=()): compute, and record a node when a gradient is needed."},
    {"apply_", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(apply_in_place)),
     METH_FASTCALL, "apply_(op, inputs, attrs, target, name=op.name): compute into target."},
    {"set_grad_enabled", set_grad_enabled, METH_O,
     "Switch recording on this thread; returns what it was."},
    {"is_grad_enabled", is_grad_enabled, METH_NOARGS,
     "Whether operations are recorded on this thread."},
    {"set_default_dtype", set_default_dtype, METH_O,
     "Type of floating point tensors made from Python numbers."},
    {"get_default_dtype", get_default_dtype, METH_NOARGS,
     "Type of floating point tensors made from Python numbers."},
    {"result_type", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(result_type)),
     METH_FASTCALL, "The dtype that arithmetic between these tensors and numbers has."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool add_apply_functions(PyObject* module) { return PyModule_AddFunctions(module, functions) == 0; }

}  // namespace backtrail
