// SPDX-License-Identifier: Apache-2.0
// Golden kind "berth.machine/1": engines and shared segments together. Amounts are compared with ==, times within
// 2 ps per copy of the instance; how many instances agree in every picosecond is counted and printed.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "kinds.hpp"
#include "report.hpp"
#include "simulated_calls.hpp"

import berth.formats;

namespace golden {
namespace {

constexpr std::string_view kind = "berth.machine/1";
constexpr std::int64_t per_copy = 2;

/// The largest difference between numbers at the same places; nothing if the shapes differ.
std::optional<std::int64_t> difference(const json::value& a, const json::value& b) {
  if (const auto x = a.to_int64(), y = b.to_int64(); x && y) return std::abs(*x - *y);
  std::int64_t largest = 0;
  if (const auto *x = a.if_array(), *y = b.if_array(); x != nullptr && y != nullptr) {
    if (x->size() != y->size()) return std::nullopt;
    for (std::size_t i = 0; i < x->size(); ++i) {
      const auto d = difference((*x)[i], (*y)[i]);
      if (!d) return std::nullopt;
      largest = std::max(largest, *d);
    }
    return largest;
  }
  const auto *x = a.if_object(), *y = b.if_object();
  if (x == nullptr || y == nullptr || x->size() != y->size()) return std::nullopt;
  for (const auto& m : *x) {
    const auto* other = b.find(m.key);
    const auto d = other == nullptr ? std::nullopt : difference(m.value, *other);
    if (!d) return std::nullopt;
    largest = std::max(largest, *d);
  }
  return largest;
}

std::int64_t tolerance_of(std::string_view member, std::size_t copies) {
  const bool time = member == "times" || member == "makespan_ps" || member == "h2d" || member == "d2h";
  return time ? per_copy * static_cast<std::int64_t>(copies) : 0;
}

}  // namespace

void exact_counts::print(const char* what) const {
  if (all_ > 0)
    std::printf("golden: %s: %zu of %zu instances agree in every value; largest difference %lld ps\n", what, exact_,
                all_, static_cast<long long>(largest_));
}

void run_machine_case(const std::string& name, const json::value& line, exact_counts& exact, report& out) {
  if (!out.wants(kind, name)) return;
  const auto* expect = line.find("expect");
  if (expect == nullptr) return out.failed(kind, name, "case", "\"expect\"", "none");
  const auto got = simulate_calls(*line.find("instance"));
  if (!got.problem.empty()) return out.failed(kind, name, "run", "an outcome", got.problem);
  std::int64_t largest = 0;
  auto members = members_of(got);
  for (auto& m : amounts_of(got)) members.push_back(std::move(m));
  for (const auto& [member, value] : members) {
    const auto* stored = expect->find(member);
    if (stored == nullptr) return out.failed(kind, name, member, "a value", "none");
    // Busy times are told per device and engine: those of compute engines are exact.
    const auto off = difference(*stored, value);
    std::int64_t allowed = tolerance_of(member, got.copies);
    if (member == "busy_ps" && off) {
      allowed = tolerance_of("h2d", got.copies);
      for (const auto& d : *value.if_object())
        if (const auto* other = stored->find(d.key);
            other == nullptr || *other->find("compute") != *d.value.find("compute"))
          return out.failed(kind, name, member, json::write(*stored), json::write(value));
    }
    if (!off || *off > allowed) return out.failed(kind, name, member, json::write(*stored), json::write(value));
    largest = std::max(largest, *off);
  }
  exact.add(largest);
  out.passed(kind);
}

}  // namespace golden
