# SPDX-License-Identifier: Apache-2.0
# cmake -D PROGRAM=path -D EXPECTED=file -P compare_output.cmake
execute_process(COMMAND ${PROGRAM} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE errors)
if(NOT code EQUAL 0 OR NOT errors STREQUAL "")
  message(FATAL_ERROR "exit ${code}, stderr:\n${errors}")
endif()
file(READ ${EXPECTED} expected)
if(NOT output STREQUAL expected)
  message("expected:\n${expected}\nprinted:\n${output}")
  message(FATAL_ERROR "the output is not that of ${EXPECTED}")
endif()
