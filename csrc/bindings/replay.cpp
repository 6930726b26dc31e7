// Doing a captured call again: checks, addresses, settings, the run, and what Python gets to see.
#include "bindings/replay.h"

#include <cstring>
#include <exception>

#include "bindings/gil.h"

namespace backtrail {

namespace {

PyObject* key(const char* text) { return PyUnicode_InternFromString(text); }

bool number(PyObject* dict, PyObject* name, double& out) {
  PyObject* o = PyDict_GetItemWithError(dict, name);
  if (!o) return false;
  out = PyFloat_AsDouble(o);
  return !PyErr_Occurred();
}

const char* const kWriter = "a compiled function";

bool same_place(const Array& a, const Array& b) {
  return a.storage.get() == b.storage.get() && a.offset == b.offset && a.dtype == b.dtype &&
         a.shape == b.shape && a.strides == b.strides;
}

}  // namespace

bool Replay::fits(PyObject* args, PyObject* kwargs) {
  if (grad_mode != grad_mode_then || default_dtype != default_then) return false;
  now_.assign(size_t(leaves), nullptr);
  if (!arguments.children[0].matches(args, now_.data()) ||
      !arguments.children[1].matches(kwargs, now_.data()))
    return false;
  auto storage = [&](int leaf) { return as_tensor(now_[size_t(leaf)])->array.storage.get(); };
  size_t shared = 0;
  for (const Pinned& p : pinned)
    if (storage(p.leaf) != p.storage.get() ||
        as_tensor(now_[size_t(p.leaf)])->array.offset != offsets[size_t(p.leaf)])
      return false;
  for (int i = 0; i < leaves; ++i) {
    if (!leaf_pinned[size_t(i)] &&
        (leaf_written[size_t(i)] ? fixed : fixed_written).count(storage(i)))
      return false;
    for (int k = 0; k < i; ++k) shared += storage(i) == storage(k);
  }
  if (shared != together.size()) return false;
  for (const auto& [a, b] : together) {
    const int64_t apart =
        as_tensor(now_[size_t(b)])->array.offset - as_tensor(now_[size_t(a)])->array.offset;
    if (storage(a) != storage(b) || apart != offsets[size_t(b)] - offsets[size_t(a)]) return false;
  }
  return guards.broken() < 0;
}

// A buffer that lay at `offset` in the call that was watched lies where `a` does in this one.
void Replay::bind(int buffer, const Array& a, int64_t offset) {
  const int64_t shift = (a.offset - offset) * int64_t(a.item());
  plan->bind(buffer, static_cast<char*>(a.storage->data) + shift);
  storages[size_t(buffer)] = a.storage;
  shifts[size_t(buffer)] = shift;
}

// Bind the gradients that are read, and those that are made.
bool Replay::ready_grads() {
  for (Grad& g : grads) {
    TensorObject* t = grad_tensor(g);
    if (g.checks && bool(t->grad) != g.entry) return false;
    if (!g.entry) continue;
    const Array& a = as_tensor(t->grad)->array;
    if (a.shape != g.entry_view.shape || a.strides != g.entry_view.strides ||
        a.dtype != g.entry_view.dtype)
      return false;
    if (g.entry_used) bind(g.entry_view.buffer, a, g.entry_view.offset);
  }
  for (Grad& g : grads) {
    if (g.final != Grad::made) continue;
    // The memory of a gradient that is to go is used again when no one else can see it.
    PyObject* old = grad_tensor(g)->grad;
    if (!old || g.entry_used || Py_REFCNT(old) != 1 || as_tensor(old)->needs_grad()) continue;
    const StorageRef& s = as_tensor(old)->array.storage;
    const size_t b = size_t(g.made_view.buffer);
    const bool fits = s->refs == 1 && !s->release && s->bytes == plan->capture().buffers[b].bytes;
    if (fits && !storages[b]) storages[b] = s;
  }
  return true;
}

bool Replay::ready_lives() {
  static PyObject *lr = key("lr"), *betas = key("betas"), *eps = key("eps"), *step = key("step"),
                  *decay = key("weight_decay"), *momentum = key("momentum"),
                  *dampening = key("dampening");
  for (Node& node : plan->nodes) {
    if (node.step->live < 0) continue;
    const Live& live = lives[size_t(node.step->live)];
    PyObject* group = live.group.get();
    if (node.step->kind == Step::setting) {
      if (!number(group, live.name.get(), node.setting)) return false;
    } else if (node.step->kind == Step::adam) {
      AdamOptions& o = node.adam;
      PyObject* pair = PyDict_GetItemWithError(group, betas);
      if (!number(group, lr, o.lr) || !number(group, eps, o.eps) ||
          !number(group, decay, o.weight_decay) || !pair || !PySequence_Check(pair) ||
          PySequence_Size(pair) != 2)
        return false;
      const bool is_tuple = PyTuple_CheckExact(pair);
      PyObject* first =
          is_tuple ? Py_NewRef(PyTuple_GET_ITEM(pair, 0)) : PySequence_GetItem(pair, 0);
      PyObject* second =
          is_tuple ? Py_NewRef(PyTuple_GET_ITEM(pair, 1)) : PySequence_GetItem(pair, 1);
      o.beta1 = PyFloat_AsDouble(first);
      o.beta2 = PyFloat_AsDouble(second);
      Py_DECREF(first);
      Py_DECREF(second);
      int64_t taken = -1;
      for (Py_ssize_t i = 0; i < PyList_GET_SIZE(live.states.get());
           ++i) {  // all have taken as many
        PyObject* n = PyDict_GetItemWithError(PyList_GET_ITEM(live.states.get(), i), step);
        const int64_t count = n ? PyLong_AsLongLong(n) : -1;
        if (count < 0 || (taken >= 0 && count != taken)) return false;
        taken = count;
      }
      o.step = taken + 1;
    } else {
      SgdOptions& o = node.sgd;
      if (!number(group, lr, o.lr) || !number(group, momentum, o.momentum) ||
          !number(group, dampening, o.dampening) || !number(group, decay, o.weight_decay) ||
          (o.momentum != 0) != node.step->has_second)
        return false;
    }
    if (PyErr_Occurred()) return false;
  }
  return true;
}

void Replay::ready_draws(PyObject* given) {
  static PyObject *seed = key("_seed"), *offset = key("_offset");
  if (draws_given) {
    for (size_t i = 0; i < draws.size(); ++i) {
      PyObject* pair = PyTuple_GET_ITEM(given, Py_ssize_t(i));
      plan->draws[i].seed = PyLong_AsUnsignedLongLongMask(PyTuple_GET_ITEM(pair, 0));
      plan->draws[i].offset = PyLong_AsUnsignedLongLongMask(PyTuple_GET_ITEM(pair, 1));
    }
    return;
  }
  for (size_t i = 0; i < draws.size(); ++i) {
    PyObject* generator = draws[i].generator.get();
    PyObject *s = PyObject_GetAttr(generator, seed), *o = PyObject_GetAttr(generator, offset);
    if (!s || !o) throw_raised();
    RandomDraw& d = plan->draws[i];
    d.seed = PyLong_AsUnsignedLongLongMask(s);
    d.offset = PyLong_AsUnsignedLongLongMask(o);
    Py_DECREF(s);
    Py_DECREF(o);
    PyObject* next = PyLong_FromUnsignedLongLong(d.offset + uint64_t(draws[i].n));
    PyObject_SetAttr(generator, offset, next);
    Py_XDECREF(next);
  }
}

Replay::Busy::Busy(Replay& r) : replay(r) {
  std::lock_guard<std::mutex> lock(r.mutex_);
  r.busy = true;
  r.runner_ = std::this_thread::get_id();
}

Replay::Busy::~Busy() {
  {
    std::lock_guard<std::mutex> lock(replay.mutex_);
    replay.busy = false;
  }
  replay.idle_.notify_all();
}

// Wait for other threads' runs; false where this thread is in one itself.
bool Replay::wait_until_idle() {
  while (busy) {
    if (runner_ == std::this_thread::get_id()) return false;
    GilRelease others_run;
    std::unique_lock<std::mutex> lock(mutex_);
    idle_.wait(lock, [this] { return !busy; });
  }
  return true;
}

PyObject* Replay::call(PyObject* args, PyObject* kwargs, PyObject* given_draws) {
  // A forward pass that finds the plan running is captured anew; a backward pass has but this one.
  if (capturing() || (draws_given ? !wait_until_idle() : busy)) Py_RETURN_NOTIMPLEMENTED;
  Busy while_running(*this);
  if (!fits(args, kwargs)) Py_RETURN_NOTIMPLEMENTED;
  for (StorageRef& s : storages) s = StorageRef();
  if (!ready_grads() || !ready_lives()) {
    PyErr_Clear();
    Py_RETURN_NOTIMPLEMENTED;
  }
  for (const Bound& b : bound) {
    bind(b.buffer, as_tensor(now_[size_t(b.leaf)])->array, b.offset);
  }
  for (int b : fresh) {
    StorageRef& s = storages[size_t(b)];
    if (!s) s = allocate(plan->capture().buffers[size_t(b)].bytes);
    plan->bind(b, s->data);
  }
  ready_draws(given_draws);
  try {
    GilRelease others_run(!plan->needs_gil);
    plan->run();
  } catch (const Error& e) {
    let_go();
    const bool partly = plan->failed >= plan->first_lasting;
    throw Error(e.kind, std::string(e.what()) +
                            (partly ? " (in a compiled function, part of whose changes to "
                                      "parameters and buffers were made: do not go on from them)"
                                    : " (in a compiled function; no parameter or buffer was "
                                      "changed)"));
  }
  PyObject* result = finish();
  let_go();
  return result;
}

// The arguments' memory stays for profile(); no one else must see the results held.
void Replay::let_go() {
  for (int b : fresh) storages[size_t(b)] = StorageRef();
}

std::vector<double> Replay::profile(int n) {
  if (n < 1) fail(ErrorKind::value, "profile: n is %d; it must be at least 1", n);
  if (busy) fail(ErrorKind::runtime, "profile: the plan is running on another thread");
  std::vector<bool> used(storages.size(), true);
  for (const Grad& g : grads)
    if (g.entry) used[size_t(g.entry_view.buffer)] = g.entry_used;
  for (size_t b = 0; b < storages.size(); ++b)
    if (plan->capture().buffers[b].kind == CaptureBuffer::bound && used[b] && !storages[b])
      fail(ErrorKind::runtime, "profile: call the function once more first");
  Busy while_running(*this);
  for (int b : fresh) {
    StorageRef& s = storages[size_t(b)];
    s = allocate(plan->capture().buffers[size_t(b)].bytes);
    plan->bind(b, s->data);
  }
  std::vector<std::vector<char>> before;
  auto memory = [&](int b) {
    const StorageRef& hold = plan->capture().buffers[size_t(b)].hold;
    const Storage* s = storages[size_t(b)] ? storages[size_t(b)].get() : hold.get();
    return std::make_pair(static_cast<char*>(s->data), s->bytes);
  };
  for (int b : plan->written) {
    const auto [data, bytes] = memory(b);
    before.emplace_back(data, data + bytes);
  }
  std::vector<double> seconds;
  std::exception_ptr problem;
  try {
    GilRelease others_run(!plan->needs_gil);
    seconds = plan->profile(n);
  } catch (const std::exception&) {
    problem = std::current_exception();
  }
  for (size_t i = 0; i < before.size(); ++i)
    std::memcpy(memory(plan->written[i]).first, before[i].data(), before[i].size());
  let_go();
  if (problem) std::rethrow_exception(problem);
  return seconds;
}

PyObject* Replay::finish() {
  static PyObject* step = key("step");
  for (int b : plan->written) {
    const StorageRef& hold = plan->capture().buffers[size_t(b)].hold;
    Storage* s = hold ? hold.get() : storages[size_t(b)].get();
    ++s->version;
    s->writer = kWriter;
  }
  for (const Node& node : plan->nodes)
    if (node.step->kind == Step::adam) {
      PyObject* taken = PyLong_FromLongLong(node.adam.step);
      PyObject* states = lives[size_t(node.step->live)].states.get();
      // In the kind of int that the counts were.
      PyObject* before = PyList_GET_SIZE(states)
                             ? PyDict_GetItemWithError(PyList_GET_ITEM(states, 0), step)
                             : nullptr;
      if (taken && before && !PyLong_CheckExact(before))
        Py_SETREF(taken, PyObject_CallOneArg(reinterpret_cast<PyObject*>(Py_TYPE(before)), taken));
      for (Py_ssize_t i = 0; taken && i < PyList_GET_SIZE(states); ++i)
        PyDict_SetItem(PyList_GET_ITEM(states, i), step, taken);
      Py_XDECREF(taken);
    }
  for (Grad& g : grads) {
    TensorObject* t = grad_tensor(g);
    if (g.final == Grad::none) {
      Py_CLEAR(t->grad);
    } else if (g.final == Grad::made) {
      const Array made = g.made_view.on(storages[size_t(g.made_view.buffer)]);
      if (!t->grad || !same_place(as_tensor(t->grad)->array, made)) {
        PyObject* grad = wrap(made);
        if (!grad) return nullptr;
        Py_XSETREF(t->grad, grad);
      }
      // Seen by the graph as a tensor whose values are new.
      ++as_tensor(t->grad)->array.storage->version;
    }
  }
  PyObject* leaves_out[64];
  std::vector<PyObject*> many;
  PyObject** made = leaves_out;
  if (outputs.size() > 64) many.resize(outputs.size()), made = many.data();
  size_t n = 0;
  bool ok = true;
  for (; ok && n < outputs.size(); ++n) {
    const Result& r = outputs[n];
    if (r.kind == Result::argument)
      made[n] = Py_NewRef(now_[size_t(r.leaf)]);
    else if (r.kind == Result::object)
      made[n] = Py_NewRef(r.value.get());
    else {
      const size_t b = size_t(r.view.buffer);
      const StorageRef& hold = plan->capture().buffers[b].hold;
      Array a = r.view.on(r.kind == Result::part && hold ? hold : storages[b]);
      a.offset += shifts[b] / int64_t(a.item());
      made[n] = wrap(a, reinterpret_cast<PyTypeObject*>(r.value.get()));
      if (made[n]) {
        as_tensor(made[n])->requires_grad = r.requires_grad;
        as_tensor(made[n])->view = r.kind == Result::part;
      }
    }
    ok = made[n] != nullptr;
  }
  PyObject* result = ok ? results.build(made) : nullptr;
  for (size_t i = 0; i < n; ++i) Py_XDECREF(made[i]);
  return result;
}

}  // namespace backtrail
