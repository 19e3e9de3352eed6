// SPDX-License-Identifier: Apache-2.0
module;

#include <optional>
#include <string_view>

export module berth.compat:size_string;

import berth.base;
import :number;

export namespace berth::hf::accelerate {

/// `float(text)` of Python: white space around, one sign, underscores between digits, any Unicode decimal digits,
/// exponent, "inf" and "nan" in any case. Nothing if Python raises ValueError.
std::optional<double> python_float(std::string_view text);

/// `convert_file_size_to_int` of a string: a Python float and one of GiB, MiB, KiB, GB, MB, KB in any case. A last
/// character "b" in lower case divides by 8 ("1gb" is 125,000,000 bytes).
/// Errors: `invalid_argument` (ValueError) for everything else, negative and NaN values included; `peer_failure`
/// (OverflowError) for an infinite size.
result<number> convert_file_size_to_int(std::string_view text);

/// The same for a number, which must be a non-negative integer. A float fails (`peer_failure`, AttributeError).
result<number> convert_file_size_to_int(const number& size);

}  // namespace berth::hf::accelerate
