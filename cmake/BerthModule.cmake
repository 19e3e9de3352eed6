# SPDX-License-Identifier: Apache-2.0
# berth_add_module(NAME INTERFACE a.cppm ... [SOURCES b.cpp ...] [LINK berth::x ...] [PRIVATE_LINK lib ...])
#
# One folder, one C++ module, one static library berth_NAME with alias berth::NAME. Interface units go into a
# CXX_MODULES file set; implementation units are ordinary sources. Libraries of others are linked privately, so that
# consumers of the installed package need none of their headers; wrap header-only ones in $<BUILD_LOCAL_INTERFACE:...>
# so that consumers need not have them at all.
function(berth_add_module name)
  cmake_parse_arguments(A "" "" "INTERFACE;SOURCES;LINK;PRIVATE_LINK" ${ARGN})
  add_library(berth_${name} STATIC)
  add_library(berth::${name} ALIAS berth_${name})
  target_sources(berth_${name}
    PUBLIC FILE_SET CXX_MODULES BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${A_INTERFACE}
    PRIVATE ${A_SOURCES})
  target_compile_features(berth_${name} PUBLIC cxx_std_20)
  set_target_properties(berth_${name} PROPERTIES EXPORT_NAME ${name} POSITION_INDEPENDENT_CODE ON)
  target_compile_options(berth_${name} PRIVATE ${BERTH_WARNINGS}
    $<$<COMPILE_LANGUAGE:CXX>:-Werror=global-constructors;-Werror=exit-time-destructors>)
  target_link_libraries(berth_${name} PUBLIC ${A_LINK} PRIVATE ${A_PRIVATE_LINK})
  if(TARGET berth_layers)
    add_dependencies(berth_${name} berth_layers)
  endif()
  set_property(GLOBAL APPEND PROPERTY BERTH_MODULES berth_${name})
endfunction()
