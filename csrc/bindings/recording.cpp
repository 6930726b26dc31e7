// What a capture has to know of Python: gradients, random numbers, settings, and values that must
// not be looked at.
#include "bindings/recording.h"

#include <frameobject.h>

#include <cstring>

namespace backtrail {

std::string python_line() {
  // The folder of this package, from the name of any of its modules.
  static const std::string own = [] {
    const Ref module = Ref::made(PyImport_ImportModule("backtrail"));
    const Ref file = Ref::made(PyObject_GetAttrString(module.get(), "__file__"));
    const char* text = PyUnicode_AsUTF8(file.get());
    if (!text) throw_raised();
    const std::string path = text;
    return path.substr(0, path.rfind('/') + 1);
  }();
  std::string found;
  PyFrameObject* frame = PyThreadState_GetFrame(PyThreadState_Get());
  while (frame && found.empty()) {
    PyCodeObject* code = PyFrame_GetCode(frame);
    const char* file = PyUnicode_AsUTF8(code->co_filename);
    if (file && std::strncmp(file, own.c_str(), own.size()) != 0)
      found = std::string(file) + ":" + std::to_string(PyFrame_GetLineNumber(frame));
    Py_DECREF(code);
    PyFrameObject* back = PyFrame_GetBack(frame);
    Py_DECREF(frame);
    frame = back;
  }
  Py_XDECREF(frame);
  PyErr_Clear();
  return found;
}

[[noreturn]] void refuse(const char* what, const char* why) {
  const std::string line = python_line();
  const std::string text = std::string(what) + (line.empty() ? "" : " at ") + line + why;
  const Ref module = Ref::made(PyImport_ImportModule("backtrail.capture"));
  const Ref type = Ref::made(PyObject_GetAttrString(module.get(), "CaptureError"));
  PyErr_SetString(type.get(), text.c_str());
  throw Error(ErrorKind::python, text);
}

void refuse_value(const char* what) {
  refuse(what,
         ": Python cannot look at the values of tensors inside a compiled function, since a replay "
         "would not look again. Return the tensor and look at it outside; for a choice that "
         "depends on values use where() or multiply by a mask");
}

void refuse_memory(const char* what) {
  refuse(what,
         ": memory from outside cannot become a tensor inside a compiled function, since a replay "
         "would not fetch it again. Make the tensor outside and pass it as an argument");
}

void refuse_write() {
  refuse("a change in place of x[i], where i is a tensor of one number,",
         ": it would not reach x inside a compiled function, which does not look at i. Write "
         "x[i] = value, or use index_copy or where()");
}

void grad_event(TensorObject* t, bool reads) {
  Recording& r = *recording_now();
  for (const GradChange& g : r.grads)
    if (g.tensor.get() == reinterpret_cast<PyObject*>(t)) return;
  GradChange g;
  g.tensor = Ref::borrow(reinterpret_cast<PyObject*>(t));
  g.entry_matters = reads;
  if (reads && t->grad) {
    g.entry = as_tensor(t->grad)->array;
    r.buffer_of(g.entry, true);
  }
  r.grads.push_back(std::move(g));
}

int stream_of(const Op& op, const AttrValue* attrs, int n) {
  if (!op.random || n < 2) return -1;
  const auto& draws = recording_now()->draws;
  for (size_t i = draws.size(); i-- > 0;)
    if (draws[i].seed == attrs[n - 2].i && draws[i].offset == attrs[n - 1].i) return int(i);
  return -1;
}

}  // namespace backtrail
