// SPDX-License-Identifier: Apache-2.0
// Files that must be refused, each by the reader that its name calls for, with a reason.
#include <filesystem>
#include <string>
#include <string_view>

#include "kinds.hpp"
#include "report.hpp"

namespace golden {

void run_malformed_file(const std::filesystem::path& file, report& r) {
  constexpr std::string_view kind = "malformed";
  const auto path = file.filename().string();
  if (!r.wants(kind, path)) return;
  const auto read = berth::read_checkpoint(file.string());
  if (read) {
    r.failed(kind, path, "refused", "an error", std::string("read as ").append(berth::describe(read->source)));
    return;
  }
  const auto& why = read.error();
  // A reader that could not open the file has not judged it.
  if (why.code == berth::errc::not_found || why.code == berth::errc::unreadable || why.detail.empty())
    r.failed(kind, path, "reason", "what is wrong with the content", std::string(why.detail.view()));
  else
    r.passed(kind);
}

}  // namespace golden
