// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

// Internal: accelerate's rule for the width of one element.
module berth.compat:widths;

import berth.model;
import :sizes;

namespace berth::hf {

/// For each tensor, whether it is the first with its storage in this list.
std::vector<bool> first_of_storage(std::span<const tensor> list);

namespace accelerate {

/// Widths under a load dtype and special dtypes, with the parse of every dtype name done once.
class width_rule {
 public:
  static result<width_rule> make(std::string_view dtype, const special_dtypes& special);

  /// Width of a tensor called `name` in the walk at hand. Error: its dtype has no size in the peer.
  inline result<element_width> width(std::string_view name, dtype own) const {
    if (!special_.empty())
      if (const auto it = special_.find(name); it != special_.end()) return it->second;
    const auto& w = plain_[static_cast<std::size_t>(own)];
    if (!w) return no_size(own);
    return *w;
  }

 private:
  static failure no_size(dtype own);
  std::array<std::optional<element_width>, dtype_table.size()> plain_{};
  std::unordered_map<std::string_view, element_width> special_;
};

}  // namespace accelerate
}  // namespace berth::hf
