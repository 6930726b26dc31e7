// Copies: contiguous and converted tensors, and writing into a view of zeros.
#include <cstring>

#include "core/layout.h"
#include "exec/launch.h"
#include "exec/op.h"
#include "kernels/table.h"

namespace backtrail {
namespace {

template <class T>
void copy_kernel(void* out, const void* const* in, const int64_t* mask, int64_t n, const double*) {
  T* o = static_cast<T*>(out);
  const T* x = static_cast<const T*>(in[0]);
  if (mask[0])
    std::memcpy(o, x, size_t(n) * sizeof(T));
  else
    for (int64_t i = 0; i < n; ++i) o[i] = x[0];
}

}  // namespace

bool is_copy(PointwiseKernel kernel) {
  return kernel == copy_kernel<float> || kernel == copy_kernel<double> ||
         kernel == copy_kernel<int64_t>;
}

void copy_into(const Array& from, const Array& to) {
  // Between equal types the loop only moves bytes, whatever they mean; else it converts through the
  // type that both ends know how to reach.
  Array source = from, target = to;
  DType compute = to.dtype == DType::f64 || from.dtype == DType::f64 ? DType::f64
                  : is_floating(to.dtype) && is_floating(from.dtype) ? DType::f32
                  : is_floating(to.dtype) || is_floating(from.dtype) ? DType::f64
                                                                     : DType::i64;
  if (from.dtype == to.dtype) {
    // Move as many bytes an element; types of 1 and 2 bytes go through their own conversions.
    if (item_size(from.dtype) == 8) source.dtype = target.dtype = compute = DType::f64;
    if (item_size(from.dtype) == 4) source.dtype = target.dtype = compute = DType::f32;
  }
  const PointwiseKernels k = {copy_kernel<float>, copy_kernel<double>, copy_kernel<int64_t>};
  Operand in{&source, 0, 0};
  run_pointwise(k, compute, 0, false, &in, 1, target, nullptr, 0.3, "copy");
}

Array convert(const Array& a, DType dtype) {
  if (a.dtype == dtype && a.contiguous()) return a;
  Array out = empty(a.shape, dtype);
  copy_into(a, out);
  return out;
}

Array contiguous(const Array& a) { return convert(a, a.dtype); }

Array dense_rows(const Array& a) {
  const int n = a.ndim();
  // Rows that fall into the same cache sets are better copied.
  const bool fits = n > 1 && (a.strides[n - 1] == 1 || a.shape[n - 1] == 1) &&
                    a.strides[n - 2] * int64_t(a.item()) % 4096 != 0;
  return fits ? a : contiguous(a);
}

void require_floating(const Call& c, int input, const char* what) {
  const Array& a = c.in[input];
  if (a && !is_floating(a.dtype))
    fail(ErrorKind::type, "%s: %s is %s; expected a floating point tensor", c.name, what,
         dtype_name(a.dtype));
}

namespace {

// Where dimensions of the input lie in another order, those of the copy do.
Array empty_like(const Array& a, DType dtype) {
  Array out = empty(a.shape, dtype);
  const Array* like = &a;
  if (!a.contiguous()) out.strides = strides_like(&like, 1, a.shape);
  return out;
}

void prepare_contiguous(Call& c) { c.out[0] = empty(c.in[0].shape, c.in[0].dtype); }
void prepare_clone(Call& c) { c.out[0] = empty_like(c.in[0], c.in[0].dtype); }
void execute_copy(const Call& c) { copy_into(c.in[0], c.out[0]); }

// (dtype code)
void prepare_cast(Call& c) { c.out[0] = empty_like(c.in[0], DType(c.attrs[0].i)); }

// (shape, strides, offset): zeros of `shape`, with the input written into that view of it: the
// derivative of a view whose elements do not overlap.
void prepare_scatter_view(Call& c) {
  Dims shape;
  for (int64_t i = 0; i < c.attrs[0].i; ++i) shape.push(c.attrs[0].items[i]);
  c.out[0] = empty(shape, c.in[0].dtype);
}

void execute_scatter_view(const Call& c) {
  Array view = c.out[0];
  std::memset(view.data(), 0, size_t(view.numel()) * view.item());
  view.shape = c.in[0].shape;
  view.strides.n = view.shape.n;
  for (int d = 0; d < view.ndim(); ++d) view.strides[d] = c.attrs[1].items[d];
  view.offset += c.attrs[2].i;
  copy_into(c.in[0], view);
}

const Op kOps[] = {
    {"contiguous", "A dense copy with its dimensions in order.", Kind::opaque, 1, 1, 1, 0, 0, true,
     prepare_contiguous, execute_copy, true},
    {"clone", "A dense copy.", Kind::opaque, 1, 1, 1, 0, 0, true, prepare_clone, execute_copy,
     true},
    {"cast", "A copy with another dtype.", Kind::opaque, 1, 1, 1, 0, 0, true, prepare_cast,
     execute_copy, true},
    {"scatter_view", "Zeros with input written into a view of them.", Kind::opaque, 1, 1, 1, 0, 0,
     true, prepare_scatter_view, execute_scatter_view, true},
};

}  // namespace

const OpTable kCopyOps = {kOps, int(sizeof kOps / sizeof *kOps)};

}  // namespace backtrail
