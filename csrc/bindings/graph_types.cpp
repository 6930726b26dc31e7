// The type Node: a step of the graph with the values kept for the rule of its op.
#include "bindings/views.h"  // Python.h first

#include <structmember.h>

#include <algorithm>

namespace backtrail {

PyTypeObject* NodeType = nullptr;
thread_local bool grad_mode = true;

namespace {

uint64_t next_sequence = 1;

int node_traverse(PyObject* self, visitproc visit, void* arg) {
  NodeObject* n = as_node(self);
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(n->op);
  Py_VISIT(n->edges);
  Py_VISIT(n->attrs);
  Py_VISIT(n->hooks);
  Py_VISIT(n->dict);
  Py_VISIT(n->origin);
  for (int i = 0; i < n->n_saved; ++i) Py_VISIT(n->saved[i].object);
  return 0;
}

void drop_saved(NodeObject* n) {
  Saved* saved = n->saved;
  int count = n->n_saved;
  n->saved = nullptr;
  n->n_saved = 0;
  for (int i = 0; i < count; ++i) {
    Py_XDECREF(saved[i].object);
    saved[i].array.~Array();
    let_go(saved[i].counter);
  }
  PyMem_Free(saved);
}

int node_clear(PyObject* self) {
  NodeObject* n = as_node(self);
  Py_CLEAR(n->op);
  Py_CLEAR(n->edges);
  Py_CLEAR(n->attrs);
  Py_CLEAR(n->hooks);
  Py_CLEAR(n->dict);
  Py_CLEAR(n->origin);
  drop_saved(n);
  return 0;
}

void node_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  Py_TRASHCAN_BEGIN(self, node_dealloc)  // a chain of nodes of any length
      NodeObject* n = as_node(self);
  if (n->weakrefs) PyObject_ClearWeakRefs(self);
  node_clear(self);
  PyMem_Free(n->edge_outputs);
  PyMem_Free(n->metas);
  type->tp_free(self);
  Py_DECREF(type);
  Py_TRASHCAN_END
}

}  // namespace

NodeObject* new_node(PyObject* op, PyObject* inputs, PyObject* attrs, int n_outputs) {
  PyObject* self = NodeType->tp_alloc(NodeType, 0);
  if (!self) return nullptr;
  NodeObject* n = as_node(self);
  n->op = Py_NewRef(op);
  n->attrs = Py_NewRef(attrs);
  n->n_inputs = int(PyTuple_GET_SIZE(inputs));
  n->n_outputs = n_outputs;
  n->edges = PyTuple_New(n->n_inputs);
  n->edge_outputs = static_cast<int*>(PyMem_Calloc(size_t(n->n_inputs) + 1, sizeof(int)));
  n->metas = static_cast<Meta*>(PyMem_Malloc(size_t(n->n_inputs + n_outputs + 1) * sizeof(Meta)));
  if (!n->edges || !n->edge_outputs || !n->metas) {
    Py_DECREF(self);
    PyErr_NoMemory();
    return nullptr;
  }
  for (int i = 0; i < n->n_inputs; ++i) {
    PyObject *input = PyTuple_GET_ITEM(inputs, i), *edge = Py_None;
    new (&n->metas[i]) Meta{};
    if (is_tensor(input)) {
      TensorObject* t = as_tensor(input);
      if (!bring_up_to_date(t)) {
        Py_DECREF(self);
        return nullptr;
      }
      n->metas[i] = {t->array.shape, t->array.dtype};
      edge = t->grad_fn ? t->grad_fn : t->requires_grad ? input : Py_None;
      n->edge_outputs[i] = t->output;
    }
    PyTuple_SET_ITEM(n->edges, i, Py_NewRef(edge));
  }
  n->sequence = next_sequence++;  // larger than that of nodes which views were given just now
  return n;
}

// Move what keeps the gradient of `t` to the node that is to make it from now on.
bool move_retained(TensorObject* t, NodeObject* n, int output) {
  PyObject* old = t->grad_fn ? as_node(t->grad_fn)->hooks : nullptr;
  PyObject *from = Py_BuildValue("(i)", t->output), *to = Py_BuildValue("(i)", output);
  PyObject* reference = old && from ? PyDict_GetItem(old, from) : nullptr;
  bool ok = from && to;
  if (ok && reference) {
    if (!n->hooks) n->hooks = PyDict_New();
    ok = n->hooks && PyDict_SetItem(n->hooks, to, reference) == 0 && PyDict_DelItem(old, from) == 0;
  }
  Py_XDECREF(from);
  Py_XDECREF(to);
  return ok;
}

