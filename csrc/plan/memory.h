// Lifetimes to offsets: where the buffers of a plan lie in its one arena.
#pragma once
#include <cstddef>
#include <vector>

namespace backtrail {

// A buffer that lives from node `first` to node `last`, both included.
struct Lifetime {
  int first, last;
  size_t bytes;
  size_t offset = 0;  // the result: a multiple of 64
};

// Give every buffer an offset such that none overlaps another of the same time; returns the bytes
// of the whole.
size_t lay_out(std::vector<Lifetime>& buffers);

}  // namespace backtrail
