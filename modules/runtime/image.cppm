// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

export module berth.runtime:image;

import berth.base;
import berth.model;
import berth.plan;
import berth.exec;

export namespace berth {

/// One tensor in the image of an atom.
struct image_tensor {
  std::string_view name{};                 ///< full name in the tree; lives as long as the images
  tensor_form form{};                      ///< of a tensor that is left as it is stored: with the stored dtype
  std::span<const std::uint64_t> shape{};  ///< in the tree; of a slice: of the part that the atom has
  bytes size = 0;
  bytes offset =
      0;  ///< in the image: in a staging slot, in a file of its own, and in the atom's region if it lies there
  /// From `work_call::memory.weights.data` where the weights stay on their home. Differs from `offset` for a storage
  /// that lies with another atom, and may then be negative.
  std::int64_t resident_offset = 0;
  /// The same from `work_call::memory.workspace.data`, which lies in the same arena: an atom whose every byte lies with
  /// another one has no weights to count from.
  std::int64_t workspace_offset = 0;
  bool stored = true;     ///< false: no file holds it (a buffer that is not persistent); zeros, the caller fills it
  bool borrowed = false;  ///< on the home its bytes lie with another atom
};

/// One stored range that becomes one part of an image.
struct image_piece {
  std::uint32_t file = 0;  ///< index into `weight_images::files`
  bytes file_offset = 0;
  bytes length = 0;  ///< stored bytes
  /// Where they go. Plain: `length` bytes unchanged. Else: where the first element goes, and how far it is from there
  /// to the end of the last one; other pieces may fill what lies between.
  bytes image_offset = 0;
  bytes image_size = 0;
  bool plain = true;
  /// Of a piece that is not plain; its pointers are null. `source` is to be the first of the stored bytes, `target` the
  /// byte at `image_offset`, `scales` the one at `scales_offset`.
  transform how{};
  bytes scales_offset = 0;
  std::uint32_t tensor = 0;  ///< index into `weight_images::of(atom)`
  std::uint32_t stored = 0;  ///< index into `weight_images::sources().tensors`
};

/// What `make_images` asks `convert` to do besides moving elements: f64, f32, f16 and bf16 to f32, f16 and bf16.
constexpr bool is_convertible(dtype from, dtype to) {
  const bool half = to == dtype::f16 || to == dtype::bf16;
  const bool known = from == dtype::f64 || from == dtype::f32 || from == dtype::f16 || from == dtype::bf16;
  return from == to || (known && (half || to == dtype::f32));
}

/// What lies in the memory of every atom of a plan, byte by byte, and from which stored bytes it comes. The image of an
/// atom is: its own tensors, then the shared storages that it holds, by storage number, then those that lie with an
/// earlier atom on its home; without gaps, in all exactly `atom::weights` bytes. Its own tensors are in the order:
/// sizes that are multiples of 256, then by what their offset has to be a multiple of, the largest first; tree order
/// within. int8 tensors are f32 scales, one per row, then codes; tensors quantised in the checkpoint are what is
/// stored of them, data first, companions by name (SCB of bitsandbytes before its data).
///
/// Immutable, move-only, owns all that its spans refer to; may be read from several threads.
class weight_images {
 public:
  weight_images() = default;
  weight_images(weight_images&&) = default;
  weight_images& operator=(weight_images&&) = default;
  weight_images(const weight_images&) = delete;
  weight_images& operator=(const weight_images&) = delete;

  std::uint32_t atoms() const { return static_cast<std::uint32_t>(atoms_.size()); }
  std::string_view name_of(std::uint32_t atom) const { return atoms_[atom].name; }
  /// In the order of the image.
  std::span<const image_tensor> of(std::uint32_t atom) const { return part(tensors_, &atom_part::tensors, atom); }
  /// By full name; names that share their storage with a tensor of the atom find that one. Null: the atom has no such
  /// tensor. O(log tensors of the atom).
  const image_tensor* find(std::uint32_t atom, std::string_view name) const;
  /// One part of a module that stacks its experts: its tensors are slices of those of the tree.
  bool is_slice(std::uint32_t atom) const { return atoms_[atom].slice; }
  bytes size_of(std::uint32_t atom) const { return atoms_[atom].size; }
  /// The part of the image, from its start, that lies in the atom's own region on its home; the rest is borrowed.
  bytes resident_size_of(std::uint32_t atom) const { return atoms_[atom].resident; }
  /// How the image comes about: by tensor, then by place. Whatever no piece fills is zero.
  std::span<const image_piece> pieces_of(std::uint32_t atom) const { return part(pieces_, &atom_part::pieces, atom); }
  /// Paths, and their sizes as they were when the headers were read.
  std::span<const std::string> files() const { return sources_.files; }
  std::span<const bytes> file_sizes() const { return sources_.file_sizes; }
  /// Where the tensors come from, as given to `make_images`.
  const weight_sources& sources() const { return sources_; }

 private:
  friend class image_builder;
  struct alias {
    std::string_view name;
    std::uint32_t tensor = 0;  ///< index into of(atom)
  };
  struct atom_part {
    std::string_view name;
    bytes size = 0, resident = 0;
    std::size_t tensors = 0, pieces = 0, aliases = 0;  ///< where those of the atom begin
    bool slice = false;
  };
  template <class T>
  std::span<const T> part(const std::vector<T>& all, std::size_t atom_part::* begin, std::uint32_t atom) const {
    const auto first = atoms_[atom].*begin;
    const auto last = atom + 1 < atoms_.size() ? atoms_[atom + 1].*begin : all.size();
    return std::span<const T>(all).subspan(first, last - first);
  }

  weight_sources sources_;
  std::vector<char> names_;
  std::vector<std::uint64_t> shapes_;
  std::vector<atom_part> atoms_;
  std::vector<image_tensor> tensors_;
  std::vector<image_piece> pieces_;
  std::vector<alias> aliases_;  ///< of each atom sorted by name
};

/// Says what lies in the memory of every atom of `p`, and where it comes from. `tree` and `stored` (sizes as in the
/// checkpoint) are those of the plan's model, `how` what the plan says in `plan::precision`; whether they are is for
/// the caller to compare (`plan::fingerprint`). Everything that headers tell is found here, before anything is
/// allocated or read. Errors name the tensor: `inconsistent_model` for what is missing, stored twice, stored in another
/// shape or dtype, or does not fill the atom exactly (with both sizes); `malformed` for a file that ends before its
/// tensor; `unsupported` for stored forms that cannot become what is wanted; `invalid_plan` for ties that the tree does
/// not have. Linear in tensors and conversions, apart from sorting them.
result<weight_images> make_images(const plan& p, const module_tree& tree, const tensor_sizes& stored,
                                  const precision& how, weight_sources sources);

/// Where a tensor lies for a launch. `streamed`: the weights are in a staging slot in this phase
/// (`atom_placement::streamed`). Null where the machine has no memory to show.
inline std::byte* address_of(const image_tensor& t, const work_call& call, bool streamed) {
  const auto& m = call.memory;
  if (m.weights.data != nullptr)
    return m.weights.data + (streamed ? static_cast<std::int64_t>(t.offset) : t.resident_offset);
  return streamed || m.workspace.data == nullptr ? nullptr : m.workspace.data + t.workspace_offset;
}

/// A large piece can be read and transformed in parts: into how many at most (stored rows that one transform may take
/// without the others; bytes of a plain piece), and the part of `count` of them from `first` on as a piece of its own.
std::uint64_t steps_of(const image_piece& piece);
image_piece steps(const image_piece& piece, std::uint64_t first, std::uint64_t count);

}  // namespace berth
