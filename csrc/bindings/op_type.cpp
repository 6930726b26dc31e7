// The type Op: a handle to an op with its derivative rule.
#include "bindings/objects.h"  // Python.h first

#include <structmember.h>

namespace backtrail {

PyTypeObject* OpType = nullptr;

namespace {

void op_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  Py_XDECREF(as_op(self)->name);
  Py_XDECREF(as_op(self)->vjp);
  Py_XDECREF(as_op(self)->dict);
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* op_repr(PyObject* self) { return PyUnicode_FromFormat("<op %U>", as_op(self)->name); }
PyObject* op_doc(PyObject* self, void*) { return PyUnicode_FromString(as_op(self)->op->doc); }
PyObject* op_kind(PyObject* self, void*) {
  static const char* names[] = {"pointwise", "reduction", "rowwise", "view", "opaque"};
  return PyUnicode_FromString(names[int(as_op(self)->op->kind)]);
}
PyObject* op_inputs(PyObject* self, void*) { return PyLong_FromLong(as_op(self)->op->n_inputs); }
PyObject* op_outputs(PyObject* self, void*) { return PyLong_FromLong(as_op(self)->op->n_public); }
PyObject* op_differentiable(PyObject* self, void*) {
  return PyBool_FromLong(as_op(self)->op->differentiable);
}

PyGetSetDef op_getset[] = {
    {"__doc__", op_doc, nullptr, nullptr, nullptr},
    {"kind", op_kind, nullptr, "pointwise, reduction, rowwise, view or opaque.", nullptr},
    {"n_inputs", op_inputs, nullptr, "Number of inputs; -1 for any.", nullptr},
    {"n_outputs", op_outputs, nullptr, "Number of outputs; 0 where the call decides.", nullptr},
    {"differentiable", op_differentiable, nullptr, "Whether it has a derivative.", nullptr},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyMemberDef op_members[] = {
    {"name", T_OBJECT, offsetof(OpObject, name), READONLY, nullptr},
    {"vjp", T_OBJECT, offsetof(OpObject, vjp), 0,
     "Rule: (node, grads) -> gradients of the inputs."},
    {"__dictoffset__", T_PYSSIZET, offsetof(OpObject, dict), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};
PyType_Slot op_slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(op_dealloc)},
                          {Py_tp_repr, reinterpret_cast<void*>(op_repr)},
                          {Py_tp_getset, op_getset},
                          {Py_tp_members, op_members},
                          {0, nullptr}};
PyType_Spec op_spec = {"backtrail._core.Op", sizeof(OpObject), 0,
                       Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, op_slots};

}  // namespace

PyObject* make_op(const Op* op) {
  PyObject* self = OpType->tp_alloc(OpType, 0);
  if (!self) return nullptr;
  as_op(self)->op = op;
  as_op(self)->name = PyUnicode_InternFromString(op->name);
  as_op(self)->vjp = Py_NewRef(Py_None);
  return self;
}

bool make_op_type(PyObject* module) {
  OpType = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&op_spec));
  return OpType && PyModule_AddObjectRef(module, "Op", reinterpret_cast<PyObject*>(OpType)) == 0;
}

}  // namespace backtrail
