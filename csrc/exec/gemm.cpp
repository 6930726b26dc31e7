// The loops around the matrix-product kernels: which operand is packed, how C is cut into tasks.
#include "exec/gemm.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "core/error.h"
#include "core/parallel.h"
#include "exec/flush.h"

namespace backtrail {
namespace {

constexpr int kSlot = 3;                        // of scratch()
constexpr int64_t kDepth = 512;                 // most of k in one chain: part of what results are
constexpr double kTinyProducts = 32 * 32 * 64;  // certainly no work for two threads
constexpr double kMiddlingNs = 100e3, kMiddlingMostNs = 4e6;
constexpr double kLongNs = 50e6;  // from here tasks are smaller, to even out what threads get
constexpr double kLongestTaskNs = 100e6;
constexpr double kPartRows = 1.1;   // time with an epilogue, over that of whole rows
constexpr double kPackTime = 8;     // of an element, over that of a multiply-add
constexpr double kTaskNs = 5e3;     // least work of a task in a batch
constexpr double kCallNs = 40;      // of a product, however small
constexpr double kSeamNs = 20;      // of a row of C that goes on in the block of another thread
constexpr double kBytesPerNs = 30;  // of one thread, from cache
// Up to so many rows of C, a row-contiguous B is read where it lies; to the fewer when its rows
// fall into the same cache sets, or it comes from memory.
constexpr int64_t kDirectRows = 320, kDirectRowsAliased = 128, kDirectRowsFar = 64;
constexpr double kFarBytes = 16 << 20;
constexpr double kJoinTime = 12;              // of an element of a piece of k, as above
constexpr int64_t kPieceBytes = 4 << 20;      // most that pieces may take before they are joined
constexpr double kJoinNs = 0.2;               // of an element
constexpr int64_t kJoinedElements = 1 << 15;  // of a task
constexpr int64_t kThinDepth =
    64;  // least k of a thin product, for each row: part of what results are
constexpr int64_t kThinWidth = 4096;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Length of the pieces, multiples of `unit` of at most about `most`, that n is evenly cut into.
int64_t piece(int64_t n, int64_t most, int64_t unit) {
  return n <= most ? n : round_up(ceil_div(n, ceil_div(n, most)), unit);
}

template <class T>
bool thin(const GemmTable<T>& kernels, int64_t rows, int64_t n, int64_t k) {
  const int64_t few = std::min(rows, n);
  return few <= kernels.thin_rows && k >= few * kThinDepth;
}
template <class T>
bool few_columns(const GemmTable<T>& kernels, int64_t n) {
  return n <= kernels.lanes / 2;
}

template <class T>
struct Problem {
  int64_t m, n, k;
  MatView<const T> a, b;
  MatView<T> c;
  Epilogue<T> epilogue;
  int64_t depth;  // of the pieces k is cut into
  bool is_dot, is_thin;
  bool panels;      // b is packed
  bool transposed;  // C.T = B.T @ A.T of what was asked: c.rs is 1, the bias runs down

