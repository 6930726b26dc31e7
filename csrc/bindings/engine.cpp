// The inner steps of the backward pass: the rule of pointwise ops, and adding gradients up. The
// walk over the graph itself is Python, in graph.py.
#include "bindings/recording.h"  // Python.h first

#include "bindings/attributes.h"

#include <string>
#include <unordered_map>

#include "exec/loop.h"
#include "library/registry.h"

namespace backtrail {

const char kFirstGradient[] = "the beginning of backward";

namespace {

// A gradient brought to the shape and dtype of the input it belongs to.
Array fit(const Array& g, const Meta& meta) {
  Array out = g.shape == meta.shape ? g : sum_to(g, meta.shape);
  return out.dtype == meta.dtype ? out : convert(out, meta.dtype);
}

bool default_attrs(const PointwiseRecord& r, PyObject* attrs) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(attrs); ++i) {
    PyObject* o = PyTuple_GET_ITEM(attrs, i);
    if (o != Py_None && attribute_value(r.name, r.attrs[i], o) != r.attrs[i].value) return false;
  }
  return true;
}

// "relu backward": how a plan names the step. Made once, with the GIL.
const char* derivative_name(const PointwiseRecord& r) {
  static std::unordered_map<const PointwiseRecord*, std::string> names;
  std::string& name = names[&r];
  if (name.empty()) name = std::string(r.name) + " backward";
  return name.c_str();
}

// pointwise_vjp(node, grad) -> gradient of each input, None where there is no edge.
PyObject* pointwise_vjp(PyObject*, PyObject* const* args, Py_ssize_t n) {
  if (n != 2 || Py_TYPE(args[0]) != NodeType || !is_tensor(args[1])) {
    PyErr_SetString(PyExc_TypeError, "pointwise_vjp: expected (Node, Tensor)");
    return nullptr;
  }
  NodeObject* node = as_node(args[0]);
  const PointwiseRecord& r = *as_op(node->op)->op->pointwise;
  const Meta& made = node->metas[node->n_inputs];
  const Array& incoming = as_tensor(args[1])->array;
  if (incoming.shape != made.shape || incoming.dtype != made.dtype) {
    PyErr_Format(PyExc_RuntimeError,
                 "%s backward: got a gradient of shape %s and %s; the result has shape %s and %s",
                 r.name, to_string(incoming.shape).c_str(), dtype_name(incoming.dtype),
                 to_string(made.shape).c_str(), dtype_name(made.dtype));
    return nullptr;
  }
  const uint32_t passes = default_attrs(r, node->attrs) ? as_op(node->op)->op->passes : 0;
  PyObject* saved = nullptr;
  if (node->n_saved || node->released) {
    saved = PyObject_GetAttrString(args[0], "saved");  // checks the versions
    if (!saved) return nullptr;
  }
  PyObject* result = guarded([&]() -> PyObject* {
    const Array& g = as_tensor(args[1])->array;
    Operand in[kMaxInputs + 2];
    int count = 0;
    unsigned masks = 0;
    // In place of an input that makes no difference: a number at which nothing is NaN or infinite,
    // for a derived derivative may still multiply by 0 what it computes from it.
    const double unused = r.range.low + 0.77 * (r.range.high - r.range.low);
    in[count++].array = &g;
    for (Py_ssize_t i = 0; saved && i < PyTuple_GET_SIZE(saved); ++i) {
      PyObject* o = PyTuple_GET_ITEM(saved, i);
      const bool mask = (uint32_t(r.reads) & 1) && (r.mask_inputs >> i & 1);
      if (mask) masks |= 1u << count;
      if (is_tensor(o))
        in[count++].array = &as_tensor(o)->array;
      else
        in[count++].number = o == Py_None ? (mask ? 0 : unused) : PyFloat_AsDouble(o);
    }
    double attrs[kMaxAttrs];
    attribute_values(r.name, r.attrs, r.n_attrs, node->attrs, attrs);
    PyObject* grads = PyTuple_New(node->n_inputs);
    if (!grads) return nullptr;
    for (int j = 0; j < node->n_inputs; ++j) {
      PyObject* grad = Py_None;
      const bool has_gradient = (passes >> j & 1) || r.kernels.vjp[j].f32;
      if (has_gradient && PyTuple_GET_ITEM(node->edges, j) != Py_None) {
        Array out = g;
        if (!(passes >> j & 1)) {
          out = empty(g.shape, g.dtype);
          run_pointwise(r.kernels.vjp[j], compute_type(g.dtype), masks, false, in, count, out,
                        attrs, r.cost * 1.5, capturing() ? derivative_name(r) : r.name);
        }
        grad = wrap(fit(out, node->metas[j]));
        if (!grad) {
          Py_DECREF(grads);
          return nullptr;
        }
        PyTuple_SET_ITEM(grads, j, grad);
      } else {
        PyTuple_SET_ITEM(grads, j, Py_NewRef(grad));
      }
    }
    return grads;
  });
  Py_XDECREF(saved);
  return result;
}

