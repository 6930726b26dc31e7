// Handing out tasks: claims by a ticket, short spins, then sleep.
#include "core/team.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <system_error>
#include <thread>

namespace backtrail {
namespace {

using Clock = std::chrono::steady_clock;

thread_local bool inside_team = false;

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// How long a thread looks for work, or for the end of it, before it sleeps: longer than the gap
// between two operations of a training step, far shorter than a turn of the scheduler.
std::chrono::nanoseconds patience() {
  static const std::chrono::nanoseconds time = [] {
    const char* policy = std::getenv("OMP_WAIT_POLICY");
    const bool passive = policy && (policy[0] == 'p' || policy[0] == 'P');
    return std::chrono::microseconds(passive ? 0 : 60);
  }();
  return time;
}

// Whether `ready` came true while it was worth spinning.
template <class F>
bool spin_until(F ready) {
  const auto end = Clock::now() + patience();
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      relax();
    }
  } while (Clock::now() < end);
  return ready();
}

}  // namespace

bool Team::inside() { return inside_team; }

// A thread of its own opens a parallel region that never ends. Its first member has the caller's
// place and stays idle; the others serve.
void Team::recruit(int helpers) {
  if (helpers <= helpers_) return;
  const int first = helpers_;
  std::thread([this, first, helpers] {
#pragma omp parallel num_threads(helpers - first + 1)
    if (omp_get_thread_num() > 0) serve(first + omp_get_thread_num() - 1);
  }).detach();
  helpers_ = helpers;
}

// Take the next group of tasks. The fields are read before the ticket is taken: that it could be
// taken says that they belong to it.
bool Team::claim(int64_t& first, int64_t& last, Body& body, void*& context, int helper) {
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  for (;;) {
    const int64_t next = int64_t(ticket & kClosed);
    if (next == int64_t(kClosed)) return false;
    if (helper >= helpers_wanted_.load(std::memory_order_relaxed)) return false;
    const int64_t tasks = tasks_.load(std::memory_order_relaxed);
    const int64_t group = group_.load(std::memory_order_relaxed);
    body = body_.load(std::memory_order_relaxed);
    context = context_.load(std::memory_order_relaxed);
    first = next * group;
    if (first >= tasks) return false;
    last = std::min(tasks, first + group);
    if (ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel,
                                      std::memory_order_acquire))
      return true;
  }
}

void Team::finish(int64_t count) {
  const int64_t tasks = tasks_.load(std::memory_order_relaxed);
  if (done_.fetch_add(count) + count == tasks && caller_sleeps_.load()) {
    std::lock_guard<std::mutex> lock(mutex_);
    all_done_.notify_one();
  }
}

void Team::serve(int helper) {
  inside_team = true;
  for (;;) {
    const uint64_t seen = ticket_.load(std::memory_order_acquire) | kClosed;
    int64_t first, last;
    Body body;
    void* context;
    while (claim(first, last, body, context, helper)) {
      for (int64_t i = first; i < last; ++i) body(context, i);
      finish(last - first);
    }
    auto newer = [&] { return (ticket_.load(std::memory_order_acquire) | kClosed) != seen; };
    if (spin_until(newer)) continue;
    std::unique_lock<std::mutex> lock(mutex_);
    ++sleeping_;
    work_.wait(lock, [&] { return (ticket_.load() | kClosed) != seen; });
    --sleeping_;
  }
}

bool Team::run(int threads, int64_t tasks, Body body, void* context) {
  if (inside_team || taken_.exchange(true, std::memory_order_acquire)) return false;
  try {
    recruit(threads - 1);
  } catch (const std::system_error&) {  // no thread to be had: those there are do it
  }
  const int64_t group = (tasks + (int64_t(1) << 30) - 1) >> 30;  // a ticket counts to 2^32
  body_.store(body, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  tasks_.store(tasks, std::memory_order_relaxed);
  group_.store(group, std::memory_order_relaxed);
  helpers_wanted_.store(threads - 1, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  const uint64_t job = (ticket_.load(std::memory_order_relaxed) >> 32) + 1;
  ticket_.store(job << 32);
  if (sleeping_.load() > 0) {
    std::lock_guard<std::mutex> lock(mutex_);
    work_.notify_all();
  }
  inside_team = true;
  int64_t first, last;
  while (claim(first, last, body, context, -1)) {
    for (int64_t i = first; i < last; ++i) body(context, i);
    done_.fetch_add(last - first);
  }
  inside_team = false;
  auto complete = [&] { return done_.load() == tasks; };
  if (!spin_until(complete)) {
    std::unique_lock<std::mutex> lock(mutex_);
    caller_sleeps_ = true;
    all_done_.wait(lock, complete);
    caller_sleeps_ = false;
  }
  ticket_.store(job << 32 | kClosed);
  taken_.store(false, std::memory_order_release);
  return true;
}

}  // namespace backtrail
