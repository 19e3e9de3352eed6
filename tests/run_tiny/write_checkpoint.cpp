// SPDX-License-Identifier: Apache-2.0
// write_checkpoint FOLDER FAMILY SEED: a small random checkpoint for tests that run programs.
#include <cstdlib>
#include <iostream>
#include <string>

#include "random_checkpoint.hpp"

int main(int argc, char** argv) {
  std::string error = "usage: write_checkpoint FOLDER FAMILY SEED";
  if (argc == 4 && tiny_test::write_random_checkpoint(argv[1], argv[2], std::strtoull(argv[3], nullptr, 10), error))
    return 0;
  std::cerr << error << "\n";
  return 1;
}
