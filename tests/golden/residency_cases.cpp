// SPDX-License-Identifier: Apache-2.0
// Golden kind "berth.residency/1": the best choice of streamed atoms, its bound, and the values of two simple policies.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kinds.hpp"
#include "report.hpp"

import berth.formats;
import berth.plan;

namespace golden {
namespace {

constexpr std::string_view kind = "berth.residency/1";
constexpr std::uint64_t picoseconds_per_second = 1'000'000'000'000;

struct chain_case {
  std::vector<berth::residency_atom> atoms;
  berth::residency_problem problem;
};

std::optional<std::uint64_t> number_of(const json::value& v, std::string_view key) {
  const auto* m = v.find(key);
  return m == nullptr ? std::nullopt : m->to_uint64();
}

bool read(const json::value& instance, chain_case& c) {
  const auto *atoms = instance.find("atoms"), *link = instance.find("link");
  const auto memory = number_of(instance, "memory"), slots = number_of(instance, "slots");
  if (atoms == nullptr || !atoms->if_array() || link == nullptr || !memory || !slots) return false;
  const auto latency = number_of(*link, "latency_ps"), bandwidth = number_of(*link, "bandwidth");
  if (!latency || !bandwidth || *bandwidth == 0) return false;
  for (const auto& v : *atoms->if_array()) {
    const auto weights = number_of(v, "weights"), compute = number_of(v, "compute_ps");
    if (!weights || !compute) return false;
    const auto scaled = static_cast<unsigned __int128>(*weights) * picoseconds_per_second;
    berth::residency_atom a;
    a.weights = *weights;
    a.compute = static_cast<berth::picoseconds>(*compute);
    a.copy =
        static_cast<berth::picoseconds>(*latency + static_cast<std::uint64_t>((scaled + *bandwidth - 1) / *bandwidth));
    c.atoms.push_back(a);
  }
  c.problem = {c.atoms, *memory, static_cast<std::uint32_t>(*slots)};
  return true;
}

std::string ratio(berth::picoseconds p) { return std::to_string(p) + "/1"; }
std::string ratio(const json::value* v) { return v != nullptr && v->if_string() ? *v->if_string() : "null"; }

/// "period" of the stored choice of a policy if it is allowed, "not allowed" if not.
std::string policy_value(const chain_case& c, const json::value& policy) {
  std::vector<std::uint8_t> streamed(c.atoms.size());
  const auto* list = policy.find("streamed");
  if (list != nullptr && list->if_array())
    for (const auto& i : *list->if_array())
      if (const auto at = i.to_uint64(); at && *at < streamed.size()) streamed[*at] = 1;
  if (berth::residency_need(c.problem, streamed) > c.problem.memory) return "not allowed";
  std::vector<std::uint64_t> scratch(berth::residency_cells(c.atoms.size()));
  return ratio(berth::residency_period(c.problem, streamed, scratch));
}

void compare(const chain_case& c, const std::string& name, const json::value& expect, report& out) {
  for (const auto* policy : {"first_resident", "spread"}) {
    const auto* stored = expect.find(policy);
    if (stored == nullptr || stored->is_null()) continue;
    const auto got = policy_value(c, *stored), want = ratio(stored->find("period_ps"));
    if (want != "null" && got != want) return out.failed(kind, name, policy, want, got);
  }
  const auto want = ratio(expect.find("period_ps"));
  std::vector<std::uint8_t> streamed(c.atoms.size());
  std::vector<std::uint64_t> scratch(berth::residency_search_cells(c.atoms.size()));
  const auto bound = berth::residency_bound(c.problem, scratch);
  const auto choice = berth::choose_residents(c.problem, streamed, scratch);
  if (!choice) {
    if (want != "null" || bound != berth::never)
      return out.failed(kind, name, "period_ps", want, choice.error().detail.view());
    return out.passed(kind);
  }
  if (ratio(choice->period) != want) return out.failed(kind, name, "period_ps", want, ratio(choice->period));
  if (!choice->proven) return out.failed(kind, name, "proven", "true", "false");
  if (bound > choice->period) return out.failed(kind, name, "bound", "at most " + want, std::to_string(bound));
  if (berth::residency_need(c.problem, streamed) > c.problem.memory)
    return out.failed(kind, name, "streamed", "a choice that fits", "one that does not");
  if (const auto value = berth::residency_period(c.problem, streamed, scratch); value != choice->period)
    return out.failed(kind, name, "streamed", want, ratio(value));
  out.passed(kind);
}

}  // namespace

void run_residency_case(const std::string& name, const json::value& line, report& out) {
  if (!out.wants(kind, name)) return;
  chain_case c;
  const auto* expect = line.find("expect");
  if (!read(*line.find("instance"), c) || expect == nullptr)
    return out.failed(kind, name, "case", "atoms, memory, slots, link and expect", "another shape");
  compare(c, name, *expect, out);
}

}  // namespace golden
