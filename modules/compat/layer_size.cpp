// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

module berth.compat;

import berth.model;
import :layer_maxima;
import :nodes;

namespace berth::hf {

std::vector<bool> kept_whole(const module_tree& tree, const std::vector<std::string>& no_split,
                             const std::vector<std::string>& class_of) {
  std::vector<bool> whole(tree.modules().size());
  if (no_split.empty()) return whole;
  for (std::size_t m = 0; m < whole.size(); ++m) {
    const bool replaced = !class_of.empty() && !class_of[m].empty();
    const auto& name = replaced ? class_of[m] : tree.modules()[m].class_name;
    // A handful of names: comparing them costs less than hashing one.
    whole[m] = std::find(no_split.begin(), no_split.end(), name) != no_split.end();
  }
  return whole;
}

byte_sum bytes_of(const node_table& nodes, const module_sizes& sizes, node n) {
  if (!nodes.is_original(n)) return {};
  if (nodes.is_module(n)) return sizes.of_module(n);
  return nodes.is_parameter(n) ? sizes.of_parameter(nodes.parameter_index(n)) : sizes.of_buffer(nodes.buffer_index(n));
}

layer_maximum layer_maxima::single(const byte_sum& sum) {
  // The peers' maximum starts from the integer 0, which a float 0.0 does not replace.
  return {sum.eighths, 1, sum.fractional > 0 && sum.eighths > 0};
}

layer_maxima::layer_maxima(const node_table& nodes, const module_sizes& sizes, const std::vector<bool>& whole)
    : nodes_(nodes), sizes_(sizes), modules_(nodes.tree().modules().size()) {
  const auto& tree = nodes.tree();
  for (std::size_t i = modules_.size(); i-- > 0;) {
    const auto m = static_cast<module_index>(i);
    auto& best = modules_[m];
    if (whole[m] || tree.first_child(m) == none) {
      best = single(sizes.of_module(m));
      continue;
    }
    for (auto c = tree.first_child(m); c != none; c = tree.next_sibling(c)) {
      if (modules_[c].eighths > best.eighths)
        best = modules_[c];
      else if (modules_[c].eighths == best.eighths)
        best.layers += modules_[c].layers;
    }
  }
}

layer_maximum layer_maxima::of(node n) const {
  if (!nodes_.is_original(n)) return {0, 1, false};
  if (nodes_.is_module(n)) return modules_[n];
  return single(bytes_of(nodes_, sizes_, n));
}

namespace accelerate {
namespace {

largest_layers largest_of(const module_tree& tree, const module_sizes& sizes,
                          const std::vector<std::string>& no_split) {
  node_table nodes(tree);
  const auto whole = kept_whole(tree, no_split);
  largest_layers best;
  auto waiting = nodes.first_list();
  node_list todo(waiting.rbegin(), waiting.rend());
  while (!todo.empty()) {
    const auto n = todo.back();
    todo.pop_back();
    if (nodes.has_children(n) && !whole[nodes.object(n)]) {
      const auto children = nodes.children(n);
      todo.insert(todo.end(), children.rbegin(), children.rend());
      continue;
    }
    const auto size = bytes_of(nodes, sizes, n).value();
    if (size > best.bytes) best = {size, {}};
    if (size == best.bytes) best.names.emplace_back(nodes.name(n));
  }
  return best;
}

}  // namespace

result<largest_layers> get_max_layer_size(const module_tree& tree, const std::vector<std::string>& no_split) {
  if (const auto fit = check_tree(tree); !fit) return fit.propagate();
  return compute_module_sizes(tree).transform(
      [&](const module_sizes& sizes) { return largest_of(tree, sizes, no_split); });
}

result<maximum_sizes> calculate_maximum_sizes(const module_tree& tree) {
  if (const auto fit = check_tree(tree); !fit) return fit.propagate();
  return compute_module_sizes(tree).transform([&](const module_sizes& sizes) {
    return maximum_sizes{sizes.total(), largest_of(tree, sizes, tree.no_split_modules)};
  });
}

}  // namespace accelerate
}  // namespace berth::hf
