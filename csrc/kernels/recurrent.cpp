// Recurrent cells of one instruction set: one pass over the block of a step.
#include "ops/recurrent.h"

#include "kernels/recurrent_table.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace {

template <class C, class T>
void forward(const CellStep<T>& s) {
  using V = Vec<T>;
  for (int64_t r = 0; r < s.rows; ++r) {
    const int64_t at = r * s.hidden;
    T* kept = s.kept + at * C::kept;
    ops::each<T>(s.units, [&](int64_t j, auto part) BACKTRAIL_LAMBDA {
      V a[C::kept], h_before(0), h, c(0);
      for (int k = 0; k < C::kept; ++k) a[k] = part.load(kept + k * s.hidden + j);
      if (C::reads_hidden && s.h_before) h_before = part.load(s.h_before + at + j);
      if (C::has_memory && s.c_before) c = part.load(s.c_before + at + j);
      C::forward(a, h_before, h, c);
      if (C::kept > 1)
        for (int k = 0; k < C::kept; ++k) part.store(a[k], kept + k * s.hidden + j);
      part.store(h, s.h + at + j);
      if (C::has_memory) part.store(c, s.c + at + j);
    });
  }
}

template <class C, class T>
void backward(const CellStep<T>& s) {
  using V = Vec<T>;
  for (int64_t r = 0; r < s.rows; ++r) {
    const int64_t at = r * s.hidden;
    const T* kept = s.kept + at * C::kept;
    T *dx = s.dx + at * C::gates, *dhidden = s.dhidden + at * C::gates;
    ops::each<T>(s.units, [&](int64_t j, auto part) BACKTRAIL_LAMBDA {
      V a[C::kept], h_before(0), c_before(0), c(0), dc(0), dx_[C::gates], dhidden_[C::gates];
      for (int k = 0; k < C::kept; ++k) a[k] = part.load(kept + k * s.hidden + j);
      V dh = part.load(s.dh + at + j);
      if (s.grad_h) dh += part.load(s.grad_h + at + j);
      if (C::reads_hidden && s.h_before) h_before = part.load(s.h_before + at + j);
      if (C::has_memory) {
        if (s.c_before) c_before = part.load(s.c_before + at + j);
        c = part.load(s.c + at + j);
        dc = part.load(s.dc + at + j);
      }
      C::backward(a, h_before, c_before, c, dh, dc, dx_, dhidden_);
      for (int k = 0; k < C::gates; ++k) part.store(dx_[k], dx + k * s.hidden + j);
      if (C::reads_hidden) {
        for (int k = 0; k < C::gates; ++k) part.store(dhidden_[k], dhidden + k * s.hidden + j);
        part.store(dh, s.dh + at + j);
      }
      if (C::has_memory) part.store(dc, s.dc + at + j);
    });
  }
}

template <class T>
constexpr RecurrentTable<T> make_table() {
  using Tanh = ops::RnnCell<ops::TanhCurve>;
  using Relu = ops::RnnCell<ops::Relu>;
  return {{forward<Tanh, T>, forward<Relu, T>, forward<ops::LstmCell, T>, forward<ops::GruCell, T>},
          {backward<Tanh, T>, backward<Relu, T>, backward<ops::LstmCell, T>,
           backward<ops::GruCell, T>}};
}

}  // namespace

extern const RecurrentTable<float> recurrent_f32;
extern const RecurrentTable<double> recurrent_f64;
const RecurrentTable<float> recurrent_f32 = make_table<float>();
const RecurrentTable<double> recurrent_f64 = make_table<double>();

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
