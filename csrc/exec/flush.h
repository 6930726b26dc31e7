// Arithmetic in which subnormal numbers count as zero.
#pragma once

namespace backtrail {

// Inside the scope, on this thread and on x86-64 (FTZ and DAZ of MXCSR): results too small to be
// normal become zero, and so do operands.
class Flushing {
 public:
  explicit Flushing(bool on) : on_(on) {
    if (!on_) return;
    before_ = get();
    set(before_ | 0x8040);
  }
  ~Flushing() {
    if (on_) set(before_);
  }
  Flushing(const Flushing&) = delete;
  Flushing& operator=(const Flushing&) = delete;

 private:
  // In assembly that touches memory, so that no loads or stores are moved across it.
  static unsigned get() {
    unsigned mode = 0;
#if defined(__x86_64__)
    asm volatile("stmxcsr %0" : "=m"(mode) : : "memory");
#endif
    return mode;
  }
  static void set([[maybe_unused]] unsigned mode) {
#if defined(__x86_64__)
    asm volatile("ldmxcsr %0" : : "m"(mode) : "memory");
#endif
  }

  bool on_;
  unsigned before_ = 0;
};

}  // namespace backtrail
