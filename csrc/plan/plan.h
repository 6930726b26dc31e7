// A plan: what a capture recorded, made ready to be run again and again. All addresses, kernels and
// loop shapes are settled; a run allocates nothing and knows nothing of Python.
#pragma once
#include <memory>

#include "plan/capture.h"
#include "plan/fuse.h"
#include "plan/memory.h"

namespace backtrail {

struct Node {
  const Step* step;  // the first it does
  int steps = 1;
  std::vector<Array> in, out;
  std::unique_ptr<Launch> launch;  // of a pointwise step
  std::unique_ptr<Fused> fused;    // of several; of those that follow an op
  std::vector<AttrValue> attrs;
  std::vector<Call> joined;  // of several ops
  Call call{};               // of an op
  bool feeds = false;        // what is fused makes the first input of the op
  bool moves = false;        // some address or single element is another one at each run
  AdamOptions adam;          // these three to be set before a run where step->live says so
  SgdOptions sgd;
  double setting = 0;
};

struct RandomDraw {
  uint64_t seed = 0, offset = 0;
};

class Plan {
 public:
  // Takes over a capture whose buffers have their kinds. `draws`: how many streams its steps name.
  Plan(std::unique_ptr<Capture> capture, int draws);
  ~Plan();
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  // Where a bound or output buffer lies in the next runs.
  void bind(int buffer, void* data) {
    stubs_[size_t(buffer)].data = data;
    for (int b : guests_[size_t(buffer)]) stubs_[size_t(b)].data = data;
  }
  // Run all nodes; when one throws, `failed` is its number.
  void run();
  std::vector<double> profile(int runs);  // median seconds of each node

  const Capture& capture() const { return *capture_; }
  double flops(const Node& node) const;  // floating point operations, about
  double bytes(const Node& node) const;  // read and written outside the L1 cache

  std::vector<Node> nodes;
  std::vector<RandomDraw> draws;  // to be set before a run
  std::vector<int> written;       // buffers that outlive a run and are changed by it
  int first_lasting = 0;          // the first node that changes one of them
  int failed = -1;
  bool needs_gil = false;
  // for people
  int dead = 0, folded = 0;  // steps
  size_t arena_bytes = 0, unshared_bytes = 0, constant_bytes = 0;

 private:
  void fold();
  void remove_dead();
  void make_nodes();
  void count_uses(const Step& s, int by);
  void fuse(Node& node, int first, int n);
  void join(Node& node, int first, int n);
  bool feeds(Node& node, int first, int n);
  void merge(std::vector<Lifetime>& lives);
  void place();
  Node make(const Step& s);
  Array array(const StepArray& a);
  void run_node(Node& node);
  void execute(Node& node);

  std::unique_ptr<Capture> capture_;
  std::vector<const Step*> steps_;        // those that remain
  std::vector<Storage> stubs_;            // by buffer: what the nodes' arrays point to
  std::vector<StorageRef> held_;          // constants, the arena
  std::vector<bool> constant_, local_;    // by buffer
  std::vector<int> host_;                 // by buffer: the one whose memory it has, usually itself
  std::vector<std::vector<int>> guests_;  // by buffer: those that have its memory
  std::vector<int> uses_;                 // by buffer: by steps that have no node yet, or one alone
};

}  // namespace backtrail
