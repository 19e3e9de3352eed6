// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.tool;

import berth;

namespace tool {
namespace {

/// More devices of one kind than this are not looked for.
constexpr std::size_t most_devices = 8;

/// "3.31 GiB of weights on 0, 5.15 GiB of weights on cpu (4.1 tokens/s)".
std::string words_of(const berth::plan& p) {
  std::string out;
  for (const auto& u : p.uses)
    if (u.weights > 0)
      out += fmt::format("{}{} of weights on {}", out.empty() ? "" : ", ", berth::format_size(u.weights),
                         p.devices[u.device].id.view());
  const double rate = static_cast<double>(std::max<std::uint64_t>(p.workload.batch, 1)) / p.times.decode;
  return p.times.decode > 0 && p.times.decode < berth::forever ? out + fmt::format(" ({} tokens/s)", shown_rate(rate))
                                                               : out;
}

/// What the placement does that one device alone does not.
std::string_view manner_of(const berth::plan& p) {
  std::size_t gpus = 0;
  bool elsewhere = false;
  for (const auto& u : p.uses) {
    if (u.weights == 0) continue;
    const bool gpu = p.devices[u.device].kind == berth::device_kind::gpu;
    gpus += gpu ? 1 : 0;
    elsewhere = elsewhere || !gpu;
  }
  return elsewhere && gpus > 1 ? "several devices and offload"
         : elsewhere           ? "offload"
         : gpus > 1            ? "several devices"
                               : "another device";
}

std::string_view stored_words(const berth::plan& p) {
  const auto how = berth::precision_from(p.precision.view());
  return how && how->int8 ? "int8" : "the model";
}

/// The least number of devices like `id` that holds the model, with budgets as they were written.
std::optional<std::string> more_devices(const session& s, const strategy_choice& automatic, berth::device_id id) {
  const auto& asked = s.asked();
  if (!s.asked_as().topology.empty() || asked.max_memory.empty()) return std::nullopt;
  const auto one =
      std::find_if(asked.max_memory.begin(), asked.max_memory.end(), [&](const auto& b) { return b.id == id; });
  if (one == asked.max_memory.end()) return std::nullopt;
  auto larger = asked;
  for (std::size_t number = 1; number < most_devices; ++number) {
    const auto next = std::to_string(number);
    const auto taken = [&](const auto& b) { return b.id.view() == next; };
    if (std::any_of(larger.max_memory.begin(), larger.max_memory.end(), taken)) continue;
    larger.max_memory.push_back({berth::device_id(next), one->amount});
    auto machine = machine_of_budgets(larger.max_memory);
    if (!machine) return std::nullopt;
    larger.topology = std::move(machine->topology);
    if (const auto p = s.plan(automatic, larger)) {
      std::string budgets;
      for (const auto& b : larger.max_memory)
        budgets += fmt::format("{}{}={}", budgets.empty() ? "" : ",", b.id.view(), b.amount);
      return fmt::format("{} with {} fits {} budgets: --max-memory {} --strategy auto", stored_words(*p), manner_of(*p),
                         larger.max_memory.size(), budgets);
    }
  }
  return std::nullopt;
}

}  // namespace

berth::error with_alternatives(const session& s, const strategy_choice& choice, const berth::error& e) {
  if (choice.name != "current" || e.code != berth::errc::does_not_fit || e.needed <= e.available) return e;
  auto detail =
      fmt::format("all on this device needs {}, its budget is {}: short of {} ({} bytes)", berth::format_size(e.needed),
                  berth::format_size(e.available), berth::format_size(e.needed - e.available), e.needed - e.available);
  auto automatic = choice;
  automatic.name = "auto";
  if (const auto p = s.plan(automatic, s.asked())) {
    detail += fmt::format("; {} with {} fits: --strategy auto puts {}", stored_words(*p), manner_of(*p), words_of(*p));
  } else {
    detail += "; no other plan fits these budgets";
    if (const auto more = more_devices(s, automatic, berth::device_id(e.subject.view())))
      detail += "; " + *more;
    else if (p.error().code == berth::errc::does_not_fit)  // the planner's own words: what is short of how much
      detail += fmt::format(": {}: {}", p.error().subject.view(), p.error().detail.view());
  }
  auto out = e;
  out.detail = std::string_view(detail);
  return out;
}

}  // namespace tool
