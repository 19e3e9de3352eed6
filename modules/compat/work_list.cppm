// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

// Internal: the planner's list of what is still to be placed, and the reserve computed from it.
module berth.compat:work_list;

import berth.model;
import :layer_maxima;
import :nodes;
import :number;

namespace berth::hf {

/// The peers' `modules_to_treat`: an ordered list of nodes, each at most once. All operations are O(1) per node moved.
class work_list {
 public:
  explicit work_list(std::size_t nodes) : links_(nodes + 1) { links_[0] = {0, 0, true}; }

  inline bool empty() const { return links_[0].next == 0; }
  inline bool contains(node n) const { return n + 1 < links_.size() && links_[n + 1].listed; }
  inline node front() const { return links_[0].next - 1; }
  /// The node behind `n`, or `none`.
  inline node after(node n) const { return links_[n + 1].next - 1; }

  inline void push_front(node n) { insert(0, n); }
  /// Puts `list` in order in front of everything.
  void push_front(const node_list& list);
  void push_back(const node_list& list);
  void erase(node n);
  /// Puts `list` in the place of `n`.
  void replace(node n, const node_list& list);

 private:
  /// Positions are node + 1; position 0 stands for both ends.
  struct link {
    std::uint32_t next = 0, previous = 0;
    bool listed = false;
  };
  void insert(std::uint32_t behind, node n);
  std::vector<link> links_;
};

/// The size of the largest layer in the work list that the peers hold back on main devices (`max_layer_size`). They
/// recompute it at every split and when all layers that reached it (`max_layer_names`) were taken; in between it may be
/// stale. Here the layers are counted per size instead of listed, so that a recomputation costs O(1).
class layer_reserve {
 public:
  layer_reserve(const layer_maxima& maxima, const node_table& nodes, const work_list& list)
      : maxima_(maxima), nodes_(nodes), list_(list) {}

  inline const number& bytes() const { return bytes_; }

  /// The first computation, over modules and bare tensors alike.
  void start(const node_list& list);
  /// Recomputes over the modules in the list.
  void recompute();

  /// `n` was put into, or taken out of, the work list. Bare tensors are no layers here.
  void entered(node n);
  void left(node n);
  /// `n` is being treated: its layers no longer hold the reserve up. Recomputes if they were the last.
  void treated(node n);
  /// `parts` take the place of `n` without a recomputation: they stand for the same layers.
  void divided(node n, const node_list& parts);
  /// `n` stands for no layer of the current reserve.
  void exclude(node n);

 private:
  struct level {
    std::uint64_t layers = 0;
    std::uint32_t entries = 0;
    std::uint32_t real_entries = 0;
  };
  /// Bare tensors count in the first computation only.
  inline bool excluded(node n) const {
    return (computation_ > 1 && !nodes_.is_module(n)) || (n < excluded_at_.size() && excluded_at_[n] == computation_);
  }
  number value_of(int128 eighths, const level& l) const;

  const layer_maxima& maxima_;
  const node_table& nodes_;
  const work_list& list_;
  std::map<int128, level, std::greater<>> levels_;  ///< of the module entries in the list
  std::vector<std::uint32_t> excluded_at_;          ///< the computation for which a node no longer counts
  std::uint32_t computation_ = 1;
  int128 eighths_ = 0;
  number bytes_;
  std::uint64_t holding_ = 0;  ///< layers that still hold the reserve up
};

}  // namespace berth::hf
