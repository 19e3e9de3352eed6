// SPDX-License-Identifier: Apache-2.0
// What every kind of golden case reports to: counts per kind, one line per failure.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>

namespace golden {

/// Collects outcomes. A failure prints at once: `FAIL kind file#id: member: expected ..., got ...` (200 characters).
class report {
 public:
  explicit report(bool list_only, std::string filter);

  /// True if the case is to be run (matches --filter, and not --list, which only prints the name).
  bool wants(std::string_view kind, std::string_view name);

  void passed(std::string_view kind);
  void failed(std::string_view kind, std::string_view name, std::string_view member, std::string_view expected,
              std::string_view got);
  /// `why` groups the skips at the end ("format berth.chain/1: planned", "architecture albert: not claimed").
  void skipped(std::string_view kind, std::string_view why);

  /// Prints the totals per kind and in all. Returns the exit code: 0, 1 with failures, 2 without any case.
  int finish() const;

 private:
  struct counts {
    std::size_t passed = 0, failed = 0, skipped = 0;
  };
  bool list_only_;
  std::string filter_;
  std::size_t seen_ = 0;  ///< cases met, whether wanted or not
  std::map<std::string, counts, std::less<>> kinds_;
  std::map<std::string, std::size_t, std::less<>> skip_reasons_;
};

}  // namespace golden
