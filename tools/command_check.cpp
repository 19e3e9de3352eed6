// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <cstddef>
#include <string>

module berth.tool;

import berth;
import berth.formats;

namespace tool {

int run_check(const check_arguments& a) {
  const std::string what = a.plan == "-" ? "standard input" : a.plan;
  auto text = read_input(a.plan);
  if (!text) return report(text.error());
  auto document = berth::json::parse(*text, what);
  if (!document) return report(document.error());
  auto read = berth::read_plan(*document, what);
  if (!read) return report(read.error());
  const auto& p = read->plan;
  std::string out;
  std::size_t broken = 0;
  for (const auto& violation : berth::check(p)) {
    out += fmt::format("violated: {}: {}\n", violation.subject.view(), violation.detail.view());
    ++broken;
  }
  for (const auto& c : read->contradictions) {
    out += fmt::format("violated: {}\n", c);
    ++broken;
  }
  if (!a.model.empty()) {
    auto model = load(a.model);
    if (!model) return report(model.error());
    if (model->fingerprint != p.fingerprint) {
      out += fmt::format("violated: {}: its fingerprint is {:016x}, the plan was made for {:016x}\n", a.model,
                         model->fingerprint, p.fingerprint);
      ++broken;
    }
  }
  for (const auto& n : read->notes) out += fmt::format("note: {}\n", n);
  if (broken == 0)
    out += fmt::format("holds: {} atoms on {} devices, {} of weights, every device within its budget\n", p.atoms.size(),
                       p.uses.size(), berth::format_size(berth::total_weights(p.model())));
  else
    out += fmt::format("{} violation{}\n", broken, broken == 1 ? "" : "s");
  if (!write_output("-", out)) return exit_usage;
  return broken == 0 ? exit_done : exit_no;
}

}  // namespace tool
