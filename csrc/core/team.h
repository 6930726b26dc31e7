// The threads that help with large work. OpenMP makes and places them, once; work is then handed
// out through a ticket that costs a fraction of a microsecond. Whoever is late is not waited for:
// the caller takes the tasks that nobody has begun, so that a thread whose core is busy with
// another program cannot hold up the rest.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace backtrail {

class Team {
 public:
  using Body = void (*)(void* context, int64_t task);

  // Run body(context, 0 ... tasks - 1) on the caller and at most `threads` - 1 helpers. False, with
  // nothing done, when another caller has the team or this thread is one of its helpers.
  bool run(int threads, int64_t tasks, Body body, void* context);

  // A task of the team is running on this thread.
  static bool inside();

 private:
  void recruit(int helpers);
  void serve(int helper);
  bool claim(int64_t& first, int64_t& last, Body& body, void*& context, int helper);
  void finish(int64_t count);

  // The job. A ticket is the job's number above the next group of tasks to be taken; closed, no
  // group is left and the fields below may change.
  static constexpr uint64_t kClosed = 0xffffffff;
  alignas(64) std::atomic<uint64_t> ticket_{kClosed};
  std::atomic<Body> body_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<int64_t> tasks_{0}, group_{1};
  std::atomic<int> helpers_wanted_{0};
  alignas(64) std::atomic<int64_t> done_{0};

  alignas(64) std::atomic<bool> taken_{false};  // by a caller
  int helpers_ = 0;                             // made so far
  std::mutex mutex_;
  std::condition_variable work_, all_done_;
  std::atomic<int> sleeping_{0};
  std::atomic<bool> caller_sleeps_{false};
};

}  // namespace backtrail
