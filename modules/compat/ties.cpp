// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.compat;

import berth.model;
import :nodes;
import :tie_index;
import :widths;

namespace berth::hf {

namespace accelerate {

result<tied_groups> find_tied_parameters(const module_tree& tree) {
  const auto first = first_of_storage(tree.parameters());
  bool aliases = false;
  for (const auto& m : tree.modules()) aliases = aliases || m.is_alias();
  tied_groups groups;
  if (!aliases && std::find(first.begin(), first.end(), false) == first.end()) return groups;

  std::unordered_map<storage_id, std::size_t> group_of;
  const auto walked = visit_registered(tree, [&](std::string_view name, const tensor& t, bool is_buffer) {
    if (is_buffer) return;
    const auto [it, fresh] = group_of.try_emplace(t.storage, groups.size());
    if (fresh) groups.emplace_back();
    groups[it->second].emplace_back(name);
  });
  if (!walked) return walked.propagate();
  std::erase_if(groups, [](const auto& g) { return g.size() < 2; });
  for (auto& g : groups) std::sort(g.begin(), g.end());
  return groups;
}

}  // namespace accelerate

namespace transformers {

tied_groups tied_groups_of_table(const module_tree& tree) {
  tied_groups groups;
  std::unordered_map<std::string_view, std::size_t> group_of;
  for (const auto& [target, source] : tree.tied_weights_keys) {
    const auto [it, fresh] = group_of.try_emplace(source, groups.size());
    if (fresh) groups.push_back({source});
    groups[it->second].push_back(target);
  }
  for (auto& g : groups) std::sort(g.begin(), g.end());
  return groups;
}

}  // namespace transformers

namespace {

bool reversed_less(std::string_view a, std::string_view b) {
  return std::lexicographical_compare(a.rbegin(), a.rend(), b.rbegin(), b.rend());
}

/// Every prefix of `name` that ends where a component ends, the name itself included.
template <class F>
void for_each_prefix(std::string_view name, F&& f) {
  for (auto dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.', dot + 1)) f(name.substr(0, dot));
  f(name);
}

}  // namespace

tie_index::tie_index(const node_table& nodes, const tied_groups& groups) {
  group_begin_.push_back(0);
  for (const auto& group : groups) {
    for (const auto& name : group)
      members_.push_back({name, static_cast<std::uint32_t>(group_begin_.size() - 1), 0, none});
    group_begin_.push_back(static_cast<std::uint32_t>(members_.size()));
  }
  if (empty()) return;
  for (std::uint32_t m = 0; m < members_.size(); ++m)
    for_each_prefix(members_[m].name, [&](std::string_view prefix) { endings_.push_back({prefix, m}); });
  std::sort(endings_.begin(), endings_.end(),
            [](const ending& a, const ending& b) { return reversed_less(a.prefix, b.prefix); });
  locate(nodes);
}

void tie_index::locate(const node_table& nodes) {
  // The tree can be large and ties are few: look the tree's names up among the members' prefixes, not the reverse.
  std::unordered_map<std::string_view, std::vector<std::uint32_t>> wanted;
  for (const auto& e : endings_) wanted[e.prefix].push_back(e.member);
  const auto& tree = nodes.tree();
  for (std::size_t m = 1; m < tree.modules().size(); ++m)
    if (const auto it = wanted.find(tree.modules()[m].name); it != wanted.end())
      for (const auto member : it->second) {
        auto& anchor = members_[member].anchor;
        if (tree.modules()[anchor].name.size() < tree.modules()[m].name.size()) anchor = static_cast<module_index>(m);
      }
  for (std::uint32_t i = 0; i < tree.parameters().size(); ++i)
    if (const auto it = wanted.find(tree.parameters()[i].name); it != wanted.end())
      for (const auto member : it->second)
        if (members_[member].name == tree.parameters()[i].name) members_[member].parameter = nodes.of_parameter(i);
}

std::vector<const tied_member*> tie_index::tied_to(std::string_view entry) const {
  std::vector<const tied_member*> out;
  auto it = std::lower_bound(endings_.begin(), endings_.end(), entry,
                             [](const ending& e, std::string_view name) { return reversed_less(e.prefix, name); });
  std::vector<std::uint32_t> inside;
  for (; it != endings_.end() && it->prefix.ends_with(entry); ++it) inside.push_back(it->member);
  if (inside.empty()) return out;
  std::sort(inside.begin(), inside.end());
  inside.erase(std::unique(inside.begin(), inside.end()), inside.end());
  for (std::size_t i = 0; i < inside.size();) {
    const auto group = members_[inside[i]].group;
    auto end = i;
    while (end < inside.size() && members_[inside[end]].group == group) ++end;
    for (auto m = group_begin_[group]; m < group_begin_[group + 1]; ++m)
      if (i < end && inside[i] == m)
        ++i;
      else
        out.push_back(&members_[m]);
    // A group wholly inside adds nothing: all its members were skipped.
    i = end;
  }
  return out;
}

}  // namespace berth::hf
