// The type Recorder: watching one call of a function, and settling what its memory is.
#include "bindings/args.h"
#include "bindings/replay.h"

namespace backtrail {
namespace {

thread_local Capture* paused = nullptr;  // see pause_capture() below

class Recorder {
 public:
  Recorder() : recording_(new Recording) {}

  void start() {
    if (capturing()) fail(ErrorKind::runtime, "compile: a function is being captured already");
    grad_mode_ = grad_mode;
    observer = recording_.get();
  }
  void stop() {
    if (capturing() == recording_.get()) observer = nullptr;
    if (paused == recording_.get()) paused = nullptr;  // an error kept it from going on
  }
  ~Recorder() { stop(); }

  // Draws of an earlier recording, whose numbers come with each call of this one.
  void adopt_draws(const Recorder& other) {
    recording_->draws = other.recording_->draws;
    adopted_ = true;
  }

  // Tensors on the memory that was read and not made here: (tensor, serial) each.
  Ref outside() const {
    Ref all = Ref::made(PyList_New(0));
    for (const CaptureBuffer& b : recording_->buffers)
      if (b.kind == CaptureBuffer::fixed && b.bytes) {
        Array a;
        a.storage = b.hold;
        a.shape = Dims{int64_t(b.bytes)};
        a.strides = Dims{1};
        a.dtype = DType::u8;
        append(all, Py_BuildValue("(NK)", wrap(a), (unsigned long long)b.hold->serial));
      }
    return all;
  }

  // Whether a tensor's memory was made, or given as an argument, in this recording.
  bool made(const Array& a) const {
    const int b = recording_->find(a);
    return b >= 0 && recording_->buffers[size_t(b)].kind != CaptureBuffer::fixed;
  }

  // Settle what every buffer is, from the arguments and the result of the call. Returns why no plan
  // can be made, or "".
  // `graph_lives`: nodes of the graph may still hold tensors. `elsewhere`: numbers of memory that
  // the function may reach otherwise than by its arguments.
  std::string settle(PyObject* arguments, PyObject* results, bool graph_lives, PyObject* elsewhere);

  Ref replay(PyObject* guards);

