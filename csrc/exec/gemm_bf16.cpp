// Operands of a bfloat16 product are seen as pairs along k, where they lie if they can be, else
// brought together; its float32 sums are rounded by those who finish them.
#include "exec/gemm_bf16.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/parallel.h"
#include "kernels/table.h"

namespace backtrail {
namespace {

constexpr int64_t kRoom = 4 << 20;    // floats: larger products are cut, as far as they can be
constexpr int64_t kLeast = 256;       // rows or columns of a part
constexpr double kPairNs = 0.2;       // to bring a pair together
constexpr int64_t kTaskPairs = 128;   // of a vector, brought together by one task
constexpr int64_t kTaskVectors = 16;  // SIMD vectors across, of a task
constexpr int64_t kAligned = 16;      // floats

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

struct Pairs {
  const float* data;
  int64_t along, step;  // from pair to pair, and from vector to vector
};

// One operand: `across` vectors of k elements, element p of vector j at p * along + j * step.
class Operand {
 public:
  // With `panels`, what is brought together lies as GemmTable::pack_b leaves it.
  Operand(const uint16_t* data, int64_t k, int64_t along, int64_t across, int64_t step,
          std::vector<int64_t> offsets, bool panels)
      : data_(data),
        k_(k),
        along_(along),
        across_(across),
        step_(across > 1 ? step : 0),
        offsets_(std::move(offsets)) {
    auto even = [](int64_t offset) { return offset % 2 == 0; };
    in_place_ = k > 0 && k % 2 == 0 && along == 1 && step_ % 2 == 0 &&
                reinterpret_cast<uintptr_t>(data) % sizeof(float) == 0 &&
                std::all_of(offsets_.begin(), offsets_.end(), even);
    panels_ = panels && !in_place_ && along != 1;
    if (in_place_) return;
    matrices_ = offsets_;
    std::sort(matrices_.begin(), matrices_.end());
    matrices_.erase(std::unique(matrices_.begin(), matrices_.end()), matrices_.end());
  }

  // Floats that prepare() needs.
  int64_t room() const { return int64_t(matrices_.size()) * matrix_size(); }

  // Brings pairs together in `room`, if need be.
  void prepare(float* room) {
    if (in_place_) {
      for (int64_t& offset : offsets_) offset /= 2;
      pairs_ = {reinterpret_cast<const float*>(data_), 1, step_ / 2};
      return;
    }
    if (along_ == 1)
      pairs_ = {room, 1, pairs()};
    else if (panels_)
      pairs_ = {room, lanes(), pairs() + 1};
    else
      pairs_ = {room, round_up(across_, lanes()), 1};
    const int64_t wide = kTaskVectors * lanes();
    const int64_t down = ceil_div(pairs(), kTaskPairs), blocks = ceil_div(across_, wide) * down;
    const double cost_ns = double(this->room()) * kPairNs;
    parallel_for(blocks * int64_t(matrices_.size()), cost_ns, [&](int64_t task) {
      const uint16_t* from = data_ + matrices_[size_t(task / blocks)];
      float* to = room + task / blocks * matrix_size();
      const int64_t j = task % blocks / down * wide, p = task % blocks % down * kTaskPairs;
      bring(from, to, 2 * p, std::min(k_ - 2 * p, 2 * kTaskPairs), j, std::min(across_ - j, wide));
    });
    for (int64_t& offset : offsets_)
      offset = (std::lower_bound(matrices_.begin(), matrices_.end(), offset) - matrices_.begin()) *
               matrix_size();
  }

  Pairs pairs_of() const { return pairs_; }
  bool in_panels() const { return panels_; }
  const int64_t* offsets() const { return offsets_.data(); }

 private:
  static int64_t lanes() { return pairs_kernels().gemm.lanes; }
  int64_t pairs() const { return (k_ + 1) / 2; }
  int64_t matrix_size() const {
    return along_ == 1 ? across_ * pairs() : round_up(across_, lanes()) * (pairs() + panels_);
  }

  // Elements [p, p + k) of vectors [j, j + n).
  void bring(const uint16_t* from, float* room, int64_t p, int64_t k, int64_t j, int64_t n) const {
    from += p * along_ + j * step_;
    float* to = room + p / 2 * pairs_.along + j * pairs_.step;
    if (along_ == 1) {
      for (int64_t i = 0; i < n; ++i, from += step_, to += pairs_.step) {
        std::memcpy(to, from, size_t(k) * sizeof *from);
        if (k % 2) std::memset(reinterpret_cast<uint16_t*>(to) + k, 0, sizeof *from);
      }
      return;
    }
    const int64_t vector = panels_ ? lanes() * pairs_.step : lanes();
    if (step_ == 1 || across_ == 1)
      return pairs_kernels().join(k, n, from, along_, to, pairs_.along, vector);
    for (int64_t i = 0; i < k; i += 2)
      for (int64_t l = 0; l < round_up(n, lanes()); ++l) {
        const uint16_t* low = from + i * along_ + l * step_;
        const uint16_t pair[2] = {l < n ? *low : uint16_t(0),
                                  l < n && i + 1 < k ? low[along_] : uint16_t(0)};
        std::memcpy(to + i / 2 * pairs_.along + l / lanes() * vector + l % lanes(), pair,
                    sizeof pair);
      }
  }

