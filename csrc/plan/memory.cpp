// Placing buffers: the largest first, each in the tightest gap that its contemporaries leave.
#include "plan/memory.h"

#include <algorithm>
#include <cstdint>

namespace backtrail {

size_t lay_out(std::vector<Lifetime>& buffers) {
  std::vector<int> order(buffers.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = int(i);
  std::sort(order.begin(), order.end(), [&](int a, int b) {
    const Lifetime &x = buffers[size_t(a)], &y = buffers[size_t(b)];
    return x.bytes != y.bytes ? x.bytes > y.bytes : a < b;
  });
  std::vector<int> placed;  // by offset
  size_t whole = 0;
  for (int i : order) {
    Lifetime& b = buffers[size_t(i)];
    const size_t bytes = (b.bytes + 63) / 64 * 64;
    size_t end = 0, best = SIZE_MAX, best_gap = SIZE_MAX;  // end: of those seen so far
    for (int k : placed) {
      const Lifetime& other = buffers[size_t(k)];
      if (other.last < b.first || other.first > b.last) continue;
      if (other.offset > end && other.offset - end >= bytes && other.offset - end < best_gap) {
        best = end;
        best_gap = other.offset - end;
      }
      end = std::max(end, other.offset + (other.bytes + 63) / 64 * 64);
    }
    b.offset = best != SIZE_MAX ? best : end;
    whole = std::max(whole, b.offset + bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), i,
                                   [&](int x, int y) {
                                     return buffers[size_t(x)].offset < buffers[size_t(y)].offset;
                                   }),
                  i);
  }
  return whole;
}

}  // namespace backtrail
