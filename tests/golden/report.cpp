// SPDX-License-Identifier: Apache-2.0
#include "report.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

namespace golden {
namespace {

constexpr std::size_t line_width = 200;

/// At most `most` bytes, cut where a UTF-8 character starts.
std::string_view cut(std::string_view s, std::size_t most) {
  if (s.size() <= most) return s;
  while (most > 0 && (static_cast<unsigned char>(s[most]) & 0xc0u) == 0x80u) --most;
  return s.substr(0, most);
}

}  // namespace

report::report(bool list_only, std::string filter) : list_only_(list_only), filter_(std::move(filter)) {}

bool report::wants(std::string_view kind, std::string_view name) {
  ++seen_;
  const auto full = std::string(kind).append(" ").append(name);
  if (full.find(filter_) == std::string::npos) return false;
  if (list_only_) std::puts(full.c_str());
  return !list_only_;
}

void report::passed(std::string_view kind) { ++kinds_[std::string(kind)].passed; }

void report::failed(std::string_view kind, std::string_view name, std::string_view member, std::string_view expected,
                    std::string_view got) {
  ++kinds_[std::string(kind)].failed;
  const auto head = std::string("FAIL ").append(kind).append(" ").append(name).append(": ").append(member);
  // Both values get their share of the line.
  const auto rest = line_width - std::min(line_width, head.size() + sizeof(": expected , got ") - 1);
  const auto first = cut(expected, std::max(rest / 2, rest - std::min(rest, got.size())));
  auto line = std::string(cut(head, line_width)).append(": expected ").append(first).append(", got ");
  line.append(cut(got, rest - std::min(rest, first.size())));
  std::puts(std::string(cut(line, line_width)).c_str());
}

void report::skipped(std::string_view kind, std::string_view why) {
  ++kinds_[std::string(kind)].skipped;
  ++skip_reasons_[std::string(why)];
}

int report::finish() const {
  if (seen_ == 0) {
    std::fputs("golden: no case found\n", stderr);
    return 2;
  }
  if (list_only_) return 0;
  for (const auto& [why, count] : skip_reasons_) std::printf("golden: skipped %zu: %s\n", count, why.c_str());
  counts total;
  const auto print = [](const std::string& what, const counts& c) {
    std::printf("golden: %s: %zu passed, %zu failed, %zu skipped\n", what.c_str(), c.passed, c.failed, c.skipped);
  };
  for (const auto& [kind, c] : kinds_) {
    print("kind " + kind, c);
    total.passed += c.passed;
    total.failed += c.failed;
    total.skipped += c.skipped;
  }
  print("total", total);
  return total.failed == 0 ? 0 : 1;
}

}  // namespace golden
