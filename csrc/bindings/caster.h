// pybind11 functions take Tensors as `const Array&` and return them as `Array`.
#pragma once
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/objects.h"

namespace pybind11::detail {

template <>
struct type_caster<backtrail::Array> {
  PYBIND11_TYPE_CASTER(backtrail::Array, const_name("Tensor"));
  bool load(handle source, bool) {
    if (!source || !backtrail::is_tensor(source.ptr())) return false;
    value = backtrail::as_tensor(source.ptr())->array;
    return true;
  }
  static handle cast(const backtrail::Array& array, return_value_policy, handle) {
    return backtrail::wrap(array);
  }
};

template <>
struct type_caster<backtrail::Dims> {
  PYBIND11_TYPE_CASTER(backtrail::Dims, const_name("Sequence[int]"));
  bool load(handle source, bool convert) {
    make_caster<std::vector<int64_t>> items;
    if (!items.load(source, convert)) return false;
    value = backtrail::Dims();
    for (int64_t x : cast_op<std::vector<int64_t>&>(items)) value.push(x);
    return true;
  }
  static handle cast(const backtrail::Dims& dims, return_value_policy, handle) {
    return backtrail::size_of(dims);
  }
};

template <>
struct type_caster<backtrail::DType> {
  PYBIND11_TYPE_CASTER(backtrail::DType, const_name("dtype"));
  bool load(handle source, bool) {
    for (int i = 0; i < backtrail::kDTypes; ++i)
      if (backtrail::dtype_objects[i] == source.ptr()) {
        value = backtrail::DType(i);
        return true;
      }
    return false;
  }
  static handle cast(backtrail::DType t, return_value_policy, handle) {
    return handle(backtrail::dtype_objects[int(t)]).inc_ref();
  }
};

}  // namespace pybind11::detail

namespace backtrail {

void bind_capture(pybind11::module_& m);
void bind_creation(pybind11::module_& m);
void bind_exchange(pybind11::module_& m);
void bind_optimizer(pybind11::module_& m);

}  // namespace backtrail
