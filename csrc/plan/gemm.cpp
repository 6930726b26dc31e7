// The loops around the matrix-product kernels: which operand is packed, how C is cut into tasks.
#include "plan/gemm.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "core/error.h"
#include "core/parallel.h"

namespace backtrail {
namespace {

constexpr int kSlot = 3;                        // of scratch()
constexpr double kSerialNs = 10e3;              // below this one thread does it all
constexpr double kTinyProducts = 64 * 64 * 64;  // certainly no work for two threads
constexpr double kLongNs = 50e6;  // from here tasks are smaller, to even out what threads get
constexpr double kLongestTaskNs = 100e6;
constexpr double kPackTime = 8;     // of an element, over that of a multiply-add
constexpr double kTaskNs = 5e3;     // least work of a task in a batch
constexpr double kBytesPerNs = 30;  // of one thread, from cache
// Up to so many rows of C, a row-contiguous B is read where it lies; to the fewer when its rows
// fall into the same cache sets.
constexpr int64_t kDirectRows = 320, kDirectRowsAliased = 128;
constexpr double kFarBytes = 4 << 20;  // a B of this size is not in the L2 cache

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

template <class T>
struct Problem {
  int64_t m, n, k;
  MatView<const T> a, b;
  MatView<T> c;
  Epilogue<T> epilogue;
  bool is_dot;
  bool transposed;  // C.T = B.T @ A.T of what was asked: c.rs is 1, the bias runs down

  Problem(const GemmTable<T>& kernels, int64_t m_, int64_t n_, int64_t k_, MatView<const T> a_,
          MatView<const T> b_, MatView<T> c_, const Epilogue<T>& e)
      : m(m_), n(n_), k(k_), a(a_), b(b_), c(c_), epilogue(e), is_dot(m_ == 1 && n_ == 1) {
    // The stride along a dimension of one means nothing; set to what needs no packing.
    if (m == 1) a.rs = 1;
    if (n == 1) b.cs = 1;
    // Few columns and many rows: vectors run along the rows instead.
    transposed = n <= kernels.lanes / 2 && m >= 2 * kernels.lanes;
    if (transposed) {
      m = n_;
      n = m_;
      a = {b.data, b.cs, b.rs};
      b = {a_.data, a_.cs, a_.rs};
      c = {c.data, c.cs, c.rs};
    }
  }

