// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

export module berth.cuda:errors;

import berth.base;
import :runtime_table;

export namespace berth::cuda {

/// What a status means for a run.
enum class status_kind : std::uint8_t {
  none,     ///< no error: success, not ready, peer access that is on already
  memory,   ///< an allocation was refused; the run can go on
  driver,   ///< no usable driver or device
  lost,     ///< sticky: every later call on the context fails too
  device,   ///< no device with this number
  program,  ///< kernels, launches and captures that cannot be
  call,     ///< arguments and states of one call
};

/// A row of the list of all statuses.
struct status_row {
  int value = 0;
  std::string_view name;  ///< as in CUDA's header
  status_kind kind = status_kind::call;
};
/// All values of `cudaError_t` of CUDA 13, ascending.
std::span<const status_row> all_statuses();

/// CUDA's name of a status; "unknown status" for values that CUDA 13 does not have.
std::string_view name_of(status s);
/// `call` for values that CUDA 13 does not have.
status_kind kind_of(status s);

/// Which call failed, and on what.
struct failed_call {
  std::string_view call;     ///< "cudaMalloc"
  std::string_view subject;  ///< the device, "CUDA" where none is meant
  bytes size = 0;            ///< bytes asked for or moved; 0: none
  bool transfer = false;     ///< a copy: what is nobody's fault becomes `copy_failed`, which can be tried again
};

/// The error for a status that is not of kind `none`: code, call, bytes and what to do. Codes: `out_of_memory`,
/// `unavailable`, `device_lost`, `unknown_device`, `invalid_program`, `copy_failed`, `invalid_argument`.
failure error_of(status s, const failed_call& where);

}  // namespace berth::cuda
