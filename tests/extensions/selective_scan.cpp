// A selective scan (Gu and Dao, 2023). Every channel d of a sequence b carries n states:
//   h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t,    y_t = C_t . h_t,    h before the first step 0.
#include <backtrail/op.h>

#include <vector>
using namespace backtrail;

struct SelectiveScan {
  static constexpr auto name = "selective_scan";
  static constexpr auto doc =
      "Selective scan of x and dt (batch, length, channels), A (channels, states), B and C (batch, "
      "length, states).";
  static constexpr const char* inputs[] = {"x", "dt", "A", "B", "C"};

  Shape shape(const Shape& x, const Shape& dt, const Shape& A, const Shape& B,
              const Shape& C) const {
    if (x.size() != 3 || dt != x)
      throw std::invalid_argument("x and dt must be (batch, length, channels), both; got " +
                                  to_string(x) + " and " + to_string(dt));
    if (A.size() != 2 || A[0] != x[2])
      throw std::invalid_argument("A must be (channels, states); got " + to_string(A));
    const Shape states{x[0], x[1], A[1]};
    if (B != states || C != states)
      throw std::invalid_argument("B and C must be (batch, length, states), here " +
                                  to_string(states));
    return x;
  }

  template <class T>
  void forward(Array<const T> x, Array<const T> dt, Array<const T> A, Array<const T> B,
               Array<const T> C, Array<T> y) const {
    const int64_t length = x.size(1), channels = x.size(2), states = A.size(1);
    parallel_for(x.size(0) * channels, 5.0 * double(x.numel() * states), [&](int64_t task) {
      const int64_t b = task / channels, d = task % channels;
      std::vector<T> h(states, T(0));
      for (int64_t t = 0; t < length; ++t) {
        T sum(0);
        for (int64_t n = 0; n < states; ++n) {
          h[n] = exp(dt(b, t, d) * A(d, n)) * h[n] + dt(b, t, d) * B(b, t, n) * x(b, t, d);
          sum += C(b, t, n) * h[n];
        }
        y(b, t, d) = sum;
      }
    });
  }

  // Runs each sequence again, keeping the states, and then back. All channels add to the gradients
  // of B and C, all sequences to that of A: a task is a sequence, with a gradient of A of its own.
  template <class T>
  void backward(Array<const T> gy, Array<const T> x, Array<const T> dt, Array<const T> A,
                Array<const T> B, Array<const T> C, Array<T> gx, Array<T> gdt, Array<T> gA,
                Array<T> gB, Array<T> gC) const {
    const int64_t batch = x.size(0), length = x.size(1), channels = x.size(2), states = A.size(1);
    std::vector<T> gA_of(batch * A.numel(), T(0));
    std::fill(gB.begin(), gB.end(), T(0));
    std::fill(gC.begin(), gC.end(), T(0));
    parallel_for(batch, 15.0 * double(x.numel() * states), [&](int64_t b) {
      std::vector<T> h((length + 1) * states), gh(states);
      for (int64_t d = 0; d < channels; ++d) {
        for (int64_t n = 0; n < states; ++n) h[n] = gh[n] = T(0);
        for (int64_t t = 0; t < length; ++t)
          for (int64_t n = 0; n < states; ++n)
            h[(t + 1) * states + n] = exp(dt(b, t, d) * A(d, n)) * h[t * states + n] +
                                      dt(b, t, d) * B(b, t, n) * x(b, t, d);
        for (int64_t t = length - 1; t >= 0; --t) {
          T to_x(0), to_dt(0);
          for (int64_t n = 0; n < states; ++n) {
            const T decay = exp(dt(b, t, d) * A(d, n)), before = decay * h[t * states + n];
            gC(b, t, n) += gy(b, t, d) * h[(t + 1) * states + n];
            gh[n] += gy(b, t, d) * C(b, t, n);
            gB(b, t, n) += gh[n] * dt(b, t, d) * x(b, t, d);
            gA_of[(b * channels + d) * states + n] += gh[n] * dt(b, t, d) * before;
            to_x += gh[n] * dt(b, t, d) * B(b, t, n);
            to_dt += gh[n] * (A(d, n) * before + B(b, t, n) * x(b, t, d));
            gh[n] *= decay;
          }
          gx(b, t, d) = to_x;
          gdt(b, t, d) = to_dt;
        }
      }
    });
    for (int64_t i = 0; i < A.numel(); ++i) {
      T sum(0);
      for (int64_t b = 0; b < batch; ++b) sum += gA_of[b * A.numel() + i];
      gA.data()[i] = sum;
    }
  }
};
BACKTRAIL_OPS(SelectiveScan)
