// SPDX-License-Identifier: Apache-2.0
// How the command ends: exit codes and error messages.
module;

#include <string_view>

export module berth.tool:failure;

export namespace tool {

inline constexpr int exit_done = 0;   ///< done
inline constexpr int exit_no = 1;     ///< the answer is no: does not fit, check failed
inline constexpr int exit_usage = 2;  ///< wrong usage or unreadable input

/// Prints "berth: WHERE: WHAT" on standard error (the word in red on a terminal unless NO_COLOR is set).
void complain(std::string_view where, std::string_view what);

/// A warning on standard error, for outputs that have no place of their own for it.
void warn(std::string_view what);

}  // namespace tool
