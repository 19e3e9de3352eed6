// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.tool;

import berth;
import berth.formats;

namespace tool {
namespace {

/// What was written, with names of the same width below each other.
std::string as_table(const quantize_arguments& a, const berth::int8_checkpoint& plan,
                     const std::vector<written_file>& files) {
  auto out = fmt::format("{}: {} weights in int8, {} tensors as they were\n", a.folder, plan.quantized,
                         plan.parts.size() - plan.quantized);
  out += fmt::format("  {} before, {} after ({:.1f} %)\n", berth::format_size(plan.bytes_before),
                     berth::format_size(plan.bytes_after),
                     100 * static_cast<double>(plan.bytes_after) / static_cast<double>(plan.bytes_before));
  out += fmt::format("  {}\n\n", berth::int8_bound_statement);
  for (const auto& f : files) out += fmt::format("  {:>12}  {}\n", berth::format_size(f.size), f.name);
  return out;
}

std::string as_json(const quantize_arguments& a, const berth::int8_checkpoint& plan,
                    const std::vector<written_file>& files) {
  berth::json::array list;
  for (const auto& f : files) list.push_back(berth::json::object{{"name", f.name}, {"bytes", f.size}});
  const berth::json::object out{{"format", "berth.quantize/1"},
                                {"folder", a.folder},
                                {"quantized", std::uint64_t{plan.quantized}},
                                {"unchanged", std::uint64_t{plan.parts.size() - plan.quantized}},
                                {"bytes_before", plan.bytes_before},
                                {"bytes_after", plan.bytes_after},
                                {"bound", berth::int8_bound_statement},
                                {"files", std::move(list)}};
  return berth::json::write(out, 2) + "\n";
}

}  // namespace

int run_quantize(const quantize_arguments& a) {
  berth::int8_options options;
  const auto shard = berth::parse_size(a.max_shard_size);
  if (!shard) return report(shard.error());
  options.max_shard = *shard;
  if (!a.int8_skip.empty()) options.skip = split_words(a.int8_skip);
  const auto model = load(a.model);
  if (!model) return report(model.error());
  const auto plan = berth::plan_int8_checkpoint(*model, options);
  if (!plan) return report(plan.error());
  const auto files = write_int8_checkpoint(*model, *plan, a.folder);
  if (!files) return report(files.error());
  for (const auto& w : model->warnings) warn(w);
  return write_output("-", a.format == "json" ? as_json(a, *plan, *files) : as_table(a, *plan, *files)) ? exit_done
                                                                                                        : exit_usage;
}

}  // namespace tool
