// One captured call of a Python function: what must hold for it to be done again, and how.
#pragma once
#include <condition_variable>
#include <mutex>
#include <thread>
#include <unordered_set>

#include "bindings/guards.h"
#include "bindings/recording.h"
#include "bindings/spec.h"
#include "plan/plan.h"

namespace backtrail {

// An array of a result or gradient, without its storage.
struct View {
  int buffer = -1;
  int64_t offset = 0;
  Dims shape, strides;
  DType dtype = DType::f32;
  Array on(const StorageRef& storage) const {
    Array a;
    a.storage = storage;
    a.offset = offset;
    a.shape = shape;
    a.strides = strides;
    a.dtype = dtype;
    return a;
  }
};

inline View view_of(const Array& a, int buffer) {
  return {buffer, a.offset, a.shape, a.strides, a.dtype};
}

// One tensor of a result.
struct Result {
  enum Kind : uint8_t {
    argument,  // that very object: `leaf`
    object,    // one that was there before
    fresh,     // in memory of its own
    part,      // a view of memory that was there before, or of an argument
  } kind = fresh;
  int leaf = -1;
  Ref value;  // the object, or the type of the tensor
  View view;
  bool requires_grad = false;  // a leaf that was asked to
};

// What becomes of the gradient of a tensor.
struct Grad {
  Ref tensor;  // or an argument:
  int leaf = -1;
  bool checks = false;      // it must be None, or not None, at entry
  bool entry = false;       // it is not None
  View entry_view;          // as it must be then
  bool entry_used = false;  // its memory, which is then bound
  enum Final : uint8_t { unchanged, none, made } final = unchanged;
  View made_view;
};

// One captured call: what must hold for it to be done again, and how.
struct Replay {
  std::unique_ptr<Plan> plan;
  Spec arguments, results;
  int leaves = 0;
  struct Bound {
    int leaf, buffer;
    int64_t offset;
  };
  std::vector<Bound> bound;
  std::vector<std::pair<int, int>> together;  // arguments that share their memory
  std::vector<int64_t> offsets;               // of the arguments, then
  // Arguments that the function may also read by another name: they must be the same memory.
  struct Pinned {
    int leaf;
    StorageRef storage;
  };
  std::vector<Pinned> pinned;
  std::vector<Result> outputs;
  std::vector<Grad> grads;
  std::vector<int> fresh;  // buffers to be allocated for outputs
  std::vector<Draw> draws;
  bool draws_given = false;  // with the call
  std::vector<Live> lives;
  Guards guards;
  std::unordered_set<const Storage*> fixed, fixed_written;
  std::vector<bool> leaf_pinned, leaf_written;
  bool grad_mode_then = true;
  DType default_then = DType::f32;
  std::vector<StorageRef> storages;  // by buffer: of fresh and bound ones, in the last call
  std::vector<int64_t> shifts;       // by buffer: bytes by which a bound one lies further on
  bool busy = false;                 // read and written with the GIL

  // The result of the call; NotImplemented where this plan is not for it.
  PyObject* call(PyObject* args, PyObject* kwargs, PyObject* given_draws);
  // Median seconds of each node over n runs on the arguments of the last call; what they change is
  // put back.
  std::vector<double> profile(int n);
  template <class F>
  void each_object(F f);

 private:
  struct Busy {
    Replay& replay;
    explicit Busy(Replay& r);
    ~Busy();
  };
  std::vector<PyObject*> now_;  // the tensors of the arguments
  std::mutex mutex_;
  std::condition_variable idle_;
  std::thread::id runner_;
  bool wait_until_idle();
  bool fits(PyObject* args, PyObject* kwargs);
  void bind(int buffer, const Array& a, int64_t offset);
  bool ready_grads();
  bool ready_lives();
  void ready_draws(PyObject* given);
  TensorObject* grad_tensor(const Grad& g) const {
    return as_tensor(g.leaf >= 0 ? now_[size_t(g.leaf)] : g.tensor.get());
  }
  PyObject* finish();
  void let_go();
};

template <class F>
void visit_spec(Spec& s, F& f) {
  f(s.value);
  f(s.keys);
  for (Spec& child : s.children) visit_spec(child, f);
}

template <class F>
void Replay::each_object(F f) {
  visit_spec(arguments, f);
  visit_spec(results, f);
  for (Result& r : outputs) f(r.value);
  for (Grad& g : grads) f(g.tensor);
  for (Draw& d : draws) f(d.generator);
  for (Live& l : lives) f(l.group), f(l.states), f(l.name);
  guards.each_object(f);
}

// A Python object that owns a replay.
Ref wrap_replay(std::unique_ptr<Replay> replay);

}  // namespace backtrail
