// A capture as Python sees it: besides the steps, the gradients that were looked at or set, the
// random numbers that were drawn, and the settings that a replay reads anew.
#pragma once
#include "bindings/objects.h"
#include "bindings/ref.h"
#include "plan/capture.h"

namespace backtrail {

// A generator that was asked for `n` numbers when its stream stood at (seed, offset).
struct Draw {
  Ref generator;
  int64_t n, seed, offset;
};

// Where an optimizer's settings are found: its group, the states that count Adam's steps, and the
// name of the one that a `setting` is.
struct Live {
  Ref group;   // a dict
  Ref states;  // a list of dicts
  Ref name;
};

// The gradient of a tensor during a capture.
struct GradChange {
  Ref tensor;
  bool entry_matters;  // it was read before it was set
  Array entry;         // what it was then; empty for None
};

struct Recording : Capture {
  std::vector<Draw> draws;
  std::vector<Live> lives;
  std::vector<GradChange> grads;
  std::string reason;               // why no plan can be made, if so
  std::vector<uint64_t> stand_ins;  // memory of copies that an eager run would have as views
};

inline Recording* recording_now() { return static_cast<Recording*>(capturing()); }

// To be called before the gradient of a tensor is read, or replaced.
void grad_event(TensorObject* t, bool reads);
inline void grad_read(TensorObject* t) {
  if (capturing()) grad_event(t, true);
}
inline void grad_set(TensorObject* t) {
  if (capturing()) grad_event(t, false);
}

// Throws when a capture goes on: `what` would give Python a value that a replay cannot give again.
[[noreturn]] void refuse_value(const char* what);
// The same for a tensor made from memory of another library.
[[noreturn]] void refuse_memory(const char* what);
// Throws when the memory is such a copy: what is written to it would be lost.
[[noreturn]] void refuse_write();
inline void stand_in_written(const Array& a) {
  if (!capturing()) return;
  for (uint64_t serial : recording_now()->stand_ins)
    if (serial == a.storage->serial) refuse_write();
}
inline void value_read(const char* what) {
  if (capturing()) refuse_value(what);
}

// "file.py:12", of the innermost Python line that is not backtrail's own; empty when there is none.
std::string python_line();

// The stream that an op's last two attributes name, or -1.
int stream_of(const Op& op, const AttrValue* attrs, int n);

}  // namespace backtrail
