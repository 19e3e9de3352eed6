// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <vector>

module berth.exec;

import berth.base;
import berth.model;
import berth.topology;
import berth.plan;

namespace berth {
namespace {

/// Tensors, states and workspaces start at multiples of this where the plan pads.
constexpr bytes arena_step = 256;
bytes charged(const plan& p, bytes amount) { return p.padded ? round_up(amount, arena_step) : amount; }

/// Takes the storages that an earlier atom on the same home holds out of the sizes. Ties are sorted by storage, so the
/// last holder seen on a device is that of the storage at hand or of an older one.
void share_storages(const plan& p, arena_layout& out, std::pmr::memory_resource* memory) {
  std::pmr::vector<std::uint32_t> holding_tie(p.devices.size(), no_index, memory);
  out.shared.resize(p.ties.size());
  for (std::size_t u = 0; u < p.ties.size(); ++u) {
    const auto& use = p.ties[u];
    auto& first = holding_tie[p.placements[use.atom].home];
    if (first == no_index || p.ties[first].storage != use.storage) {
      first = static_cast<std::uint32_t>(u);
    } else {
      out.weights[use.atom].size -= use.size;
      out.weights[use.atom].padded -= charged(p, use.size);
    }
    out.shared[u].holder = p.ties[first].atom;
  }
}

/// Held storages end the region of their holder, in the order of their numbers; the others use the holder's.
void place_storages(const plan& p, arena_layout& out, std::pmr::memory_resource* memory) {
  std::pmr::vector<bytes> tail(p.atoms.size(), memory);
  for (auto u = p.ties.size(); u-- > 0;) {
    const auto atom = p.ties[u].atom;
    if (out.shared[u].holder != atom) continue;
    tail[atom] += p.ties[u].size;
    out.shared[u].offset = out.weights[atom].offset + out.weights[atom].size - tail[atom];
  }
  std::pmr::vector<bytes> held_at(p.atoms.size(), memory);
  for (std::size_t u = 0; u < p.ties.size(); ++u) {
    auto& at = out.shared[u];
    if (at.holder == p.ties[u].atom)
      held_at[at.holder] = at.offset;
    else
      at.offset = held_at[at.holder];
  }
}

}  // namespace

arena_layout lay_out(const plan& p, std::pmr::memory_resource* memory) {
  arena_layout out(memory);
  out.weights.reserve(p.atoms.size());
  for (std::size_t i = 0; i < p.atoms.size(); ++i)
    out.weights.push_back({0, p.atoms[i].weights, p.loads[i], p.atoms[i].weights});
  share_storages(p, out, memory);

  std::pmr::vector<std::size_t> part_at(p.devices.size(), p.uses.size(), memory);
  for (const auto& u : p.uses) {
    part_at[u.device] = out.devices.size();
    arena_layout::device_part part;
    part.device = u.device;
    part.workspace = u.workspace;
    part.staging = u.staging;
    part.slot_size = p.staging_slots == 0 ? 0 : u.staging / p.staging_slots;
    part.total = u.used();
    out.devices.push_back(part);
  }
  for (std::size_t i = 0; i < p.atoms.size(); ++i) {
    auto& part = out.devices[part_at[p.placements[i].home]];
    out.weights[i].offset = part.weights;
    part.weights += out.weights[i].padded;
  }
  out.states.resize(p.atoms.size());
  for (std::size_t i = 0; i < p.atoms.size(); ++i) {
    auto& part = out.devices[part_at[p.placements[i].execution]];
    out.states[i] = part.weights + part.states;
    part.states += charged(p, p.atoms[i].state);
  }
  place_storages(p, out, memory);
  return out;
}

}  // namespace berth
