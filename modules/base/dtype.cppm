// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

export module berth.base:dtype;

import :units;

export namespace berth {

/// Element types: all of safetensors', which include all that torch checkpoints hold.
enum class dtype : std::uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64,
};

struct dtype_info {
  dtype type;
  std::string_view safetensors;  ///< spelling in a safetensors header
  std::string_view torch;        ///< spelling in torch and in config.json
  unsigned bits;
};

inline constexpr std::array<dtype_info, 22> dtype_table{{
    {dtype::boolean, "BOOL", "bool", 8},
    {dtype::f4, "F4", "float4_e2m1fn_x2", 4},
    {dtype::f6_e2m3, "F6_E2M3", "float6_e2m3fn", 6},
    {dtype::f6_e3m2, "F6_E3M2", "float6_e3m2fn", 6},
    {dtype::u8, "U8", "uint8", 8},
    {dtype::i8, "I8", "int8", 8},
    {dtype::f8_e5m2, "F8_E5M2", "float8_e5m2", 8},
    {dtype::f8_e4m3, "F8_E4M3", "float8_e4m3fn", 8},
    {dtype::f8_e8m0, "F8_E8M0", "float8_e8m0fnu", 8},
    {dtype::f8_e4m3fnuz, "F8_E4M3FNUZ", "float8_e4m3fnuz", 8},
    {dtype::f8_e5m2fnuz, "F8_E5M2FNUZ", "float8_e5m2fnuz", 8},
    {dtype::i16, "I16", "int16", 16},
    {dtype::u16, "U16", "uint16", 16},
    {dtype::f16, "F16", "float16", 16},
    {dtype::bf16, "BF16", "bfloat16", 16},
    {dtype::i32, "I32", "int32", 32},
    {dtype::u32, "U32", "uint32", 32},
    {dtype::f32, "F32", "float32", 32},
    {dtype::c64, "C64", "complex64", 64},
    {dtype::f64, "F64", "float64", 64},
    {dtype::i64, "I64", "int64", 64},
    {dtype::u64, "U64", "uint64", 64},
}};

constexpr const dtype_info& info_of(dtype t) { return dtype_table[static_cast<std::size_t>(t)]; }
constexpr unsigned bits_of(dtype t) { return info_of(t).bits; }

/// True for types that a load dtype converts (float and bfloat kinds); integers, bool and complex stay as they are.
constexpr bool is_floating(dtype t) {
  switch (t) {
    case dtype::boolean:
    case dtype::u8:
    case dtype::i8:
    case dtype::i16:
    case dtype::u16:
    case dtype::i32:
    case dtype::u32:
    case dtype::i64:
    case dtype::u64:
    case dtype::c64:
      return false;
    default:
      return true;
  }
}

constexpr std::optional<dtype> dtype_from_safetensors(std::string_view name) {
  for (const auto& i : dtype_table)
    if (i.safetensors == name) return i.type;
  return std::nullopt;
}
/// Torch spelling, with or without "torch.", and the usual short forms (bf16, fp16, half, fp32, float ...).
constexpr std::optional<dtype> dtype_from_torch(std::string_view name) {
  constexpr std::string_view prefix = "torch.";
  if (name.substr(0, prefix.size()) == prefix) name.remove_prefix(prefix.size());
  for (const auto& i : dtype_table)
    if (i.torch == name) return i.type;
  if (name == "bf16") return dtype::bf16;
  if (name == "f16" || name == "fp16" || name == "half") return dtype::f16;
  if (name == "f32" || name == "fp32" || name == "float") return dtype::f32;
  if (name == "f64" || name == "fp64" || name == "double") return dtype::f64;
  if (name == "fp8" || name == "float8_e4m3") return dtype::f8_e4m3;
  return std::nullopt;
}

/// Product of a shape (1 for rank 0), or nothing above 2^63 - 1.
constexpr std::optional<std::uint64_t> element_count(std::span<const std::uint64_t> shape) {
  std::uint64_t n = 1;
  bool zero = false;
  for (auto d : shape) {
    if (d == 0) zero = true;
    if (zero) continue;
    auto next = checked_mul(n, d);
    if (!next) return std::nullopt;
    n = *next;
  }
  return zero ? 0 : n;
}
/// Bytes of `count` elements, rounded up to whole bytes for sub-byte types; nothing above 2^63 - 1.
constexpr std::optional<bytes> storage_bytes(dtype t, std::uint64_t count) {
  auto bits = checked_mul(count, bits_of(t));
  if (!bits) return std::nullopt;
  return (*bits + 7) / 8;
}

}  // namespace berth
