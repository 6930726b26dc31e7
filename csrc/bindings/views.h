// Views that take part in recording. A view knows its base, the tensor that all views of the same
// elements belong to. A change in place of a view is a change of the base: the base gets a new
// node, and what the other views show of it is looked up when they are next used, for the version
// they were made at is no longer that of the memory.
#pragma once
#include "bindings/objects.h"

namespace backtrail {

extern thread_local bool walking;  // within a backward pass

void let_go(Counter* counter);
// Count the changes of `to` where those of `from` are counted.
void share_version(TensorObject* to, const TensorObject* from);

// `out` was made as a view of `in`, alone or as one of several.
void mark_view(TensorObject* out, TensorObject* in, bool one_of_many);

// Give a view the history of what it shows now. False, with a Python error set, when it cannot have
// one.
bool renew(TensorObject* t);
inline bool bring_up_to_date(TensorObject* t) { return !t->outdated() || renew(t); }

// Whether a change of `t` in place can be recorded; throws Error if not.
void check_recordable(const char* op, const TensorObject* t);
// After `t`, a view, got a new node by a change in place: make it part of the history of its base.
bool rebase(TensorObject* t);

// Where `view` lies in the memory of `in`: (shape, strides, offset, strides of in, offset of in).
PyObject* place_in(const Array& view, const Array& in);

}  // namespace backtrail
