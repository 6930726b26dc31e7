// The type Recorder: watching one call of a function, and settling what its memory is.
#include "bindings/caster.h"
#include "bindings/replay.h"

namespace backtrail {

void bind_replay(py::module_& m);

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
  py::list outside() const {
    py::list all;
    for (const CaptureBuffer& b : recording_->buffers)
      if (b.kind == CaptureBuffer::fixed && b.bytes) {
        Array a;
        a.storage = b.hold;
        a.shape = Dims{int64_t(b.bytes)};
        a.strides = Dims{1};
        a.dtype = DType::u8;
        all.append(py::make_tuple(py::reinterpret_steal<py::object>(wrap(a)), b.hold->serial));
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
  std::string settle(const py::object& arguments, const py::object& results, bool graph_lives,
                     const py::set& elsewhere);

  py::object replay(const py::list& guards);

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

std::string Recorder::settle(const py::object& arguments, const py::object& results,
                             bool graph_lives, const py::set& elsewhere) {
  bound_.clear();
  pinned_.clear();
  together_.clear();
  offsets_.clear();
  outputs_.clear();
  grads_.clear();
  Recording& r = *recording_;
  if (!r.reason.empty()) return r.reason;
  std::vector<PyObject*> args, outs;
  arguments_ = Spec::learn(arguments.ptr(), args);
  results_ = Spec::learn(results.ptr(), outs);
  leaves_ = int(args.size());
  for (int i = 0; i < leaves_; ++i) {
    const Array& a = as_tensor(args[size_t(i)])->array;
    offsets_.push_back(a.offset);
    for (int k = 0; k < i; ++k)
      if (as_tensor(args[size_t(k)])->array.storage.get() == a.storage.get())
        together_.emplace_back(k, i);
    const int b = r.buffer_of(a, true);
    if (elsewhere.contains(a.storage->serial)) {
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
    if (Py_REFCNT(r.grads[i].tensor.ptr()) == 1)
      r.grads.erase(r.grads.begin() + int64_t(i)), i = 0;
    else
      ++i;
  std::vector<bool> used(r.buffers.size(), false);
  for (const Step& s : r.steps)
    for (const auto* list : {&s.in, &s.out})
      for (const StepArray& a : *list)
        if (a.buffer >= 0) used[size_t(a.buffer)] = true;
  for (GradChange& change : r.grads) {
    PyObject* o = change.tensor.ptr();
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
      result.value = py::reinterpret_borrow<py::object>(o);
    } else {
      CaptureBuffer& buffer = r.buffers[size_t(b)];
      if (buffer.kind == CaptureBuffer::internal) buffer.kind = CaptureBuffer::output;
      result.kind = buffer.kind == CaptureBuffer::output ? Result::fresh : Result::part;
      result.view = view_of(t->array, b);
      result.value = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(Py_TYPE(o)));
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

py::object Recorder::replay(const py::list& guards) {
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

}  // namespace

void bind_capture(py::module_& m) {
  bind_replay(m);
  py::class_<Recorder>(m, "Recorder", "Watches what one call of a function computes.")
      .def(py::init<>())
      .def("start", &Recorder::start)
      .def("stop", &Recorder::stop)
      .def("adopt_draws", &Recorder::adopt_draws)
      .def("outside", &Recorder::outside)
      .def("made", &Recorder::made)
      .def("settle", &Recorder::settle, py::arg("arguments"), py::arg("results"),
           py::arg("graph_lives"), py::arg("elsewhere") = py::set())
      .def("replay", &Recorder::replay);
  py::class_<Guards>(m, "Guards", "What must hold of Python objects.")
      .def(py::init<const py::list&>())
      .def("broken", &Guards::broken);
  m.def(
      "capturing", [] { return capturing() != nullptr; }, "Whether a call is being captured.");
  m.def(
      "storage_serial", [](const Array& a) { return a.storage->serial; },
      "Number of the tensor's memory: no two ever have the same.");
  m.def(
      "draw",
      [](py::object generator, int64_t n, int64_t seed, int64_t offset) {
        if (capturing()) recording_now()->draws.push_back({std::move(generator), n, seed, offset});
      },
      "Note that a generator was asked for n numbers.");
  m.def(
      "refuse_value", [](const char* what) { value_read(what); },
      "Raise RuntimeError when a call is being captured.");
  m.def(
      "pause_capture",
      [] {
        if (capturing()) paused = capturing(), observer = nullptr;
      },
      "Until resume_capture(), nothing that is computed is part of the capture.");
  m.def("resume_capture", [] {
    if (paused) observer = paused, paused = nullptr;
  });
}

}  // namespace backtrail
