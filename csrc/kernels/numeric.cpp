// The NumericTable of one instruction set, with its conversions.
#include "backtrail/simd.h"
#include "kernels/numeric_table.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

extern const RandomTable<float> random_f32;
extern const RandomTable<double> random_f64;
void random_bits(uint64_t* out, int64_t first, int64_t n, RandomStream stream);
extern const OptimizerTable<float> optimizer_f32;
extern const OptimizerTable<double> optimizer_f64;

namespace {

// Elements as they lie in memory. A bool is read as a byte, so that no value of it is undefined.
struct Bool {
  uint8_t byte;
};
struct Bfloat16 {
  uint16_t bits;
};

constexpr double kTwo31 = 2147483648.0, kTwo63 = 9223372036854775808.0;

template <class T>
struct Element {
  static T read(T x) { return x; }
  static T write(int64_t x) { return T(x); }
  static T write(int32_t x) { return T(x); }
  static T write(uint8_t x) { return T(x); }
  template <class F>
  static T write_real(F x) {
    if constexpr (T(0.5) != T(0)) {
      return T(x);
    } else if constexpr (sizeof(T) == 4) {
      return x >= F(-kTwo31) && x < F(kTwo31) ? int32_t(x) : INT32_MIN;
    } else {
      return T(x >= F(-kTwo63) && x < F(kTwo63) ? int64_t(x) : INT64_MIN);
    }
  }
  static T write(float x) { return write_real(x); }
  static T write(double x) { return write_real(x); }
};

template <>
struct Element<Bool> {
  static int32_t read(Bool x) { return x.byte != 0; }
  template <class S>
  static Bool write(S x) {
    return {uint8_t(x != S(0))};
  }
};

template <>
struct Element<Bfloat16> {
  static float read(Bfloat16 x) {
    uint32_t bits = uint32_t(x.bits) << 16;
    float y;
    __builtin_memcpy(&y, &bits, 4);
    return y;
  }
  template <class S>
  static Bfloat16 write(S x) {
    float y = float(x);
    uint32_t bits;
    __builtin_memcpy(&bits, &y, 4);
    uint32_t rounded = bits + 0x7FFF + (bits >> 16 & 1);
    return {uint16_t((y != y ? bits | 0x400000 : rounded) >> 16)};
  }
};

template <class From, class To>
void convert(const void* src, void* dst, int64_t n) {
  const From* __restrict s = static_cast<const From*>(src);
  To* __restrict d = static_cast<To*>(dst);
  for (int64_t i = 0; i < n; ++i) d[i] = Element<To>::write(Element<From>::read(s[i]));
}

template <class T>
void same(const void* src, void* dst, int64_t n) {
  __builtin_memcpy(dst, src, std::size_t(n) * sizeof(T));
}

// In the order of DType.
template <class From>
constexpr void fill_converts(ConvertKernel* to) {
  to[0] = convert<From, float>;
  to[1] = convert<From, double>;
  to[2] = convert<From, int64_t>;
  to[3] = convert<From, int32_t>;
  to[4] = convert<From, uint8_t>;
  to[5] = convert<From, Bool>;
  to[6] = convert<From, Bfloat16>;
}

constexpr NumericTable make_table() {
  NumericTable t{};
  fill_converts<float>(t.convert[int(DType::f32)]);
  fill_converts<double>(t.convert[int(DType::f64)]);
  fill_converts<int64_t>(t.convert[int(DType::i64)]);
  fill_converts<int32_t>(t.convert[int(DType::i32)]);
  fill_converts<uint8_t>(t.convert[int(DType::u8)]);
  fill_converts<Bool>(t.convert[int(DType::b8)]);
  fill_converts<Bfloat16>(t.convert[int(DType::bf16)]);
  t.convert[int(DType::f32)][int(DType::f32)] = same<float>;
  t.convert[int(DType::f64)][int(DType::f64)] = same<double>;
  t.convert[int(DType::i64)][int(DType::i64)] = same<int64_t>;
  t.convert[int(DType::i32)][int(DType::i32)] = same<int32_t>;
  t.convert[int(DType::u8)][int(DType::u8)] = same<uint8_t>;
  t.convert[int(DType::b8)][int(DType::b8)] = same<uint8_t>;
  t.convert[int(DType::bf16)][int(DType::bf16)] = same<uint16_t>;
  t.random_f32 = &random_f32;
  t.random_f64 = &random_f64;
  t.random_bits = random_bits;
  t.optimizer_f32 = &optimizer_f32;
  t.optimizer_f64 = &optimizer_f64;
  return t;
}

}  // namespace

extern const NumericTable numeric;
const NumericTable numeric = make_table();

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
