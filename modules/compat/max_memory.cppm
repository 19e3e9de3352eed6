// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

export module berth.compat:max_memory;

import berth.model;
import :device_map;
import :number;

export namespace berth::hf {

/// Bytes of one device.
struct budget {
  device_key device;
  number bytes;
  friend bool operator==(const budget&, const budget&) = default;
};
using budgets = std::vector<budget>;

/// What a user writes for one device: a number of bytes or a size string ("20GiB").
struct memory_limit {
  device_key device;
  std::variant<number, std::string> size;
};

/// The machine that the peers would query when no budgets are given. Bytes.
struct machine {
  struct accelerator {
    bytes free = 0;
    bytes total = 0;
    bytes reserved = 0;       ///< held by torch's caching allocator
    bytes allocated = 0;      ///< of it in use
    bool integrated = false;  ///< shares the host's memory
  };
  std::vector<std::optional<accelerator>> accelerators;  ///< nothing: a device that fails when touched
  bytes cpu_available = 0;
  bool mps = false;
};

/// A user's `max_memory`, or the machine to be asked instead (`limits` absent). With both, the machine only says how
/// much torch's allocator holds unused.
struct memory_request {
  std::optional<std::vector<memory_limit>> limits;
  std::optional<machine> host;
};

/// Reads one "0=20GiB" style pair's value: a whole number of bytes, else a size string.
std::variant<number, std::string> parse_memory_value(std::string_view text);

namespace accelerate {

/// `get_max_memory`: accelerators ascending, then mps, cpu, disk. Errors: `invalid_argument` (ValueError) for unknown
/// devices and unreadable sizes, `peer_failure` as `convert_file_size_to_int`.
result<budgets> get_max_memory(const memory_request& request, std::vector<warning>& warnings);

}  // namespace accelerate

namespace transformers {

/// transformers' copy: adds what torch's allocator holds unused, keeps to the user's figures, and takes 90 % of a CPU
/// budget that was not given. Errors as accelerate's.
result<budgets> get_max_memory(const memory_request& request, std::vector<warning>& warnings);

}  // namespace transformers
}  // namespace berth::hf
