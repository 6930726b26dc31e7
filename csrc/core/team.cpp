// Handing out tasks: claims by a ticket, short spins, then sleep.
#include "core/team.h"

#include <omp.h>
#include <pthread.h>
#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <system_error>
#include <thread>
#include <vector>

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

#if defined(__linux__)
int this_thread() { return int(syscall(SYS_gettid)); }
int this_cpu() { return sched_getcpu(); }

// Take one processor from those that a thread may run on, unless it is the only one or was not
// among them.
bool take_away(int thread, int cpu) {
  cpu_set_t set;
  if (sched_getaffinity(thread, sizeof set, &set) != 0 || cpu < 0 || cpu >= CPU_SETSIZE ||
      !CPU_ISSET(cpu, &set) || CPU_COUNT(&set) < 2)
    return false;
  CPU_CLR(cpu, &set);
  return sched_setaffinity(thread, sizeof set, &set) == 0;
}
// Give it back to this thread; what else its user did to the set meanwhile stays.
void give_back(int cpu) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return;
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof set, &set);
}
#else
int this_thread() { return 0; }
int this_cpu() { return -1; }
bool take_away(int, int) { return false; }
void give_back(int) {}
#endif

constexpr int kFewHelpers = 8;  // a system call for each of these is no matter

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

namespace {

// The stack of OpenMP's threads that its environment asks for; 0: the system's usual one.
size_t stack_bytes() {
  for (const char* name : {"OMP_STACKSIZE", "GOMP_STACKSIZE", "KMP_STACKSIZE"}) {
    const char* text = std::getenv(name);
    if (!text) continue;
    char* end;
    const unsigned long long n = std::strtoull(text, &end, 10);
    while (*end == ' ') ++end;
    const int shift = *end == 'b' || *end == 'B'   ? 0
                      : *end == 'm' || *end == 'M' ? 20
                      : *end == 'g' || *end == 'G' ? 30
                                                   : 10;
    if (n) return n > (~0ull >> shift) ? ~size_t(0) : size_t(n << shift);
  }
  return 0;
}

// How many of n threads the system has room for, all at once. OpenMP ends the process where it
// cannot make one, so a rehearsal finds out.
int room_for(int n) {
  struct Stage {
    std::mutex mutex;
    std::condition_variable leave;
    bool over = false;
  } stage;
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes)) return 0;
  const size_t bytes = stack_bytes();
  if (bytes) pthread_attr_setstacksize(&attributes, bytes);  // too small a one counts for nothing
  std::vector<pthread_t> threads;
  auto wait = [](void* p) -> void* {
    auto& s = *static_cast<Stage*>(p);
    void* volatile room = std::malloc(64);  // the first one of a thread takes a region of its own
    std::free(room);
    std::unique_lock<std::mutex> lock(s.mutex);
    s.leave.wait(lock, [&] { return s.over; });
    return nullptr;
  };
  // One more than is needed: for what else a thread allocates when it starts.
  for (pthread_t t; int(threads.size()) <= n;) {
    if (pthread_create(&t, &attributes, wait, &stage)) break;
    threads.push_back(t);
  }
  pthread_attr_destroy(&attributes);
  {
    std::lock_guard<std::mutex> lock(stage.mutex);
    stage.over = true;
  }
  stage.leave.notify_all();
  for (pthread_t t : threads) pthread_join(t, nullptr);
  return int(threads.size()) > n ? n : int(threads.size()) / 2;  // some for what comes later
}

}  // namespace

// A thread of its own opens a parallel region that never ends. Its first member has the caller's
// place and stays idle; the others serve.
void Team::recruit(int helpers) {
  helpers = std::min(helpers, most_);
  if (helpers <= helpers_) return;
  const int first = helpers_;
  const int room = room_for(helpers - first);
  if (room < helpers - first) helpers = most_ = first + room;
  if (helpers <= first) return;
  std::thread([this, first, helpers] {
#pragma omp parallel num_threads(helpers - first + 1)
    if (omp_get_thread_num() > 0) serve(first + omp_get_thread_num() - 1);
  }).detach();
  helpers_ = helpers;
}

