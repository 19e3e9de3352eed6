// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.tool;

import berth;
import berth.formats;

namespace tool {
namespace {

/// Elements and bytes of one dtype, each storage once.
struct dtype_sum {
  std::uint64_t elements = 0;
  berth::bytes stored = 0;
};

std::map<std::string, dtype_sum> sums_by_dtype(const berth::loaded_model& m) {
  std::map<std::string, dtype_sum> out;
  if (m.checkpoint && m.checkpoint->has_headers()) {
    for (const auto& t : m.checkpoint->tensors) {
      auto& sum = out[std::string(berth::info_of(t.type).torch)];
      sum.elements += berth::element_count(t.shape).value_or(0);
      sum.stored += t.length;
    }
    return out;
  }
  std::unordered_set<berth::storage_id> seen;
  const auto add = [&](const auto& tensors, const std::vector<berth::bytes>& sizes) {
    for (std::size_t i = 0; i < tensors.size(); ++i)
      if (tensors[i].persistent && seen.insert(tensors[i].storage).second) {
        auto& sum = out[std::string(berth::info_of(tensors[i].type).torch)];
        sum.elements += tensors[i].elements;
        sum.stored += sizes[i];
      }
  };
  add(m.tree().parameters(), m.sizes.parameters);
  add(m.tree().buffers(), m.sizes.buffers);
  return out;
}

std::size_t block_count(const berth::loaded_model& m) {
  const auto chain = berth::derive_model(m.tree(), m.sizes);
  std::size_t n = 0;
  for (const auto& a : chain.atoms()) n += a.kind == berth::atom_kind::block ? 1 : 0;
  return n;
}

std::optional<berth::bytes> kv_per_token(const berth::loaded_model& m) {
  berth::cache_options options;
  if (m.quantization && m.quantization->kv_cache_bits) options.width = {*m.quantization->kv_cache_bits, 8};
  return berth::kv_bytes_per_token(m.architecture, options);
}

template <class T>
berth::json::value or_null(const std::optional<T>& v) {
  return v ? berth::json::value(static_cast<std::uint64_t>(*v)) : berth::json::value(nullptr);
}

berth::json::value names_json(const std::vector<std::string>& names) {
  berth::json::array out;
  for (const auto& n : names) out.emplace_back(n);
  return out;
}

std::optional<std::int64_t> difference(const berth::loaded_model& m) {
  const auto base = m.stored_bytes ? m.stored_bytes : m.config_bytes;
  if (!base || !m.index_total) return std::nullopt;
  return static_cast<std::int64_t>(*m.index_total) - static_cast<std::int64_t>(*base);
}

std::string as_json(const berth::loaded_model& m) {
  berth::json::object dtypes;
  for (const auto& [name, sum] : sums_by_dtype(m))
    dtypes.push_back({name, berth::json::object{{"elements", sum.elements}, {"bytes", sum.stored}}});
  berth::json::array ties, inferred;
  for (const auto& group : m.tree().tied_groups()) ties.push_back(names_json(group));
  for (const auto& i : m.inferred)
    inferred.push_back(berth::json::object{{"what", i.what}, {"value", i.value}, {"source", i.source}});
  const auto diff = difference(m);
  berth::json::object out{
      {"format", "berth.inspect/1"},
      {"id", m.tree().id},
      {"model_type", m.architecture.model_type},
      {"exactness", name_of(m.architecture.how)},
      {"source", m.checkpoint ? berth::describe(m.checkpoint->source) : std::string_view("module tree")},
      {"parameters", m.tree().element_total()},
      {"bytes", or_null(m.stored_bytes)},
      {"bytes_from_config", or_null(m.config_bytes)},
      {"index_total_size", or_null(m.index_total)},
      {"difference", diff ? berth::json::value(*diff) : berth::json::value(nullptr)},
      {"dtype", m.tree().dtype_name},
      {"dtype_source", m.dtype_source},
      {"dtypes", std::move(dtypes)},
      {"blocks", static_cast<std::uint64_t>(block_count(m))},
      {"no_split_modules", names_json(m.tree().no_split_modules)},
      {"ties", std::move(ties)},
      {"kv_bytes_per_token", or_null(kv_per_token(m))},
      {"max_context", m.architecture.max_context},
      {"quantization", m.quantization ? berth::json::value(berth::json::object{
                                            {"method", m.quantization->method},
                                            {"encoding", berth::describe(m.quantization->format.encoding)},
                                            {"bits", std::uint64_t{m.quantization->format.bits}},
                                            {"source", m.quantization->source}})
                                      : berth::json::value(nullptr)},
      {"unexpected", names_json(m.names.unexpected)},
      {"missing", names_json(m.names.missing)},
      {"mismatched", names_json(m.names.mismatched)},
      {"ignored", names_json(m.names.ignored)},
      {"inferred", std::move(inferred)},
      {"warnings", names_json(m.warnings)},
      {"fingerprint", fmt::format("{:016x}", m.fingerprint)}};
  return berth::json::write(out, 2) + "\n";
}

std::string name_list(std::string_view title, const std::vector<std::string>& names) {
  constexpr std::size_t limit = 8;
  if (names.empty()) return {};
  auto out = fmt::format("\n  {} ({}):\n", title, names.size());
  for (std::size_t i = 0; i < names.size() && i < limit; ++i) out += fmt::format("    {}\n", names[i]);
  if (names.size() > limit) out += fmt::format("    and {} more\n", names.size() - limit);
  return out;
}

std::string size_rows(const berth::loaded_model& m) {
  const auto line = [](std::string_view what, const std::string& value) {
    return fmt::format("  {:<22} {}\n", what, value);
  };
  const auto size = [](const std::optional<berth::bytes>& b) {
    return b ? fmt::format("{} ({} bytes)", berth::format_size(*b), *b) : std::string("not known");
  };
  std::string out = line("parameters", fmt::format("{} ({:.2f} billion)", m.tree().element_total(),
                                                   static_cast<double>(m.tree().element_total()) / 1e9));
  if (m.stored_bytes) out += line("bytes, from headers", size(m.stored_bytes));
  out += line("bytes, from config", size(m.config_bytes));
  if (m.index_total) {
    out += line("bytes, index claims", size(m.index_total));
    if (const auto diff = difference(m); diff && *diff != 0)
      out += line("difference", fmt::format("{:+} bytes", *diff));
  }
  for (const auto& [name, sum] : sums_by_dtype(m))
    out += line("  " + name, fmt::format("{} elements, {}", sum.elements, berth::format_size(sum.stored)));
  return out;
}

std::string as_table(const berth::loaded_model& m) {
  const auto line = [](std::string_view what, const std::string& value) {
    return fmt::format("  {:<22} {}\n", what, value);
  };
  auto out = fmt::format("{}: {} ({})\n", m.tree().id.empty() ? "model" : m.tree().id, m.architecture.model_type,
                         m.checkpoint ? berth::describe(m.checkpoint->source) : std::string_view("module tree"));
  out += size_rows(m);
  out += line("load dtype", fmt::format("{}, from {}", m.tree().dtype_name, m.dtype_source));
  std::string classes;
  for (const auto& c : m.tree().no_split_modules) classes += (classes.empty() ? "" : ", ") + c;
  out += line("blocks", fmt::format("{}{}", block_count(m), classes.empty() ? "" : " of " + classes));
  if (const auto kv = kv_per_token(m); kv && *kv > 0)
    out += line("KV cache", fmt::format("{} bytes per token{}", *kv,
                                        m.architecture.max_context > 0
                                            ? fmt::format(", up to {} tokens", m.architecture.max_context)
                                            : std::string()));
  if (m.quantization)
    out += line("quantization", fmt::format("{}: {}, {} bits, from {}", m.quantization->method,
                                            berth::describe(m.quantization->format.encoding),
                                            m.quantization->format.bits, m.quantization->source));
  for (const auto& group : m.tree().tied_groups()) {
    std::string names;
    for (const auto& n : group) names += (names.empty() ? "" : " = ") + n;
    out += line("tied", names);
  }
  out +=
      line("architecture", m.architecture.how == berth::exactness::exact      ? "exact: the module tree of transformers"
                           : m.architecture.how == berth::exactness::by_count ? "known by its parameter count"
                                                                              : "blocks found from the tensor names");
  for (const auto& i : m.inferred) out += line("inferred", fmt::format("{} = {}, from {}", i.what, i.value, i.source));
  out += name_list("stored names that nothing in the model takes", m.names.unexpected);
  out += name_list("parts of the model that no stored name fills", m.names.missing);
  out += name_list("stored with another shape", m.names.mismatched);
  if (!m.warnings.empty()) out += "\n";
  for (const auto& w : m.warnings) out += fmt::format("  warning: {}\n", w);
  return out;
}

}  // namespace

int run_inspect(const inspect_arguments& a) {
  auto model = load(a.model);
  if (!model) return report(model.error());
  return write_output(a.output, a.format == "json" ? as_json(*model) : as_table(*model)) ? exit_done : exit_usage;
}

}  // namespace tool
