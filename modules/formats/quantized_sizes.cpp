// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.formats;

namespace berth {
namespace {

std::uint64_t ceil_div(std::uint64_t a, std::uint64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

/// Groups along a row of `in` weights; 0 means one group.
std::uint64_t groups(std::uint64_t in, std::uint64_t group) { return group == 0 ? 1 : ceil_div(in, group); }

/// Bytes of `count` numbers of `bits` bits packed into 32-bit words.
bytes words(std::uint64_t count, unsigned bits) { return ceil_div(count * bits, 32) * 4; }

}  // namespace

std::optional<bytes> encoded_bytes(const weight_format& f, std::uint64_t out, std::uint64_t in, unsigned scale_bytes,
                                   bool has_bias) {
  const auto n = out * in;
  switch (f.encoding) {
    case weight_encoding::plain:
    case weight_encoding::unknown:
      return std::nullopt;
    case weight_encoding::bnb_int8:  // weight, SCB per row, weight_format
      return n + 4 * out + 1;
    case weight_encoding::bnb_4bit: {
      const auto blocks = ceil_div(n, 64);
      const auto scales = f.double_quantized ? blocks + 4 * ceil_div(blocks, 256) : 4 * blocks;
      return ceil_div(n, 2) + scales;
    }
    case weight_encoding::gptq: {  // qweight, scales, qzeros, g_idx, bias
      const auto g = groups(in, f.group);
      return words(in, f.bits) * out + 2 * g * out + g * words(out, f.bits) + 4 * in + (has_bias ? 0 : 2 * out);
    }
    case weight_encoding::awq: {  // qweight, scales, qzeros
      const auto g = groups(in, f.group);
      return in * words(out, f.bits) + 2 * g * out + g * words(out, f.bits);
    }
    case weight_encoding::fp8: {
      const auto scales =
          f.block_out == 0 || f.block_in == 0 ? 1 : ceil_div(out, f.block_out) * ceil_div(in, f.block_in);
      return n + 4 * scales + bytes{4} * f.activation_scales;
    }
    case weight_encoding::mxfp4:
      return ceil_div(n, 2) + out * groups(in, 32);
    case weight_encoding::mxfp8:
      return n + out * groups(in, 32);
    case weight_encoding::nvfp4:  // one float8 scale per group, one float32 scale for the tensor
      return ceil_div(n, 2) + out * groups(in, f.group) + 4 + bytes{4} * f.activation_scales;
    case weight_encoding::int_grouped: {
      const auto g = f.one_scale ? 1 : out * groups(in, f.group);
      const auto zeros = f.symmetric ? 0 : f.packed ? groups(in, f.group) * words(out, f.bits) : g;
      return f.packed ? out * words(in, f.bits) + scale_bytes * g + zeros + 16 : n + scale_bytes * g + zeros;
    }
    case weight_encoding::float_channel:
      return n + scale_bytes * (f.one_scale ? 1 : out * groups(in, f.group));
    case weight_encoding::mlx:  // scales and biases per group
      return out * (words(in, f.bits) + 4 * groups(in, f.group));
  }
  return std::nullopt;
}

bytes encoding_overhead(const weight_format& f) {
  if (f.encoding != weight_encoding::bnb_4bit) return 0;
  constexpr bytes code_book = 16 * 4, nested_code_book = 256 * 4, state_text = 170;
  return code_book + (f.double_quantized ? nested_code_book : 0) + state_text;
}

namespace {

std::string_view parent_of(std::string_view name) {
  const auto dot = name.rfind('.');
  return dot == std::string_view::npos ? std::string_view{} : name.substr(0, dot);
}

bool is_below(std::string_view name, std::string_view ancestor) {
  return name.starts_with(ancestor) && (name.size() == ancestor.size() || name[ancestor.size()] == '.');
}

/// Decides for each weight of a tree how it is stored, and adds up.
class tree_sizer {
 public:
  tree_sizer(const module_tree& tree, const quantization& q, const name_map* names) : tree_(tree), q_(q) {
    if (names != nullptr)
      for (const auto& c : names->companions) with_companion_.insert(c.tensor);
    for (const auto& [name, format] : q.overrides)
      if (name.starts_with("re:"))
        expressions_.emplace_back(std::string_view(name).substr(3), &format);
      else
        overrides_.emplace(name, &format);
    // Configs name modules as the checkpoint does; the tree may call them otherwise.
    for (auto& s : saved_tensors(tree)) stored_[s.from.tensor].push_back(std::move(s));
    resolve_overrides();
    note_default_skips();
    for (const auto& t : tree.parameters())
      if (t.local_name() == "bias") with_bias_.insert(t.owner);
  }