// Take the next group of tasks of a share. The fields are read before the ticket is taken: that it
// could be taken says that they belong to it.
bool Team::claim_of(int share, int64_t& first, int64_t& last, Body& body, void*& context) {
  std::atomic<uint64_t>& value = tickets_[share].value;
  uint64_t ticket = value.load(std::memory_order_acquire);
  for (;;) {
    const int64_t next = int64_t(ticket & kClosed);
    if (next == int64_t(kClosed)) return false;
    const int64_t tasks = tasks_.load(std::memory_order_relaxed);
    const int64_t group = group_.load(std::memory_order_relaxed);
    const int64_t shares = shares_.load(std::memory_order_relaxed);
    body = body_.load(std::memory_order_relaxed);
    context = context_.load(std::memory_order_relaxed);
    const int64_t end = tasks * (share + 1) / shares;
    first = tasks * share / shares + next * group;
    if (first >= end) return false;
    last = std::min(end, first + group);
    if (value.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel,
                                    std::memory_order_acquire))
      return true;
  }
}

// Its own share first, then the others'.
bool Team::claim(int64_t& first, int64_t& last, Body& body, void*& context, int thread) {
  const int shares = shares_.load(std::memory_order_relaxed);
  for (int i = 0; i < shares; ++i)
    if (claim_of((thread + i) % shares, first, last, body, context)) return true;
  return false;
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
    const uint64_t seen = job_.load(std::memory_order_acquire);
    int64_t first, last, count = 0;
    Body body;
    void* context;
    while (helper + 1 < threads_.load(std::memory_order_relaxed) &&
           claim(first, last, body, context, helper + 1)) {
      keep_errors_at(errors_.load(std::memory_order_relaxed));
      for (int64_t i = first; i < last; ++i) body(context, i);
      count += last - first;
    }
    if (count) finish(count);  // at once: another job cannot begin before
    if (spin_until([&] { return job_.load(std::memory_order_acquire) != seen; })) continue;
    std::unique_lock<std::mutex> lock(mutex_);
    Place* place = helper < kPlaces ? &places_[helper] : nullptr;
    if (place) place->thread = this_thread(), place->cpu = this_cpu();
    ++sleeping_;
    work_.wait(lock, [&] { return job_.load() != seen; });
    --sleeping_;
    if (!place) continue;
    place->cpu = -1;
    if (place->taken >= 0) give_back(place->taken);
    place->taken = -1;
  }
}

// After a long sleep the scheduler likes to wake a thread where it slept, or where the caller runs,
// even if another processor is idle; then neither of the two gets ahead for milliseconds.
void Team::wake(int helpers) {
  std::lock_guard<std::mutex> lock(mutex_);
  const int cpu = this_cpu();
  for (int h = 0; h < std::min(helpers, kPlaces); ++h) {
    Place& place = places_[h];
    const bool near = place.cpu == cpu || (place.cpu >= 0 && h < kFewHelpers);
    if (near && place.taken < 0 && take_away(place.thread, cpu)) place.taken = cpu;
  }
  work_.notify_all();
}

bool Team::run(int threads, int64_t tasks, Body body, void* context) {
  if (inside_team || taken_.exchange(true, std::memory_order_acquire)) return false;
  try {
    recruit(threads - 1);
  } catch (const std::system_error&) {  // no thread to be had: those there are do it
  }
  const int shares = std::min(threads, kShares);
  body_.store(body, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  errors_.store(&kept_error(), std::memory_order_relaxed);
  tasks_.store(tasks, std::memory_order_relaxed);
  group_.store((tasks >> 30) + 1, std::memory_order_relaxed);  // a ticket counts to 2^32
  threads_.store(threads, std::memory_order_relaxed);
  shares_.store(shares, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  const uint64_t job = job_.load(std::memory_order_relaxed) + 1;
  for (int s = 0; s < shares; ++s) tickets_[s].value.store(job << 32, std::memory_order_release);
  job_.store(job);
  if (sleeping_.load() > 0) wake(threads - 1);
  inside_team = true;
  int64_t first, last, count = 0;
  while (claim(first, last, body, context, 0)) {
    for (int64_t i = first; i < last; ++i) body(context, i);
    count += last - first;
  }
  done_.fetch_add(count);
  inside_team = false;
  auto complete = [&] { return done_.load() == tasks; };
  if (!spin_until(complete)) {
    std::unique_lock<std::mutex> lock(mutex_);
    caller_sleeps_ = true;
    all_done_.wait(lock, complete);
    caller_sleeps_ = false;
  }
  for (int s = 0; s < shares; ++s)
    tickets_[s].value.store(job << 32 | kClosed, std::memory_order_release);
  taken_.store(false, std::memory_order_release);
  return true;
}

}  // namespace backtrail
