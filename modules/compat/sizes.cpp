// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

module berth.compat;

import berth.model;
import :widths;

namespace berth::hf {

module_sizes::module_sizes(const module_tree& tree, std::vector<element_width> parameters,
                           std::vector<element_width> buffers)
    : tree_(&tree), modules_(tree.modules().size()), parameters_(std::move(parameters)), buffers_(std::move(buffers)) {
  for (std::uint32_t i = 0; i < parameters_.size(); ++i) modules_[tree.parameters()[i].owner] += of_parameter(i);
  for (std::uint32_t i = 0; i < buffers_.size(); ++i) modules_[tree.buffers()[i].owner] += of_buffer(i);
  for (std::size_t m = modules_.size(); m-- > 1;) modules_[tree.modules()[m].parent] += modules_[m];
}

bool module_sizes::counts_parameters(module_index m) const {
  const auto begin = parameters_.begin() + tree_->modules()[m].parameters_begin;
  const auto end = begin + static_cast<std::ptrdiff_t>(tree_->subtree_parameters(m).size());
  return std::any_of(begin, end, [](element_width w) { return w != uncounted; });
}

std::vector<named_size> module_sizes::entries() const {
  std::vector<named_size> out;
  std::vector<bool> listed(modules_.size());
  std::vector<module_index> path;
  const auto add = [&](const tensor& t, const byte_sum& sum) {
    if (sum.tensors == 0) return;
    path.clear();
    for (auto m = t.owner; m != none && !listed[m]; m = tree_->modules()[m].parent) path.push_back(m);
    for (auto m = path.rbegin(); m != path.rend(); ++m) {
      listed[*m] = true;
      out.push_back({tree_->modules()[*m].name, modules_[*m].value()});
    }
    out.push_back({t.name, sum.value()});
  };
  for (std::uint32_t i = 0; i < parameters_.size(); ++i) add(tree_->parameters()[i], of_parameter(i));
  for (std::uint32_t i = 0; i < buffers_.size(); ++i) add(tree_->buffers()[i], of_buffer(i));
  return out;
}

std::vector<bool> first_of_storage(std::span<const tensor> list) {
  storage_id largest = 0;
  for (const auto& t : list) largest = std::max(largest, t.storage);
  std::vector<bool> seen(std::size_t{largest} + 1);
  std::vector<bool> first(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    first[i] = !seen[list[i].storage];
    seen[list[i].storage] = true;
  }
  return first;
}

namespace accelerate {
namespace {

/// The widest type that a name may spell; keeps every size within 128 bits.
constexpr std::uint64_t max_type_bits = std::uint64_t{1} << 20;

/// Value of the decimal digits at the end of `name`, which something else must precede (cut at `max_type_bits`).
std::optional<std::uint64_t> trailing_number(std::string_view name) {
  auto begin = name.size();
  while (begin > 0 && name[begin - 1] >= '0' && name[begin - 1] <= '9') --begin;
  if (begin == name.size()) return std::nullopt;
  std::uint64_t value = 0;
  for (const char c : name.substr(begin))
    value = std::min(value * 10 + static_cast<std::uint64_t>(c - '0'), max_type_bits);
  return value;
}

std::string_view torch_name(std::string_view name) {
  if (name.substr(0, 6) == "torch.") name.remove_prefix(6);
  if (const auto known = dtype_from_torch(name)) return info_of(*known).torch;
  return name;
}

result<element_width> width_of(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, element_width>, 9> fixed{{{"bool", 1},
                                                                             {"custom.INT2", 2},
                                                                             {"custom.INT4", 4},
                                                                             {"custom.FP8", 8},
                                                                             {"float8_e4m3fn", 8},
                                                                             {"float8_e5m2", 8},
                                                                             {"float8_e4m3fnuz", 8},
                                                                             {"float8_e5m2fnuz", 8},
                                                                             {"float8_e8m0fnu", 8}}};
  name = torch_name(name);
  for (const auto& [spelling, width] : fixed)
    if (spelling == name) return width;
  const auto bits = trailing_number(name);
  if (!bits)
    return fail(errc::invalid_argument, "ValueError",
                "the dtype \"" + std::string(name) + "\" does not end in its number of bits, so it has no size");
  return static_cast<element_width>(*bits / 8 * 8);
}

/// Tensors that a load dtype never converts. Complex ones are converted (shrunk), as in the peer.
bool keeps_own_width(dtype t) {
  const auto name = info_of(t).torch;
  return name.substr(0, 3) == "int" || name.substr(0, 4) == "uint" || name == "bool";
}

}  // namespace

result<number> dtype_byte_size(std::string_view dtype_name) {
  return width_of(dtype_name).transform([](element_width w) { return byte_sum{w, w % 8 != 0 ? 1u : 0u, 1u}.value(); });
}

result<width_rule> width_rule::make(std::string_view load_dtype, const special_dtypes& special) {
  width_rule rule;
  element_width clamp = uncounted;
  if (!load_dtype.empty()) {
    const auto w = width_of(load_dtype);
    if (!w) return w.propagate();
    clamp = *w;
  }
  for (const auto& info : dtype_table) {
    const auto own = width_of(info.torch);
    if (!own) continue;
    rule.plain_[static_cast<std::size_t>(info.type)] = keeps_own_width(info.type) ? *own : std::min(clamp, *own);
  }
  for (const auto& [name, type] : special) {
    const auto w = width_of(type);
    if (!w) return w.propagate();
    rule.special_.insert_or_assign(name, *w);
  }
  return rule;
}

failure width_rule::no_size(dtype own) { return width_of(info_of(own).torch).propagate(); }

result<module_sizes> compute_module_sizes(const module_tree& tree, std::string_view dtype,
                                          const special_dtypes& special) {
  const auto rule = width_rule::make(dtype, special);
  if (!rule) return rule.propagate();
  std::array<std::vector<element_width>, 2> widths;
  for (std::size_t kind = 0; kind < 2; ++kind) {
    const auto list = kind == 0 ? tree.parameters() : tree.buffers();
    const auto first = first_of_storage(list);
    widths[kind].resize(list.size(), uncounted);
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (!first[i]) continue;
      const auto w = rule->width(list[i].name, list[i].type);
      if (!w) return w.propagate();
      widths[kind][i] = *w;
    }
  }
  return module_sizes(tree, std::move(widths[0]), std::move(widths[1]));
}

}  // namespace accelerate
}  // namespace berth::hf
