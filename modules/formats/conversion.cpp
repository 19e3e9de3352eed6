// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.formats;

import :conversion_rules;
import :name_pattern;

namespace berth {
namespace {

/// Part of a dimension of length n.
slice part_of(tensor_part part, std::uint64_t n) {
  switch (part) {
    case tensor_part::whole:
      return {0, n, 1};
    case tensor_part::first_half:
      return {0, n / 2, 1};
    case tensor_part::second_half:
      return {n / 2, n, 1};
    case tensor_part::even:
      return {0, n, 2};
    case tensor_part::odd:
      return {1, n, 2};
  }
  return {0, n, 1};
}

std::uint64_t extent(const slice& s) { return s.end <= s.begin ? 0 : (s.end - s.begin + s.step - 1) / s.step; }

std::uint64_t extent(std::span<const slice> range) {
  std::uint64_t n = 1;
  for (const auto& s : range) n *= extent(s);
  return n;
}

/// The range of `t` that a rule fills, or nothing if the tensor has no such part.
std::optional<std::vector<slice>> range_of(const tensor& t, const conversion_rule* rule, std::string_view expert) {
  std::vector<slice> range;
  range.reserve(t.shape.size());
  for (const auto n : t.shape) range.push_back({0, n, 1});
  if (rule == nullptr) return range;
  if (!expert.empty()) {
    std::uint64_t e = 0;
    std::from_chars(expert.data(), expert.data() + expert.size(), e);
    if (range.empty() || e >= t.shape[0]) return std::nullopt;
    range[0] = {e, e + 1, 1};
  }
  if (rule->part != tensor_part::whole) {
    if (rule->dimension >= range.size() || t.shape[rule->dimension] % 2 != 0) return std::nullopt;
    range[rule->dimension] = part_of(rule->part, t.shape[rule->dimension]);
  }
  if (rule->transposed && range.size() < 2) return std::nullopt;
  return range;
}

/// Shape of the stored tensor that fills `range`; the expert dimension is not there.
std::vector<std::uint64_t> stored_shape(std::span<const slice> range, bool expert, bool transposed) {
  std::vector<std::uint64_t> shape;
  for (const auto& s : range) shape.push_back(extent(s));
  if (expert) shape.erase(shape.begin());
  if (transposed && shape.size() >= 2) std::swap(shape[shape.size() - 1], shape[shape.size() - 2]);
  return shape;
}

/// A tree tensor and the part of it that a stored name stands for.
struct place {
  const tensor* target = nullptr;
  const conversion_rule* rule = nullptr;
  std::string_view expert;
};

/// Finds the place of one name. A prefix of the base model more or less is tried only if asked for.
class name_finder {
 public:
  explicit name_finder(const module_tree& tree) {
    for (const auto list : {tree.parameters(), tree.buffers()})
      for (const auto& t : list) by_name_.emplace(t.name, &t);
    for (auto c = tree.first_child(0); c != none; c = tree.next_sibling(c))
      if (!tree.modules()[c].is_alias() && tree.first_child(c) != none) bases_.push_back(tree.modules()[c].name);
  }

  /// `name` must outlive the place.
  place locate(std::string_view name, bool rebased) const {
    const auto look_up = [&](std::string_view n) { return rebased ? find_rebased(n) : find_prefixed(n); };
    if (const auto* t = look_up(name)) return {t, nullptr, {}};
    for (const auto& rule : leaf_rules)
      if (const auto holes = match_name(rule.stored, name))
        if (const auto* t = look_up(fill_name(rule.tensor, *holes))) return {t, &rule, holes->expert};
    return {};
  }

 private:
  const tensor* find(std::string_view name) const {
    const auto it = by_name_.find(name);
    return it == by_name_.end() ? nullptr : it->second;
  }

  const tensor* find_prefixed(std::string_view name) const {
    if (const auto* t = find(name)) return t;
    for (const auto& rule : prefix_rules)
      if (const auto holes = match_name(rule.stored, name))
        if (const auto* t = find(fill_name(rule.tensor, *holes))) return t;
    return nullptr;
  }

  const tensor* find_rebased(std::string_view name) const {
    const auto with_base = [&](std::string_view n) -> const tensor* {
      for (const auto& base : bases_)
        if (const auto* t = find(std::string(base).append(1, '.').append(n))) return t;
      return nullptr;
    };
    if (const auto* t = with_base(name)) return t;
    const auto dot = name.find('.');
    if (dot == std::string_view::npos) return nullptr;
    const auto tail = name.substr(dot + 1);
    const auto* t = find(tail);
    return t != nullptr ? t : with_base(tail);
  }

