// SPDX-License-Identifier: Apache-2.0
// What benchmark programs of several sections share: the line that says where the figures are from, and the choice of a
// section by name. Include before any import.
#pragma once

#include <cstdio>
#include <ctime>
#include <fstream>
#include <initializer_list>
#include <string>
#include <string_view>

namespace bench {

inline std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  std::string line;
  while (std::getline(info, line))
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

inline void print_heading(const char* program) {
  const auto now = std::time(nullptr);
  char date[16];
  std::strftime(date, sizeof date, "%Y-%m-%d", std::gmtime(&now));
  std::printf("%s; processor %s; compiler %s; %s\n", program, processor().c_str(), __VERSION__, date);
}

struct section {
  std::string_view name;
  void (*run)();
};
/// Runs the sections whose names contain the program's first argument; all of them without one.
inline void run_sections(int argc, char** argv, std::initializer_list<section> sections) {
  const std::string_view only = argc > 1 ? argv[1] : "";
  for (const auto& s : sections)
    if (s.name.find(only) != std::string_view::npos) {
      s.run();
      std::fflush(stdout);
    }
}

}  // namespace bench