// derived_vjp(op, input, grad, inputs, attrs): the derivative that dual numbers give for an op
// whose `backward` is written, in float64; for tests.
PyObject* derived_vjp(PyObject*, PyObject* args) {
  PyObject *op, *grad, *inputs, *attrs;
  int which;
  if (!PyArg_ParseTuple(args, "O!iO!O!O!:derived_vjp", OpType, &op, &which, TensorBaseType, &grad,
                        &PyTuple_Type, &inputs, &PyTuple_Type, &attrs))
    return nullptr;
  return guarded([&]() -> PyObject* {
    const PointwiseRecord* r = as_op(op)->op->pointwise;
    if (!r || which < 0 || which >= r->n_inputs || !r->kernels.derived[which].f64) Py_RETURN_NONE;
    bool tensors = PyTuple_GET_SIZE(inputs) == r->n_inputs;
    for (int j = 0; tensors && j < r->n_inputs; ++j)
      tensors = is_tensor(PyTuple_GET_ITEM(inputs, j));
    if (!tensors)
      fail(ErrorKind::type, "derived_vjp: expected a tuple of %d tensors", int(r->n_inputs));
    Operand in[kMaxInputs + 2];
    in[0].array = &as_tensor(grad)->array;
    for (int j = 0; j < r->n_inputs; ++j)
      in[j + 1].array = &as_tensor(PyTuple_GET_ITEM(inputs, j))->array;
    double values[kMaxAttrs];
    attribute_values(r->name, r->attrs, r->n_attrs, attrs, values);
    Array out = empty(in[0].array->shape, DType::f64);
    run_pointwise(r->kernels.derived[which], DType::f64, unsigned(r->mask_inputs) << 1, false, in,
                  r->n_inputs + 1, out, values, r->cost, r->name);
    return wrap(out);
  });
}

// fit(grad, shape, dtype): undo a broadcast and a conversion.
PyObject* fit_to(PyObject*, PyObject* const* args, Py_ssize_t n) {
  if (n != 3 || !is_tensor(args[0]) || !PyTuple_Check(args[1])) {
    PyErr_SetString(PyExc_TypeError, "fit: expected (Tensor, shape, dtype)");
    return nullptr;
  }
  return guarded([&]() -> PyObject* {
    Meta meta;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args[1]); ++i)
      meta.shape.push(PyLong_AsLongLong(PyTuple_GET_ITEM(args[1], i)));
    meta.dtype = dtype_of(args[2]);
    return wrap(fit(as_tensor(args[0])->array, meta));
  });
}

