// SPDX-License-Identifier: Apache-2.0
// Turns a library error into a message and an exit code.
export module berth.tool:report_error;

import berth;
import :failure;

export namespace tool {

/// A plan that does not fit is an answer; everything else is input to be mended.
inline int exit_code_of(berth::errc code) {
  switch (code) {
    case berth::errc::does_not_fit:
    case berth::errc::invalid_plan:
    case berth::errc::peer_failure:
    case berth::errc::out_of_memory:
    case berth::errc::device_lost:
    case berth::errc::copy_failed:
    case berth::errc::corrupted:
    case berth::errc::stalled:
      return exit_no;
    default:
      return exit_usage;
  }
}

inline int report(const berth::error& e) {
  complain(e.subject.view(), e.detail.view());
  return exit_code_of(e.code);
}

}  // namespace tool
