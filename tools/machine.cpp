// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.tool;

import berth;
import berth.formats;
import berth.host;

namespace tool {
namespace {

using berth::errc;
using berth::fail;

/// The card whose rates stand in where only memory is known.
constexpr std::string_view default_card = "4090";

berth::result<machine_choice> detect() {
  auto host = berth::host::detect_host();
  if (!host) return host.propagate();
  auto out = with_gpus(*std::move(host));
  if (out && out->topology.view().count(berth::device_kind::gpu) == 0)
    out->notes.emplace_back("other machines are described with --topology (preset:NAME or a file) or --max-memory");
  return out;
}

}  // namespace

berth::result<machine_choice> choose_machine(const std::string& spec, const std::string& gpu) {
  constexpr std::string_view preset_prefix = "preset:";
  if (spec == "auto") return detect();
  if (spec.substr(0, preset_prefix.size()) == preset_prefix) {
    auto t = berth::preset(std::string_view(spec).substr(preset_prefix.size()));
    if (!t) return t.propagate();
    return machine_choice{*std::move(t), {}};
  }
  auto text = read_input(spec);
  if (!text)
    return fail(text.error().code, spec,
                berth::text<256>(text.error().detail).append("; give auto, preset:NAME or a topology file"));
  auto document = berth::read_topology(*text, spec == "-" ? "standard input" : spec, {gpu});
  if (!document) return document.propagate();
  return machine_choice{std::move(document->machine), std::move(document->notes)};
}

berth::result<machine_choice> machine_of_budgets(const std::vector<berth::device_bytes>& budgets) {
  std::vector<berth::device_bytes> gpus;
  for (const auto& b : budgets) {
    if (b.id == "cpu" || b.id == "disk") continue;
    if (!b.id.ordinal() && b.id != berth::device_id("mps"))
      return fail(errc::unknown_device, b.id.view(), "without --topology a device is a GPU number, mps, cpu or disk");
    gpus.push_back(b);
  }
  std::sort(gpus.begin(), gpus.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  auto box = berth::preset(gpus.empty() ? std::string("cpu-only") : fmt::format("{}x{}", gpus.size(), default_card));
  if (!box) return box.propagate();
  machine_choice out{*std::move(box), {}};
  out.topology.name = "from --max-memory";
  std::size_t next = 0;
  for (auto& d : out.topology.devices) {
    const berth::device_bytes* budget = nullptr;
    if (d.kind == berth::device_kind::gpu) {
      budget = &gpus[next++];
      d.id = budget->id;
      if (d.id == berth::device_id("mps")) d.api = berth::accelerator_api::mps;
    } else {
      for (const auto& b : budgets)
        if (b.id == d.id) budget = &b;
    }
    // A budget in so many words is meant to the byte: no context, no arena rounding.
    if (budget != nullptr) d.memory = d.free = budget->amount;
    d.context = 0;
    d.granularity = 1;
  }
  if (!gpus.empty())
    out.notes.push_back(fmt::format("rates of an {} assumed for each GPU; give --topology for others",
                                    out.topology.devices.front().model.view()));
  return out;
}

}  // namespace tool
