// Reads the CPU once and chooses the kernel table; BACKTRAIL_ISA overrides. The build says with
// BACKTRAIL_WITH_* which tables there are.
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "kernels/table.h"

namespace backtrail {

#define BACKTRAIL_DECLARE(isa)    \
  namespace isa {                 \
  extern const KernelTable table; \
  }
#ifdef BACKTRAIL_WITH_v2
BACKTRAIL_DECLARE(v2)
#endif
#ifdef BACKTRAIL_WITH_v3
BACKTRAIL_DECLARE(v3)
#endif
#ifdef BACKTRAIL_WITH_v4
BACKTRAIL_DECLARE(v4)
#endif
#ifdef BACKTRAIL_WITH_base
BACKTRAIL_DECLARE(base)
#endif
#undef BACKTRAIL_DECLARE

namespace {

struct Candidate {
  const KernelTable* table;
  bool available;
};

// From the least to the most capable.
const Candidate* candidates(int& count) {
  static const Candidate all[] = {
#ifdef BACKTRAIL_WITH_v2
      {&v2::table, bool(__builtin_cpu_supports("x86-64-v2"))},
#endif
#ifdef BACKTRAIL_WITH_v3
      {&v3::table, bool(__builtin_cpu_supports("x86-64-v3"))},
#endif
#ifdef BACKTRAIL_WITH_v4
      {&v4::table, bool(__builtin_cpu_supports("x86-64-v4"))},
#endif
#ifdef BACKTRAIL_WITH_base
      {&base::table, true},
#endif
  };
  count = int(sizeof all / sizeof *all);
  return all;
}

const KernelTable* choose() {
  int count;
  const Candidate* all = candidates(count);
  const char* wanted = std::getenv("BACKTRAIL_ISA");
  if (wanted && !*wanted) wanted = nullptr;
  const KernelTable* best = nullptr;
  for (int i = 0; i < count; ++i)
    if (all[i].available && (!wanted || !std::strcmp(wanted, all[i].table->isa)))
      best = all[i].table;
  if (!best && wanted)
    fail(ErrorKind::runtime, "BACKTRAIL_ISA=%s: this CPU can run: %s", wanted, available_isas());
  if (!best)
    fail(ErrorKind::runtime,
         "backtrail needs a CPU with SSE4.2 and POPCNT (x86-64-v2); this one has not");
  return best;
}

// Leaf 7, subleaf 1 of CPUID: AVX512_BF16. Compilers older than GCC 11 have no name for it.
bool has_bf16_products() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
#else
  return false;
#endif
}

}  // namespace

const char* available_isas() {
  static char text[32];
  if (!*text) {
    int count;
    const Candidate* all = candidates(count);
    for (int i = 0; i < count; ++i)
      if (all[i].available) {
        if (*text) std::strcat(text, " ");
        std::strcat(text, all[i].table->isa);
      }
  }
  return text;
}

const KernelTable& derived_kernels() {  // the first one: see CMakeLists.txt
  int count;
  return *candidates(count)[0].table;
}

const KernelTable& kernels() {
  static const KernelTable* table = choose();
  return *table;
}

const PairsTable& pairs_kernels() {
  static const bool at_once = kernels().pairs_at_once && has_bf16_products();
  return at_once ? *kernels().pairs_at_once : *kernels().pairs;
}

}  // namespace backtrail
