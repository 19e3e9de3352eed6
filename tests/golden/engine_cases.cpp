// SPDX-License-Identifier: Apache-2.0
// Golden kind "berth.engine/1": streams, engines, events and memory on the simulator, compared with ==.
#include <string>
#include <string_view>

#include "kinds.hpp"
#include "report.hpp"
#include "simulated_calls.hpp"

import berth.formats;

namespace golden {
namespace {

constexpr std::string_view kind = "berth.engine/1";

}  // namespace

void run_engine_case(const std::string& name, const json::value& line, report& out) {
  if (!out.wants(kind, name)) return;
  const auto* expect = line.find("expect");
  if (expect == nullptr) return out.failed(kind, name, "case", "\"expect\"", "none");
  const auto got = simulate_calls(*line.find("instance"));
  if (!got.problem.empty()) return out.failed(kind, name, "run", "an outcome", got.problem);
  for (const auto& [member, value] : members_of(got)) {
    const auto* stored = expect->find(member);
    const auto want = stored == nullptr ? std::string("nothing") : json::write(*stored), have = json::write(value);
    if (want != have) return out.failed(kind, name, member, want, have);
  }
  out.passed(kind);
}

}  // namespace golden
