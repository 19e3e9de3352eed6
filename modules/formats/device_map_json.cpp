// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.formats;

namespace berth {

namespace {

/// "cuda:1" and "cuda" are what torch prints; berth numbers GPUs.
std::optional<device_id> device_from_text(std::string_view s) {
  if (s == "cuda") return device_id(0);
  constexpr std::string_view prefix = "cuda:";
  if (s.substr(0, prefix.size()) == prefix) s.remove_prefix(prefix.size());
  if (!device_id::fits(s)) return std::nullopt;
  return device_id(s);
}

}  // namespace

result<std::vector<std::pair<std::string, device_id>>> read_device_map(const json::value& document,
                                                                       std::string_view what) {
  const auto* object = document.if_object();
  if (object == nullptr)
    return fail(errc::malformed, what, "a device map is a JSON object from module names to devices, like {\"\": 0}");
  std::vector<std::pair<std::string, device_id>> out;
  for (const auto& [key, device] : *object) {
    if (const auto n = device.to_int64(); n && *n >= 0 && *n < 1'000'000) {
      out.emplace_back(key, device_id(static_cast<int>(*n)));
      continue;
    }
    const auto id = device.if_string() != nullptr ? device_from_text(*device.if_string()) : std::nullopt;
    if (!id)
      return fail(errc::malformed, what,
                  text<256>("the device of \"")
                      .append(key)
                      .append("\" is neither a GPU number nor a name like \"cpu\" or \"disk\""));
    out.emplace_back(key, *id);
  }
  return out;
}

json::value write_device_map(const device_map& map) {
  json::object out;
  for (const auto& [name, id] : map) {
    if (const auto n = id.ordinal())
      out.push_back({name, *n});
    else
      out.push_back({name, id.view()});
  }
  return out;
}

}  // namespace berth
