// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <memory_resource>
#include <vector>

export module berth.exec:layout;

import berth.base;
import berth.topology;
import berth.plan;
import :program;

export namespace berth {

/// Where one atom's weights lie in the arena of its home: `size` bytes at `offset`; storages that an earlier atom on
/// the same device holds already are not there again. Streamed copies move `whole` bytes into a slot.
struct weights_place {
  bytes offset = 0;
  bytes size = 0;    ///< without shared storages that lie with an earlier atom
  bytes padded = 0;  ///< what it takes of the arena
  bytes whole = 0;
};

/// Where the bytes of a shared storage lie for one atom that uses it. An atom's region ends with the shared storages
/// that it holds itself, in the order of their numbers.
struct shared_place {
  std::uint32_t holder = no_index;  ///< the first atom on the same home that uses the storage; often the atom itself
  bytes offset = 0;                 ///< in the arena of the home
};

/// Where things lie in the arena of each device that a plan uses: weights in chain order, states in chain order, the
/// workspace, the staging slots.
struct arena_layout {
  explicit arena_layout(std::pmr::memory_resource* memory)
      : weights(memory), shared(memory), states(memory), devices(memory) {}

  struct device_part {
    device_index device = no_index;
    bytes weights = 0, states = 0, workspace = 0, staging = 0;  ///< sizes in this order
    bytes slot_size = 0;
    bytes total = 0;  ///< rounded up as the plan counts it
    bytes workspace_offset() const { return weights + states; }
    bytes staging_offset() const { return weights + states + workspace; }
  };

  std::pmr::vector<weights_place> weights;  ///< per atom, on its home
  std::pmr::vector<shared_place> shared;    ///< parallel to the plan's `ties`
  std::pmr::vector<bytes> states;           ///< per atom, offset on the device that runs it in decode
  std::pmr::vector<device_part> devices;    ///< parallel to the plan's `uses`

  const device_part* part_of(device_index d) const {
    for (const auto& p : devices)
      if (p.device == d) return &p;
    return nullptr;
  }
};

/// Lays a plan's memory out. The totals are those of the plan's device uses. Precondition: `check` finds nothing, and
/// no atom shares more bytes than it has. O(atoms + ties).
arena_layout lay_out(const plan& p, std::pmr::memory_resource* memory = std::pmr::get_default_resource());

}  // namespace berth
