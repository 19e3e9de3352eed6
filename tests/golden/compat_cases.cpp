// SPDX-License-Identifier: Apache-2.0
// Cases computed with accelerate and transformers: plans, sizes, helper functions.
#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "report.hpp"
#include "sha256.hpp"

#include "kinds.hpp"

#include "compat_values.hpp"

import berth.compat;
import berth.formats;

namespace fs = std::filesystem;

namespace golden {

/// Trees by "file" or "file#id", read on first use.
struct compat_cases::trees {
  using entry = berth::result<berth::module_tree>;
  std::map<std::string, entry> known;

  const entry& at(const fs::path& folder, const std::string& reference) {
    const auto key = (folder / reference).string();
    if (const auto it = known.find(key); it != known.end()) return it->second;
    const auto hash = reference.rfind(".jsonl#");
    if (hash == std::string::npos)
      read_one(folder / reference, key);
    else
      read_lines((folder / reference.substr(0, hash + 6)).string());
    return known.try_emplace(key, berth::fail(berth::errc::not_found, reference, "there is no such module tree"))
        .first->second;
  }

 private:
  void read_one(const fs::path& file, const std::string& key) {
    std::ifstream in(file, std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    if (in) add(key, text.str());
  }
  void read_lines(const std::string& file) {
    std::ifstream in(file, std::ios::binary);
    for (std::string line; std::getline(in, line);) {
      const auto parsed = json::parse(line, file);
      if (!parsed) continue;
      known.insert_or_assign(file + "#" + text_of(member(*parsed, "id")), berth::read_module_tree(*parsed, file));
    }
  }
  void add(const std::string& key, const std::string& text) {
    const auto parsed = json::parse(text, key);
    known.insert_or_assign(key, parsed ? berth::read_module_tree(*parsed, key) : entry(parsed.propagate()));
  }
};

compat_cases::compat_cases() : trees_(std::make_unique<trees>()) {}
compat_cases::~compat_cases() = default;

namespace {

constexpr std::string_view kind = "compat";

/// What the library says, under the names that `expect` uses, and its error if it has one.
struct observed {
  std::map<std::string, json::value, std::less<>> members;
  std::optional<berth::error> error;

