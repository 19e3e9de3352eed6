// SPDX-License-Identifier: Apache-2.0
module;

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

module berth.tool;

namespace tool {

bool write_output(const std::string& path, std::string_view text) {
  if (path.empty() || path == "-") {
    const bool whole = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
    if (!whole) complain("standard output", std::strerror(errno));
    return whole;
  }
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    complain(path, "is a folder; name a file");
    return false;
  }
  // A new file beside the target, moved into place when it is complete: readers never see half of it.
  const auto fresh = path + ".new-" + std::to_string(getpid());
  std::FILE* file = std::fopen(fresh.c_str(), "wb");
  if (file == nullptr) {
    complain(path, std::strerror(errno));
    return false;
  }
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size() && std::fflush(file) == 0;
  const int why = errno;
  if (std::fclose(file) != 0 || !written || std::rename(fresh.c_str(), path.c_str()) != 0) {
    complain(path, std::strerror(written ? errno : why));
    std::remove(fresh.c_str());
    return false;
  }
  return true;
}

}  // namespace tool
