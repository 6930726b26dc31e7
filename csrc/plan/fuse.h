// Runs of pointwise steps over the same elements: computed block by block, so that what only they
// use stays in L1.
#pragma once
#include <memory>

#include "exec/launch.h"
#include "plan/capture.h"

namespace backtrail {

struct Fused {
  struct Member {
    Launch launch;
    const char* name;
    int local[kOperands];  // the block in L1 that an operand lives in, or -1
  };
  std::vector<std::unique_ptr<Member>> members;
  std::vector<std::vector<Array>> arrays;  // inputs and output of each member in turn
  int locals = 0;
  double cost = 0;
  void refresh();
  void run() const;
  // Elements [i + r * stride, i + r * stride + n) for r < rows, on this thread.
  void rectangle(int64_t i, int64_t rows, int64_t n, int64_t stride) const;
  // Elements [i, i + n) of the last result: in `room` when no one else needs them.
  const void* fill(int64_t i, int64_t n, void* room) const;

 private:
  char* workspace() const;
  void block(int64_t i, int64_t n, char* blocks, void* last) const;
};

// How many pointwise steps after an op can be computed as soon as its first output is: see Then.
int followers(const std::vector<const Step*>& steps, int first);

// Whether a step reduces the result of n pointwise steps from `first` on, which come right before
// it, so that it can take that block by block: see Feed.
bool reduces(const std::vector<const Step*>& steps, int first, int n, const Call& call);

// How many steps from `first` on map one input by arrays of equal shape, so that one call can do
// them: see Op::execute_joined. At least 1, at most kMostJoined.
int joinable(const std::vector<const Step*>& steps, int first);

// How many of the steps from `first` on can be computed together: at least 1.
int fusible(const std::vector<const Step*>& steps, int first);

}  // namespace backtrail
