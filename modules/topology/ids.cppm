// SPDX-License-Identifier: Apache-2.0
module;

#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

export module berth.topology:ids;

import berth.base;

export namespace berth {

enum class device_kind : std::uint8_t { gpu, cpu, disk };

/// The programming interface through which a device is driven; `none` for the CPU and disks.
enum class accelerator_api : std::uint8_t { none, cuda, hip, xpu, npu, mps };

constexpr std::string_view name_of(device_kind k) {
  switch (k) {
    case device_kind::gpu:
      return "gpu";
    case device_kind::cpu:
      return "cpu";
    case device_kind::disk:
      return "disk";
  }
  return "unknown";
}
constexpr std::string_view name_of(accelerator_api a) {
  switch (a) {
    case accelerator_api::none:
      return "none";
    case accelerator_api::cuda:
      return "cuda";
    case accelerator_api::hip:
      return "hip";
    case accelerator_api::xpu:
      return "xpu";
    case accelerator_api::npu:
      return "npu";
    case accelerator_api::mps:
      return "mps";
  }
  return "unknown";
}
constexpr std::optional<device_kind> device_kind_from(std::string_view s) {
  for (const auto k : {device_kind::gpu, device_kind::cpu, device_kind::disk})
    if (name_of(k) == s) return k;
  return std::nullopt;
}
constexpr std::optional<accelerator_api> accelerator_api_from(std::string_view s) {
  for (const auto a : {accelerator_api::none, accelerator_api::cuda, accelerator_api::hip, accelerator_api::xpu,
                       accelerator_api::npu, accelerator_api::mps})
    if (name_of(a) == s) return a;
  return std::nullopt;
}

/// Name of a device as in a device map: a GPU number ("0", "1", gaps allowed), "cpu", "disk", or another
/// accelerator's name ("mps", "npu:0"). Built from an int or from text, so `id == 1` and `id == "cpu"` read well.
/// At most `max_size` bytes; longer text is cut, so readers check `fits` first.
/// Order: numbers ascending, then other names, then the CPU, then the disk.
class device_id {
 public:
  static constexpr std::size_t max_size = 24;

  constexpr device_id() = default;
  template <std::same_as<int> I>
  constexpr device_id(I ordinal) {
    if (ordinal < 0) name_.append("-");
    // Negated as 64 bits: -INT_MIN does not fit an int.
    const std::int64_t wide = ordinal;
    name_.append(static_cast<std::uint64_t>(wide < 0 ? -wide : wide));
  }
  template <class S>
    requires std::convertible_to<const S&, std::string_view>
  constexpr device_id(const S& name) : name_(static_cast<std::string_view>(name)) {}

  static constexpr bool fits(std::string_view name) { return !name.empty() && name.size() <= max_size; }

  constexpr std::string_view view() const { return name_.view(); }
  constexpr operator std::string_view() const { return view(); }
  constexpr bool empty() const { return name_.empty(); }

  /// The number of a numbered device ("3" -> 3). "03", "-1" and "npu:0" are names, not numbers.
  constexpr std::optional<int> ordinal() const {
    const auto s = view();
    if (s.empty() || s.size() > 9 || (s.size() > 1 && s.front() == '0')) return std::nullopt;
    int n = 0;
    for (const char c : s) {
      if (c < '0' || c > '9') return std::nullopt;
      n = n * 10 + (c - '0');
    }
    return n;
  }

  friend constexpr bool operator==(const device_id& a, const device_id& b) { return a.view() == b.view(); }
  friend constexpr std::strong_ordering operator<=>(const device_id& a, const device_id& b) {
    const auto x = a.ordinal(), y = b.ordinal();
    if (const auto c = a.rank(x) <=> b.rank(y); c != 0) return c;
    if (x && y) return *x <=> *y;
    return a.view() <=> b.view();
  }

 private:
  constexpr int rank(const std::optional<int>& n) const {
    if (n) return 0;
    if (view() == "cpu") return 2;
    if (view() == "disk") return 3;
    return 1;
  }

  text<max_size> name_;
};

/// Position of a device, a segment or a route in its topology.
using device_index = std::uint32_t;
using segment_index = std::uint32_t;
using route_index = std::uint32_t;
inline constexpr std::uint32_t no_index = 0xffffffffu;

}  // namespace berth