  void set(std::string_view name, json::value v) { members.insert_or_assign(std::string(name), std::move(v)); }
  void set_error(const std::optional<berth::error>& e) {
    error = e;
    set("error", e ? json::value(e->subject.view()) : json::value());
  }
  template <class T, class F>
  void set_result(const berth::result<T>& r, F&& to_json) {
    set_error(r ? std::nullopt : std::optional(r.error()));
    if (r) set("result", to_json(*r));
  }
};

struct question {
  const berth::module_tree& tree;
  const json::value& args;
};

hf::request to_request(const question& q) {
  hf::request r;
  r.how = hf::strategy_named(text_of(member(q.args, "strategy"))).value_or(hf::strategy::sequential);
  r.memory = to_memory(q.args);
  r.no_split = texts_of(member(q.args, "no_split"));
  r.clean_result = flag(q.args, "clean_result", true);
  r.offload_buffers = flag(q.args, "offload_buffers");
  r.dtype = text_of(member(q.args, "dtype"));
  if (const auto* special = member(q.args, "special_dtypes").if_object())
    for (const auto& m : *special) r.special.emplace_back(m.key, text_of(m.value));
  r.fallback_allocation = flag(q.args, "fallback_allocation");
  const auto quantizer = text_of(member(q.args, "quantizer"));
  if (quantizer == "bnb8") r.quantize = hf::quantizer::bnb8;
  if (quantizer == "bnb4") r.quantize = hf::quantizer::bnb4;
  r.llm_int8_enable_fp32_cpu_offload = flag(q.args, "llm_int8_enable_fp32_cpu_offload");
  if (const auto& skip = member(q.args, "llm_int8_skip_modules"); skip.if_array()) r.skip_modules = texts_of(skip);
  if (const auto& names = member(q.args, "no_placement_params"); names.if_array())
    r.no_placement_params = texts_of(names);
  return r;
}

observed from_outcome(const hf::outcome& o) {
  observed out;
  out.set_error(o.error);
  if (o.map && !o.error) out.set("device_map", from_map(*o.map));
  if (o.balanced) out.set("balanced_max_memory", from_budgets(*o.balanced));
  out.set("warnings", from_warnings(o.warnings));
  if (o.offloaded_buffer_bytes) out.set("offloaded_buffer_bytes", from_number(*o.offloaded_buffer_bytes));
  if (!o.min_needed.empty()) out.set("min_needed", from_budgets(o.min_needed));
  return out;
}

observed from_verdict(const hf::verdict& v) {
  observed out;
  out.set_error(v.refusal);
  out.set("warnings", from_warnings(v.warnings));
  if (!v.refusal) out.set("result", {});
  return out;
}

void set_sizes(observed& out, const hf::module_sizes& sizes) {
  json::object all, shallow;
  std::map<std::string_view, std::string> sorted;
  for (const auto& e : sizes.entries()) {
    all.push_back({std::string(e.name), from_number(e.bytes)});
    if (std::count(e.name.begin(), e.name.end(), '.') <= 1) shallow.push_back(all.back());
    sorted.emplace(e.name, digest_text(e.bytes));
  }
  std::string lines;
  for (const auto& [name, bytes] : sorted) lines.append(name).append("\t").append(bytes).append("\n");
  out.set("all", std::move(all));
  out.set("sizes", std::move(shallow));
  out.set("count", json::value(static_cast<std::uint64_t>(sorted.size())));
  out.set("sha256_of_sorted_lines", json::value(sha256(lines)));
}

json::value strings(const std::vector<std::string>& list) {
  json::array a;
  for (const auto& s : list) a.emplace_back(s);
  return a;
}

// accelerate
// -----------------------------------------------------------------------------------------------------------

observed accelerate_sizes(const question& q) {
  observed out;
  const auto r = to_request(q);
  const auto sizes = hf::accelerate::compute_module_sizes(q.tree, r.dtype, r.special);
  out.set_error(sizes ? std::nullopt : std::optional(sizes.error()));
  if (sizes) set_sizes(out, *sizes);
  return out;
}

observed accelerate_maximum_sizes(const question& q) {
  observed out;
  const auto sizes = hf::accelerate::calculate_maximum_sizes(q.tree);
  out.set_error(sizes ? std::nullopt : std::optional(sizes.error()));
  if (!sizes) return out;
  out.set("total", from_number(sizes->total));
  out.set("largest", from_number(sizes->largest.bytes));
  out.set("largest_names", strings(sizes->largest.names));
  return out;
}

observed accelerate_max_layer(const question& q) {
  observed out;
  const auto largest = hf::accelerate::get_max_layer_size(q.tree, texts_of(member(q.args, "no_split")));
  out.set_error(largest ? std::nullopt : std::optional(largest.error()));
  if (!largest) return out;
  out.set("size", from_number(largest->bytes));
  out.set("names", strings(largest->names));
  return out;
}

observed accelerate_ties(const question& q) {
  observed out;
  const auto groups = hf::accelerate::find_tied_parameters(q.tree);
  out.set_error(groups ? std::nullopt : std::optional(groups.error()));
  if (!groups) return out;
  auto sorted = *groups;
  std::sort(sorted.begin(), sorted.end());
  json::array list;
  for (const auto& g : sorted) list.push_back(strings(g));
  out.set("groups", std::move(list));
  return out;
}

observed accelerate_check_ties(const question& q) {
  std::vector<std::vector<std::string>> groups;
  if (const auto* list = member(q.args, "groups").if_array())
    for (const auto& g : *list) groups.push_back(texts_of(g));
  return from_verdict(
      hf::accelerate::check_tied_parameters_on_same_device(groups, to_map(member(q.args, "device_map"))));
}

observed accelerate_file_size(const question& q) {
  observed out;
  const auto& size = member(q.args, "size");
  if (const auto* text = size.if_string()) {
    out.set_result(hf::accelerate::convert_file_size_to_int(std::string_view(*text)), from_number);
  } else if (const auto n = to_number(size)) {
    out.set_result(hf::accelerate::convert_file_size_to_int(*n), from_number);
  } else {
    // Neither a number nor text: the library's types do not admit it.
    out.set_error(berth::fail(berth::errc::peer_failure, "AttributeError", "not a number and not a text").why);
  }
  out.set("warnings", json::array{});
  return out;
}

observed accelerate_dtype_size(const question& q) {
  observed out;
  out.set_result(hf::accelerate::dtype_byte_size(text_of(member(q.args, "dtype"))), from_number);
  out.set("warnings", json::array{});
  return out;
}

template <auto Function>
observed max_memory(const question& q) {
  observed out;
  std::vector<hf::warning> warnings;
  out.set_result(Function(to_memory(q.args), warnings), pairs_of);
  out.set("warnings", from_warnings(warnings));
  return out;
}

observed accelerate_clean(const question& q) {
  observed out;
  out.set_error(std::nullopt);
  out.set("result", from_map(hf::accelerate::clean_device_map(to_map(member(q.args, "device_map")))));
  out.set("warnings", json::array{});
  return out;
}

// transformers
// ---------------------------------------------------------------------------------------------------------

observed transformers_sizes(const question& q) {
  observed out;
  const auto sizes = hf::transformers::compute_module_sizes(q.tree, to_request(q));
  out.set_error(sizes ? std::nullopt : std::optional(sizes.error()));
  if (!sizes) return out;
  set_sizes(out, sizes->all);
  out.set("leaf_modules", json::value(std::uint64_t{sizes->leaf_modules}));
  out.set("leaf_sum", from_number(sizes->leaf_total));
  return out;
}

observed transformers_expand(const question& q) {
  observed out;
  const auto& given = member(q.args, "device_map");
  const auto map = given.is_null() ? std::nullopt : std::optional(to_map(given));
  out.set_result(hf::transformers::expand_device_map(map, texts_of(member(q.args, "names"))), from_map);
  out.set("warnings", json::array{});
  return out;
}

observed transformers_normalise(const question& q) {
  observed out;
  out.set("warnings", json::array{});
  const auto& given = member(q.args, "device_map");
  if (given.is_null() || given.if_object()) {
    // No map stays none, a map stays as it is.
    out.set_error(std::nullopt);
    out.set("result", given.is_null() ? given : from_map(to_map(given)));
    return out;
  }
  const auto normal = given.if_string() ? hf::transformers::check_and_set_device_map(*given.if_string())
                                        : hf::transformers::check_and_set_device_map(to_device(given).index());
  out.set_result(normal, [&](const hf::transformers::device_map_argument& a) -> json::value {
    if (const auto* map = std::get_if<hf::device_map>(&a)) return from_map(*map);
    return given;
  });
  return out;
}

observed transformers_default_map(const question& q) {
  observed out;
  out.set_error(std::nullopt);
  const auto& given = member(q.args, "device_map");
  constexpr std::array<std::pair<std::string_view, hf::transformers::backend>, 5> backends{
      {{"cuda", hf::transformers::backend::cuda},
       {"npu", hf::transformers::backend::npu},
       {"hpu", hf::transformers::backend::hpu},
       {"xpu", hf::transformers::backend::xpu},
       {"cpu", hf::transformers::backend::cpu}}};
  const auto name = text_of(member(q.args, "backend"));
  const auto* found = std::find_if(backends.begin(), backends.end(), [&](const auto& b) { return b.first == name; });
  if (!given.is_null() || found == backends.end())
    out.set("result", given);
  else
    out.set("result", from_map(hf::transformers::bnb_default_device_map(
                          found->second, member(q.args, "current_device").to_int64().value_or(0))));
  return out;
}

observed transformers_validate(const question& q) {
  observed out;
  const auto& given = member(q.args, "device_map");
  const bool allowed = flag(q.args, "llm_int8_enable_fp32_cpu_offload");
  const auto verdict = given.if_object() ? hf::transformers::bnb_validate_device_map(to_map(given), allowed)
                                         : berth::result<berth::done>(berth::done{});
  out.set_result(verdict, [](berth::done) { return json::value(); });
  out.set("warnings", json::array{});
  return out;
}

observed transformers_adjust(const question& q) {
  observed out;
  std::vector<hf::warning> warnings;
  out.set_result(hf::accelerate::get_max_memory(to_memory(q.args), warnings),
                 [](const hf::budgets& b) { return from_budgets(hf::transformers::adjust_max_memory(b)); });
  return out;
}

observed transformers_should_convert(const question& q) {
  observed out;
  const auto names = texts_of(member(q.args, "names"));
  out.set_result(
      hf::transformers::should_convert_modules(texts_of(member(q.args, "patterns")), {names.begin(), names.end()}),
      [&](const std::vector<bool>& convert) {
        json::object o;
        for (std::size_t i = 0; i < names.size(); ++i) o.push_back({names[i], bool(convert[i])});
        return json::value(std::move(o));
      });
  return out;
}

observed transformers_modules_to_convert(const question& q) {
  observed out;
  const auto r = to_request(q);
  const auto conversion = hf::transformers::bnb_modules_to_convert(q.tree, r);
  const auto sizes = hf::transformers::compute_module_sizes(q.tree, r);
  out.set_error(!conversion ? std::optional(conversion.error()) : !sizes ? std::optional(sizes.error()) : std::nullopt);
  if (out.error) return out;
  std::vector<std::string> names;
  for (const auto m : conversion->converted) names.push_back(q.tree.modules()[m].name);
  std::sort(names.begin(), names.end());
  std::string joined;
  for (const auto& n : names) joined.append(joined.empty() ? "" : "\n").append(n);
  out.set("modules_to_not_convert", strings(conversion->skipped));
  out.set("converted", json::value(static_cast<std::uint64_t>(names.size())));
  out.set("sha256_of_sorted_names", json::value(sha256(joined)));
  out.set("total_bytes", from_number(sizes->all.total()));
  return out;
}

// --------------------------------------------------------------------------------------------------------------------

struct function {
  std::string_view peer, name;
  observed (*run)(const question&);
  bool needs_tree;
};

constexpr std::array<function, 22> functions{{
    {"accelerate", "infer_auto_device_map",
     [](const question& q) { return from_outcome(hf::accelerate::device_map_for(q.tree, to_request(q))); }, true},
    {"accelerate", "compute_module_sizes", accelerate_sizes, true},
    {"accelerate", "calculate_maximum_sizes", accelerate_maximum_sizes, true},
    {"accelerate", "get_max_layer_size", accelerate_max_layer, true},
    {"accelerate", "find_tied_parameters", accelerate_ties, true},
    {"accelerate", "check_device_map",
     [](const question& q) {
       return from_verdict(hf::accelerate::check_device_map(q.tree, to_map(member(q.args, "device_map"))));
     },
     true},
    {"accelerate", "check_tied_parameters_on_same_device", accelerate_check_ties, false},
    {"accelerate", "convert_file_size_to_int", accelerate_file_size, false},
    {"accelerate", "dtype_byte_size", accelerate_dtype_size, false},
    {"accelerate", "get_max_memory", max_memory<hf::accelerate::get_max_memory>, false},
    {"accelerate", "clean_device_map", accelerate_clean, false},
    {"transformers", "from_pretrained_map",
     [](const question& q) { return from_outcome(hf::transformers::device_map_for(q.tree, to_request(q))); }, true},
    {"transformers", "infer_auto_device_map",
     [](const question& q) { return from_outcome(hf::transformers::infer_auto_device_map(q.tree, to_request(q))); },
     true},
    {"transformers", "compute_module_sizes", transformers_sizes, true},
    {"transformers", "get_max_memory", max_memory<hf::transformers::get_max_memory>, false},
    {"transformers", "expand_device_map", transformers_expand, false},
    {"transformers", "check_and_set_device_map", transformers_normalise, false},
    {"transformers", "bnb_default_device_map", transformers_default_map, false},
    {"transformers", "bnb_validate_device_map", transformers_validate, false},
    {"transformers", "adjust_max_memory", transformers_adjust, false},
    {"transformers", "should_convert_module", transformers_should_convert, false},
    {"transformers", "bnb_modules_to_convert", transformers_modules_to_convert, true},
}};

const function* find_function(const json::value& line) {
  const auto peer = text_of(member(line, "peer"));
  const auto name = text_of(member(line, "function"));
  const auto it = std::find_if(functions.begin(), functions.end(),
                               [&](const function& f) { return f.peer == peer && f.name == name; });
  return it == functions.end() ? nullptr : &*it;
}

/// Members that a peer's answer lacks when they do not apply: ours must lack them too.
constexpr std::array<std::string_view, 5> absent_if_not_expected{
    {"device_map", "balanced_max_memory", "offloaded_buffer_bytes", "min_needed", "result"}};

struct difference {
  std::string member, expected, got;
};

std::optional<difference> compare(const json::value& expect, const observed& got) {
  const auto shown = [](const auto it, const auto end) { return it == end ? "nothing" : json::write(it->second); };
  for (const auto& m : *expect.if_object()) {
    if (m.key == "error_message") continue;
    const auto it = got.members.find(m.key);
    if (it != got.members.end() && equal(m.value, it->second)) continue;
    auto text = shown(it, got.members.end());
    if (got.error) text.append(" (").append(got.error->detail.view()).append(")");
    return difference{m.key, json::write(m.value), std::move(text)};
  }
  for (const auto name : absent_if_not_expected)
    if (const auto it = got.members.find(name); it != got.members.end() && expect.find(name) == nullptr)
      return difference{std::string(name), "nothing", json::write(it->second)};
  return std::nullopt;
}

void judge(const json::value& line, const observed& got, const std::string& name, report& out) {
  const auto& expect = member(line, "expect");
  if (flag(line, "peer_bug")) {
    if (got.error && !got.error->detail.empty()) return out.passed(kind);
    return out.failed(kind, name, "error", text_of(member(expect, "error")), "an answer, where the peer crashes");
  }
  if (flag(line, "hash_dependent")) {
    if (const auto* any = member(line, "expect_any").if_array())
      for (const auto& one : *any)
        if (one.if_object() && !compare(one, got)) return out.passed(kind);
    return out.skipped(kind, "compat: the peer's answer depends on its hash seed");
  }
  if (!expect.if_object()) return out.failed(kind, name, "expect", "an object", expect.type_name());
  const auto d = compare(expect, got);
  if (d) return out.failed(kind, name, d->member, d->expected, d->got);
  out.passed(kind);
}

}  // namespace

void compat_cases::run(const fs::path& file, const std::string& name, const json::value& line, report& out) {
  if (!out.wants(kind, name)) return;
  const auto* f = find_function(line);
  if (f == nullptr)
    return out.failed(kind, name, "function", "a known one",
                      text_of(member(line, "peer")) + " " + text_of(member(line, "function")));
  const auto reference = text_of(member(line, "tree"));
  const auto& args = member(line, "args");
  static const berth::module_tree no_tree;
  if (reference.empty()) {
    if (f->needs_tree) return out.failed(kind, name, "tree", "a reference", "none");
    return judge(line, f->run({no_tree, args}), name, out);
  }
  const auto& tree = trees_->at(file.parent_path(), reference);
  if (!tree) return out.failed(kind, name, "tree", reference, tree.error().detail.view());
  if (flag(args, "untied")) return judge(line, f->run({tree->untied(), args}), name, out);
  judge(line, f->run({*tree, args}), name, out);
}

}  // namespace golden
