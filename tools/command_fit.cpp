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
import berth.formats;

namespace tool {
namespace {

using berth::errc;
using berth::fail;
using berth::result;

/// What a plan must satisfy to count as an answer.
struct demand {
  double tokens_per_second = 0;
  double first_token = 0;
  bool on_gpus = true;

  bool met_by(const berth::plan& p) const {
    if (on_gpus)
      for (const auto& at : p.placements)
        if (p.devices[at.home].kind != berth::device_kind::gpu || at.streamed()) return false;
    if ((tokens_per_second > 0 || first_token > 0) && !p.priced) return false;
    if (tokens_per_second > 0 && static_cast<double>(p.workload.batch) / p.times.decode < tokens_per_second)
      return false;
    return first_token <= 0 || p.times.prefill <= first_token;
  }
};

class fitter {
 public:
  fitter(const fit_arguments& a, const session& s, const strategy_choice& c) : s_(s), choice_(c) {
    demand_.tokens_per_second = a.min_tokens_per_second;
    demand_.first_token = a.max_first_token;
    bool gpu = false;
    for (const auto& d : s.asked().topology.devices) gpu = gpu || d.kind == berth::device_kind::gpu;
    // A speed floor says by itself what is good enough.
    demand_.on_gpus = gpu && !a.allow_offload && a.min_tokens_per_second <= 0;
  }
  const demand& wanted() const { return demand_; }

  std::optional<berth::plan> fits(const setting& s) const {
    auto p = s_.plan(choice_, s);
    if (!p || !demand_.met_by(*p)) return std::nullopt;
    return *std::move(p);
  }

  /// The largest value of a quantity for which the question has an answer: doubling, then bisection. The memory that a
  /// plan needs grows with it, so there is one border.
  template <class Set>
  std::optional<std::pair<std::uint64_t, berth::plan>> largest(std::uint64_t least, std::uint64_t most, Set set) const {
    const auto attempt = [&](std::uint64_t n) {
      auto s = s_.asked();
      set(s, n);
      return fits(s);
    };
    auto best = attempt(least);
    if (!best) return std::nullopt;
    std::uint64_t low = least, high = least;
    while (high < most) {
      high = high > most / 2 ? most : high * 2;
      auto p = attempt(high);
      if (!p) break;
      low = high;
      best = std::move(p);
    }
    while (low < high && high - low > std::max<std::uint64_t>(1, low / 1024)) {
      const auto middle = low + (high - low) / 2;
      if (auto p = attempt(middle)) {
        low = middle;
        best = std::move(p);
      } else {
        high = middle;
      }
    }
    return std::pair(low, std::move(*best));
  }

