// The Python objects of the core: TensorBase, Op and Node. They are C types, not pybind11 classes,
// because every operation makes a tensor and a node and their cost is the eager overhead.
#pragma once
#include <Python.h>

#include <new>

#include "core/array.h"
#include "core/error.h"
#include "exec/op.h"

namespace backtrail {

// Counts the changes in place of `x.data` and its views, which those who hold x are not told of.
struct Counter {
  int64_t refs;
  uint32_t version;
  const char* writer;
};

// How a view came to be; but for the first, it can have no part in recording changes in place.
enum class Origin : uint8_t { plain, no_grad, one_of_many };

// An array with its place in the graph. `Tensor` in Python is a subclass.
struct TensorObject {
  PyObject_HEAD Array array;
  PyObject* grad;     // Tensor or null
  PyObject* grad_fn;  // Node that made it, or null
  PyObject* hooks;    // list of functions of a leaf, or null
  PyObject* dict;
  PyObject* weakrefs;
  PyObject* base;      // of a view: the tensor, no view itself, that it shows a part of; or null
  Counter* counter;    // null: the storage counts
  uint32_t shift;      // to add to the storage's version, which was another one before `x.data = y`
  uint32_t seen;       // of a view: the version at which its grad_fn was true
  int output;          // which output of grad_fn
  bool requires_grad;  // asked for; a tensor with a grad_fn requires it as well
  bool view;           // shares the elements of another tensor
  bool retains;        // a backward pass keeps its gradient though it is no leaf
  Origin origin;

  uint32_t version() const { return counter ? counter->version : array.storage->version + shift; }
  const char* writer() const { return counter ? counter->writer : array.storage->writer; }
  void changed_by(const char* name) {
    ++(counter ? counter->version : array.storage->version);
    (counter ? counter->writer : array.storage->writer) = name;
  }
  // Whether this view's grad_fn is older than a change of what it shows.
  bool outdated() const { return base && seen != version() && rebased(); }
  bool needs_grad() const { return requires_grad || grad_fn || outdated(); }

 private:
  bool rebased() const;
};

// A handle to an op, with its derivative rule.
struct OpObject {
  PyObject_HEAD const Op* op;
  PyObject* name;
  PyObject* vjp;  // function (node, grads) -> gradients of the inputs
  PyObject* dict;
};

// What one input or output looked like.
struct Meta {
  Dims shape;
  DType dtype;
};

// A value kept for the derivative: an input object (a Tensor or a number), or an output.
struct Saved {
  PyObject* object;  // of an input
  Array array;       // of an output, which must not keep its own node alive
  Counter* counter;  // of an output that has one
  uint32_t version;
  int output;  // -1 for an input
};

struct NodeObject {
  PyObject_HEAD PyObject* op;  // OpObject, or whatever has `name` and `vjp`
  PyObject* edges;             // tuple: for each input a Node, a leaf Tensor or None
  PyObject* attrs;             // tuple
  PyObject* hooks;             // dict: output number -> list of functions, or null
  PyObject* dict;
  PyObject* weakrefs;
  PyObject* origin;   // of a narrowed node: the one it was made from, else null
  uint64_t sequence;  // grows with time: a node's inputs have smaller ones
  int* edge_outputs;  // which output of each edge
  Meta* metas;        // of the inputs, then the outputs
  Saved* saved;
  int n_inputs, n_outputs, n_saved;
  bool released;  // what it kept was given back
  bool walked;    // a backward pass went through it and kept nothing
};

extern PyTypeObject *TensorBaseType, *OpType, *NodeType;
extern PyTypeObject* TensorType;  // the Python class that results are instances of
extern PyTypeObject* SizeType;
extern PyObject* dtype_objects[kDTypes];

bool make_tensor_type(PyObject* module);
bool make_size_type(PyObject* module);
bool make_op_type(PyObject* module);
bool make_node_type(PyObject* module);
bool add_apply_functions(PyObject* module);
bool add_engine_functions(PyObject* module);
bool add_view_functions(PyObject* module);
bool add_capture(PyObject* module);
bool add_replay_type(PyObject* module);
bool add_creation_functions(PyObject* module);
bool add_exchange_functions(PyObject* module);
bool add_optimizer_functions(PyObject* module);

inline bool TensorObject::rebased() const {
  const TensorObject* b = reinterpret_cast<const TensorObject*>(base);
  return b->grad_fn && b->array.storage.get() == array.storage.get();
}

inline bool is_tensor(PyObject* o) { return PyObject_TypeCheck(o, TensorBaseType); }
inline TensorObject* as_tensor(PyObject* o) { return reinterpret_cast<TensorObject*>(o); }
inline NodeObject* as_node(PyObject* o) { return reinterpret_cast<NodeObject*>(o); }
inline OpObject* as_op(PyObject* o) { return reinterpret_cast<OpObject*>(o); }

// New references; null with a Python error set on failure.
PyObject* wrap(const Array& array, PyTypeObject* type = nullptr);
PyObject* size_of(const Dims& shape);
PyObject* make_op(const Op* op);

// The code of a dtype object, or of Python's float, int or bool; false for anything else.
bool find_dtype(PyObject* o, DType& found);
// The same; throws Error(type).
DType dtype_of(PyObject* o);

// The writer of a gradient that is the 1 a backward pass began with, as long as nobody wrote to it.
extern const char kFirstGradient[];

extern thread_local bool grad_mode;
extern DType default_dtype;  // of floating point tensors made from Python numbers

// The inputs that the derivative of a call will read: bit j for input j.
uint32_t needed_inputs(const Op& op, PyObject* inputs);

// A node without saved values, of inputs that are brought up to date; and making it the history of
// its outputs. Null, or false, with a Python error set on failure.
NodeObject* new_node(PyObject* op, PyObject* inputs, PyObject* attrs, int n_outputs);
bool hang(NodeObject* n, PyObject* const* outputs);

// Make the node of `outputs` (public ones) = op(inputs) and hang it on them. `arrays` are all the
// outputs; `kept` holds what to save in place of the inputs, usually themselves.
NodeObject* record(OpObject* op, PyObject* inputs, PyObject* attrs, PyObject* const* outputs,
                   int n_outputs, const Array* arrays, PyObject* kept);

// Run f, turning a C++ exception into a Python one. Returns what f does, or null.
void set_python_error();
template <class F>
PyObject* guarded(F&& f) {
  try {
    return f();
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

}  // namespace backtrail
