// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <string_view>

export module berth.tool:progress;

export namespace tool {

/// A one-line progress bar on standard error; silent unless that is a terminal and there is much to do.
class progress_bar {
 public:
  progress_bar() = default;
  ~progress_bar();
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;

  void show(std::size_t done, std::size_t all, std::string_view what);

 private:
  bool shown_ = false;
  std::size_t last_percent_ = 101;
};

}  // namespace tool
