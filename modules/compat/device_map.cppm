// SPDX-License-Identifier: Apache-2.0
module;

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

export module berth.compat:device_map;

import berth.model;

export namespace berth::hf {

/// A device as the peers name it: an accelerator by its index (any Python int, negative too) or a word ("cpu", "disk",
/// "mps", "cuda:0").
class device_key {
 public:
  static inline device_key accelerator(std::int64_t index) { return device_key(index); }
  static inline device_key named(std::string_view word) { return device_key(std::string(word)); }
  /// "0", "12", "-1" are accelerators, everything else is a word.
  static device_key parse(std::string_view text);

  inline bool is_accelerator() const { return value_.index() == 0; }
  /// Precondition: `is_accelerator()`.
  inline std::int64_t index() const { return *std::get_if<0>(&value_); }
  /// The word, "" for an accelerator.
  inline std::string_view word() const { return is_accelerator() ? std::string_view() : *std::get_if<1>(&value_); }
  inline bool is(std::string_view w) const { return !is_accelerator() && word() == w; }
  /// "0" or "cpu".
  inline std::string text() const { return is_accelerator() ? std::to_string(index()) : std::string(word()); }

  friend bool operator==(const device_key&, const device_key&) = default;
  friend auto operator<=>(const device_key&, const device_key&) = default;

 private:
  explicit device_key(std::int64_t index) : value_(index) {}
  explicit device_key(std::string word) : value_(std::move(word)) {}
  std::variant<std::int64_t, std::string> value_;
};

/// Module or tensor name to device. Names are unique; the order has no meaning, except that `expand_device_map` breaks
/// ties by it.
struct mapping {
  std::string name;
  device_key device;
  friend bool operator==(const mapping&, const mapping&) = default;
};
using device_map = std::vector<mapping>;

/// What the peers warn about.
enum class warning_kind : std::uint8_t {
  buffers_do_not_fit,
  tied_on_different_devices,
  weights_not_tied,
  invalid_keys,
  device_not_available,
};
constexpr std::string_view name_of(warning_kind k) {
  switch (k) {
    case warning_kind::buffers_do_not_fit:
      return "buffers_do_not_fit";
    case warning_kind::tied_on_different_devices:
      return "tied_on_different_devices";
    case warning_kind::weights_not_tied:
      return "weights_not_tied";
    case warning_kind::invalid_keys:
      return "invalid_keys";
    case warning_kind::device_not_available:
      return "device_not_available";
  }
  return "unknown";
}

struct warning {
  warning_kind kind;
  std::string text;  ///< a full sentence
};

/// What a check of a map says. An error's `subject` is the Python exception type that the peer raises.
struct verdict {
  std::vector<warning> warnings;
  std::optional<error> refusal;
};

namespace accelerate {

/// `clean_device_map`: joins keys below one module that share a device, from the top down. A key equal to the joined
/// module's name is overwritten, as in the peer. O(n log n) in the number of keys.
device_map clean_device_map(device_map map);

/// `check_device_map`: warns about keys that are not modules, refuses (`uncovered`, ValueError) a map that leaves
/// tensors of the state dict without a device. Linear in the number of tensors.
verdict check_device_map(const module_tree& tree, const device_map& map);

/// `check_tied_parameters_on_same_device`: warns when a group lies on several devices; a member without any mapped
/// ancestor is refused (`uncovered`, ValueError).
verdict check_tied_parameters_on_same_device(const std::vector<std::vector<std::string>>& groups,
                                             const device_map& map);

}  // namespace accelerate
}  // namespace berth::hf
