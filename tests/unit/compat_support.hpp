// SPDX-License-Identifier: Apache-2.0
// Trees and plans of the compat tests as short texts. Include last: it ends in imports.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <ostream>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

import berth.compat;

namespace compat_test {

namespace hf = berth::hf;

/// Builds a tree from a text like "rb~100 a{w=40 l:Block{b=20 n~4!}} c{w@a.w} d&a":
/// parameters name=BYTES (uint8), shared ones name@FULL.NAME, persistent buffers name~BYTES, others name~BYTES!,
/// children NAME:Class{...} (class "M" if absent), aliases NAME&FULL.NAME.
class tree_text {
 public:
  explicit tree_text(std::string_view text) : text_(text), builder_("Root") { content(); }
  berth::module_tree tree() { return *builder_.finish(); }

 private:
  void content() {
    for (space(); at_ < text_.size() && text_[at_] != '}'; space()) item();
  }
  void item() {
    const auto name = word();
    const char kind = text_[at_];
    if (kind == ':' || kind == '{') {
      const auto class_name = kind == ':' ? (++at_, word()) : std::string("M");
      ++at_;
      builder_.enter(name, class_name);
      content();
      builder_.leave();
      ++at_;
      return;
    }
    ++at_;
    const auto value = word();
    const auto full = std::string(builder_.current()).append(builder_.current().empty() ? "" : ".").append(name);
    if (kind == '&') return builder_.alias(name, value);
    if (kind == '@') return builder_.parameter_again(name, storage_.at(value));
    const auto bytes = static_cast<std::uint64_t>(std::atoll(value.c_str()));
    const bool passing = at_ < text_.size() && text_[at_] == '!';
    if (passing) ++at_;
    storage_[full] = kind == '=' ? builder_.parameter(name, berth::dtype::u8, {bytes})
                                 : builder_.buffer(name, berth::dtype::u8, {bytes}, !passing);
  }
  std::string word() {
    const auto begin = at_;
    while (at_ < text_.size() && std::string_view("=~@&:{}! ").find(text_[at_]) == std::string_view::npos) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }
  void space() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  berth::tree_builder builder_;
  std::map<std::string, berth::storage_id> storage_;
};

inline berth::module_tree tree_of(std::string_view text) { return tree_text(text).tree(); }

/// Budgets from "0=500,1=20GiB,cpu=1000"; "" is the empty dictionary.
inline hf::memory_request memory_of(std::string_view text) {
  hf::memory_request m;
  m.limits.emplace();
  while (!text.empty()) {
    const auto comma = std::min(text.find(','), text.size());
    const auto pair = text.substr(0, comma);
    const auto equals = pair.find('=');
    m.limits->push_back(
        {hf::device_key::parse(pair.substr(0, equals)), hf::parse_memory_value(pair.substr(equals + 1))});
    text.remove_prefix(std::min(text.size(), comma + 1));
  }
  return m;
}

/// A map as "0: a b | cpu: c": devices in order, names sorted.
inline std::string text_of(const hf::device_map& map) {
  std::map<hf::device_key, std::set<std::string>> by_device;
  for (const auto& m : map) by_device[m.device].insert(m.name.empty() ? "\"\"" : m.name);
  std::string s;
  for (const auto& [device, names] : by_device) {
    s.append(s.empty() ? "" : " | ").append(device.text()).append(":");
    for (const auto& n : names) s.append(" ").append(n);
  }
  return s;
}

inline std::string text_of(const hf::budgets& budgets) {
  std::string s;
  for (const auto& b : budgets)
    s.append(s.empty() ? "" : ",").append(b.device.text()).append("=").append(b.bytes.text());
  return s;
}

/// The map of an outcome, or its error as "IndexError".
inline std::string text_of(const hf::outcome& o) {
  return o.error ? std::string(o.error->subject.view()) : text_of(*o.map);
}

inline bool warns(const std::vector<hf::warning>& warnings, hf::warning_kind kind) {
  return std::any_of(warnings.begin(), warnings.end(),
                     [&](const auto& w) { return w.kind == kind && !w.text.empty(); });
}

/// A request for `how` on budgets, with uncleaned maps: what most vectors show.
inline hf::request request_of(std::string_view memory, std::vector<std::string> no_split = {},
                              hf::strategy how = hf::strategy::sequential) {
  hf::request r;
  r.how = how;
  r.memory = memory_of(memory);
  r.no_split = std::move(no_split);
  r.clean_result = false;
  return r;
}

inline std::string accelerate_plan(const berth::module_tree& tree, const hf::request& r) {
  return text_of(hf::accelerate::device_map_for(tree, r));
}
inline std::string accelerate_plan(std::string_view tree, std::string_view memory,
                                   std::vector<std::string> no_split = {}) {
  return accelerate_plan(tree_of(tree), request_of(memory, std::move(no_split)));
}
inline std::string transformers_plan(const berth::module_tree& tree, const hf::request& r) {
  return text_of(hf::transformers::infer_auto_device_map(tree, r));
}

// Models of the peer's own tests, 4-byte floats.

inline void add_linear(berth::tree_builder& b, std::string_view name, std::uint64_t in, std::uint64_t out) {
  b.enter(name, "Linear");
  b.parameter("weight", berth::dtype::f32, {out, in});
  b.parameter("bias", berth::dtype::f32, {out});
  b.leave();
}
inline void add_batchnorm(berth::tree_builder& b, std::string_view name, std::uint64_t n) {
  b.enter(name, "BatchNorm1d");
  b.parameter("weight", berth::dtype::f32, {n});
  b.parameter("bias", berth::dtype::f32, {n});
  b.buffer("running_mean", berth::dtype::f32, {n}, true);
  b.buffer("running_var", berth::dtype::f32, {n}, true);
  b.buffer("num_batches_tracked", berth::dtype::i64, {}, true);
  b.leave();
}
/// linear1 3->4 (64 bytes), batchnorm 4 (72), linear2 4->5 (100).
inline void add_test_model(berth::tree_builder& b) {
  add_linear(b, "linear1", 3, 4);
  add_batchnorm(b, "batchnorm", 4);
  add_linear(b, "linear2", 4, 5);
}
inline berth::module_tree test_model() {
  berth::tree_builder b("ModelForTest");
  add_test_model(b);
  return *b.finish();
}
inline berth::module_tree test_models_in_sequence(int count) {
  berth::tree_builder b("Sequential");
  for (int i = 0; i < count; ++i) {
    b.enter(std::to_string(i), "ModelForTest");
    add_test_model(b);
    b.leave();
  }
  return *b.finish();
}

}  // namespace compat_test
