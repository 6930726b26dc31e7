// Kernels of recurrent cells: the pointwise part of one step, for a block of rows and hidden units.
#pragma once
#include <cstdint>

namespace backtrail {

enum class Cell : uint8_t { rnn_tanh, rnn_relu, lstm, gru };
constexpr int kCells = 4;

// Gates of a cell, and how many values a unit keeps for the derivative; see ops/recurrent.h.
constexpr int gates_of(Cell c) { return c == Cell::lstm ? 4 : c == Cell::gru ? 3 : 1; }
constexpr int kept_of(Cell c) { return c >= Cell::lstm ? 4 : 1; }

// Rows of `hidden` units of one step, of which [0, units) are done: pointers are those of the first
// row and unit. Where nothing else is said a row follows after `hidden` elements; value k of a unit
// lies k * hidden further.
template <class T>
struct CellStep {
  int64_t rows, units, hidden;
  T* kept;            // row stride kept_of * hidden; forward: preactivations in, what is kept out
  const T* h_before;  // or null for zeros; likewise
  const T* c_before;
  T *h, *c;  // out; h may be `kept`
  // The rest is for backward only.
  const T* grad_h;  // of the step's output, or null
  T *dh, *dc;       // gradients from the step after; out: what goes on to the step before, of dh
                    // less its product with the weight
  T *dx, *dhidden;  // out: gradients of the gates by the part of x and of h, row stride gates_of *
                    // hidden; the same unless the cell is a GRU
};

template <class T>
struct RecurrentTable {
  void (*forward[kCells])(const CellStep<T>& s);
  void (*backward[kCells])(const CellStep<T>& s);
};

}  // namespace backtrail