  Problem part(int64_t i, int64_t rows, int64_t j, int64_t cols) const {
    Problem p = *this;
    p.m = rows;
    p.n = cols;
    p.a.data += i * a.rs;
    p.b.data += j * b.cs;
    p.c.data += i * c.rs + j * c.cs;
    if (epilogue.bias) p.epilogue.bias += transposed ? i : j;
    return p;
  }
};

// Length of the pieces, multiples of `unit` of at most about `most`, that n is evenly cut into.
int64_t piece(int64_t n, int64_t most, int64_t unit) {
  return n <= most ? n : round_up(ceil_div(n, ceil_div(n, most)), unit);
}

// One block of C, on this thread: B is packed kc x nc at a time, unless it can be read in place.
template <class T>
void run_block(const GemmTable<T>& kernels, const Problem<T>& p) {
  const bool aliased = p.b.rs * int64_t(sizeof(T)) % 4096 == 0;
  const bool pack_b = p.b.cs != 1 || p.m > (aliased ? kDirectRowsAliased : kDirectRows);
  // Few rows and a B from afar: a few of its rows at a time, all along, as memory is read best.
  const bool streamed = !pack_b && p.m <= 8 && double(p.k) * double(p.n) * sizeof(T) > kFarBytes;
  const int64_t depth = piece(p.k, streamed ? 16 : kernels.kc, 8);
  const int64_t width = streamed ? p.n : piece(p.n, kernels.nc, kernels.nr);
  const bool pack_a = p.n > 4 * kernels.lanes && p.m * p.k > 64 * 64;
  const int64_t panel = (depth + 1) * kernels.lanes;  // odd: panels in different cache sets
  const int64_t b_size = pack_b ? ceil_div(width, kernels.lanes) * panel : 0;
  const int64_t a_size = pack_a ? a_panel_size(kernels.mr, depth) : 0;
  T* packed = nullptr;
  if (pack_a || pack_b)
    packed = static_cast<T*>(scratch(size_t(b_size + a_size) * sizeof(T), kSlot));

  GemmBlock<T> g;
  g.m = p.m;
  g.a_rs = p.a.rs;
  g.a_cs = p.a.cs;
  g.a_panel = pack_a ? packed + b_size : nullptr;
  g.b_rs = pack_b ? kernels.lanes : p.b.rs;
  g.b_vs = pack_b ? panel : kernels.lanes;
  g.c_rs = p.c.rs;
  for (int64_t j = 0; j < p.n; j += width) {
    g.n = std::min(width, p.n - j);
    g.c = p.c.data + j;
    g.accumulate = p.epilogue.accumulate;
    g.bias = nullptr;
    g.act = Activation::none;
    int64_t done = 0;
    do {  // once even when k is 0
      g.k = std::min(depth, p.k - done);
      g.a = p.a.data + done * p.a.cs;
      g.b = p.b.data + j * p.b.cs + done * p.b.rs;
      done += g.k;
      if (pack_b) {
        kernels.pack_b(g.k, g.n, g.b, p.b.rs, p.b.cs, packed, panel);
        g.b = packed;
      }
      if (done == p.k) {
        g.bias = p.epilogue.bias ? p.epilogue.bias + j : nullptr;
        g.act = p.epilogue.act;
      }
      kernels.block(g);
      g.accumulate = true;
    } while (done < p.k);
  }
}

// One block of a transposed product: through a buffer, as only rows of C are contiguous.
template <class T>
void run_transposed_block(const GemmTable<T>& kernels, const Problem<T>& p) {
  T* rows = static_cast<T*>(scratch(size_t(p.m * p.n) * sizeof(T), kSlot - 1));
  if (p.epilogue.accumulate)
    for (int64_t i = 0; i < p.m; ++i)
      for (int64_t j = 0; j < p.n; ++j) rows[i * p.n + j] = p.c.data[i + j * p.c.cs];
  Problem<T> q = p;
  q.c = {rows, p.n, 1};
  q.epilogue.bias = nullptr;
  q.epilogue.act = Activation::none;
  run_block(kernels, q);
  for (int64_t i = 0; i < p.m; ++i) {
    const T bias = p.epilogue.bias ? p.epilogue.bias[i] : T(0);
    for (int64_t j = 0; j < p.n; ++j) {
      T x = rows[i * p.n + j];
      if (p.epilogue.bias) x += bias;
      if (p.epilogue.act == Activation::relu && x < T(0)) x = T(0);
      p.c.data[i + j * p.c.cs] = x;
    }
  }
}

template <class T>
void run_dot(const GemmTable<T>& kernels, const Problem<T>& p) {
  T x = kernels.dot(p.k, p.a.data, p.a.cs, p.b.data, p.b.rs);
  if (p.epilogue.accumulate) x = *p.c.data + x;
  if (p.epilogue.bias) x += *p.epilogue.bias;
  if (p.epilogue.act == Activation::relu && x < T(0)) x = T(0);
  *p.c.data = x;
}

// Estimated time on one thread: arithmetic, or the memory it touches if that takes longer.
template <class T>
double cost(const GemmTable<T>& kernels, const Problem<T>& p) {
  const double m = double(p.m), n = double(p.n), k = double(p.k);
  const double bytes = sizeof(T) * (m * k + k * n + m * n);
  return std::max(2 * m * n * k / kernels.flops_per_ns, bytes / kBytesPerNs);
}

// How C is cut into tasks. Each packs what it needs, so that no task waits for another; the cut of
// least estimated time is taken.
struct Grid {
  int64_t down = 1, across = 1;  // blocks
  int64_t rows, cols;            // of one block