  std::unordered_map<std::string_view, const tensor*> by_name_;
  std::vector<std::string_view> bases_;
};

/// Takes the names of a checkpoint one after another and sorts them into a name_map.
class name_mapper {
 public:
  name_mapper(const module_tree& tree, std::span<const stored_name> stored)
      : tree_(tree), stored_(stored), finder_(tree) {}

  name_map run() {
    std::vector<const stored_name*> left;
    for (const auto& s : stored_)
      if (!map_data(s, false)) left.push_back(&s);
    // A prefix more or less is tried last and cannot take a place that a name has for itself.
    std::erase_if(left, [&](const stored_name* s) { return map_data(*s, true); });
    note_packed_modules(left);
    for (const auto* s : left) sort_out(s->name);
    find_missing();
    std::unordered_map<std::string_view, std::size_t> order;
    for (std::size_t i = 0; i < stored_.size(); ++i) order.emplace(stored_[i].name, i);
    std::ranges::sort(out_.conversions, {}, [&](const conversion& c) { return order[c.stored]; });
    return std::move(out_);
  }

 private:
  bool map_data(const stored_name& s, bool rebased) {
    const auto p = finder_.locate(s.name, rebased);
    if (p.target == nullptr) return false;
    auto range = range_of(*p.target, p.rule, p.expert);
    if (!range || !take(p, *range)) return false;
    bool transposed = p.rule != nullptr && p.rule->transposed;
    if (s.shape) {
      const auto same = [&](bool swapped) {
        return std::ranges::equal(*s.shape, stored_shape(*range, !p.expert.empty(), swapped));
      };
      // Stacked experts are stored either way round; the shape tells which.
      if (!same(transposed)) {
        if (p.target->shape.size() == 3 && same(!transposed))
          transposed = !transposed;
        else
          out_.mismatched.emplace_back(s.name);
      }
    }
    out_.conversions.push_back({std::string(s.name), p.target->name, *std::move(range), transposed});
    return true;
  }

  /// Claims a place; false if another name has it already.
  bool take(const place& p, std::span<const slice> range) {
    std::string key = p.target->name;
    for (const auto& s : range) key.append(1, ' ').append(std::to_string(s.begin));
    if (!taken_.insert(std::move(key)).second) return false;
    filled_[p.target->name] += extent(range);
    return true;
  }

  /// Modules whose weight lies in another tensor, and layers that only predict further tokens.
  void note_packed_modules(std::span<const stored_name* const> left) {
    for (const auto* s : left) {
      if (s->name.ends_with(".qweight")) packed_.insert(s->name.substr(0, s->name.size() - 8));
      for (const std::string_view end : {".eh_proj.weight", ".enorm.weight", ".hnorm.weight"})
        if (s->name.ends_with(end)) prediction_layers_.insert(s->name.substr(0, s->name.size() - end.size()));
    }
  }

  /// A name that is not the data of a tree tensor.
  void sort_out(std::string_view name) {
    if (is_prediction_layer(name)) {
      out_.ignored.emplace_back(name);
    } else if (const auto weight = weight_of_companion(name); !weight.empty() && map_companion(name, weight)) {
      return;
    } else if (std::ranges::any_of(ignorable_ends, [&](auto end) { return name.ends_with(end); })) {
      out_.ignored.emplace_back(name);
    } else {
      out_.unexpected.emplace_back(name);
    }
  }

