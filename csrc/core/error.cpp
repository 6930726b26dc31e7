#include "core/error.h"

#include <cstdarg>
#include <cstdio>

namespace backtrail {

void fail(ErrorKind kind, const char* format, ...) {
  va_list args;
  va_start(args, format);
  char text[1024];
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  throw Error(kind, text);
}

std::atomic<int> kept_errors{0};

namespace {
thread_local KeptError own_error;
thread_local KeptError* place_for_errors = nullptr;
}  // namespace

KeptError& kept_error() { return own_error; }
void keep_errors_at(KeptError* place) { place_for_errors = place; }

void keep_error(ErrorKind kind, const char* text) noexcept {
  KeptError& place = place_for_errors ? *place_for_errors : own_error;
  int none = 0;
  if (!place.state.compare_exchange_strong(none, 1)) return;
  place.kind = kind;
  snprintf(place.text, sizeof place.text, "%s", text);
  kept_errors.fetch_add(1);
  place.state.store(2);
}

bool error_is_kept() noexcept {
  if (!kept_errors.load(std::memory_order_relaxed)) return false;
  return (place_for_errors ? *place_for_errors : own_error).state.load() != 0;
}

void drop_kept_error() noexcept {
  if (own_error.state.load() != 2) return;
  kept_errors.fetch_sub(1);
  own_error.state.store(0);
}

void throw_error_kept() {
  KeptError& e = kept_error();
  Error thrown(e.kind, e.text);
  kept_errors.fetch_sub(1);
  e.state.store(0);
  throw thrown;
}

}  // namespace backtrail
