// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

export module berth.model:chain;

import berth.base;

export namespace berth {

enum class atom_kind : std::uint8_t { embedding, block, norm, head, other };

constexpr std::string_view name_of(atom_kind k) {
  constexpr std::array<std::string_view, 5> names{"embedding", "block", "norm", "head", "other"};
  return names[static_cast<std::size_t>(k)];
}

/// The two phases of a generation: the prompt in one pass, then one pass per token.
enum class phase : std::uint8_t { prefill, decode };
inline constexpr std::size_t phase_count = 2;
inline constexpr std::array<phase, phase_count> all_phases{phase::prefill, phase::decode};

constexpr std::string_view name_of(phase p) { return p == phase::prefill ? "prefill" : "decode"; }

/// What an atom does in one pass of a phase, for the workload that the model was costed for.
struct phase_work {
  double flops = 0;
  /// Bytes that it touches: weights really read (rows of an embedding, expected experts) + state read and written.
  double touched = 0;
  double out = 0;  ///< bytes of activation sent to the next atom

  friend constexpr bool operator==(const phase_work&, const phase_work&) = default;
};

/// The smallest unit that a strategy may put on a device: a module of the tree (a decoder block, an embedding), a part
/// of one (an expert) or a bare tensor. Atoms of a model are listed in the order in which they run. `name` points into
/// the model that owns it. From `state` to `work` everything depends on the workload and is 0 for a model that was not
/// costed (`cost_model`).
struct atom {
  std::string_view name;  ///< dotted name of the module or tensor
  atom_kind kind = atom_kind::other;
  bytes weights = 0;  ///< parameters and buffers as stored on the device, each storage once, scales included
  bytes padding = 0;  ///< what aligning every tensor to 256 B adds

  bytes state = 0;              ///< KV cache and recurrent state, on the device that runs the atom
  bytes workspace = 0;          ///< peak while it runs; atoms of a device use one after the other
  dtype compute = dtype::bf16;  ///< arithmetic of its matrix products, which decides the device's FLOP rate
  std::array<phase_work, phase_count> work{};

  /// A slice: part `part` of `parts` along the leading dimension of every tensor of the module that `name` gives
  /// without its last component. One expert of a module that stacks its experts is such an atom.
  std::uint32_t part = 0;
  std::uint32_t parts = 1;

  constexpr const phase_work& in(phase p) const { return work[static_cast<std::size_t>(p)]; }
};

/// One use of a storage by an atom, for storages that several atoms use (tied weights). A model lists them by storage,
/// then by atom: a device that holds several users of a storage keeps one copy, every other device its own.
struct storage_use {
  std::uint32_t storage = 0;
  std::uint32_t atom = 0;
  bytes size = 0;

  friend constexpr auto operator<=>(const storage_use& a, const storage_use& b) {
    return a.storage != b.storage ? a.storage <=> b.storage : a.atom <=> b.atom;
  }
};

/// What strategies see of a model. Views do not own; the model must outlive them.
struct model_view {
  std::span<const atom> atoms;
  std::span<const storage_use> ties;
};

/// A model known at compile time: names are literals. Usable in constant expressions.
template <std::size_t Atoms, std::size_t Uses = 0>
struct static_model {
  std::array<atom, Atoms> atoms{};
  std::array<storage_use, Uses> ties{};

  constexpr operator model_view() const { return {atoms, ties}; }
};

/// The chain of atoms of a model at run time; owns the names. Move-only: copies would silently double the arena.
class model {
 public:
  model() = default;

  /// Appends an atom, copying its name. Pointers into earlier views stay valid: names live in fixed chunks.
  void add(std::string_view name, atom_kind kind, bytes weights, bytes padding) {
    auto chunk = std::make_unique<char[]>(name.size());
    if (!name.empty()) std::memcpy(chunk.get(), name.data(), name.size());
    atoms_.push_back({{chunk.get(), name.size()}, kind, weights, padding});
    names_.push_back(std::move(chunk));
  }
  /// The same with everything that `a` says about cost.
  void add(const atom& a) {
    add(a.name, a.kind, a.weights, a.padding);
    const auto name = atoms_.back().name;
    atoms_.back() = a;
    atoms_.back().name = name;
  }
  /// Declares tied storages, sorted by (storage, atom).
  void set_ties(std::vector<storage_use> ties) { ties_ = std::move(ties); }

  operator model_view() const { return view(); }
  model_view view() const { return {atoms_, ties_}; }
  std::span<const atom> atoms() const { return atoms_; }
  /// For those who cost a model (`cost_model`); names must stay as they are.
  std::span<atom> atoms() { return atoms_; }

 private:
  std::vector<atom> atoms_;
  std::vector<storage_use> ties_;
  std::vector<std::unique_ptr<char[]>> names_;
};

/// Sum of the weights of a chain, every shared storage once.
constexpr bytes total_weights(model_view m) {
  bytes total = 0;
  for (const auto& a : m.atoms) total += a.weights;
  for (std::size_t i = 1; i < m.ties.size(); ++i)
    if (m.ties[i].storage == m.ties[i - 1].storage) total -= m.ties[i].size;
  return total;
}

}  // namespace berth