// out = a + b
void add_into(const Array& a, const Array& b, const Array& out) {
  static const PointwiseRecord& r = *find_op("add")->pointwise;
  if (a.shape != b.shape)
    fail(ErrorKind::runtime, "backward: gradients of shapes %s and %s for one tensor",
         to_string(a.shape).c_str(), to_string(b.shape).c_str());
  Operand in[2];
  in[0].array = &a, in[1].array = &b;
  run_pointwise(r.kernels.forward, compute_type(out.dtype), 0, false, in, 2, out, &r.attrs[0].value,
                r.cost, "add");
}

// add(a, b): the sum of two gradients, outside the graph.
PyObject* add_grads(PyObject*, PyObject* const* args, Py_ssize_t n) {
  if (n != 2 || !is_tensor(args[0]) || !is_tensor(args[1])) {
    PyErr_SetString(PyExc_TypeError, "add: expected two tensors");
    return nullptr;
  }
  return guarded([&] {
    const Array &a = as_tensor(args[0])->array, &b = as_tensor(args[1])->array;
    Array out = empty(a.shape, a.dtype);
    add_into(a, b, out);
    return wrap(out);
  });
}

// Whether nothing but this object knows its memory.
bool alone(const TensorObject* t) {
  return !t->needs_grad() && !t->weakrefs && t->array.storage->refs == 1 &&
         !t->array.storage->release;
}

PyObject* refuse_other(const char* name) {
  PyErr_Format(PyExc_TypeError, "%s: expected a tensor", name);
  return nullptr;
}

// owns_memory(t): the same, for Python.
PyObject* owns_memory(PyObject*, PyObject* o) {
  if (!is_tensor(o)) return refuse_other("owns_memory");
  return PyBool_FromLong(alone(as_tensor(o)));
}

// first_gradient(): the 1 that a backward pass begins with, new each time, for it is the user's.
PyObject* first_gradient(PyObject*, PyObject*) {
  return guarded([&] {
    Array a = empty(Dims(), DType::f32);
    *a.data<float>() = 1;
    if (capturing()) capturing()->saw_constant("full", a);
    a.storage->writer = kFirstGradient;
    return wrap(a);
  });
}

// is_first_gradient(t): whether it is such a 1, and still is 1.
PyObject* is_first_gradient(PyObject*, PyObject* o) {
  if (!is_tensor(o)) return refuse_other("is_first_gradient");
  const Storage& s = *as_tensor(o)->array.storage.get();
  return PyBool_FromLong(s.writer == kFirstGradient && s.version == 0);
}

// add_to(sum, grad): sum += grad, unless someone else may see the memory of `sum`: then False.
PyObject* add_to(PyObject*, PyObject* const* args, Py_ssize_t n) {
  if (n != 2 || !is_tensor(args[0]) || !is_tensor(args[1])) {
    PyErr_SetString(PyExc_TypeError, "add_to: expected two tensors");
    return nullptr;
  }
  return guarded([&]() -> PyObject* {
    const TensorObject *sum = as_tensor(args[0]), *grad = as_tensor(args[1]);
    const Array &a = sum->array, &b = grad->array;
    if (!alone(sum) || grad->needs_grad() || a.shape != b.shape || a.dtype != b.dtype ||
        !a.contiguous())
      Py_RETURN_FALSE;
    add_into(a, b, a);
    ++a.storage->version;
    a.storage->writer = "backward";
    Py_RETURN_TRUE;
  });
}

