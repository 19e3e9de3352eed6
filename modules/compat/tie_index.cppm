// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// Internal: which ties concern a work-list entry.
module berth.compat:tie_index;

import berth.model;
import :nodes;
import :ties;

namespace berth::hf {

/// A member of a tied group: its name, where it lies in the tree, and whether it has bytes of its own there.
struct tied_member {
  std::string name;
  std::uint32_t group = 0;
  module_index anchor = 0;  ///< the deepest module of the tree (an alias perhaps) on the way to the name
  node parameter = none;    ///< the parameter of that name, if the tree lists it
};

/// The peers call a member "inside" an entry if entry + "." occurs anywhere in member + "." (a substring test, so that
/// "0" is inside "10.weight"). An occurrence always ends where a component of the member ends; so all such prefixes of
/// all members are kept sorted by their reversed text, and those that end in the entry's name are neighbours.
class tie_index {
 public:
  tie_index(const node_table& nodes, const tied_groups& groups);

  inline bool empty() const { return members_.empty(); }
  /// The members outside `entry` of every group that has members inside and outside, in group order.
  /// O(log of all prefixes + size of the groups concerned).
  std::vector<const tied_member*> tied_to(std::string_view entry) const;

 private:
  struct ending {
    std::string_view prefix;
    std::uint32_t member;
  };
  void locate(const node_table& nodes);

  std::vector<tied_member> members_;        ///< group by group
  std::vector<std::uint32_t> group_begin_;  ///< first member of each group, and the end
  std::vector<ending> endings_;
};

}  // namespace berth::hf
