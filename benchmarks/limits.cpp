// What this machine can do: multiply-adds in registers, and bytes moved, by size of working set.
//
//     limits THREADS SECONDS BYTES...    prints JSON: flops, then for each size the bytes a second
//
// Nothing here is shared with the library that is measured against it. Vectors are as wide as the
// compiler's target: compiled for AVX2 it is the limit of AVX2.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int kWidth = 64;
#elif defined(__AVX__)
constexpr int kWidth = 32;
#else
constexpr int kWidth = 16;
#endif
typedef float V __attribute__((vector_size(kWidth)));
constexpr int64_t kLanes = kWidth / 4;
constexpr int kChains =
    12;  // twice what two units of latency 4 need, and few enough for 16 registers

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <class T>
void keep(T& x) {
  asm volatile("" : "+x"(x));
}

// Independent chains of a = a * x + y.
void multiply_add(int64_t times) {
  V a[kChains], x = V{} + 0.999f, y = V{} + 1e-3f;
  for (int i = 0; i < kChains; ++i) a[i] = V{} + float(i);
  for (int64_t t = 0; t < times; ++t)
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) a[i] = a[i] * x + y;
  for (V& v : a) keep(v);
}

#if defined(__AVX512BF16__)
void multiply_add_bf16(int64_t times) {
  __m512 a[kChains];
  const __m512bh x = (__m512bh)_mm512_set1_epi32(0x3f803f80);
  for (int i = 0; i < kChains; ++i) a[i] = _mm512_set1_ps(float(i));
  for (int64_t t = 0; t < times; ++t)
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) a[i] = _mm512_dpbf16_ps(a[i], x, x);
  for (__m512& v : a) keep(v);
}
#endif

void stream(V* p, V x) {
#if defined(__AVX512F__)
  _mm512_stream_ps(reinterpret_cast<float*>(p), x);
#elif defined(__AVX__)
  _mm256_stream_ps(reinterpret_cast<float*>(p), x);
#elif defined(__SSE2__)
  _mm_stream_ps(reinterpret_cast<float*>(p), x);
#else
  *p = x;
#endif
}

// c = a + b * 3, through the caches or past them; a = a + b * 3; the sum of a.
void triad(V* a, V* b, V* c, int64_t n) {
  for (int64_t i = 0; i < n; ++i) c[i] = a[i] + b[i] * 3;
}
void triad_stream(V* a, V* b, V* c, int64_t n) {
  for (int64_t i = 0; i < n; ++i) stream(c + i, a[i] + b[i] * 3);
}
void update(V* a, V* b, V*, int64_t n) {
  for (int64_t i = 0; i < n; ++i) a[i] = a[i] + b[i] * 3;
}
void read(V* a, V* b, V*, int64_t n) {
  V s[8] = {};
  for (int64_t i = 0; i + 4 <= n; i += 4)
    for (int k = 0; k < 4; ++k) s[k] += a[i + k], s[k + 4] += b[i + k];
  for (V& v : s) keep(v);
}

int threads;

// The time of `body(thread)` on all threads that begin together, until the last is done.
double together(const std::function<void(int)>& body) {
  std::atomic<int> ready{0};
  std::vector<std::thread> team;
  std::vector<double> ends(size_t(threads), 0), starts(size_t(threads), 0);
  auto run = [&](int t) {
    ++ready;
    while (ready < threads) {
    }
    starts[size_t(t)] = now();
    body(t);
    ends[size_t(t)] = now();
  };
  for (int t = 1; t < threads; ++t) team.emplace_back(run, t);
  run(0);
  for (std::thread& t : team) t.join();
  return *std::max_element(ends.begin(), ends.end()) -
         *std::min_element(starts.begin(), starts.end());
}

double most_flops(void (*body)(int64_t), double flops_each, double seconds) {
  const int64_t times = 2000000;
  double best = 0;
  for (double end = now() + seconds; now() < end;)
    best =
        std::max(best, threads * double(times) * flops_each / together([&](int) { body(times); }));
  return best;
}

// The body works on `arrays` of `bytes` together, and reads or writes one of them `moves` times.
double most_bytes(void (*body)(V*, V*, V*, int64_t), int arrays, int moves, int64_t bytes,
                  double seconds) {
  const int64_t n = std::max<int64_t>(8, bytes / threads / arrays / kWidth);
  const int64_t repeat = std::max<int64_t>(1, (int64_t(1) << 24) / bytes);
  std::vector<V*> blocks(size_t(threads) * 3);
  double best = 0;
  together([&](int t) {  // each thread touches its own pages first
    for (int k = 0; k < 3; ++k) {
      const size_t align = size_t(2) << 20, size = (size_t(n) * kWidth + align - 1) / align * align;
      void* p = std::aligned_alloc(align, size);
#ifdef MADV_HUGEPAGE
      madvise(p, size, MADV_HUGEPAGE);
#endif
      blocks[size_t(t * 3 + k)] = static_cast<V*>(std::memset(p, 0, size));
    }
  });
  for (double end = now() + seconds; now() < end || best == 0;) {
    const double time = together([&](int t) {
      for (int64_t r = 0; r < repeat; ++r)
        body(blocks[size_t(t * 3)], blocks[size_t(t * 3 + 1)], blocks[size_t(t * 3 + 2)], n);
    });
    best = std::max(best, double(threads * repeat * n) * moves * kWidth / time);
  }
  for (V* p : blocks) std::free(p);
  return best;
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  threads = std::atoi(argv[1]);
  const double seconds = std::atof(argv[2]);
  std::printf("{\"flops\": %.4g", most_flops(multiply_add, kChains * kLanes * 2.0, seconds));
#if defined(__AVX512BF16__)
  std::printf(", \"flops_bf16\": %.4g", most_flops(multiply_add_bf16, kChains * 64.0, seconds));
#endif
  std::printf(", \"bytes\": {");
  for (int i = 3; i < argc; ++i) {
    const int64_t size = std::atoll(argv[i]);
    auto most = [&](auto body, int arrays, int moves) {
      return most_bytes(body, arrays, moves, size, seconds);
    };
    std::printf("%s\"%lld\": {\"triad\": %.4g, \"update\": %.4g, \"read\": %.4g}",
                i > 3 ? ", " : "", (long long)size,
                std::max(most(triad, 3, 3), most(triad_stream, 3, 3)), most(update, 2, 3),
                most(read, 2, 2));
  }
  std::printf("}}\n");
}
