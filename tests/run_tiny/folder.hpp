// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <filesystem>
#include <string>
#include <system_error>

namespace tiny_test {

/// The name of a folder for one test, which goes away with it.
struct folder {
  std::string path = (std::filesystem::temp_directory_path() / ("berth_tiny_" + std::to_string(::getpid()))).string();

  folder() = default;
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;
  ~folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

}  // namespace tiny_test
