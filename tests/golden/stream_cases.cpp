// SPDX-License-Identifier: Apache-2.0
// Golden kind "berth.stream/1": period and first rounds of cyclic weight streaming, the period by two
// algorithms, both also on the simulator.
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kinds.hpp"
#include "report.hpp"

import berth.base;
import berth.exec;
import berth.formats;
import berth.plan;
import berth.sim;

namespace golden {
namespace {

constexpr std::string_view kind = "berth.stream/1";
/// By then every instance has reached its steady state.
constexpr std::size_t rounds_to_settle = 64;

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

/// The case on the simulator: a stream of copies, a stream of computes, events for slots that are filled and free.
class simulated_rounds {
 public:
  simulated_rounds(const round_case& c, std::size_t rounds)
      : ends_(rounds, -1), sim_(device, {}, bounds(c, rounds), std::pmr::get_default_resource()) {
    for (int i = 0; i < 2; ++i) sound_ = sound_ && sim_.add_stream(0).has_value();
    for (std::uint32_t i = 0; i <= 2 * c.slots; ++i) sound_ = sound_ && sim_.add_event().has_value();
    sim_.observe({this, &simulated_rounds::see});
    std::uint32_t slot = 0;
    for (std::uint32_t r = 0; r < rounds; ++r) {
      for (const auto& item : c.items) {
        step(item, slot, c.slots + slot);
        slot = (slot + 1) % c.slots;
      }
      sound_ = sound_ && sim_.record(computes, 2 * c.slots, r).has_value();  // nobody waits for it
    }
    for (const auto s : {copies, computes}) sound_ = sound_ && sim_.run_until_idle(s).has_value();
  }
  /// Ends of the rounds; empty when a call failed.
  std::vector<berth::picoseconds> ends() const { return sound_ ? ends_ : std::vector<berth::picoseconds>(); }

 private:
  static constexpr std::uint32_t copies = 0, computes = 1;
  static constexpr std::array<berth::sim::device_model, 1> device{};

  static berth::sim::simulator_bounds bounds(const round_case& c, std::size_t rounds) {
    const auto calls = static_cast<std::uint32_t>(rounds * (7 * c.items.size() + 1));
    return {2, 2 * c.slots + 1, calls, {}};
  }
  void step(const berth::ring_item& item, std::uint32_t filled, std::uint32_t freed) {
    sound_ = sound_ && sim_.wait(copies, freed).has_value();
    work(copies, berth::sim::engine_kind::copy_in, item.copy);
    sound_ = sound_ && sim_.record(copies, filled).has_value() && sim_.wait(computes, filled).has_value();
    work(computes, berth::sim::engine_kind::compute, item.compute);
    sound_ = sound_ && sim_.record(computes, freed).has_value();
    work(computes, berth::sim::engine_kind::compute, item.resident_after);
  }
  /// Items last a picosecond at least; what takes no time is left out.
  void work(std::uint32_t stream, berth::sim::engine_kind which, berth::picoseconds time) {
    if (time == 0) return;
    berth::sim::item_request r;
    r.first = {0, which};
    r.least = time;
    sound_ = sound_ && sim_.submit(stream, r).has_value();
  }
  static void see(void* self, const berth::sim::step& s) {
    if (s.tag != berth::no_tag) static_cast<simulated_rounds*>(self)->ends_[s.tag] = s.end;
  }

  std::vector<berth::picoseconds> ends_;
  berth::sim::simulator sim_;
  bool sound_ = true;
};

/// What the simulator gets wrong; empty: the first rounds and the steady state are those of the case.
std::string simulator_differs(const round_case& c, berth::picoseconds period, const std::string& first_rounds,
                              std::size_t first) {
  const auto ends = simulated_rounds(c, rounds_to_settle).ends();
  if (ends.size() < first) return "a call failed";
  json::array list;
  for (std::size_t r = 0; r < first; ++r) list.push_back(ends[r]);
  if (json::write(list) != first_rounds) return json::write(list);
  const auto advance = ends[ends.size() - 1] - ends[ends.size() - 2];
  return advance == period ? "" : "period " + std::to_string(advance);
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
  if (const auto other = simulator_differs(*c, exact, expected, ends->if_array()->size()); !other.empty())
    return out.failed(kind, name, "simulated rounds", expected, other);
  out.passed(kind);
}

}  // namespace golden
