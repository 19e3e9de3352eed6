// SPDX-License-Identifier: Apache-2.0
// Not exported: what a plan demands of its programs, and where the programs say that they do it.
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

export module berth.exec:demand;

import berth.base;
import berth.model;
import berth.topology;
import berth.plan;
import :handles;
import :program;
import :shadow;

namespace berth::detail {

/// What was found, bounded: one fault shows up in many places.
class findings {
 public:
  explicit findings(std::pmr::memory_resource* memory) : list_(memory) {}

  void add(std::string_view subject, std::string_view what, bytes needed = 0, bytes available = 0) {
    if (!full()) list_.push_back({errc::invalid_program, subject, what, needed, available});
  }
  bool full() const { return list_.size() >= 64; }
  bool empty() const { return list_.empty(); }
  std::pmr::vector<error> take() { return std::move(list_); }

 private:
  std::pmr::vector<error> list_;
};

struct device_demand {
  bool used = false;
  bytes weights = 0, states = 0, workspace = 0, staging = 0, total = 0;
  std::uint32_t arena = no_handle, ring = no_handle;
  std::array<std::uint32_t, phase_count> steps{};  ///< atoms streamed here
  /// Workspace from which states leave; every launch of the device overwrites it.
  program_range leaving;
};

struct atom_demand {
  bytes own = 0;       ///< bytes of its own region on its home
  bytes state_at = 0;  ///< offset of its state where decode runs
  bytes moved = 0;     ///< bytes of state that the prompt leaves elsewhere
  std::array<bytes, phase_count> message{};
  std::array<bool, phase_count> hops{};
  std::array<std::uint32_t, phase_count> step{};
  // As surveyed in the programs.
  program_range loaded;
  std::array<program_range, phase_count> out, in;  ///< of the activation after it
  program_range state_from;
};

/// A shared storage that an atom's own region lacks: `size` bytes from byte `at` of the weights of atom `holder`.
struct loan {
  std::uint32_t atom = 0;
  std::uint32_t storage = 0;
  std::uint32_t holder = 0;
  bytes at = 0;
  bytes size = 0;
};

struct demand {
  explicit demand(std::pmr::memory_resource* memory) : devices(memory), atoms(memory), loans(memory) {}

  std::pmr::vector<device_demand> devices;  ///< by device
  std::pmr::vector<atom_demand> atoms;
  std::pmr::vector<loan> loans;  ///< sorted by atom, then by storage

  std::span<const loan> loans_of(std::uint32_t atom) const;
};

/// Sums and places from the plan alone. Precondition: `check` finds nothing. O(atoms + ties log ties).
demand make_demand(const plan& p, findings& found, std::pmr::memory_resource* memory);

/// Looks at every operation by itself: numbers in range, roles and devices of streams, who moves what where and how
/// often. Writes the places of activations and states into `d`. False: a symbolic run would make no sense.
bool survey(const plan& p, std::span<const program* const> programs, demand& d, findings& found,
            std::pmr::memory_resource* memory);

}  // namespace berth::detail
