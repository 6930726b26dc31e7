// Copies of a few bytes, with no call: of runs too short for memcpy to be worth one.
#pragma once
#include <cstdint>
#include <cstring>

namespace backtrail {

constexpr int64_t kShortCopy = 256;  // bytes

// A whole that may lie anywhere.
template <int N>
struct Bytes {
  char bytes[N];
};
template <int N>
inline void copy_whole(char* to, const char* from) {
  Bytes<N> whole;
  std::memcpy(&whole, from, N);
  std::memcpy(to, &whole, N);
}

// memcpy(to, from, n); the last piece overlaps the one before.
inline void copy_short(char* to, const char* from, int64_t n) {
  if (n >= 16) {
    for (int64_t i = 0; i + 16 <= n; i += 16) copy_whole<16>(to + i, from + i);
    copy_whole<16>(to + n - 16, from + n - 16);
  } else if (n >= 8) {
    copy_whole<8>(to, from);
    copy_whole<8>(to + n - 8, from + n - 8);
  } else if (n >= 4) {
    copy_whole<4>(to, from);
    copy_whole<4>(to + n - 4, from + n - 4);
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = from[i];
  }
}
inline void copy_run(char* to, const char* from, int64_t n) {
  n <= kShortCopy ? copy_short(to, from, n) : void(std::memcpy(to, from, size_t(n)));
}

}  // namespace backtrail
