// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/color.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

module berth.tool;

namespace tool {
namespace {

bool colours() { return isatty(STDERR_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr; }

void print(fmt::terminal_color colour, std::string_view word, std::string_view text) {
  if (colours())
    fmt::print(stderr, "{}: {}\n", fmt::styled(word, fmt::fg(colour)), text);
  else
    fmt::print(stderr, "{}: {}\n", word, text);
}

}  // namespace

void complain(std::string_view where, std::string_view what) {
  print(fmt::terminal_color::red, "error", where.empty() ? std::string(what) : fmt::format("{}: {}", where, what));
}

void warn(std::string_view what) { print(fmt::terminal_color::yellow, "warning", what); }

}  // namespace tool
