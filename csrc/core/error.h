// One form of message: every failure in C++ is an Error whose text names the operation, what it
// got and the rule; the bindings turn it into the Python exception of its kind.
#pragma once
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

}  // namespace backtrail