  bool is_prediction_layer(std::string_view name) const {
    if (name.starts_with("mtp.") || name.starts_with("model.mtp.") || name.find(".mtp.") != std::string_view::npos)
      return true;
    for (auto dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.', dot + 1))
      if (prediction_layers_.contains(name.substr(0, dot))) return true;
    return false;
  }

  /// The name under which a companion's weight would be stored unpacked, or "".
  std::string weight_of_companion(std::string_view name) const {
    for (const auto end : companion_ends)
      if (name.ends_with(end)) return std::string(name.substr(0, name.size() - end.size())).append(".weight");
    for (const std::string_view end : {"_blocks", "_scales"})
      if (name.ends_with(end)) return std::string(name.substr(0, name.size() - end.size()));
    constexpr std::string_view bias = ".bias";
    if (name.ends_with(bias) && packed_.contains(name.substr(0, name.size() - bias.size())))
      return std::string(name.substr(0, name.size() - bias.size())).append(".weight");
    return {};
  }

  bool map_companion(std::string_view name, const std::string& weight) {
    auto p = finder_.locate(weight, false);
    if (p.target == nullptr) p = finder_.locate(weight, true);
    if (p.target == nullptr) return false;
    const bool holds_data = name.ends_with(".qweight") || name.ends_with(".weight_packed") || name.ends_with("_blocks");
    if (const auto range = range_of(*p.target, p.rule, p.expert); holds_data && range) take(p, *range);
    out_.companions.push_back({std::string(name), p.target->name});
    return true;
  }

  void find_missing() {
    struct copy {
      std::string_view name;
      bool complete = false;
    };
    std::unordered_map<storage_id, std::size_t> group;
    std::vector<copy> copies;
    for (const auto list : {tree_.parameters(), tree_.buffers()})
      for (const auto& t : list) {
        if (!t.persistent) continue;
        const auto [it, fresh] = group.try_emplace(t.storage, copies.size());
        if (fresh) copies.push_back({t.name});
        const auto filled = filled_.find(t.name);
        if (filled != filled_.end() && filled->second >= t.elements) copies[it->second].complete = true;
      }
    for (const auto& c : copies)
      if (!c.complete) out_.missing.emplace_back(c.name);
  }

  const module_tree& tree_;
  std::span<const stored_name> stored_;
  name_finder finder_;
  std::unordered_set<std::string> taken_;
  std::unordered_map<std::string_view, std::uint64_t> filled_;  ///< elements, by tree name
  std::unordered_set<std::string_view> packed_;
  std::unordered_set<std::string_view> prediction_layers_;
  name_map out_;
};

/// True if a family writes a rule's spelling.
bool writes(const conversion_rule& rule, std::string_view model_type) {
  const auto at = rule.model_types.find(std::string(" ").append(model_type).append(" "));
  return !model_type.empty() && at != std::string_view::npos;
}

/// The stored spelling of a whole prefix.
std::string saved_prefix(std::string name, std::string_view model_type) {
  for (const auto& rule : prefix_rules)
    if (writes(rule, model_type))
      if (const auto holes = match_name(rule.tensor, name)) return fill_name(rule.stored, *holes);
  return name;
}

void save_tensor(const tensor& t, std::string_view model_type, std::vector<saved_tensor>& out) {
  const auto add = [&](std::string name, const conversion_rule* rule, std::string_view expert) {
    const bool transposed = rule != nullptr && rule->transposed;
    auto range = range_of(t, rule, expert);
    if (!range) return;
    auto shape = stored_shape(*range, !expert.empty(), transposed);
    out.push_back(
        {{saved_prefix(std::move(name), model_type), t.name, *std::move(range), transposed}, t.type, std::move(shape)});
  };
  std::string_view pattern;  // of the rule that applies; its other parts follow it in the table
  for (const auto& rule : leaf_rules) {
    if (!writes(rule, model_type) || (!pattern.empty() && rule.tensor != pattern)) continue;
    auto holes = match_name(rule.tensor, t.name);
    if (!holes) continue;
    pattern = rule.tensor;
    if (rule.stored.find("{e}") == std::string_view::npos) {
      add(fill_name(rule.stored, *holes), &rule, {});
      continue;
    }
    for (std::uint64_t e = 0; !t.shape.empty() && e < t.shape[0]; ++e) {
      const auto index = std::to_string(e);
      holes->expert = index;
      add(fill_name(rule.stored, *holes), &rule, index);
    }
  }
  if (pattern.empty()) add(t.name, nullptr, {});
}

}  // namespace

name_map map_names(const module_tree& tree, std::span<const stored_name> stored) {
  return name_mapper(tree, stored).run();
}

std::vector<saved_tensor> saved_tensors(const module_tree& tree) {
  std::unordered_set<std::string_view> targets;
  for (const auto& [target, source] : tree.tied_weights_keys) targets.insert(target);
  std::unordered_map<storage_id, const tensor*> chosen;
  for (const auto list : {tree.parameters(), tree.buffers()})
    for (const auto& t : list) {
      if (!t.persistent) continue;
      const auto [it, fresh] = chosen.try_emplace(t.storage, &t);
      if (!fresh && targets.contains(it->second->name) && !targets.contains(t.name)) it->second = &t;
    }
  std::vector<saved_tensor> out;
  for (const auto list : {tree.parameters(), tree.buffers()})
    for (const auto& t : list)
      if (t.persistent && chosen[t.storage] == &t) save_tensor(t, tree.model_type, out);
  return out;
}

}  // namespace berth
