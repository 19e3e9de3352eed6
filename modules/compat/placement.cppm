// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

// Internal: the placement loop that both peers share.
module berth.compat:placement;

import berth.model;
import :device_map;
import :infer;
import :layer_maxima;
import :max_memory;
import :nodes;
import :number;
import :sizes;
import :tie_index;
import :ties;
import :work_list;

namespace berth::hf {

enum class peer : std::uint8_t { accelerate, transformers };

/// What the loop works on, prepared by each peer's own rules.
struct placement_input {
  const module_tree& tree;
  const module_sizes& sizes;
  std::vector<bool> whole;  ///< modules of a no-split class
  tied_groups ties;
  hf::budgets budgets;  ///< ordered: accelerators, mps, cpu, disk
  bool fallback = false;
  bool offload_buffers = false;
  /// Names relative to a module of parameters that are never placed (transformers only).
  std::optional<std::vector<std::string>> no_placement;
  /// Bytes of all buffers below a module, each object once.
  std::function<number(module_index)> buffer_bytes;
};

/// `infer_auto_device_map` of both peers: next-fit over the work list with a reserve for the largest remaining layer on
/// main devices, ties placed together. The peers differ in what they do with an entry that does not fit.
class placement {
 public:
  placement(peer rules, const placement_input& input);

  /// Runs to the end. Error `peer_failure` (IndexError, AttributeError) where the peer crashes.
  result<done> run();

  /// What run() found: map, buffer warning, minimum-needed figures, bytes per device.
  void report(outcome& out) const;

 private:
  /// An entry being treated, with the ties that concern it.
  struct candidate {
    node entry;
    number size;
    number total;  ///< with the owners of its ties
    std::vector<const tied_member*> ties;
    node_list owners;  ///< as the peer lists them: accelerate once per tie, transformers once
  };
  struct device_state {
    device_key key;
    number budget;
    bool unlimited = false;
    bool main = false;     ///< keeps the reserve
    bool offload = false;  ///< cpu or disk
    number used = 0;
    number placed = 0;
    number buffers = 0;
    std::optional<number> min_needed = std::nullopt;
  };

  void list_devices(const hf::budgets& given);
  inline device_state& current() { return devices_[cursor_]; }
  inline number bytes(node n) const { return bytes_of(nodes_, in_.sizes, n).value(); }
  inline bool splittable(node n) const { return nodes_.has_children(n) && !in_.whole[nodes_.object(n)]; }

  result<done> treat(node entry);
  result<candidate> examine(node entry, const std::function<bool(node)>& listed) const;
  node owner_of(const tied_member& member, const std::function<bool(node)>& listed) const;
  void place(const candidate& c);
  bool split_an_owner(const candidate& c);
  void split(node entry);
  bool escape(const candidate& c);
  result<bool> fall_back(const candidate& c);
  result<node> search(const number& limit);
  void bring_forward(node found, node entry);
  void next_device(const candidate& c);
  void put_back(node entry);

  peer rules_;
  const placement_input& in_;
  node_table nodes_;
  layer_maxima maxima_;
  tie_index ties_;
  work_list todo_;
  layer_reserve reserve_;
  std::vector<device_state> devices_;
  std::size_t cursor_ = 0;
  std::vector<std::pair<node, std::size_t>> placed_;
  std::uint32_t searches_ = 0;
  std::vector<std::uint32_t> searched_;  ///< twice the search that took a node from its list, plus 1 while it is listed
};

}  // namespace berth::hf