// accumulate(leaf, grad): leaf.grad += grad, in place; the first time grad becomes leaf.grad when
// nothing else holds its memory.
PyObject* accumulate(PyObject*, PyObject* const* args, Py_ssize_t n) {
  if (n != 2 || !is_tensor(args[0]) || !is_tensor(args[1])) {
    PyErr_SetString(PyExc_TypeError, "accumulate: expected (leaf, grad)");
    return nullptr;
  }
  return guarded([&]() -> PyObject* {
    TensorObject* leaf = as_tensor(args[0]);
    grad_read(leaf);
    const Array& g = as_tensor(args[1])->array;
    if (!leaf->grad) {
      const bool own = g.storage->refs == 1 && g.contiguous() &&
                       !as_tensor(args[1])->needs_grad() && !g.storage->release &&
                       g.numel() * int64_t(g.item()) == int64_t(g.storage->bytes);
      if (own) {
        TensorObject* taken = as_tensor(args[1]);
        leaf->grad = Py_NewRef(args[1]);
        taken->view = false;
        taken->origin = Origin::plain;
      } else {
        Array copy = empty(g.shape, g.dtype);
        copy_into(g, copy);
        leaf->grad = wrap(copy);
      }
      Py_RETURN_NONE;
    }
    Array& sum = as_tensor(leaf->grad)->array;
    add_into(sum, g, sum);
    ++sum.storage->version;
    sum.storage->writer = "backward";
    Py_RETURN_NONE;
  });
}

// trace(op, input, attrs=()) -> (instructions, result): the derivative of an input as primitive
// ops. Registers count (grad, what the derivative reads, attributes), then the instructions;
// constants are floats. Attributes that are constants of the program take the values given.
PyObject* trace(PyObject*, PyObject* args) {
  PyObject *op, *attrs = nullptr;
  int input;
  if (!PyArg_ParseTuple(args, "O!i|O!:trace", OpType, &op, &input, &PyTuple_Type, &attrs))
    return nullptr;
  return guarded([&]() -> PyObject* {
    const PointwiseRecord* r = as_op(op)->op->pointwise;
    if (!r || input < 0 || input >= r->n_inputs) Py_RETURN_NONE;
    double values[kMaxAttrs];
    attribute_values(r->name, r->attrs, r->n_attrs, attrs, values);
    const bool symbolic = !r->foreign || r->symbolic_attrs;
    const Program t = derivative_program(*r, input, symbolic ? nullptr : values);
    auto argument = [](TraceArg a) {
      return a.reg >= 0 ? PyLong_FromLong(a.reg) : PyFloat_FromDouble(a.value);
    };
    PyObject* list = PyList_New(Py_ssize_t(t.instrs.size()));
    for (size_t i = 0; i < t.instrs.size(); ++i) {
      const TraceInstr& instr = t.instrs[i];
      PyObject* a = PyTuple_New(instr.n_args);
      for (int k = 0; k < instr.n_args; ++k) PyTuple_SET_ITEM(a, k, argument(instr.args[k]));
      PyList_SET_ITEM(list, Py_ssize_t(i), Py_BuildValue("(sN)", instr.op, a));
    }
    return Py_BuildValue("(NN)", list, argument(t.result));
  });
}

PyMethodDef functions[] = {
    {"pointwise_vjp", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(pointwise_vjp)),
     METH_FASTCALL, "pointwise_vjp(node, grad): gradients of the inputs of a pointwise op."},
    {"derived_vjp", derived_vjp, METH_VARARGS, "A written derivative again, by dual numbers."},
    {"trace", trace, METH_VARARGS, "A derivative as a program of primitive ops."},
    {"fit", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(fit_to)), METH_FASTCALL,
     "fit(grad, shape, dtype): undo a broadcast and a conversion."},
    {"add_grads", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(add_grads)), METH_FASTCALL,
     "Sum of two gradients, outside the graph."},
    {"add_to", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(add_to)), METH_FASTCALL,
     "add_to(sum, grad): add in place if no one else sees it; whether it was."},
    {"owns_memory", owns_memory, METH_O, "Whether nothing but this tensor knows its memory."},
    {"first_gradient", first_gradient, METH_NOARGS, "The 1 that a backward pass begins with."},
    {"is_first_gradient", is_first_gradient, METH_O, "Whether it is that 1, unchanged."},
    {"accumulate", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(accumulate)),
     METH_FASTCALL, "accumulate(leaf, grad): leaf.grad += grad."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool add_engine_functions(PyObject* module) {
  return PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace backtrail
