// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "compat_values.hpp"

namespace golden {
namespace {

const json::value nothing;  // NOLINT: stands for absent members

}  // namespace

const json::value& member(const json::value& object, std::string_view key) {
  const auto* m = object.find(key);
  return m == nullptr ? nothing : *m;
}

bool flag(const json::value& object, std::string_view key, bool otherwise) {
  const auto* b = member(object, key).if_bool();
  return b == nullptr ? otherwise : *b;
}

std::string text_of(const json::value& v) { return v.if_string() ? *v.if_string() : std::string(); }

std::vector<std::string> texts_of(const json::value& list) {
  std::vector<std::string> out;
  if (const auto* a = list.if_array())
    for (const auto& v : *a) out.push_back(text_of(v));
  return out;
}

std::optional<hf::number> to_number(const json::value& v) {
  if (const auto* b = v.if_bool()) return hf::number(*b ? 1 : 0);
  if (const auto i = v.to_int64()) return hf::number(*i);
  if (const auto u = v.to_uint64()) return hf::number(*u);
  if (const auto* d = v.if_double()) return hf::number::real(*d);
  // A wide integer of the data is always an exact double: it came from one.
  if (const auto* w = v.if_wide()) return hf::number::truncated(std::strtod(w->digits.c_str(), nullptr));
  return std::nullopt;
}

json::value from_number(const hf::number& n) {
  if (n.is_real()) return n.to_double();
  const auto text = n.text();
  if (const auto parsed = json::parse(text, "number")) return *parsed;
  return json::wide_integer{text};
}

std::string digest_text(const hf::number& n) {
  if (!n.is_real()) return n.text();
  if (const auto whole = hf::number::truncated(n.to_double()); whole == n) return whole.text();
  std::array<char, 64> buffer{};
  const int length = std::snprintf(buffer.data(), buffer.size(), "%.10g", n.to_double());
  return {buffer.data(), static_cast<std::size_t>(length)};
}

hf::device_key to_device(const json::value& v) {
  if (const auto* s = v.if_string()) return hf::device_key::named(*s);
  if (const auto* b = v.if_bool()) return hf::device_key::accelerator(*b ? 1 : 0);
  return hf::device_key::accelerator(v.to_int64().value_or(-1));
}

json::value from_device(const hf::device_key& d) {
  if (d.is_accelerator()) return d.index();
  return d.word();
}

hf::device_map to_map(const json::value& object) {
  hf::device_map map;
  if (const auto* o = object.if_object())
    for (const auto& m : *o) map.push_back({m.key, to_device(m.value)});
  return map;
}

json::value from_map(const hf::device_map& map) {
  std::map<std::string, json::value> unique;
  for (const auto& m : map) unique.insert_or_assign(m.name, from_device(m.device));
  json::object o;
  for (auto& [name, device] : unique) o.push_back({name, std::move(device)});
  return o;
}

namespace {

berth::bytes bytes_of(const json::value& object, std::string_view key) {
  return member(object, key).to_uint64().value_or(0);
}

hf::machine to_machine(const json::value& v) {
  hf::machine m;
  m.cpu_available = bytes_of(v, "cpu_available");
  m.mps = flag(v, "mps");
  if (const auto* gpus = member(v, "gpus").if_array())
    for (const auto& g : *gpus) {
      m.accelerators.emplace_back();
      if (g.is_null()) continue;
      m.accelerators.back() =
          hf::machine::accelerator{bytes_of(g, "free"), bytes_of(g, "total"), bytes_of(g, "reserved"),
                                   bytes_of(g, "allocated"), flag(g, "integrated")};
    }
  return m;
}

}  // namespace

hf::memory_request to_memory(const json::value& args) {
  hf::memory_request r;
  if (const auto* given = member(args, "max_memory").if_object()) {
    r.limits.emplace();
    for (const auto& m : *given) {
      const auto device = hf::device_key::parse(m.key);
      if (const auto* text = m.value.if_string())
        r.limits->push_back({device, *text});
      else
        r.limits->push_back({device, to_number(m.value).value_or(hf::number(0))});
    }
  }
  if (const auto& machine = member(args, "machine"); machine.if_object()) r.host = to_machine(machine);
  return r;
}

json::value from_budgets(const hf::budgets& budgets) {
  json::object o;
  for (const auto& b : budgets) o.push_back({b.device.text(), from_number(b.bytes)});
  return o;
}

json::value pairs_of(const hf::budgets& budgets) {
  json::array list;
  for (const auto& b : budgets) list.push_back(json::array{from_device(b.device), from_number(b.bytes)});
  return list;
}

json::value from_warnings(const std::vector<hf::warning>& warnings) {
  std::vector<std::string> kinds;
  for (const auto& w : warnings) kinds.emplace_back(name_of(w.kind));
  std::sort(kinds.begin(), kinds.end());
  kinds.erase(std::unique(kinds.begin(), kinds.end()), kinds.end());
  json::array list;
  for (auto& k : kinds) list.push_back(std::move(k));
  return list;
}

bool equal(const json::value& a, const json::value& b) {
  if (const auto* x = a.if_object()) {
    const auto* y = b.if_object();
    if (y == nullptr || x->size() != y->size()) return false;
    std::map<std::string_view, const json::value*> other;
    for (const auto& m : *y) other.emplace(m.key, &m.value);
    return std::all_of(x->begin(), x->end(), [&](const json::member& m) {
      const auto it = other.find(m.key);
      return it != other.end() && equal(m.value, *it->second);
    });
  }
  if (const auto* x = a.if_array()) {
    const auto* y = b.if_array();
    return y != nullptr && std::equal(x->begin(), x->end(), y->begin(), y->end(), equal);
  }
  if (const auto *x = a.if_wide(), *y = b.if_wide(); x != nullptr && y != nullptr) return x->digits == y->digits;
  const auto x = to_number(a), y = to_number(b);
  if (x && y) return *x == *y;
  return a == b;
}

}  // namespace golden