  result<quantized_tree> run() {
    quantized_tree out;
    std::unordered_map<storage_id, bytes> size_of;
    for (const auto& t : tree_.parameters()) {
      auto [it, fresh] = size_of.try_emplace(t.storage, t.size());
      if (fresh) {
        const auto encoded = size_of_weight(t, out.overhead);
        if (!encoded) return encoded.propagate();
        if (*encoded) {
          it->second = **encoded;
          out.converted.push_back(t.name);
        }
        out.total += it->second;
      }
      out.sizes.parameters.push_back(it->second);
    }
    std::unordered_set<storage_id> seen;
    for (const auto& t : tree_.buffers()) {
      out.sizes.buffers.push_back(t.size());
      if (t.persistent && seen.insert(t.storage).second) out.total += t.size();
    }
    return out;
  }

 private:
  bool is_linear(const tensor& t) const {
    const auto& c = tree_.modules()[t.owner].class_name;
    return t.local_name() == "weight" && t.shape.size() == 2 &&
           (c == "Linear" || c == "Conv1D" || (q_.embeddings_too && c.find("Embedding") != std::string::npos));
  }
  bool is_expert_stack(const tensor& t) const {
    return t.shape.size() == 3 && tree_.modules()[t.owner].local_name() == "experts";
  }

  /// Bytes of a converted weight, nothing for a weight that stays; an error for an unknown method.
  result<std::optional<bytes>> size_of_weight(const tensor& t, bytes& overhead) const {
    const bool stack = is_expert_stack(t);
    const bool eligible =
        with_companion_.empty() ? stack || (!q_.experts_only && is_linear(t)) : with_companion_.contains(t.name);
    if (!eligible) return std::optional<bytes>{};
    bytes total = 0, extra = 0;
    bool any = false;
    const auto parts = stored_.find(t.name);
    if (parts == stored_.end()) return std::optional<bytes>{};
    for (const auto& part : parts->second) {
      const auto format = format_of(t, part);
      if (format.encoding == weight_encoding::unknown)
        return fail(errc::unsupported, t.name,
                    text<416>("the stored size of the quantization method \"")
                        .append(q_.method)
                        .append("\" is not known; only tensor headers can tell it"));
      const auto size = format.encoding == weight_encoding::plain ? std::nullopt : size_of_part(t, part, format);
      if (size) {
        any = true;
        extra += encoding_overhead(format);
      }
      total += size ? *size : part_elements(part) * bits_of(t.type) / 8;
    }
    if (!any) return std::optional<bytes>{};
    overhead += extra;
    return std::optional(total);
  }

  static std::uint64_t part_elements(const saved_tensor& part) { return element_count(part.shape).value_or(0); }

  std::optional<bytes> size_of_part(const tensor& t, const saved_tensor& part, const weight_format& f) const {
    const auto scale = std::max(1u, bits_of(t.type) / 8);
    const auto rank = part.shape.size();
    if (rank < 2) return std::nullopt;
    auto out = part.shape[rank - 2], in = part.shape[rank - 1];
    // Quantized, a Conv1D's [in, out] is stored as a Linear's [out, in].
    if (tree_.modules()[t.owner].class_name == "Conv1D") std::swap(out, in);
    if (f.encoding == weight_encoding::mlx && f.group != 0 && in % f.group != 0) return std::nullopt;
    const auto one = encoded_bytes(f, out, in, scale, with_bias_.contains(t.owner));
    return one ? std::optional(*one * (rank == 3 ? part.shape[0] : 1)) : std::nullopt;
  }

  weight_format format_of(const tensor& t, const saved_tensor& part) const {
    const auto tree_module = is_expert_stack(t) ? std::string_view(t.name) : parent_of(t.name);
    const auto stored_module =
        part.from.stored.ends_with(".weight") ? parent_of(part.from.stored) : std::string_view(part.from.stored);
    if (const auto* f = override_of(t, part, stored_module)) return *f;
    if (const auto* f = override_of(t, part, tree_module)) return *f;
    if (with_companion_.empty() && (is_skipped(stored_module, t) || is_skipped(tree_module, t))) return {};
    return q_.format;
  }

