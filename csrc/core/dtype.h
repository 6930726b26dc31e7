// Element types: their names, sizes and PyTorch's rules for mixing them.
#pragma once
#include <cstddef>
#include <cstdint>

namespace backtrail {

// Arithmetic is done in f32, f64 or i64; the others are storage types that are converted at the
// edges of a kernel. The order is the Python-visible code of each type.
enum class DType : uint8_t { f32, f64, i64, i32, u8, b8, bf16 };
constexpr int kDTypes = 7;

constexpr size_t item_size(DType t) {
  switch (t) {
    case DType::f64:
    case DType::i64: return 8;
    case DType::f32:
    case DType::i32: return 4;
    case DType::bf16: return 2;
    default: return 1;
  }
}

constexpr const char* dtype_name(DType t) {
  switch (t) {
    case DType::f32: return "float32";
    case DType::f64: return "float64";
    case DType::i64: return "int64";
    case DType::i32: return "int32";
    case DType::u8: return "uint8";
    case DType::b8: return "bool";
    default: return "bfloat16";
  }
}

constexpr bool is_floating(DType t) {
  return t == DType::f32 || t == DType::f64 || t == DType::bf16;
}

// The type that a kernel computes in for elements stored as `t`.
constexpr DType compute_type(DType t) {
  return is_floating(t) ? (t == DType::f64 ? DType::f64 : DType::f32) : DType::i64;
}

// PyTorch's three categories: bool < integer < floating point.
constexpr int category(DType t) { return is_floating(t) ? 2 : t == DType::b8 ? 0 : 1; }

// The smallest type of the same category that holds both.
constexpr DType promote(DType a, DType b) {
  if (a == b) return a;
  if (category(a) != category(b)) return category(a) > category(b) ? a : b;
  if (category(a) == 2) return a == DType::f64 || b == DType::f64 ? DType::f64 : DType::f32;
  return a == DType::i64 || b == DType::i64 ? DType::i64 : DType::i32;
}

}  // namespace backtrail
