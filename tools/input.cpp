// SPDX-License-Identifier: Apache-2.0
module;

#include <system_error>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>

module berth.tool;

import berth;

namespace tool {
namespace {

constexpr std::size_t max_input = std::size_t{1} << 30;

struct closer {
  void operator()(std::FILE* f) const {
    if (f != stdin) std::fclose(f);
  }
};

}  // namespace

berth::result<std::string> read_input(const std::string& path) {
  using berth::errc;
  if (path.empty()) return berth::fail(errc::invalid_argument, "file name", "is empty");
  std::error_code ignored;
  if (path != "-" && std::filesystem::is_directory(path, ignored))
    return berth::fail(errc::unreadable, path, "is a folder; a file is needed here");
  const std::unique_ptr<std::FILE, closer> file(path == "-" ? stdin : std::fopen(path.c_str(), "rb"));
  if (!file) return berth::fail(errc::unreadable, path, std::strerror(errno));
  std::string text;
  char buffer[65536];
  for (std::size_t n = 0; (n = std::fread(buffer, 1, sizeof buffer, file.get())) > 0;) {
    text.append(buffer, n);
    if (text.size() > max_input)
      return berth::fail(errc::capacity, path,
                         "is larger than 1 GiB, which no description of a model, plan or machine is");
  }
  if (std::ferror(file.get()) != 0) return berth::fail(errc::unreadable, path, std::strerror(errno));
  return text;
}

}  // namespace tool
