// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

export module berth.runtime:load_report;

import berth.base;
import berth.model;
import berth.topology;

export namespace berth {

/// How far a load is.
struct load_progress {
  bytes done = 0;           ///< stored bytes whose weights are in place
  bytes total = 0;          ///< stored bytes that are to be read
  double rate = 0;          ///< bytes per second so far
  std::string_view file{};  ///< that was read last
  bool verifying = false;   ///< everything is in place; `done` counts bytes compared
};

/// What a load did for one device.
struct device_load {
  device_index device = no_index;
  bytes stored = 0;    ///< bytes read from files for it
  bytes taken = 0;     ///< memory that stays: arena and messages, as allocated
  bytes pinned = 0;    ///< of it, asked for as pinned
  bytes staging = 0;   ///< host memory that its weights passed through; given back
  bytes scratch = 0;   ///< device memory in which its weights were transformed, beyond the arena; given back
  double seconds = 0;  ///< until its last byte was in place
};

/// A tensor that no file holds: its memory is zero, the caller fills it.
struct zero_filled {
  std::uint32_t atom = 0;
  std::string name;
};

/// What a load did and what it cost.
struct load_report {
  bytes stored = 0;      ///< bytes of tensors read from files
  bytes from_cache = 0;  ///< bytes read through the page cache, gaps between tensors included
  bytes from_disk = 0;   ///< bytes read past it
  std::uint64_t reads = 0;
  double seconds = 0;    ///< in all, verification excluded
  double preparing = 0;  ///< of these: streams, memory, plan of the reads
  double reading = 0;    ///< sum over the readers of the time in which they read
  double waiting = 0;    ///< time in which the caller's thread had nothing to do: for readers, copies or transforms
  double writing = 0;    ///< the offload folder
  double verifying = 0;
  bytes verified = 0;
  int readers = 0;
  bytes peak_resident = 0;           ///< most memory of the process so far, as the operating system counts it
  std::vector<device_load> devices;  ///< those that the plan uses, in its order; the disk left out
  std::vector<zero_filled> zeros;
  /// What went into the offload folder: weights that live on the disk and are not stored as they are wanted. For
  /// `write_offload_index` of `berth.formats`.
  weight_sources offloaded;
  std::vector<std::string> warnings;
};

/// Most memory that this process has had resident, in bytes; 0 where the system does not say.
bytes peak_resident_memory();

}  // namespace berth
