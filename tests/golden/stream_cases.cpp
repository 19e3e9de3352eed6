// SPDX-License-Identifier: Apache-2.0
// Golden kind "berth.stream/1": period and first rounds of cyclic weight streaming, the period by two algorithms.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kinds.hpp"
#include "report.hpp"

import berth.formats;
import berth.plan;

namespace golden {
namespace {

constexpr std::string_view kind = "berth.stream/1";

struct round_case {
  std::vector<berth::ring_item> items;
  std::uint32_t slots = 0;
};

std::optional<berth::picoseconds> time_of(const json::value& v, std::string_view key) {
  const auto* m = v.find(key);
  return m == nullptr ? std::nullopt : m->to_int64();
}

std::optional<round_case> read(const json::value& instance) {
  const auto* items = instance.find("items");
  const auto slots = time_of(instance, "slots");
  if (items == nullptr || !items->if_array() || !slots || *slots < 1 || *slots > 1'000'000) return std::nullopt;
  round_case c;
  c.slots = static_cast<std::uint32_t>(*slots);
  for (const auto& item : *items->if_array()) {
    const auto copy = time_of(item, "copy_ps"), compute = time_of(item, "compute_ps");
    const auto resident = time_of(item, "resident_after_ps");
    if (!copy || !compute || !resident) return std::nullopt;
    c.items.push_back({*copy, *compute, *resident});
  }
  return c;
}

/// The event graph of the case for the general algorithm: copies are events 0..m-1, computes m..2m-1.
double period_by_cycles(const round_case& c) {
  const auto m = static_cast<std::uint32_t>(c.items.size());
  std::vector<berth::event_arc> arcs;
  for (std::uint32_t j = 0; j < m; ++j) {
    const auto next = (j + 1) % m, later = (j + c.slots) % m;
    const std::uint32_t wraps = j + 1 == m ? 1 : 0;
    const auto& item = c.items[j];
    arcs.push_back({j, next, static_cast<double>(c.items[next].copy), wraps});
    arcs.push_back({m + j, m + next, static_cast<double>(item.resident_after + c.items[next].compute), wraps});
    arcs.push_back({j, m + j, static_cast<double>(item.compute), 0});
    arcs.push_back({m + j, later, static_cast<double>(c.items[later].copy), (j + c.slots) / m});
  }
  const std::size_t events = 2 * c.items.size();
  std::vector<double> values(berth::cycle_values(events));
  std::vector<std::uint32_t> marks(berth::cycle_marks(events, arcs.size()));
  return berth::max_cycle_ratio(arcs, events, values, marks);
}

std::string ends_of(const round_case& c, std::size_t rounds) {
  std::vector<berth::picoseconds> ends(rounds), scratch(berth::ring_end_cells(c.items.size(), c.slots, rounds));
  berth::ring_round_ends(c.items, c.slots, ends, scratch);
  json::array list;
  for (const auto e : ends) list.push_back(e);
  return json::write(list);
}

}  // namespace

void run_stream_case(const std::string& name, const json::value& line, report& out) {
  if (!out.wants(kind, name)) return;
  const auto c = read(*line.find("instance"));
  const auto* expect = line.find("expect");
  const auto* period = expect == nullptr ? nullptr : expect->find("period_ps");
  const auto* ends = expect == nullptr ? nullptr : expect->find("round_end_ps");
  if (!c || period == nullptr || !period->if_string() || ends == nullptr || !ends->if_array())
    return out.failed(kind, name, "case", "items, slots, period_ps and round_end_ps", "another shape");
  std::vector<berth::picoseconds> scratch(berth::ring_cells(c->items.size(), c->slots));
  const auto exact = berth::ring_period(c->items, c->slots, scratch);
  const auto got = std::to_string(exact) + "/1";
  if (got != *period->if_string()) return out.failed(kind, name, "period_ps", *period->if_string(), got);
  const auto general = period_by_cycles(*c);
  if (std::abs(general - static_cast<double>(exact)) > 1e-12 * static_cast<double>(exact))
    return out.failed(kind, name, "period_ps by cycles", got, std::to_string(general));
  const auto expected = json::write(*ends), computed = ends_of(*c, ends->if_array()->size());
  if (computed != expected) return out.failed(kind, name, "round_end_ps", expected, computed);
  out.passed(kind);
}

}  // namespace golden
