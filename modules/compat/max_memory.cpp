// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

module berth.compat;

import berth.model;

namespace berth::hf {

std::variant<number, std::string> parse_memory_value(std::string_view text) {
  std::int64_t n = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (status == std::errc{} && end == text.data() + text.size()) return number(n);
  return std::string(text);
}

namespace {

constexpr std::array<std::string_view, 3> known_words{"mps", "cpu", "disk"};

budgets query(const machine& host) {
  budgets out;
  bool integrated = false;
  for (std::size_t i = 0; i < host.accelerators.size(); ++i) {
    const auto& a = host.accelerators[i];
    if (!a) continue;
    integrated = integrated || a->integrated;
    out.push_back({device_key::accelerator(static_cast<std::int64_t>(i)), number(a->free)});
  }
  if (host.mps)
    out.push_back({device_key::named("mps"), number(host.cpu_available)});
  else if (!integrated)
    out.push_back({device_key::named("cpu"), number(host.cpu_available)});
  return out;
}

result<budgets> read(const std::vector<memory_limit>& limits, std::vector<warning>& warnings) {
  budgets given;
  for (const auto& l : limits) {
    if (const auto* text = std::get_if<std::string>(&l.size)) {
      const auto size = accelerate::convert_file_size_to_int(*text);
      if (!size) return size.propagate();
      given.push_back({l.device, *size});
    } else {
      given.push_back({l.device, *std::get_if<number>(&l.size)});
    }
  }
  budgets out;
  std::copy_if(given.begin(), given.end(), std::back_inserter(out),
               [](const budget& b) { return b.device.is_accelerator(); });
  std::sort(out.begin(), out.end(), [](const budget& a, const budget& b) { return a.device < b.device; });
  for (const auto& b : out)
    if (b.device.index() < 0)
      warnings.push_back({warning_kind::device_not_available,
                          "The device " + b.device.text() + " of max_memory does not exist: an index is 0 or more."});
  for (const auto word : known_words)
    for (const auto& b : given)
      if (b.device.is(word)) out.push_back(b);
  for (const auto& b : given)
    if (!b.device.is_accelerator() &&
        std::find(known_words.begin(), known_words.end(), b.device.word()) == known_words.end())
      return fail(errc::invalid_argument, "ValueError",
                  "max_memory names the device \"" + b.device.text() +
                      "\"; the peer takes accelerator indices (0, 1, ...), mps, cpu and disk");
  return out;
}

}  // namespace

namespace accelerate {

result<budgets> get_max_memory(const memory_request& request, std::vector<warning>& warnings) {
  if (request.limits) return read(*request.limits, warnings);
  if (!request.host)
    return fail(errc::invalid_argument, "max_memory", "give budgets per device, or the machine to take them from");
  return query(*request.host);
}

}  // namespace accelerate

namespace transformers {
namespace {

/// reserved - allocated of the allocator on that device; 0 where there is none.
number unused(const std::optional<machine>& host, std::int64_t index) {
  if (!host || index < 0 || static_cast<std::size_t>(index) >= host->accelerators.size()) return 0;
  const auto& a = host->accelerators[static_cast<std::size_t>(index)];
  return a ? number(a->reserved) - number(a->allocated) : number(0);
}

}  // namespace

result<budgets> get_max_memory(const memory_request& request, std::vector<warning>& warnings) {
  auto base = accelerate::get_max_memory(request, warnings);
  if (!base) return base;
  for (auto& b : *base) {
    const auto given = b.bytes;
    if (b.device.is_accelerator()) b.bytes += unused(request.host, b.device.index());
    if (request.limits)
      b.bytes = first_min(given, b.bytes);
    else if (b.device.is("cpu"))
      b.bytes = b.bytes * 0.90;
  }
  return base;
}

}  // namespace transformers
}  // namespace berth::hf