 private:
  std::unique_ptr<Recording> recording_;
  bool grad_mode_ = true, adopted_ = false;
  Spec arguments_, results_;
  std::vector<Replay::Bound> bound_;
  std::vector<Replay::Pinned> pinned_;
  std::vector<std::pair<int, int>> together_;
  std::vector<int64_t> offsets_;
  std::vector<Result> outputs_;
  std::vector<Grad> grads_;
  int leaves_ = 0;
};

// Whether a set holds a number.
bool contains(PyObject* set, uint64_t serial) {
  const Ref number = Ref::made(PyLong_FromUnsignedLongLong(serial));
  const int found = PySet_Contains(set, number.get());
  if (found < 0) throw_raised();
  return found;
}

std::string Recorder::settle(PyObject* arguments, PyObject* results, bool graph_lives,
                             PyObject* elsewhere) {
  bound_.clear();
  pinned_.clear();
  together_.clear();
  offsets_.clear();
  outputs_.clear();
  grads_.clear();
  Recording& r = *recording_;
  if (!r.reason.empty()) return r.reason;
  std::vector<PyObject*> args, outs;
  arguments_ = Spec::learn(arguments, args);
  results_ = Spec::learn(results, outs);
  leaves_ = int(args.size());
  for (int i = 0; i < leaves_; ++i) {
    const Array& a = as_tensor(args[size_t(i)])->array;
    offsets_.push_back(a.offset);
    for (int k = 0; k < i; ++k)
      if (as_tensor(args[size_t(k)])->array.storage.get() == a.storage.get())
        together_.emplace_back(k, i);
    const int b = r.buffer_of(a, true);
    if (contains(elsewhere, a.storage->serial)) {
      pinned_.push_back({i, a.storage});
    } else {
      r.buffers[size_t(b)].kind = CaptureBuffer::bound;
      bound_.push_back({i, b, a.offset});
    }
  }
  auto argument = [&](PyObject* o) {
    for (int i = 0; i < leaves_; ++i)
      if (args[size_t(i)] == o) return i;
    return -1;
  };
  for (size_t i = 0; i < r.grads.size();)  // made inside and gone, but for our reference
    if (Py_REFCNT(r.grads[i].tensor.get()) == 1)
      r.grads.erase(r.grads.begin() + int64_t(i)), i = 0;
    else
      ++i;
  std::vector<bool> used(r.buffers.size(), false);
  for (const Step& s : r.steps)
    for (const auto* list : {&s.in, &s.out})
      for (const StepArray& a : *list)
        if (a.buffer >= 0) used[size_t(a.buffer)] = true;
  for (GradChange& change : r.grads) {
    PyObject* o = change.tensor.get();
    Grad g;
    g.leaf = argument(o);
    if (g.leaf < 0) g.tensor = change.tensor;
    g.checks = change.entry_matters;
    const TensorObject* t = as_tensor(o);
    if (made(t->array) && g.leaf < 0)
      return "a tensor that was made inside and given a gradient outlives the call";
    if (change.entry) {
      const int b = r.find(change.entry);
      g.entry = true;
      g.entry_view = view_of(change.entry, b);
      g.entry_used = used[size_t(b)];
      r.buffers[size_t(b)].kind = CaptureBuffer::bound;
    }
    if (!t->grad) {
      g.final = change.entry_matters && !change.entry ? Grad::unchanged : Grad::none;
    } else {
      const Array& now = as_tensor(t->grad)->array;
      const int b = r.find(now);
      if (change.entry && now.storage.get() == change.entry.storage.get()) {
        g.final = Grad::unchanged;
      } else if (b >= 0 && (r.buffers[size_t(b)].kind == CaptureBuffer::internal ||
                            r.buffers[size_t(b)].kind == CaptureBuffer::output)) {
        r.buffers[size_t(b)].kind = CaptureBuffer::output;
        g.final = Grad::made;
        g.made_view = view_of(now, b);
      } else {
        return "a gradient was set to a tensor from outside the function";
      }
    }
    grads_.push_back(std::move(g));
  }
  for (PyObject* o : outs) {
    Result result;
    const TensorObject* t = as_tensor(o);
    result.leaf = argument(o);
    int b = r.find(t->array);
    if (b < 0 && (t->view || !t->array.storage->bytes)) b = r.buffer_of(t->array, t->view);
    if (result.leaf >= 0) {
      result.kind = Result::argument;
    } else if (b < 0 || (r.buffers[size_t(b)].kind == CaptureBuffer::fixed && !t->view)) {
      if (b < 0 && r.is_new(t->array)) return "it returns memory that nothing has written";
      result.kind = Result::object;
      result.value = Ref::borrow(o);
    } else {
      CaptureBuffer& buffer = r.buffers[size_t(b)];
      if (buffer.kind == CaptureBuffer::internal) buffer.kind = CaptureBuffer::output;
      result.kind = buffer.kind == CaptureBuffer::output ? Result::fresh : Result::part;
      result.view = view_of(t->array, b);
      result.value = Ref::borrow(reinterpret_cast<PyObject*>(Py_TYPE(o)));
      result.requires_grad = t->requires_grad && !t->grad_fn;
    }
    outputs_.push_back(std::move(result));
  }
  for (const CaptureBuffer& b : r.buffers)
    if (b.kind == CaptureBuffer::internal && b.alive && !graph_lives)
      return std::string("the result of '") + (b.maker ? b.maker : "an operation") +
             "' is kept after the call by something other than the returned value";
  return "";
}

Ref Recorder::replay(PyObject* guards) {
  recording_->close();
  std::unique_ptr<Replay> p(new Replay);
  p->draws = recording_->draws;
  p->draws_given = adopted_;
  p->lives = recording_->lives;
  recording_->grads.clear();
  for (size_t b = 0; b < recording_->buffers.size(); ++b)
    if (recording_->buffers[b].kind == CaptureBuffer::output) p->fresh.push_back(int(b));
  // What an argument's buffer was in the call that was watched is not held for longer than that of
  // any other call.
  p->storages.resize(recording_->buffers.size());
  for (size_t b = 0; b < recording_->buffers.size(); ++b)
    if (recording_->buffers[b].kind == CaptureBuffer::bound)
      p->storages[b] = std::move(recording_->buffers[b].hold);
  const int draw_count = int(recording_->draws.size());
  p->plan.reset(new Plan(std::move(recording_), draw_count));
  for (size_t b = 0; b < p->storages.size(); ++b)
    if (p->storages[b]) p->plan->bind(int(b), p->storages[b]->data);
  p->arguments = std::move(arguments_);
  p->results = std::move(results_);
  p->leaves = leaves_;
  p->shifts.assign(p->storages.size(), 0);
  p->bound = std::move(bound_);
  p->pinned = std::move(pinned_);
  p->together = std::move(together_);
  p->offsets = std::move(offsets_);
  p->outputs = std::move(outputs_);
  p->grads = std::move(grads_);
  p->guards = Guards(guards);
  p->leaf_pinned.assign(size_t(leaves_), false);
  p->leaf_written.assign(size_t(leaves_), false);
  for (const Replay::Pinned& pin : p->pinned) p->leaf_pinned[size_t(pin.leaf)] = true;
  for (const CaptureBuffer& b : p->plan->capture().buffers)
    if (b.hold) p->fixed.insert(b.hold.get());
  for (int b : p->plan->written) {
    if (const StorageRef& s = p->plan->capture().buffers[size_t(b)].hold)
      p->fixed_written.insert(s.get());
    for (const Replay::Bound& bound : p->bound)
      if (bound.buffer == b) p->leaf_written[size_t(bound.leaf)] = true;
  }
  p->grad_mode_then = grad_mode_;
  p->default_then = default_dtype;
  return wrap_replay(std::move(p));
}

// ---- The types, and functions about the capture that goes on

PyTypeObject *RecorderType = nullptr, *GuardsType = nullptr;

struct RecorderObject {
  PyObject_HEAD Recorder* recorder;
};
struct GuardsObject {
  PyObject_HEAD Guards* guards;
};
Recorder& as_recorder(PyObject* o) { return *reinterpret_cast<RecorderObject*>(o)->recorder; }

PyObject* none() { return Py_NewRef(Py_None); }

PyObject* recorder_new(PyTypeObject* type, PyObject* args, PyObject*) {
  if (!PyArg_ParseTuple(args, ":Recorder")) return nullptr;
  return guarded([&] {
    Ref self = Ref::made(type->tp_alloc(type, 0));
    reinterpret_cast<RecorderObject*>(self.get())->recorder = new Recorder;
    return self.release();
  });
}

void recorder_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  delete reinterpret_cast<RecorderObject*>(self)->recorder;
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* recorder_start(PyObject* self, PyObject*) {
  return guarded([&] { return as_recorder(self).start(), none(); });
}
PyObject* recorder_stop(PyObject* self, PyObject*) { return as_recorder(self).stop(), none(); }

PyObject* recorder_adopt_draws(PyObject* self, PyObject* other) {
  if (Py_TYPE(other) != RecorderType) {
    PyErr_Format(PyExc_TypeError, "adopt_draws: expected a Recorder; got %s",
                 Py_TYPE(other)->tp_name);
    return nullptr;
  }
  return guarded([&] { return as_recorder(self).adopt_draws(as_recorder(other)), none(); });
}

PyObject* recorder_outside(PyObject* self, PyObject*) {
  return guarded([&] { return as_recorder(self).outside().release(); });
}

PyObject* recorder_made(PyObject* self, PyObject* tensor) {
  return guarded([&] {
    return PyBool_FromLong(as_recorder(self).made(Args("made", &tensor, 1, 1).tensor(0, "tensor")));
  });
}

PyObject* recorder_settle(PyObject* self, PyObject* const* args, Py_ssize_t n) {
  return guarded([&] {
    const Args a("settle", args, n, 3, 4);
    const Ref elsewhere = n > 3 ? Ref::borrow(a[3]) : Ref::made(PySet_New(nullptr));
    if (!PyAnySet_Check(elsewhere.get())) fail(ErrorKind::type, "settle: elsewhere must be a set");
    const std::string reason =
        as_recorder(self).settle(a[0], a[1], a.truth(2, "graph_lives"), elsewhere.get());
    return PyUnicode_FromString(reason.c_str());
  });
}

PyObject* recorder_replay(PyObject* self, PyObject* guards) {
  return guarded([&] { return as_recorder(self).replay(guards).release(); });
}

PyMethodDef recorder_methods[] = {
    {"start", recorder_start, METH_NOARGS, "Watch from now on."},
    {"stop", recorder_stop, METH_NOARGS, "Watch no longer."},
    {"adopt_draws", recorder_adopt_draws, METH_O, "Take the draws of another recording."},
    {"outside", recorder_outside, METH_NOARGS,
     "(tensor, serial) of the memory that was read and not made."},
    {"made", recorder_made, METH_O, "Whether a tensor's memory was made or given in the call."},
    {"settle", fast(recorder_settle), METH_FASTCALL,
     "settle(arguments, results, graph_lives, elsewhere=set()): why no plan can be made, or ''."},
    {"replay", recorder_replay, METH_O, "replay(guards): the call, ready to be done again."},
    {nullptr, nullptr, 0, nullptr}};
PyType_Slot recorder_slots[] = {
    {Py_tp_doc, const_cast<char*>("Watches what one call of a function computes.")},
    {Py_tp_new, reinterpret_cast<void*>(recorder_new)},
    {Py_tp_dealloc, reinterpret_cast<void*>(recorder_dealloc)},
    {Py_tp_methods, recorder_methods},
    {0, nullptr}};
PyType_Spec recorder_spec = {"backtrail._core.Recorder", sizeof(RecorderObject), 0,
                             Py_TPFLAGS_DEFAULT, recorder_slots};

PyObject* guards_new(PyTypeObject* type, PyObject* args, PyObject*) {
  PyObject* list;
  if (!PyArg_ParseTuple(args, "O:Guards", &list)) return nullptr;
  return guarded([&] {
    Ref self = Ref::made(type->tp_alloc(type, 0));
    reinterpret_cast<GuardsObject*>(self.get())->guards = new Guards(list);
    return self.release();
  });
}

void guards_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  delete reinterpret_cast<GuardsObject*>(self)->guards;
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* guards_broken(PyObject* self, PyObject*) {
  return guarded(
      [&] { return PyLong_FromLong(reinterpret_cast<GuardsObject*>(self)->guards->broken()); });
}

PyMethodDef guards_methods[] = {
    {"broken", guards_broken, METH_NOARGS, "Number of the first that does not hold, or -1."},
    {nullptr, nullptr, 0, nullptr}};
PyType_Slot guards_slots[] = {{Py_tp_doc, const_cast<char*>("What must hold of Python objects.")},
                              {Py_tp_new, reinterpret_cast<void*>(guards_new)},
                              {Py_tp_dealloc, reinterpret_cast<void*>(guards_dealloc)},
                              {Py_tp_methods, guards_methods},
                              {0, nullptr}};
PyType_Spec guards_spec = {"backtrail._core.Guards", sizeof(GuardsObject), 0, Py_TPFLAGS_DEFAULT,
                           guards_slots};

PyObject* is_capturing(PyObject*, PyObject*) { return PyBool_FromLong(capturing() != nullptr); }

PyObject* storage_serial(PyObject*, PyObject* tensor) {
  return guarded([&] {
    const Array& a = Args("storage_serial", &tensor, 1, 1).tensor(0, "tensor");
    return PyLong_FromUnsignedLongLong(a.storage->serial);
  });
}

PyObject* draw(PyObject*, PyObject* const* args, Py_ssize_t n) {
  return guarded([&] {
    const Args a("draw", args, n, 4);
    const Draw d{Ref::borrow(a[0]), a.integer(1, "n"), a.integer(2, "seed"),
                 a.integer(3, "offset")};
    if (capturing()) recording_now()->draws.push_back(d);
    return none();
  });
}

PyObject* refuse(PyObject*, PyObject* what) {
  return guarded([&] {
    value_read(Args("refuse_value", &what, 1, 1).text(0, "what"));
    return none();
  });
}

PyObject* pause_capture(PyObject*, PyObject*) {
  if (capturing()) paused = capturing(), observer = nullptr;
  return none();
}
PyObject* resume_capture(PyObject*, PyObject*) {
  if (paused) observer = paused, paused = nullptr;
  return none();
}

PyObject* stands_in(PyObject*, PyObject* tensor) {
  return guarded([&] {
    const Array& a = Args("stands_in", &tensor, 1, 1).tensor(0, "tensor");
    if (capturing()) recording_now()->stand_ins.push_back(a.storage->serial);
    return Py_NewRef(Py_None);
  });
}

PyMethodDef functions[] = {
    {"stands_in", stands_in, METH_O,
     "A tensor is a copy where an eager run would have a view: changes of it are refused."},
    {"capturing", is_capturing, METH_NOARGS, "Whether a call is being captured."},
    {"storage_serial", storage_serial, METH_O,
     "Number of the tensor's memory: no two ever have the same."},
    {"draw", fast(draw), METH_FASTCALL,
     "draw(generator, n, seed, offset): a generator was asked for n numbers."},
    {"refuse_value", refuse, METH_O, "Raise CaptureError when a call is being captured."},
    {"pause_capture", pause_capture, METH_NOARGS,
     "Until resume_capture(), nothing that is computed is part of the capture."},
    {"resume_capture", resume_capture, METH_NOARGS, "Go on with a capture that was paused."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool add_capture(PyObject* module) {
  RecorderType = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&recorder_spec));
  GuardsType = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&guards_spec));
  return RecorderType && GuardsType && add_replay_type(module) &&
         PyModule_AddObjectRef(module, "Recorder", reinterpret_cast<PyObject*>(RecorderType)) ==
             0 &&
         PyModule_AddObjectRef(module, "Guards", reinterpret_cast<PyObject*>(GuardsType)) == 0 &&
         PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace backtrail