bool hang(NodeObject* n, PyObject* const* outputs) {
  for (int i = 0; i < n->n_outputs; ++i) {
    new (&n->metas[n->n_inputs + i]) Meta{};
    if (!outputs[i] || !is_tensor(outputs[i])) continue;
    TensorObject* t = as_tensor(outputs[i]);
    n->metas[n->n_inputs + i] = {t->array.shape, t->array.dtype};
    if (!is_floating(t->array.dtype)) continue;
    if (t->retains && !move_retained(t, n, i)) return false;
    Py_XSETREF(t->grad_fn, Py_NewRef(reinterpret_cast<PyObject*>(n)));
    t->output = i;
    t->requires_grad = false;
  }
  return true;
}

namespace {

// Remember the version of what was just saved.
void note_version(Saved& s, PyObject* o) {
  if (!is_tensor(o)) return;
  const TensorObject* t = as_tensor(o);
  s.version = t->version();
  if (s.output < 0) return;
  s.counter = t->counter;
  if (s.counter)
    ++s.counter->refs;
  else
    s.version = t->array.storage->version;
}

// A node of Python's own making: Node(op, inputs, outputs, attrs, saved).
PyObject* node_new(PyTypeObject*, PyObject* args, PyObject*) {
  PyObject *op, *inputs, *outputs, *attrs, *saved;
  if (!PyArg_ParseTuple(args, "OO!O!O!O!:Node", &op, &PyTuple_Type, &inputs, &PyTuple_Type,
                        &outputs, &PyTuple_Type, &attrs, &PyTuple_Type, &saved))
    return nullptr;
  NodeObject* n = new_node(op, inputs, attrs, int(PyTuple_GET_SIZE(outputs)));
  if (!n) return nullptr;
  const int count = int(PyTuple_GET_SIZE(saved));
  n->saved = static_cast<Saved*>(PyMem_Calloc(size_t(count) + 1, sizeof(Saved)));
  for (int i = 0; i < count; ++i) {
    PyObject* item = PyTuple_GET_ITEM(saved, i);
    Saved* s = new (&n->saved[n->n_saved++]) Saved{nullptr, Array(), nullptr, 0, -1};
    for (int k = 0; k < n->n_outputs && s->output < 0; ++k)
      if (item == PyTuple_GET_ITEM(outputs, k)) s->output = k;
    if (s->output >= 0)
      s->array = as_tensor(item)->array;
    else
      s->object = Py_NewRef(item);
    note_version(*s, item);
  }
  if (!hang(n, PySequence_Fast_ITEMS(outputs))) {
    Py_DECREF(reinterpret_cast<PyObject*>(n));
    return nullptr;
  }
  return reinterpret_cast<PyObject*>(n);
}

const char* op_name(PyObject* op) {
  if (Py_TYPE(op) == OpType) return as_op(op)->op->name;
  PyObject* name = PyObject_GetAttrString(op, "name");
  const char* text = name ? PyUnicode_AsUTF8(name) : nullptr;
  Py_XDECREF(name);  // the op keeps it alive
  if (!text) PyErr_Clear();
  return text ? text : "a function";
}

// The inputs that the gradients asked for read: bit j for input j; the last bit for all beyond.
uint32_t inputs_read(const NodeObject* n) {
  if (Py_TYPE(n->op) != OpType) return ~0u;
  const Op& op = *as_op(n->op)->op;
  uint32_t known = op.pointwise ? ~0u : 0, read = 0;
  for (int j = 0; j < kMaxInputs; ++j) {
    known |= op.needs[j];
    if (j < n->n_inputs && PyTuple_GET_ITEM(n->edges, j) != Py_None) read |= op.needs[j];
  }
  return known ? read : ~0u;
}

// The values kept for the derivative, checked against changes in place.
PyObject* node_saved(PyObject* self, void*) {
  NodeObject* n = as_node(self);
  if (n->released) {
    PyErr_Format(PyExc_RuntimeError,
                 "backward: the values that '%s' kept were freed by an earlier backward; pass "
                 "retain_graph=True to that one to go through the graph again",
                 op_name(n->op));
    return nullptr;
  }
  const uint32_t read = inputs_read(n);
  int input = -1;  // the one that saved value i is, where the op names them
  PyObject* all = PyTuple_New(n->n_saved);
  for (int i = 0; all && i < n->n_saved; ++i) {
    const Saved& s = n->saved[i];
    const TensorObject* t = s.object && is_tensor(s.object) ? as_tensor(s.object) : nullptr;
    if (s.output < 0 && Py_TYPE(n->op) == OpType) do
        ++input;
      while (input < 31 && !(as_op(n->op)->op->saves_inputs >> input & 1));
    const bool matters = s.output >= 0 || input < 0 || (read >> std::min(input, 31) & 1);
    const uint32_t now = t                 ? t->version()
                         : s.counter       ? s.counter->version
                         : s.array.storage ? s.array.storage->version
                                           : s.version;
    if (matters && now != s.version) {
      const char* writer = t           ? t->writer()
                           : s.counter ? s.counter->writer
                                       : s.array.storage->writer;
      PyErr_Format(
          PyExc_RuntimeError,
          "backward: '%s' needs the value of its %s %d as it was in the forward pass, but "
          "it was changed in place by '%s' (version %u, expected %u); use the out-of-place "
          "form there, or x.clone() first",
          op_name(n->op), s.output < 0 ? "saved input" : "output", s.output < 0 ? i : s.output,
          writer ? writer : "?", now, s.version);
      Py_DECREF(all);
      return nullptr;
    }
    PyObject* value;
    if (s.output < 0) {
      value = Py_NewRef(s.object);
    } else {
      value = wrap(s.array);
      if (!value) {
        Py_DECREF(all);
        return nullptr;
      }
      if (is_floating(s.array.dtype) && s.output < n->n_outputs) {
        as_tensor(value)->grad_fn = Py_NewRef(n->origin ? n->origin : self);
        as_tensor(value)->output = s.output;
      }
    }
    PyTuple_SET_ITEM(all, i, value);
  }
  return all;
}

PyObject* node_release(PyObject* self, PyObject*) {
  NodeObject* n = as_node(self);
  if (n->n_saved) n->released = true;
  n->walked = true;
  drop_saved(n);
  Py_RETURN_NONE;
}

// narrowed(edges): the node again with some of its edges None, for its rule to leave out.
PyObject* node_narrowed(PyObject* self, PyObject* edges) {
  const NodeObject* n = as_node(self);
  if (!PyTuple_Check(edges) || PyTuple_GET_SIZE(edges) != n->n_inputs) {
    PyErr_SetString(PyExc_TypeError, "narrowed: expected a tuple with an edge for every input");
    return nullptr;
  }
  NodeObject* copy = new_node(n->op, edges, n->attrs, n->n_outputs);
  if (!copy) return nullptr;
  Py_SETREF(copy->edges, Py_NewRef(edges));
  std::copy(n->edge_outputs, n->edge_outputs + n->n_inputs, copy->edge_outputs);
  std::copy(n->metas, n->metas + n->n_inputs, copy->metas);
  for (int i = n->n_inputs; i < n->n_inputs + n->n_outputs; ++i)
    new (&copy->metas[i]) Meta(n->metas[i]);
  copy->dict = Py_XNewRef(n->dict);
  copy->origin = Py_NewRef(self);
  copy->sequence = n->sequence;
  copy->released = n->released;
  copy->walked = n->walked;
  copy->saved = static_cast<Saved*>(PyMem_Calloc(size_t(n->n_saved) + 1, sizeof(Saved)));
  if (!copy->saved) {
    Py_DECREF(copy);
    return PyErr_NoMemory();
  }
  for (; copy->n_saved < n->n_saved; ++copy->n_saved) {
    const Saved& s = n->saved[copy->n_saved];
    new (&copy->saved[copy->n_saved]) Saved(s);
    Py_XINCREF(s.object);
    if (s.counter) ++s.counter->refs;
  }
  return reinterpret_cast<PyObject*>(copy);
}

// The (shape, dtype) of input i; of output i - n_inputs beyond them.
PyObject* node_meta(PyObject* self, PyObject* arg) {
  NodeObject* n = as_node(self);
  long i = PyLong_AsLong(arg);
  if (i < 0 || i >= n->n_inputs + n->n_outputs) {
    PyErr_SetString(PyExc_IndexError, "meta: no such input or output");
    return nullptr;
  }
  PyObject* shape = size_of(n->metas[i].shape);
  if (!shape) return nullptr;
  return Py_BuildValue("(NO)", shape, dtype_objects[int(n->metas[i].dtype)]);
}

PyObject* node_shape(PyObject* self, PyObject* arg) {
  NodeObject* n = as_node(self);
  long i = PyLong_AsLong(arg);
  if (i < 0 || i >= n->n_inputs + n->n_outputs) {
    PyErr_SetString(PyExc_IndexError, "shape: no such input or output");
    return nullptr;
  }
  return size_of(n->metas[i].shape);
}

PyObject* node_edge_outputs(PyObject* self, void*) {
  NodeObject* n = as_node(self);
  PyObject* t = PyTuple_New(n->n_inputs);
  for (int i = 0; t && i < n->n_inputs; ++i)
    PyTuple_SET_ITEM(t, i, PyLong_FromLong(n->edge_outputs[i]));
  return t;
}

// What a node has not, an op of Python's may: of a Function, what its `forward` set on ctx.
PyObject* node_getattro(PyObject* self, PyObject* name) {
  PyObject* found = PyObject_GenericGetAttr(self, name);
  PyObject* op = as_node(self)->op;
  if (found || !op || Py_TYPE(op) == OpType || !PyErr_ExceptionMatches(PyExc_AttributeError))
    return found;
  PyObject *type, *value, *trace;
  PyErr_Fetch(&type, &value, &trace);
  PyObject* context = PyObject_GetAttrString(op, "context");
  if (context && PyUnicode_CompareWithASCIIString(name, "saved_tensors") == 0)
    found = PyObject_GetAttrString(self, "saved");
  else if (context)
    found = PyObject_GetAttr(context, name);
  Py_XDECREF(context);
  if (found || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
    Py_XDECREF(type), Py_XDECREF(value), Py_XDECREF(trace);
    return found;
  }
  PyErr_Restore(type, value, trace);
  return nullptr;
}

PyObject* node_name(PyObject* self, PyObject*) {
  return PyUnicode_FromString(op_name(as_node(self)->op));
}
PyObject* node_repr(PyObject* self) {
  return PyUnicode_FromFormat("<%sBackward>", op_name(as_node(self)->op));
}
PyObject* node_next(PyObject* self, void*) {
  NodeObject* n = as_node(self);
  PyObject* t = PyTuple_New(n->n_inputs);
  for (int i = 0; t && i < n->n_inputs; ++i)
    PyTuple_SET_ITEM(t, i,
                     Py_BuildValue("(Oi)", PyTuple_GET_ITEM(n->edges, i), n->edge_outputs[i]));
  return t;
}

PyGetSetDef node_getset[] = {
    {"saved", node_saved, nullptr, "Values kept for the derivative.", nullptr},
    {"edge_outputs", node_edge_outputs, nullptr, "Which output of each edge feeds the input.",
     nullptr},
    {"next_functions", node_next, nullptr, "(node, output) of every input.", nullptr},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyMethodDef node_methods[] = {
    {"release", node_release, METH_NOARGS, "Free the values kept for the derivative."},
    {"narrowed", node_narrowed, METH_O, "The node again with other edges: some of them None."},
    {"meta", node_meta, METH_O, "Shape and dtype of an input, or of an output after them."},
    {"shape", node_shape, METH_O, "Shape of an input, or of an output after them."},
    {"name", node_name, METH_NOARGS, "Name of the op."},
    {nullptr, nullptr, 0, nullptr}};
PyMemberDef node_members[] = {
    {"op", T_OBJECT, offsetof(NodeObject, op), READONLY, nullptr},
    {"edges", T_OBJECT, offsetof(NodeObject, edges), READONLY,
     "Node, leaf Tensor or None of every input."},
    {"attrs", T_OBJECT, offsetof(NodeObject, attrs), READONLY, nullptr},
    {"hooks", T_OBJECT, offsetof(NodeObject, hooks), 0,
     "Functions that see the gradient of an output."},
    {"sequence", T_ULONGLONG, offsetof(NodeObject, sequence), READONLY, nullptr},
    {"walked", T_BOOL, offsetof(NodeObject, walked), READONLY,
     "Whether a backward pass went through it and kept nothing."},
    {"n_inputs", T_INT, offsetof(NodeObject, n_inputs), READONLY, nullptr},
    {"n_outputs", T_INT, offsetof(NodeObject, n_outputs), READONLY, nullptr},
    {"__dictoffset__", T_PYSSIZET, offsetof(NodeObject, dict), READONLY, nullptr},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(NodeObject, weakrefs), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};
PyType_Slot node_slots[] = {
    {Py_tp_doc, const_cast<char*>("An operation of the graph, with what its derivative needs.")},
    {Py_tp_new, reinterpret_cast<void*>(node_new)},
    {Py_tp_dealloc, reinterpret_cast<void*>(node_dealloc)},
    {Py_tp_traverse, reinterpret_cast<void*>(node_traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(node_clear)},
    {Py_tp_repr, reinterpret_cast<void*>(node_repr)},
    {Py_tp_getattro, reinterpret_cast<void*>(node_getattro)},
    {Py_tp_getset, node_getset},
    {Py_tp_methods, node_methods},
    {Py_tp_members, node_members},
    {0, nullptr}};
PyType_Spec node_spec = {"backtrail._core.Node", sizeof(NodeObject), 0,
                         Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, node_slots};

}  // namespace

uint32_t needed_inputs(const Op& op, PyObject* inputs) {
  if (!op.pointwise) return op.saves_inputs;
  uint32_t needed = 0;
  for (Py_ssize_t j = 0; j < PyTuple_GET_SIZE(inputs); ++j) {
    PyObject* o = PyTuple_GET_ITEM(inputs, j);
    if (is_tensor(o) && as_tensor(o)->needs_grad()) needed |= op.needs[j];
  }
  return needed & op.saves_inputs;
}

NodeObject* record(OpObject* handle, PyObject* inputs, PyObject* attrs, PyObject* const* outputs,
                   int n_outputs, const Array* arrays, PyObject* kept) {
  const Op& op = *handle->op;
  const uint32_t needed = needed_inputs(op, inputs);
  NodeObject* n = new_node(reinterpret_cast<PyObject*>(handle), inputs, attrs, n_outputs);
  if (!n) return nullptr;
  const int count = __builtin_popcount(op.saves_inputs) + __builtin_popcount(op.saves_outputs);
  if (count) {
    n->saved = static_cast<Saved*>(PyMem_Malloc(size_t(count) * sizeof(Saved)));
    if (!n->saved) {
      Py_DECREF(reinterpret_cast<PyObject*>(n));
      PyErr_NoMemory();
      return nullptr;
    }
    for (int j = 0; j < n->n_inputs && j < 32; ++j) {
      if (!(op.saves_inputs >> j & 1)) continue;
      PyObject* value = needed >> j & 1 ? PyTuple_GET_ITEM(kept, j) : Py_None;
      note_version(*new (&n->saved[n->n_saved++]) Saved{Py_NewRef(value), Array(), nullptr, 0, -1},
                   value);
    }
    for (int j = 0; j < op.n_outputs; ++j)
      if (op.saves_outputs >> j & 1) {
        Saved& s = *new (&n->saved[n->n_saved++])
                       Saved{nullptr, arrays[j], nullptr, arrays[j].storage->version, j};
        if (j < n_outputs) note_version(s, outputs[j]);
      }
  }
  if (!hang(n, outputs)) {
    Py_DECREF(reinterpret_cast<PyObject*>(n));
    return nullptr;
  }
  return n;
}

bool make_node_type(PyObject* module) {
  NodeType = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&node_spec));
  return NodeType &&
         PyModule_AddObjectRef(module, "Node", reinterpret_cast<PyObject*>(NodeType)) == 0;
}

}  // namespace backtrail