  const uint16_t* data_;
  int64_t k_, along_, across_, step_;
  bool in_place_, panels_;
  std::vector<int64_t> offsets_;   // of each product
  std::vector<int64_t> matrices_;  // the different ones of them, that are brought together
  Pairs pairs_{};
};

// Rounds finished rectangles of the sums.
struct Rounding {
  const float* sums;
  int64_t sums_rs;
  uint16_t* out;
  int64_t out_rs;

  static void after(const void* context, float* c, int64_t c_rs, int64_t rows, int64_t cols) {
    const auto& r = *static_cast<const Rounding*>(context);
    const ConvertKernel round = kernels().numeric->convert[int(DType::f32)][int(DType::bf16)];
    const int64_t at = c - r.sums, row = at / r.sums_rs, col = at % r.sums_rs;
    uint16_t* out = r.out + row * r.out_rs + col;
    if (cols == c_rs && cols == r.out_rs) return round(c, out, rows * cols);
    for (int64_t i = 0; i < rows; ++i) round(c + i * c_rs, out + i * r.out_rs, cols);
  }
};

// Some products of equal shapes: c[i] lies at c + i * m * n, or is a part of a matrix (one alone).
void products(const std::vector<int64_t>& a_offsets, const std::vector<int64_t>& b_offsets,
              int64_t m, int64_t n, int64_t k, MatView<const uint16_t> a, MatView<const uint16_t> b,
              uint16_t* c, int64_t c_rs, const float* bias, int64_t rows) {
  const PairsTable& kernels = pairs_kernels();
  const int64_t batch = int64_t(a_offsets.size()), half = (k + 1) / 2;
  Operand left(a.data, k, a.cs, m, a.rs, a_offsets, false);
  Operand right(b.data, k, b.rs, n, b.cs, b_offsets, takes_panels(kernels.gemm, rows, n, half));
  const int64_t sizes[] = {round_up(left.room(), kAligned), round_up(right.room(), kAligned)};
  float* room =
      static_cast<float*>(scratch(size_t(sizes[0] + sizes[1] + batch * m * n) * sizeof(float), 0));
  left.prepare(room);
  right.prepare(room + sizes[0]);
  float* sums = room + sizes[0] + sizes[1];
  const Rounding rounding{sums, n, c, c_rs};
  Epilogue<float> e;
  e.bias = bias;
  e.after = Rounding::after;
  e.context = &rounding;
  std::vector<int64_t> c_offsets(static_cast<size_t>(batch));
  for (size_t i = 0; i < c_offsets.size(); ++i) c_offsets[i] = int64_t(i) * m * n;
  const Pairs x = left.pairs_of(), y = right.pairs_of();
  gemm_batched<float>(kernels.gemm, batch, left.offsets(), right.offsets(), c_offsets.data(), m, n,
                      half, {x.data, x.step, x.along}, {y.data, y.along, y.step}, {sums, n, 1}, e,
                      rows, right.in_panels());
}

}  // namespace

void gemm_bf16(int64_t batch, const int64_t* a_offsets, const int64_t* b_offsets, int64_t m,
               int64_t n, int64_t k, MatView<const uint16_t> a, MatView<const uint16_t> b,
               uint16_t* c, const uint16_t* bias, int64_t rows) {
  if (m <= 0 || n <= 0 || batch <= 0) return;
  if (!rows) rows = m;
  std::vector<float> wide(bias ? size_t(n) : 0);
  if (bias) kernels().numeric->convert[int(DType::bf16)][int(DType::f32)](bias, wide.data(), n);
  const int64_t half = (k + 1) / 2, one = m * n + half * (m + n);  // most floats a product takes
  if (batch > 1 || one <= kRoom) {
    const int64_t most = std::max<int64_t>(1, kRoom / one);
    for (int64_t i = 0; i < batch; i += most) {
      const int64_t end = std::min(batch, i + most);
      products({a_offsets + i, a_offsets + end}, {b_offsets + i, b_offsets + end}, m, n, k, a, b,
               c + i * m * n, n, bias ? wide.data() : nullptr, rows);
    }
    return;
  }
  // Cut along the longer side, with no small part at the end: thin products have sums of their own.
  auto most = [&](int64_t other) {
    return round_up(std::max((kRoom - half * other) / (half + other), kLeast), kLeast);
  };
  auto part = [](int64_t left, int64_t size) { return left < size + kLeast ? left : size; };
  const int64_t down = m > n ? most(n) : m, across = m > n ? n : most(m);
  for (int64_t i = 0, height; i < m; i += height) {
    height = part(m - i, down);
    for (int64_t j = 0, width; j < n; j += width) {
      width = part(n - j, across);
      auto [x, y] = std::pair(a, b);
      x.data += i * a.rs;
      y.data += j * b.cs;
      products({*a_offsets}, {*b_offsets}, height, width, k, x, y, c + i * n + j, n,
               bias ? wide.data() + j : nullptr, rows);
    }
  }
}

}  // namespace backtrail