  template <class T>
  Grid(const GemmTable<T>& kernels, const Problem<T>& p, int64_t batch, double total_ns) {
    const int64_t threads = total_ns < kSerialNs ? 1 : num_threads();
    // Long products are cut finer, so that Ctrl-C need not wait for seconds.
    const int64_t tasks =
        total_ns < kLongNs ? threads : std::max(4 * threads, int64_t(total_ns / kLongestTaskNs));
    const int64_t most_across = ceil_div(p.n, kernels.nr), most_down = ceil_div(p.m, kernels.mr);
    double best = 0;
    for (int64_t x = 1; tasks > 1 && x <= std::min(tasks, most_across); ++x) {
      const int64_t y = std::min(ceil_div(tasks, x * batch), most_down);
      const double turns = double(ceil_div(x * y * batch, threads));
      const double block_m = double(round_up(ceil_div(p.m, y), kernels.mr));
      const double block_n = double(round_up(ceil_div(p.n, x), kernels.nr));
      const double passes = std::ceil(block_n / double(kernels.nc));
      const double time = turns * (block_m * block_n + kPackTime * (block_m * passes + block_n));
      if (x > 1 && time >= best) continue;
      best = time;
      across = x;
      down = y;
    }
    rows = down == 1 ? p.m : round_up(ceil_div(p.m, down), kernels.mr);
    cols = across == 1 ? p.n : round_up(ceil_div(p.n, across), kernels.lanes);
    down = ceil_div(p.m, rows);
    across = ceil_div(p.n, cols);
  }
};

// One row times contiguous columns, as in a layer applied to a single sample.
template <class T>
void run_row(const GemmTable<T>& kernels, const Problem<T>& p) {
  T* y = p.c.data;
  kernels.row(p.n, p.k, p.a.data, p.a.cs, p.b.data, p.b.cs, y, p.epilogue.accumulate);
  if (p.epilogue.bias)
    for (int64_t j = 0; j < p.n; ++j) y[j] += p.epilogue.bias[p.transposed ? 0 : j];
  if (p.epilogue.act == Activation::relu)
    for (int64_t j = 0; j < p.n; ++j) y[j] = y[j] < T(0) ? T(0) : y[j];
}

template <class T>
void run(const GemmTable<T>& kernels, const Problem<T>& p) {
  if (p.is_dot)
    run_dot(kernels, p);
  else if (p.m == 1 && p.b.rs == 1 && p.b.cs != 1 && p.c.cs == 1 && p.n >= kernels.row_min)
    run_row(kernels, p);
  else if (p.transposed && (p.c.cs != 1 || p.epilogue.bias))
    run_transposed_block(kernels, p);
  else
    run_block(kernels, p);
}

}  // namespace

template <class T>
void gemm_batched(const GemmTable<T>& kernels, int64_t batch, const int64_t* a_offsets,
                  const int64_t* b_offsets, const int64_t* c_offsets, int64_t m, int64_t n,
                  int64_t k, MatView<const T> a, MatView<const T> b, MatView<T> c,
                  Epilogue<T> epilogue) {
  if (m <= 0 || n <= 0 || batch <= 0) return;
  const Problem<T> whole(kernels, m, n, k, a, b, c, epilogue);
  auto at = [&](int64_t i) {
    Problem<T> p = whole;
    p.a.data += (p.transposed ? b_offsets : a_offsets)[i];
    p.b.data += (p.transposed ? a_offsets : b_offsets)[i];
    p.c.data += c_offsets[i];
    return p;
  };

  const double cost_ns = cost(kernels, whole);
  const double total_ns = cost_ns * double(batch);
  const Grid grid(kernels, whole, batch, total_ns);
  const int64_t blocks = grid.down * grid.across;
  const int64_t group = std::max<int64_t>(1, int64_t(kTaskNs / (cost_ns / double(blocks) + 10)));
  const int64_t all = batch * blocks;
  std::atomic<bool> failed{false};  // a task may not throw
  parallel_for(ceil_div(all, group), total_ns, [&](int64_t task) {
    for (int64_t t = task * group; t < std::min(all, (task + 1) * group); ++t) {
      const int64_t block = t % blocks;
      const int64_t i = block % grid.down * grid.rows, j = block / grid.down * grid.cols;
      try {
        run(kernels,
            at(t / blocks)
                .part(i, std::min(grid.rows, whole.m - i), j, std::min(grid.cols, whole.n - j)));
      } catch (const Error&) {
        failed = true;
      }
    }
  });
  if (failed) fail(ErrorKind::memory, "matmul: out of memory for packing its operands");
}

template <class T>
void gemm(const GemmTable<T>& kernels, int64_t m, int64_t n, int64_t k, MatView<const T> a,
          MatView<const T> b, MatView<T> c, Epilogue<T> epilogue) {
  if (m <= 0 || n <= 0) return;
  if (double(m) * double(n) * double(k) < kTinyProducts)
    return run(kernels, Problem<T>(kernels, m, n, k, a, b, c, epilogue));
  const int64_t none = 0;
  gemm_batched(kernels, 1, &none, &none, &none, m, n, k, a, b, c, epilogue);
}

#define BACKTRAIL_GEMM(T)                                                                  \
  template void gemm(const GemmTable<T>&, int64_t, int64_t, int64_t, MatView<const T>,     \
                     MatView<const T>, MatView<T>, Epilogue<T>);                           \
  template void gemm_batched(const GemmTable<T>&, int64_t, const int64_t*, const int64_t*, \
                             const int64_t*, int64_t, int64_t, int64_t, MatView<const T>,  \
                             MatView<const T>, MatView<T>, Epilogue<T>);
BACKTRAIL_GEMM(float)
BACKTRAIL_GEMM(double)
#undef BACKTRAIL_GEMM

}  // namespace backtrail
