// One form of message: every failure in C++ is an Error whose text names the operation, what it
// got and the rule; the bindings turn it into the Python exception of its kind.
#pragma once
#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace backtrail {

enum class ErrorKind : uint8_t {
  runtime,
  value,
  type,
  index,
  memory,
  python  // a Python exception, such as KeyboardInterrupt, is already set
};

struct Error : std::runtime_error {
  ErrorKind kind;
  Error(ErrorKind k, const std::string& text) : std::runtime_error(text), kind(k) {}
};

// printf-style; throws Error.
[[noreturn]] void fail(ErrorKind kind, const char* format, ...)
    __attribute__((format(printf, 2, 3)));

// What runs inside of a task must not throw. An error there is kept, the first one, for the thread
// that began the work, which throws it when the tasks are done.
struct KeptError {
  std::atomic<int> state{0};  // 1: being written; 2: there
  ErrorKind kind;
  char text[1024];
};
KeptError& kept_error();                // of this thread
void keep_errors_at(KeptError* place);  // of the thread for which this one works
void keep_error(ErrorKind kind, const char* text) noexcept;
extern std::atomic<int> kept_errors;  // on all threads
bool error_is_kept() noexcept;        // for what this thread works on: more of it is no use
void drop_kept_error() noexcept;
[[noreturn]] void throw_error_kept();
inline void throw_kept_error() {
  if (kept_errors.load(std::memory_order_relaxed) && kept_error().state.load() == 2)
    throw_error_kept();
}

}  // namespace backtrail