  const weight_format* override_of(const tensor& t, const saved_tensor& part, std::string_view module) const {
    for (auto name = module; !name.empty(); name = parent_of(name))
      if (const auto it = overrides_.find(name); it != overrides_.end()) return it->second;
    for (const auto& [pattern, format] : expressions_)
      if (matches_expression(pattern, module) == expression_match::yes) return format;
    const auto it = resolved_.find(t.name);
    if (it == resolved_.end()) return nullptr;
    for (const auto& [range, format] : it->second)
      if (range == part.from.range) return format;
    return nullptr;
  }

  /// Overrides written in a foreign spelling (MLX renames prefixes) found through the tree's names.
  void resolve_overrides() {
    std::vector<std::string> names;
    names.reserve(q_.overrides.size());
    for (const auto& [name, format] : q_.overrides) names.push_back(name + ".weight");
    std::vector<stored_name> stored;
    std::unordered_map<std::string_view, const weight_format*> format_of_name;
    for (std::size_t i = 0; i < names.size(); ++i) {
      stored.push_back({names[i], std::nullopt});
      format_of_name.emplace(names[i], &q_.overrides[i].second);
    }
    for (auto& c : map_names(tree_, stored).conversions)
      resolved_[c.tensor].emplace_back(std::move(c.range), format_of_name[c.stored]);
  }

  /// The rule that holds without a list: the head and everything tied stay as they are.
  void note_default_skips() {
    if (!q_.default_skip) return;
    const auto add = [&](std::string_view name) {
      constexpr std::string_view weight = ".weight";
      default_skip_.emplace_back(name.ends_with(weight) ? name.substr(0, name.size() - weight.size()) : name);
    };
    for (const auto& [target, source] : tree_.tied_weights_keys) {
      add(target);
      add(source);
    }
    if (!tree_.parameters().empty()) add(tree_.parameters().back().name);
    if (tree_.output_embedding) add(*tree_.output_embedding);
  }

  bool is_skipped(std::string_view module, const tensor& t) const {
    if (std::ranges::any_of(default_skip_, [&](const std::string& p) { return skips_transformers(p, module); }))
      return true;
    return std::ranges::any_of(q_.skip, [&](const std::string& p) { return skips(p, module, t); });
  }

  static bool skips_transformers(std::string_view pattern, std::string_view module) {
    if (pattern.empty()) return false;
    if (module.ends_with(pattern) || module.starts_with(pattern)) return true;
    // Nearly all patterns are plain names, in which only "." means more than itself: no expression is needed.
    if (pattern.find_first_of("\\^$*+?()[]{}|") == std::string_view::npos) {
      if (pattern.size() > module.size()) return false;
      for (std::size_t i = 0; i < pattern.size(); ++i)
        if (pattern[i] != '.' && pattern[i] != module[i]) return false;
      return true;
    }
    return matches_expression(pattern, module) == expression_match::yes;
  }

  bool skips(std::string_view pattern, std::string_view module, const tensor& t) const {
    switch (q_.style) {
      case skip_style::transformers:
        return skips_transformers(pattern, module);
      case skip_style::contains:
        return module.find(pattern) != std::string_view::npos;
      case skip_style::wildcard:
        return matches_wildcard(pattern, module) || is_below(module, pattern);
      case skip_style::expression:
        if (pattern.starts_with("re:")) return matches_expression(pattern.substr(3), module) == expression_match::yes;
        return is_below(module, pattern) || pattern == tree_.modules()[t.owner].class_name;
    }
    return false;
  }

  const module_tree& tree_;
  const quantization& q_;
  std::unordered_map<std::string_view, const weight_format*> overrides_;
  std::vector<std::pair<std::string_view, const weight_format*>> expressions_;
  std::unordered_map<std::string, std::vector<std::pair<std::vector<slice>, const weight_format*>>> resolved_;
  std::unordered_map<std::string, std::vector<saved_tensor>> stored_;
  std::vector<std::string> default_skip_;
  std::unordered_set<module_index> with_bias_;
  std::unordered_set<std::string_view> with_companion_;  ///< empty: not known
};

}  // namespace

result<quantized_tree> quantized_sizes(const module_tree& tree, const quantization& q, const name_map* names) {
  return tree_sizer(tree, q, names).run();
}

}  // namespace berth
