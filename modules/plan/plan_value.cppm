// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

export module berth.plan:plan_value;

import berth.model;
import berth.topology;
import :problem;
import :evaluate;
import :certificate;

export namespace berth {

/// Where one atom's weights live and where it runs, as positions in the plan's topology.
struct atom_placement {
  device_index home = no_index;
  device_index execution = no_index;
  device_index prompt = no_index;  ///< runs the prompt, if another device than `execution` does

  constexpr device_index runs(phase p) const { return p == phase::prefill && prompt != no_index ? prompt : execution; }
  constexpr bool streamed(phase p) const { return home != runs(p); }
  constexpr bool streamed() const { return streamed(phase::decode) || streamed(phase::prefill); }
  friend constexpr bool operator==(const atom_placement&, const atom_placement&) = default;
};

/// What a plan uses of one device. Every figure is exact bytes; `check` recomputes them all.
struct device_use {
  device_index device = no_index;
  bytes budget = 0;     ///< what berth may use: the cap or the free memory
  bytes reserve = 0;    ///< kept back for the caller
  bytes weights = 0;    ///< of atoms that live here, each shared storage once
  bytes padding = 0;    ///< tensor alignment and arena rounding
  bytes staging = 0;    ///< slots for streamed weights
  bytes state = 0;      ///< KV cache and recurrent state of what runs here
  bytes workspace = 0;  ///< the largest of what runs here

  constexpr bytes used() const { return weights + padding + staging + state + workspace; }
  constexpr bytes available() const { return reserve >= budget ? 0 : budget - reserve; }
  constexpr bytes free() const { return available() - used(); }
};

/// A complete, self-contained decision: chain, topology, workload and placement. Allocates only from the memory
/// resource given at construction; movable, not copyable.
class plan {
 public:
  explicit plan(std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : atoms(memory),
        loads(memory),
        ties(memory),
        placements(memory),
        devices(memory),
        segments(memory),
        routes(memory),
        hops(memory),
        uses(memory),
        warnings(memory),
        no_split(memory),
        names_(memory) {}
  plan(plan&&) = default;
  plan& operator=(plan&&) = default;
  plan(const plan&) = delete;
  plan& operator=(const plan&) = delete;

  text<48> strategy;
  text<96> model_id;
  text<32> model_type;
  std::uint64_t fingerprint = 0;  ///< of the model's names, shapes, dtypes and ties; 0: unknown
  text<160> naming;               ///< whose names the atoms carry (module tree, checkpoint)
  text<416> precision;            ///< how weights are stored on the devices (`words_of`); empty: as in the checkpoint
  berth::workload workload;
  std::uint32_t staging_slots = 0;
  bool padded = false;  ///< tensors are aligned to 256 B and arenas rounded

  std::pmr::vector<atom> atoms;  ///< names point into this plan
  std::pmr::vector<bytes> loads;
  std::pmr::vector<storage_use> ties;
  std::pmr::vector<atom_placement> placements;  ///< parallel to `atoms`

  text<64> topology_name;
  std::pmr::vector<device> devices;
  std::pmr::vector<segment> segments;
  std::pmr::vector<route> routes;
  std::pmr::vector<segment_index> hops;
  std::pmr::vector<device_use> uses;  ///< one per device that may be used, in seat order

  bool priced = false;  ///< times are known: the model was costed and the devices have rates
  plan_times times;
  berth::certificate certificate;

  std::pmr::vector<text<416>> warnings;
  std::pmr::vector<std::pmr::string> no_split;  ///< classes kept whole

  topology_view topology() const { return {topology_name.view(), devices, segments, routes, hops}; }
  model_view model() const { return {atoms, ties}; }

  /// The device of a module or tensor: that of the atom at or above `name`, or of the atoms below it if they agree.
  /// Empty id if no atom matches or they differ.
  device_id device_of(std::string_view name) const {
    device_id found;
    for (std::size_t i = 0; i < atoms.size(); ++i) {
      if (is_dotted_prefix(atoms[i].name, name)) return devices[placements[i].home].id;
      if (!is_dotted_prefix(name, atoms[i].name)) continue;
      const auto id = devices[placements[i].home].id;
      if (!found.empty() && !(found == id)) return {};
      found = id;
    }
    return found;
  }
  const device_use* use_of(const device_id& id) const {
    for (const auto& u : uses)
      if (devices[u.device].id == id) return &u;
    return nullptr;
  }
  /// True if some weights live elsewhere than where they are used in some phase.
  bool streams() const {
    for (const auto& p : placements)
      if (p.streamed()) return true;
    return false;
  }

  /// Copies an atom's name into the plan. `reserve_names` must have made room for all of them before.
  std::string_view keep_name(std::string_view name) {
    const auto at = names_.size();
    names_.insert(names_.end(), name.begin(), name.end());
    return {names_.data() + at, name.size()};
  }
  void reserve_names(std::size_t characters) { names_.reserve(characters); }

 private:
  std::pmr::vector<char> names_;
};

/// A plan made at compile time for a model of `N` atoms.
template <std::size_t N>
struct static_plan {
  std::string_view strategy;
  std::array<std::string_view, N> names{};
  std::array<device_id, N> homes{};
  std::array<device_id, N> executions{};

  /// As `plan::device_of`.
  constexpr device_id device_of(std::string_view name) const {
    device_id found;
    for (std::size_t i = 0; i < N; ++i) {
      if (is_dotted_prefix(names[i], name)) return homes[i];
      if (!is_dotted_prefix(name, names[i])) continue;
      if (!found.empty() && !(found == homes[i])) return {};
      found = homes[i];
    }
    return found;
  }
};

}  // namespace berth
