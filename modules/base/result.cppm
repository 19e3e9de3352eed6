// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

export module berth.base:result;

import :text;

export namespace berth {

/// What went wrong, grouped by the stage that found it. Values are stable: scripts and logs may store them.
enum class errc : std::uint16_t {
  // 1xx: arguments and general
  invalid_argument = 100,
  capacity = 101,     ///< the caller's memory or a stated bound is too small
  unsupported = 102,  ///< well-formed, but outside what this build can do
  overflow = 103,     ///< a size does not fit 63 bits
  // 2xx: reading files
  not_found = 200,
  unreadable = 201,
  malformed = 202,  ///< the text or bytes break the format's rules
  unknown_format = 203,
  unsafe_path = 204,  ///< a file name inside a file points outside its folder
  unwritable = 205,   ///< a file cannot be written: no room, no right
  // 3xx: model
  unknown_architecture = 300,
  inconsistent_model = 301,  ///< parts of a checkpoint contradict each other
  // 4xx: topology and device names
  unknown_device = 400,
  invalid_topology = 401,
  // 5xx: planning
  does_not_fit = 500,
  uncovered = 501,  ///< a map leaves tensors without a device
  invalid_plan = 502,
  peer_failure = 503,  ///< compat: the peer fails on this input too
  // 6xx: running a program
  out_of_memory = 600,  ///< a device refused an allocation; the run can go on without it
  device_lost = 601,    ///< every later call on the device fails with this too
  copy_failed = 602,
  corrupted = 603,    ///< the bytes that arrived are not those of their source
  stalled = 604,      ///< something was waited for that never happens
  unavailable = 605,  ///< no such machine here: driver, device or build option is missing
  invalid_program = 606,
  cancelled = 607,  ///< the caller asked to stop
};

/// Stable name of an error code, as printed and as stored in JSON.
constexpr std::string_view name_of(errc c) {
  switch (c) {
    case errc::invalid_argument:
      return "invalid_argument";
    case errc::capacity:
      return "capacity";
    case errc::unsupported:
      return "unsupported";
    case errc::overflow:
      return "overflow";
    case errc::not_found:
      return "not_found";
    case errc::unreadable:
      return "unreadable";
    case errc::malformed:
      return "malformed";
    case errc::unknown_format:
      return "unknown_format";
    case errc::unsafe_path:
      return "unsafe_path";
    case errc::unknown_architecture:
      return "unknown_architecture";
    case errc::inconsistent_model:
      return "inconsistent_model";
    case errc::unknown_device:
      return "unknown_device";
    case errc::invalid_topology:
      return "invalid_topology";
    case errc::does_not_fit:
      return "does_not_fit";
    case errc::uncovered:
      return "uncovered";
    case errc::invalid_plan:
      return "invalid_plan";
    case errc::peer_failure:
      return "peer_failure";
    case errc::out_of_memory:
      return "out_of_memory";
    case errc::device_lost:
      return "device_lost";
    case errc::copy_failed:
      return "copy_failed";
    case errc::corrupted:
      return "corrupted";
    case errc::stalled:
      return "stalled";
    case errc::unavailable:
      return "unavailable";
    case errc::invalid_program:
      return "invalid_program";
    case errc::unwritable:
      return "unwritable";
    case errc::cancelled:
      return "cancelled";
  }
  return "unknown";
}

/// An error as a value: what, where (`subject`: a tensor, device, file or key), and how to mend it (`detail`).
/// `needed` and `available` are bytes where the error is about memory, else 0.
struct error {
  errc code = errc::invalid_argument;
  text<192> subject;
  text<416> detail;
  std::uint64_t needed = 0;
  std::uint64_t available = 0;
};

/// Wraps an error for the return from a function that yields `result<T>`.
struct failure {
  error why;
};

constexpr failure fail(errc code, std::string_view subject, std::string_view detail, std::uint64_t needed = 0,
                       std::uint64_t available = 0) {
  return {error{code, subject, detail, needed, available}};
}

/// A value or an error; the part of `std::expected` that C++20 lacks, usable without exceptions.
/// Reading the value of a failed result is a precondition violation (checked by the caller with `if (r)`).
template <class T>
class [[nodiscard]] result {
 public:
  using value_type = T;

  constexpr result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  constexpr result(failure f) : state_(std::in_place_index<1>, std::move(f.why)) {}

  constexpr bool has_value() const { return state_.index() == 0; }
  constexpr explicit operator bool() const { return has_value(); }

  constexpr T& operator*() & { return *std::get_if<0>(&state_); }
  constexpr const T& operator*() const& { return *std::get_if<0>(&state_); }
  /// By value: `for (auto& x : *read())` would otherwise walk over a dead object.
  constexpr T operator*() && { return std::move(*std::get_if<0>(&state_)); }
  constexpr T* operator->() { return std::get_if<0>(&state_); }
  constexpr const T* operator->() const { return std::get_if<0>(&state_); }

  constexpr const berth::error& error() const { return *std::get_if<1>(&state_); }
  /// The error, ready to be returned from a function with another value type.
  constexpr failure propagate() const { return {error()}; }

  constexpr T value_or(T fallback) const { return has_value() ? **this : std::move(fallback); }

  template <class F>
  constexpr auto and_then(F&& f) const -> std::invoke_result_t<F, const T&> {
    if (has_value()) return std::forward<F>(f)(**this);
    return propagate();
  }
  template <class F>
  constexpr auto transform(F&& f) const -> result<std::invoke_result_t<F, const T&>> {
    if (has_value()) return std::forward<F>(f)(**this);
    return propagate();
  }

 private:
  std::variant<T, berth::error> state_;
};

/// Success without a value.
struct done {};

}  // namespace berth
