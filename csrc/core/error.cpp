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

}  // namespace backtrail
