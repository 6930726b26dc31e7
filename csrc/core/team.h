// The threads that help with large work. OpenMP makes and places them, once; work is then handed
// out through tickets that cost a fraction of a microsecond. Each thread begins with a share of the
// tasks of its own, the same part each time, so that it finds in its cache what it wrote there in
// the operation before; then it takes what the others have left. Whoever is late is not waited for:
// a thread whose core is busy with another program cannot hold up the rest.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "core/error.h"

namespace backtrail {

class Team {
 public:
  using Body = void (*)(void* context, int64_t task);

  // Run body(context, 0 ... tasks - 1) on the caller and at most `threads` - 1 helpers. False, with
  // nothing done, when another caller has the team or this thread is one of its helpers.
  bool run(int threads, int64_t tasks, Body body, void* context);

  // Helpers wait for work, and none of them sleeps.
  bool awake() const { return sleeping_.load(std::memory_order_relaxed) == 0 && helpers_ > 0; }

  // A task of the team is running on this thread.
  static bool inside();

 private:
  void recruit(int helpers);
  void serve(int helper);
  bool claim(int64_t& first, int64_t& last, Body& body, void*& context, int thread);
  bool claim_of(int share, int64_t& first, int64_t& last, Body& body, void*& context);
  void finish(int64_t count);
  void wake(int helpers);

  // The job. The ticket of a share is the job's number above the next group of tasks to be taken;
  // while all are closed the fields below may change.
  static constexpr uint64_t kClosed = 0xffffffff;
  static constexpr int kShares = 64;
  struct alignas(64) Ticket {
    std::atomic<uint64_t> value{kClosed};
  };
  Ticket tickets_[kShares];
  alignas(64) std::atomic<uint64_t> job_{0};
  std::atomic<Body> body_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<KeptError*> errors_{nullptr};  // of the caller
  std::atomic<int64_t> tasks_{0}, group_{1};
  std::atomic<int> threads_{0}, shares_{1};
  alignas(64) std::atomic<int64_t> done_{0};

  alignas(64) std::atomic<bool> taken_{false};  // by a caller
  std::atomic<int> helpers_{0};                 // made so far
  int most_ = 1 << 20;                          // that the system has room for
  std::mutex mutex_;
  std::condition_variable work_, all_done_;
  std::atomic<int> sleeping_{0};
  // Where helpers sleep, for the first of them: guarded by the mutex.
  struct Place {
    int thread = 0;  // of the system
    int cpu = -1;    // it went to sleep on; -1 while awake
    int taken = -1;  // the caller's processor, which it may not use until it is awake
  };
  static constexpr int kPlaces = 64;
  Place places_[kPlaces];
  std::atomic<bool> caller_sleeps_{false};
};

}  // namespace backtrail
