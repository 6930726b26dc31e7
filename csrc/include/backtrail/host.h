// What backtrail offers to a library of ops, and how exceptions become errors on the way there.
#pragma once
#include <cstdio>
#include <cstring>
#include <new>
#include <stdexcept>

#include "backtrail/abi.h"
#include "backtrail/simd.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace library {

// What backtrail offers; set when the library is opened.
inline const backtrail_host*& host() {
  static const backtrail_host* given = nullptr;
  return given;
}

// Thrown where backtrail has an error already and only the way out is wanted.
struct Stopped {};

inline void error(uint32_t kind, const char* op, const char* text) {
  char all[1024];
  const std::size_t n = std::strlen(op);
  const bool named = !std::strncmp(text, op, n) && text[n] == ':';
  std::snprintf(all, sizeof all, named ? "%.0s%s" : "%s: %s", op, text);
  host()->error(kind, all);
}

// To be called where an exception is caught: it becomes an error of `op`.
inline void report(const char* op) {
  try {
    throw;
  } catch (const Stopped&) {
  } catch (const std::invalid_argument& e) {
    error(BACKTRAIL_VALUE_ERROR, op, e.what());
  } catch (const std::domain_error& e) {
    error(BACKTRAIL_VALUE_ERROR, op, e.what());
  } catch (const std::out_of_range& e) {
    error(BACKTRAIL_INDEX_ERROR, op, e.what());
  } catch (const std::bad_alloc&) {
    error(BACKTRAIL_MEMORY_ERROR, op, "out of memory");
  } catch (const std::exception& e) {
    error(BACKTRAIL_RUNTIME_ERROR, op, e.what());
  } catch (...) {
    error(BACKTRAIL_RUNTIME_ERROR, op, "it threw something that is no std::exception");
  }
}

}  // namespace library
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