  Problem(const GemmTable<T>& kernels, int64_t m_, int64_t n_, int64_t k_, MatView<const T> a_,
          MatView<const T> b_, MatView<T> c_, const Epilogue<T>& e, int64_t rows,
          bool panels_ = false)
      : m(m_), n(n_), k(k_), a(a_), b(b_), c(c_), epilogue(e), depth(gemm_depth(k_)) {
    panels = panels_;
    // The stride along a dimension of one means nothing; set to what needs no packing.
    if (m == 1) a.rs = 1;
    if (n == 1) b.cs = 1;
    is_dot = rows == 1 && n == 1;
    is_thin = thin(kernels, rows, n, k);
    // Few columns: seen as few rows, so that vectors run along the many.
    transposed = is_thin ? n < m : few_columns(kernels, n) && m >= 2 * kernels.lanes;
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

  // One piece of k, its products alone, into a dense matrix that lies as was asked.
  Problem deep(int64_t index, T* out) const {
    Problem p = *this;
    p.k = std::min(depth, k - index * depth);
    p.a.data += index * depth * a.cs;
    p.b.data += index * depth * b.rs;
    p.c = transposed ? MatView<T>{out, 1, m} : MatView<T>{out, n, 1};
    p.epilogue = {};
    return p;
  }
};

// Products that lie dense in `rows`, with the epilogue, into C.
template <class T>
void finish(const Problem<T>& p, const T* rows) {
  const Epilogue<T>& e = p.epilogue;
  for (int64_t i = 0; i < p.m; ++i) {
    T* c = p.c.data + i * p.c.rs;
    const int64_t step = p.c.cs;
    for (int64_t j = 0; j < p.n; ++j) {
      T x = rows[i * p.n + j];
      if (e.accumulate) x = c[j * step] + x;
      if (e.bias) x += e.bias[p.transposed ? i : j];
      c[j * step] = x;
    }
  }
  if (!e.after) return;
  if (p.transposed)
    e.after(e.context, p.c.data, p.c.cs, p.n, p.m);
  else
    e.after(e.context, p.c.data, p.c.rs, p.m, p.n);
}

// A thin product on this thread.
template <class T>
void run_thin(const GemmTable<T>& kernels, const Problem<T>& p) {
  const bool by_rows = p.b.cs == 1 && p.b.rs != 1, by_columns = !by_rows && p.b.rs == 1;
  const bool copy_a = p.a.cs != 1;
  const int64_t width = std::min(p.n, kThinWidth);
  const int64_t out_size = round_up(p.m * width, 16), a_size = copy_a ? p.m * p.k : 0;
  const int64_t room_size = by_rows ? row_sums_size(kernels.lanes, width) : by_columns ? 0 : p.k;
  T* room = static_cast<T*>(scratch(size_t(room_size + out_size + a_size) * sizeof(T), kSlot));
  T *out = room + room_size, *a = out + out_size;
  for (int64_t i = 0; copy_a && i < p.m; ++i)
    for (int64_t l = 0; l < p.k; ++l) a[i * p.k + l] = p.a.data[i * p.a.rs + l * p.a.cs];
  const T* rows = copy_a ? a : p.a.data;
  const int64_t a_rs = copy_a ? p.k : p.a.rs;
  for (int64_t j = 0; j < p.n; j += width) {
    const Problem<T> q = p.part(0, p.m, j, std::min(width, p.n - j));
    if (by_rows)
      kernels.row_sums(q.m, q.n, q.k, rows, a_rs, q.b.data, q.b.rs, out, q.n, room);
    else if (by_columns)
      kernels.dots(q.m, q.n, q.k, rows, a_rs, q.b.data, q.b.cs, out, q.n);
    else
      for (int64_t c = 0; c < q.n; ++c) {
        for (int64_t l = 0; l < q.k; ++l) room[l] = q.b.data[l * q.b.rs + c * q.b.cs];
        kernels.dots(q.m, 1, q.k, rows, a_rs, room, 0, out + c, q.n);
      }
    finish(q, out);
  }
}

// One block of C, on this thread: B is packed a piece of k by nc at a time, unless it can be read
// in place.
template <class T>
void run_block(const GemmTable<T>& kernels, const Problem<T>& p) {
  const bool aliased = p.b.rs * int64_t(sizeof(T)) % 4096 == 0;
  const bool far = double(p.k) * double(p.n) * sizeof(T) > kFarBytes;
  const int64_t direct = far ? kDirectRowsFar : aliased ? kDirectRowsAliased : kDirectRows;
  const bool pack_b = !p.panels && (p.b.cs != 1 || (p.m > direct && p.k > 1));
  const int64_t width = piece(p.n, kernels.nc, kernels.nr);
  const bool pack_a = p.n > 4 * kernels.lanes && p.m * p.k > 64 * 64;
  const int64_t panel = (p.depth + 1) * kernels.lanes;  // odd: panels in different cache sets
  const int64_t b_size = pack_b ? ceil_div(width, kernels.lanes) * panel : 0;
  const int64_t a_size = pack_a ? a_panel_size(kernels.mr, p.depth) : 0;
  T* packed = nullptr;
  if (pack_a || pack_b)
    packed = static_cast<T*>(scratch(size_t(b_size + a_size) * sizeof(T), kSlot));

  GemmBlock<T> g{};
  g.m = p.m;
  g.a_rs = p.a.rs;
  g.a_cs = p.a.cs;
  g.a_panel = pack_a ? packed + b_size : nullptr;
  g.b_rs = pack_b ? kernels.lanes : p.b.rs;
  g.b_vs = pack_b ? panel : p.panels ? kernels.lanes * p.b.cs : kernels.lanes;
  g.c_rs = p.c.rs;
  for (int64_t j = 0; j < p.n; j += width) {
    g.n = std::min(width, p.n - j);
    g.c = p.c.data + j;
    g.start = p.epilogue.accumulate ? Start::sum : Start::zero;
    g.bias = nullptr;
    g.after = nullptr;
    int64_t done = 0;
    do {  // once even when k is 0
      g.k = std::min(p.depth, p.k - done);
      g.a = p.a.data + done * p.a.cs;
      g.b = p.b.data + j * p.b.cs + done * p.b.rs;
      done += g.k;
      if (pack_b) {
        kernels.pack_b(g.k, g.n, g.b, p.b.rs, p.b.cs, packed, panel);
        g.b = packed;
      }
      if (done == p.k) {
        g.bias = p.epilogue.bias ? p.epilogue.bias + j : nullptr;
        g.after = p.epilogue.after;
        g.context = p.epilogue.context;
      }
      kernels.block(g);
      g.start = Start::sum;
    } while (done < p.k);
  }
}

// One block of a transposed product: through a buffer, as only rows of C are contiguous.
template <class T>
void run_transposed_block(const GemmTable<T>& kernels, const Problem<T>& p) {
  T* rows = static_cast<T*>(scratch(size_t(p.m * p.n) * sizeof(T), kSlot - 1));
  Problem<T> q = p;
  q.c = {rows, p.n, 1};
  q.epilogue = {};
  run_block(kernels, q);
  finish(p, rows);
}

template <class T>
void run_dot(const GemmTable<T>& kernels, const Problem<T>& p) {
  const T x = kernels.dot(p.k, p.a.data, p.a.cs, p.b.data, p.b.rs);
  finish(p, &x);
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
  bool deep = false;             // rather one task for each piece of k

  template <class T>
  Grid(const GemmTable<T>& kernels, const Problem<T>& p, int64_t batch, double total_ns) {
    const int64_t threads = threads_for(total_ns);
    // Middling products are cut finer, to even out the threads; long ones more so, so that Ctrl-C
    // need not wait for seconds.
    const int64_t tasks = total_ns < kMiddlingNs       ? threads
                          : total_ns < kMiddlingMostNs ? 2 * threads
                          : total_ns < kLongNs
                              ? threads
                              : std::max(4 * threads, int64_t(total_ns / kLongestTaskNs));
    const int64_t most_across = ceil_div(p.n, kernels.nr), most_down = ceil_div(p.m, kernels.mr);
    auto time_of = [&](int64_t block_rows, int64_t block_cols) {
      const double block_m = double(round_up(block_rows, kernels.mr));
      const double block_n = double(round_up(block_cols, kernels.nr));
      const double passes = std::ceil(block_n / double(kernels.nc));
      return block_m * block_n + kPackTime * (block_m * passes + block_n);
    };
    const double product_ns = 2 * double(std::max<int64_t>(p.k, 1)) / kernels.flops_per_ns;
    double best = 0;
    for (int64_t x = 1; tasks > 1 && x <= std::min(tasks, most_across); ++x) {
      const int64_t y = std::min(ceil_div(tasks, x * batch), most_down);
      const double turns = double(ceil_div(x * y * batch, threads));
      const double seams = double(p.transposed ? p.n * (y - 1) : p.m * (x - 1));
      // An epilogue likes whole rows.
      const double time = turns * time_of(ceil_div(p.m, y), ceil_div(p.n, x)) *
                              (x > 1 && p.epilogue.after ? kPartRows : 1) +
                          seams * kSeamNs / product_ns;
      if (x > 1 && time >= best) continue;
      best = time;
      across = x;
      down = y;
    }
    if (tasks > 1 && batch == 1 && p.k > p.depth && !p.is_thin && !p.is_dot) {
      const double pieces = double(ceil_div(p.k, p.depth));
      const double joined = kJoinTime * double(p.m) * double(p.n) * pieces / double(p.k);
      deep = std::ceil(pieces / double(threads)) / pieces * time_of(p.m, p.n) +
                 joined / double(threads) <
             best;
    }
    rows = down == 1 ? p.m : round_up(ceil_div(p.m, down), kernels.mr);
    cols = across == 1 ? p.n : round_up(ceil_div(p.n, across), kernels.lanes);
    down = ceil_div(p.m, rows);
    across = ceil_div(p.n, cols);
  }
};

template <class T>
void run(const GemmTable<T>& kernels, const Problem<T>& p) {
  const Flushing flushing(kernels.flushes);
  if (p.is_dot)
    run_dot(kernels, p);
  else if (p.is_thin)
    run_thin(kernels, p);
  else if (p.transposed && (p.c.cs != 1 || p.epilogue.bias || p.epilogue.after))
    run_transposed_block(kernels, p);
  else
    run_block(kernels, p);
}

// parallel_for whose tasks may run out of memory.
template <class F>
void run_tasks(int64_t tasks, double cost_ns, F&& body) {
  std::atomic<bool> failed{false};  // a task may not throw
  parallel_for(tasks, cost_ns, [&](int64_t task) {
    try {
      body(task);
    } catch (const Error&) {
      failed = true;
    }
  });
  if (failed) fail(ErrorKind::memory, "matmul: out of memory for packing its operands");
}

// A small C and a large k: tasks are pieces of k, joined afterwards.
template <class T>
void run_deep(const GemmTable<T>& kernels, const Problem<T>& p, double total_ns) {
  const int64_t m = p.transposed ? p.n : p.m, n = p.transposed ? p.m : p.n;
  const int64_t c_rs = p.transposed ? p.c.cs : p.c.rs, pieces = ceil_div(p.k, p.depth);
  // As many for each thread, so that none waits before they are joined.
  const int64_t most = std::max<int64_t>(1, kPieceBytes / (m * n * int64_t(sizeof(T))));
  const int64_t at_once = std::min(pieces, round_up(most, num_threads()));
  T* parts = static_cast<T*>(scratch(size_t(at_once * m * n) * sizeof(T), kSlot - 2));
  const Epilogue<T>& e = p.epilogue;
  for (int64_t first = 0; first < pieces; first += at_once) {
    const int64_t count = std::min(at_once, pieces - first);
    run_tasks(count, total_ns * double(count) / double(pieces),
              [&](int64_t t) { run(kernels, p.deep(first + t, parts + t * m * n)); });
    const int64_t rows = std::max<int64_t>(1, kJoinedElements / (n * count));
    run_tasks(ceil_div(m, rows), double(m * n * count) * kJoinNs, [&](int64_t task) {
      const Flushing flushing(kernels.flushes);
      const int64_t begin = task * rows, end = std::min(m, begin + rows);
      for (int64_t i = begin; i < end; ++i) {
        T* c = p.c.data + i * c_rs;
        for (int64_t t = 0; t < count; ++t) {
          const T* part = parts + (t * m + i) * n;
          if (t + first == 0 && !e.accumulate)
            std::copy(part, part + n, c);
          else
            for (int64_t j = 0; j < n; ++j) c[j] += part[j];
        }
        for (int64_t j = 0; e.bias && first + count == pieces && j < n; ++j) c[j] += e.bias[j];
      }
      if (e.after && first + count == pieces)
        e.after(e.context, p.c.data + begin * c_rs, c_rs, end - begin, n);
    });
  }
}

}  // namespace

template <class T>
bool takes_panels(const GemmTable<T>& kernels, int64_t rows, int64_t n, int64_t k) {
  return !thin(kernels, rows, n, k) && !few_columns(kernels, n) && !(rows == 1 && n == 1);
}

int64_t gemm_depth(int64_t k) { return piece(k, kDepth, 8); }

template <class T>
void gemm_batched(const GemmTable<T>& kernels, int64_t batch, const int64_t* a_offsets,
                  const int64_t* b_offsets, const int64_t* c_offsets, int64_t m, int64_t n,
                  int64_t k, MatView<const T> a, MatView<const T> b, MatView<T> c,
                  Epilogue<T> epilogue, int64_t rows, bool panels) {
  if (m <= 0 || n <= 0 || batch <= 0) return;
  const Problem<T> whole(kernels, m, n, k, a, b, c, epilogue, rows ? rows : m, panels);
  auto at = [&](int64_t i) {
    Problem<T> p = whole;
    p.a.data += (p.transposed ? b_offsets : a_offsets)[i];
    p.b.data += (p.transposed ? a_offsets : b_offsets)[i];
    p.c.data += c_offsets[i];
    return p;
  };

  const double cost_ns = cost(kernels, whole);
  const double total_ns = (batch > 1 ? cost_ns + kCallNs : cost_ns) * double(batch);
  const Grid grid(kernels, whole, batch, total_ns);
  if (grid.deep) return run_deep(kernels, at(0), total_ns);
  const int64_t blocks = grid.down * grid.across;
  const int64_t all = batch * blocks, most = std::max<int64_t>(1, all / num_threads());
  const int64_t group =
      std::clamp<int64_t>(int64_t(kTaskNs / (cost_ns / double(blocks) + kCallNs)), 1, most);
  run_tasks(ceil_div(all, group), total_ns, [&](int64_t task) {
    for (int64_t t = task * group; t < std::min(all, (task + 1) * group); ++t) {
      if (blocks == 1) {
        run(kernels, at(t));
        continue;
      }
      const int64_t block = t % blocks;
      const int64_t i = block % grid.down * grid.rows, j = block / grid.down * grid.cols;
      run(kernels,
          at(t / blocks)
              .part(i, std::min(grid.rows, whole.m - i), j, std::min(grid.cols, whole.n - j)));
    }
  });
}

template <class T>
void gemm(const GemmTable<T>& kernels, int64_t m, int64_t n, int64_t k, MatView<const T> a,
          MatView<const T> b, MatView<T> c, Epilogue<T> epilogue) {
  if (m <= 0 || n <= 0) return;
  if (double(m) * double(n) * double(k) < kTinyProducts)
    return run(kernels, Problem<T>(kernels, m, n, k, a, b, c, epilogue, m));
  const int64_t none = 0;
  gemm_batched(kernels, 1, &none, &none, &none, m, n, k, a, b, c, epilogue);
}

#define BACKTRAIL_GEMM(T)                                                                  \
  template void gemm(const GemmTable<T>&, int64_t, int64_t, int64_t, MatView<const T>,     \
                     MatView<const T>, MatView<T>, Epilogue<T>);                           \
  template void gemm_batched(const GemmTable<T>&, int64_t, const int64_t*, const int64_t*, \
                             const int64_t*, int64_t, int64_t, int64_t, MatView<const T>,  \
                             MatView<const T>, MatView<T>, Epilogue<T>, int64_t, bool);    \
  template bool takes_panels(const GemmTable<T>&, int64_t, int64_t, int64_t);
BACKTRAIL_GEMM(float)
BACKTRAIL_GEMM(double)
#undef BACKTRAIL_GEMM

}  // namespace backtrail
