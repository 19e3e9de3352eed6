// SPDX-License-Identifier: Apache-2.0
// Turns a library error into a message and an exit code.
export module berth.tool:report_error;

import berth;
import :failure;

export namespace tool {

/// A plan that does not fit is an answer; everything else is input to be mended.
inline int exit_code_of(berth::errc code) {
  return code == berth::errc::does_not_fit || code == berth::errc::invalid_plan || code == berth::errc::peer_failure
             ? exit_no
             : exit_usage;
}

inline int report(const berth::error& e) {
  complain(e.subject.view(), e.detail.view());
  return exit_code_of(e.code);
}

}  // namespace tool
