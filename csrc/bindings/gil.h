// The GIL: given up while C++ works, and taken back without harm when Python is about to end.
#pragma once
#include <Python.h>

#include <cxxabi.h>
#include <unistd.h>

namespace backtrail {

// When Python ends it stops a daemon thread that wants the GIL by unwinding its stack, and an
// unwinding that meets `noexcept`, as every destructor is, aborts the process. The thread waits for
// that end instead, as Python does itself from 3.14 on.
template <class F>
auto or_wait_for_the_end(F f) noexcept -> decltype(f()) {
#if defined(__GLIBCXX__)
  try {
    return f();
  } catch (abi::__forced_unwind&) {
    for (;;) pause();
  }
#else
  return f();
#endif
}

// Others may run Python while this lives.
class GilRelease {
 public:
  explicit GilRelease(bool release = true) : state_(release ? PyEval_SaveThread() : nullptr) {}
  ~GilRelease() {
    if (state_) or_wait_for_the_end([this] { PyEval_RestoreThread(state_); });
  }
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

 private:
  PyThreadState* state_;
};

// This thread runs Python while this lives, wherever it comes from.
class GilHold {
 public:
  GilHold() : state_(or_wait_for_the_end([] { return PyGILState_Ensure(); })) {}
  ~GilHold() { PyGILState_Release(state_); }
  GilHold(const GilHold&) = delete;
  GilHold& operator=(const GilHold&) = delete;

 private:
  PyGILState_STATE state_;
};

}  // namespace backtrail
