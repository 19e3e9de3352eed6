# SPDX-License-Identifier: Apache-2.0
# Installs libraries, interface sources and the package config. No module files (BMIs): they fit one compiler build and
# one set of flags, so CMake builds them anew in the consumer's project.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

get_property(modules GLOBAL PROPERTY BERTH_MODULES)
# What the static libraries are linked with and the consumer has to have.
set(BERTH_NEEDS_PUGIXML OFF)
foreach(module IN LISTS modules)
  get_target_property(libraries ${module} LINK_LIBRARIES)
  if("${libraries}" MATCHES "(^|;)pugixml")
    set(BERTH_NEEDS_PUGIXML ON)
  endif()
endforeach()

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/berth)
install(TARGETS ${modules} EXPORT berth-targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library
  FILE_SET CXX_MODULES DESTINATION ${CMAKE_INSTALL_DATADIR}/berth COMPONENT library)
if(TARGET berth_cuda_kernels)
  install(TARGETS berth_cuda_kernels EXPORT berth-targets
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library)
endif()
install(EXPORT berth-targets NAMESPACE berth:: DESTINATION ${package} CXX_MODULES_DIRECTORY modules COMPONENT library)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/berthConfig.cmake.in ${PROJECT_BINARY_DIR}/berthConfig.cmake
  INSTALL_DESTINATION ${package})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/berthConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/berthConfig.cmake ${PROJECT_BINARY_DIR}/berthConfigVersion.cmake
  DESTINATION ${package} COMPONENT library)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/licenses/berth COMPONENT library)
if(TARGET berth_cli)
  install(TARGETS berth_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT command)
endif()