 private:
  const session& s_;
  const strategy_choice& choice_;
  demand demand_;
};

std::string demand_words(const demand& d) {
  std::string out = d.on_gpus ? "everything on the GPUs" : "offloading allowed";
  if (d.tokens_per_second > 0) out += fmt::format(", at least {} tokens/s", d.tokens_per_second);
  if (d.first_token > 0) out += fmt::format(", first token within {}", shown_time(d.first_token));
  return out;
}

int say(const fit_arguments& a, const session& s, const std::string& answer, const std::string& quantity,
        const berth::json::value& value, const berth::plan* p) {
  std::string text;
  if (a.format == "json")
    text = berth::json::write(
               berth::json::object{{"format", "berth.fit/1"},
                                   {"quantity", quantity},
                                   {"value", value},
                                   {"plan", p == nullptr ? berth::json::value(nullptr) : berth::write_plan(*p)}},
               2) +
           "\n";
  else
    text = p == nullptr ? answer : answer + "\n" + plan_table(*p, s.dtype_words(), s.notes());
  if (!write_output(a.output, text)) return exit_usage;
  return p == nullptr ? exit_no : exit_done;
}

int fit_context(const fit_arguments& a, const session& s, const fitter& f) {
  const auto& w = s.asked().workload;
  const auto least = std::max<std::uint64_t>(w.prompt + w.generate, 1);
  const auto most = s.max_context() > least ? s.max_context() : std::max<std::uint64_t>(least, std::uint64_t{1} << 20);
  auto found = f.largest(least, most, [](setting& x, std::uint64_t n) { x.workload.context = n; });
  if (!found)
    return say(a, s,
               fmt::format("no context fits: not even {} tokens (prompt + generate) with {}\n", least,
                           demand_words(f.wanted())),
               "context", nullptr, nullptr);
  const bool limit = found->first == s.max_context();
  return say(a, s,
             fmt::format("largest context: {} tokens per sequence{} ({})\n", found->first,
                         limit ? ", the model's own limit" : "", demand_words(f.wanted())),
             "context", found->first, &found->second);
}

int fit_batch(const fit_arguments& a, const session& s, const fitter& f) {
  auto found = f.largest(1, 65536, [](setting& x, std::uint64_t n) { x.workload.batch = n; });
  if (!found)
    return say(a, s, fmt::format("no batch fits: not even one sequence with {}\n", demand_words(f.wanted())), "batch",
               nullptr, nullptr);
  return say(a, s,
             fmt::format("largest batch: {} sequences of context {} ({})\n", found->first, s.asked().workload.context,
                         demand_words(f.wanted())),
             "batch", found->first, &found->second);
}

/// Machines by what people pay for: all GPU memory, then the number of GPUs.
std::vector<std::pair<std::string, berth::topology>> machines_of(const fit_arguments& a, std::string& problem) {
  std::vector<std::pair<std::string, berth::topology>> out;
  std::vector<std::string> names = split_words(a.machines);
  if (names.empty()) names = berth::preset_names();
  for (const auto& name : names) {
    auto t = berth::preset(name);
    if (!t) {
      problem = fmt::format("{}: {}", name, t.error().detail.view());
      return out;
    }
    out.emplace_back(name, *std::move(t));
  }
  const auto key = [](const berth::topology& t) {
    berth::bytes memory = 0;
    std::size_t gpus = 0;
    for (const auto& d : t.devices)
      if (d.kind == berth::device_kind::gpu) {
        memory += d.memory;
        ++gpus;
      }
    return std::pair(memory, gpus);
  };
  std::sort(out.begin(), out.end(), [&](const auto& x, const auto& y) {
    const auto a_key = key(x.second), b_key = key(y.second);
    return a_key != b_key ? a_key < b_key : x.first < y.first;
  });
  return out;
}

int fit_machine(const fit_arguments& a, const session& s, const fitter& f) {
  std::string problem;
  const auto machines = machines_of(a, problem);
  if (!problem.empty()) {
    complain("--machines", problem);
    return exit_usage;
  }
  for (const auto& [name, topology] : machines) {
    bool gpu = false;
    for (const auto& d : topology.devices) gpu = gpu || d.kind == berth::device_kind::gpu;
    if (!gpu && f.wanted().on_gpus) continue;
    auto x = s.asked();
    x.topology = topology;
    x.max_memory.clear();
    x.reserve.clear();
    if (auto p = f.fits(x))
      return say(a, s, fmt::format("smallest machine: preset:{} ({})\n", name, demand_words(f.wanted())), "machine",
                 name, &*p);
  }
  return say(a, s, fmt::format("none of {} machines runs this with {}\n", machines.size(), demand_words(f.wanted())),
             "machine", nullptr, nullptr);
}

}  // namespace

int run_fit(const fit_arguments& a) {
  auto question = a;
  // The machines are the answer here; a small stand-in keeps the rest of the question whole.
  if (a.search == "machine") {
    if (!a.topology.empty() || !a.max_memory.empty()) {
      complain("--search machine", "looks for the machine itself; leave --topology and --max-memory out");
      return exit_usage;
    }
    question.topology = "preset:1x4090";
  } else if (!a.machines.empty()) {
    complain("--machines", "belongs to --search machine");
    return exit_usage;
  }
  if (a.search == "context") {
    if (!a.context.empty()) {
      complain("--context", "is the answer here; leave it out");
      return exit_usage;
    }
    question.context = "0";  // until a context is tried, none is kept
  }
  auto s = session::open(question);
  if (!s) return report(s.error());
  if (s->is_chain()) {
    complain(a.model, "a berth.chain/1 instance has a fixed workload and machine; fit needs a model");
    return exit_usage;
  }
  auto choice = s->choice("");
  if (!choice) return report(choice.error());
  const fitter f(a, *s, *choice);
  if (a.search == "context") return fit_context(a, *s, f);
  if (a.search == "batch") return fit_batch(a, *s, f);
  return fit_machine(a, *s, f);
}

}  // namespace tool
