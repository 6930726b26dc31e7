// The loops around the matrix-product kernels: which operand is packed, how C is cut into tasks.
#include "plan/gemm.h"

#include <algorithm>
#include <atomic>

#include "core/error.h"
#include "core/parallel.h"

namespace backtrail {
namespace {

constexpr int kSlot = 3;             // of scratch()
constexpr double kSerialNs = 10e3;   // below this one thread does it all
constexpr double kTinyProducts = 64 * 64 * 64;  // certainly no work for two threads
constexpr double kTaskNs = 5e3;      // least work of a task in a batch
constexpr double kBytesPerNs = 30;   // of one thread, from cache
constexpr int64_t kDirectRows = 32;  // up to here a row-contiguous B is read where it lies

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

// One block of C, on this thread.
template <class T>
void run_block(const GemmTable<T>& kernels, const Problem<T>& p) {
  const bool direct_b = p.b.cs == 1 && p.m <= kDirectRows;
  const bool copy_a = p.n > 4 * kernels.lanes && p.m * p.k > 64 * 64;
  const int64_t depth = std::min(p.k, kernels.kc);
  const int64_t panel = (depth + 1) * kernels.lanes;  // odd: panels in different cache sets
  const int64_t b_size = direct_b ? 0 : ceil_div(p.n, kernels.lanes) * panel;
  const int64_t a_size = copy_a ? a_panel_size(kernels.mr, depth) : 0;
  T* packed = b_size + a_size
                  ? static_cast<T*>(scratch(size_t(b_size + a_size) * sizeof(T), kSlot))
                  : nullptr;

  GemmBlock<T> g;
  g.m = p.m;
  g.n = p.n;
  g.a_rs = p.a.rs;
  g.a_cs = p.a.cs;
  g.a_panel = copy_a ? packed + b_size : nullptr;
  g.b_rs = direct_b ? p.b.rs : kernels.lanes;
  g.b_vs = direct_b ? kernels.lanes : panel;
  g.c = p.c.data;
  g.c_rs = p.c.rs;
  g.accumulate = p.epilogue.accumulate;
  g.bias = nullptr;
  g.act = Activation::none;
  int64_t done = 0;
  do {
    g.k = std::min(depth, p.k - done);
    g.a = p.a.data + done * p.a.cs;
    g.b = p.b.data + done * p.b.rs;
    if (!direct_b) {
      kernels.pack_b(g.k, p.n, g.b, p.b.rs, p.b.cs, packed, panel);
      g.b = packed;
    }
    done += g.k;
    if (done == p.k) {
      g.bias = p.epilogue.bias;
      g.act = p.epilogue.act;
    }
    kernels.block(g);
    g.accumulate = true;
  } while (done < p.k);
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

// How C is cut into tasks: blocks of at most mc x nc, enough of them to occupy every thread. Each
// packs what it needs, so that no task waits for another.
struct Grid {
  int64_t rows, cols;    // of one block
  int64_t down, across;  // blocks

  template <class T>
  Grid(const GemmTable<T>& kernels, int64_t m, int64_t n, int64_t batch, int threads) {
    down = ceil_div(m, kernels.mc);
    across = ceil_div(n, kernels.nc);
    while (down * across * batch < threads) {
      if (n / across >= m / down && n / across >= 2 * kernels.lanes)
        ++across;
      else if (m / down >= 2)
        ++down;
      else
        break;
    }
    rows = ceil_div(m, down);
    cols = round_up(ceil_div(n, across), kernels.lanes);
    down = ceil_div(m, rows);
    across = ceil_div(n, cols);
  }
};

template <class T>
void run(const GemmTable<T>& kernels, const Problem<T>& p) {
  if (p.is_dot)
    run_dot(kernels, p);
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
  const Grid grid(kernels, whole.m, whole.n, batch, total_ns < kSerialNs ? 1 : num_threads());
  const int64_t blocks = grid.down * grid.across;
  const int64_t group = std::max<int64_t>(1, int64_t(kTaskNs / (cost_ns / double(blocks) + 10)));
  const int64_t all = batch * blocks;
  std::atomic<bool> failed{false};  // a task may not throw
  parallel_for(ceil_div(all, group), total_ns, [&](int64_t task) {
    for (int64_t t = task * group; t < std::min(all, (task + 1) * group); ++t) {
      const int64_t block = t % blocks;
      const int64_t i = block % grid.down * grid.rows, j = block / grid.down * grid.cols;
      try {
        run(kernels, at(t / blocks).part(i, std::min(grid.rows, whole.m - i), j,
                                         std::min(grid.cols, whole.n - j)));
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
  if (double(m) * double(n) * double(k) < kTinyProducts && n <= kernels.nc)
    return run(kernels, Problem<T>(kernels, m, n, k, a, b, c, epilogue));
  const int64_t none = 0;
  gemm_batched(kernels, 1, &none, &none, &none, m, n, k, a, b, c, epilogue);
}

#define BACKTRAIL_GEMM(T)                                                                          \
  template void gemm(const GemmTable<T>&, int64_t, int64_t, int64_t, MatView<const T>,             \
                     MatView<const T>, MatView<T>, Epilogue<T>);                                   \
  template void gemm_batched(const GemmTable<T>&, int64_t, const int64_t*, const int64_t*,         \
                             const int64_t*, int64_t, int64_t, int64_t, MatView<const T>,          \
                             MatView<const T>, MatView<T>, Epilogue<T>);
BACKTRAIL_GEMM(float)
BACKTRAIL_GEMM(double)
#undef BACKTRAIL_GEMM

}  // namespace backtrail
