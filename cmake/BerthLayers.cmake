# SPDX-License-Identifier: Apache-2.0
# Target berth_layers: fails the build when a file breaks the rules of cmake/check_layers.py. Every module depends on it.
find_package(Python3 3.8 REQUIRED COMPONENTS Interpreter)
set(stamp ${PROJECT_BINARY_DIR}/layers.stamp)
add_custom_command(OUTPUT ${stamp}
  COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/cmake/check_layers.py ${PROJECT_SOURCE_DIR}
    --stamp ${stamp} --depfile ${stamp}.d
  DEPENDS ${PROJECT_SOURCE_DIR}/cmake/check_layers.py
  DEPFILE ${stamp}.d
  COMMENT "Checking who imports whom"
  VERBATIM)
add_custom_target(berth_layers DEPENDS ${stamp})
