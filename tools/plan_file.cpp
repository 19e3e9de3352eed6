// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <set>
#include <string>
#include <string_view>
#include <utility>

module berth.tool;

import berth;
import berth.formats;

namespace tool {
namespace {

using berth::errc;
using berth::fail;
using berth::result;

struct part_size {
  berth::bytes size = 0;
  bool found = false;
};

/// Bytes of everything at or below a name, each storage once.
part_size size_below(std::string_view name, const berth::module_tree& tree, const berth::tensor_sizes& sizes) {
  part_size out;
  std::set<berth::storage_id> seen;
  const auto add = [&](const auto& tensors, const auto& bytes_of) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      if (!berth::is_dotted_prefix(name, tensors[i].name)) continue;
      out.found = true;
      if (seen.insert(tensors[i].storage).second) out.size += bytes_of[i];
    }
  };
  add(tree.parameters(), sizes.parameters);
  add(tree.buffers(), sizes.buffers);
  return out;
}

}  // namespace

result<berth::plan_document> checked_plan(std::string_view text, std::string_view what) {
  auto document = berth::json::parse(text, what);
  if (!document) return document.propagate();
  auto read = berth::read_plan(*document, what);
  if (!read) return read;
  if (const auto broken = berth::check(read->plan); !broken.empty())
    return fail(errc::invalid_plan, broken.front().subject.view(),
                berth::text<416>(broken.front().detail).append(" (berth check says all)"));
  return read;
}

result<berth::plan_document> checked_plan_file(const std::string& path) {
  auto text = read_input(path);
  if (!text) return text.propagate();
  return checked_plan(*text, path == "-" ? "standard input" : path);
}

std::string difference(const berth::plan& p, const berth::loaded_model& m) {
  const auto how = berth::precision_from(p.precision.view());
  const auto sizes = berth::apply_precision(m.tree(), m.sizes, how.value_or(berth::precision{}));
  if (!sizes) return fmt::format("{}: {}", sizes.error().subject.view(), sizes.error().detail.view());
  for (const auto& a : p.atoms) {
    if (a.parts > 1) continue;
    const auto here = size_below(a.name, m.tree(), *sizes);
    if (!here.found) return fmt::format("it has no part called {}", a.name);
    if (here.size != a.weights)
      return fmt::format("{} has {} bytes in the plan and {} in the model", a.name, a.weights, here.size);
  }
  return "names and sizes agree; shapes, dtypes or ties differ";
}

}  // namespace tool
