// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <string_view>

module berth.tool;

namespace tool {

namespace {
constexpr std::size_t worth_showing = 16;
constexpr std::size_t width = 30;
}  // namespace

void progress_bar::show(std::size_t done, std::size_t all, std::string_view what) {
  if (all < worth_showing || isatty(STDERR_FILENO) == 0) return;
  const auto percent = done * 100 / all;
  if (percent == last_percent_) return;
  last_percent_ = percent;
  shown_ = true;
  const auto filled = done * width / all;
  fmt::print(stderr, "\r[{:#<{}}{:.<{}}] {}/{} {:<40.40}", "", filled, "", width - filled, done, all, what);
  std::fflush(stderr);
}

progress_bar::~progress_bar() {
  if (shown_) fmt::print(stderr, "\r{:{}}\r", "", width + 60);
}

}  // namespace tool
