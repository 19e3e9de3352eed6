// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

module berth.runtime;

import berth.base;
import berth.model;
import berth.topology;
import berth.plan;
import berth.exec;
import :pieces;
import :tensor_parts;

namespace berth {

const image_tensor* weight_images::find(std::uint32_t atom, std::string_view name) const {
  const auto names = part(aliases_, &atom_part::aliases, atom);
  const auto at = std::lower_bound(names.begin(), names.end(), name,
                                   [](const alias& a, std::string_view wanted) { return a.name < wanted; });
  return at == names.end() || at->name != name ? nullptr : &of(atom)[at->tensor];
}

/// Walks the atoms of a plan and writes down the image of each.
class image_builder {
 public:
  image_builder(const plan& p, const module_tree& tree, const tensor_parts& parts, const weight_sources& sources)
      : p_(p), tree_(tree), parts_(parts), pieces_(sources, parts, out_.pieces_), layout_(lay_out(p)) {}

  result<done> run();
  weight_images finish(weight_sources sources) {
    out_.sources_ = std::move(sources);
    return std::move(out_);
  }

 private:
  /// A tensor on its way into the image of the atom at hand.
  struct entry {
    std::uint32_t tensor = 0;
    std::uint32_t number = 0;  ///< in the order of the tree
    bytes size = 0;
    std::uint32_t tie = none;  ///< of the plan, for storages that several atoms use
    int group = 0;             ///< 0: the atom's own, 1: shared and held, 2: shared and borrowed
  };
  struct seen_storage {
    std::uint32_t atom = none;  ///< the last one that has it
    std::uint32_t number = 0;   ///< of its entry there
  };

  void index();
  result<done> list_tensors(std::uint32_t atom);
  result<done> add(std::uint32_t atom, std::span<const tensor> list, std::uint32_t base);
  result<std::uint32_t> tie_of(std::uint32_t atom, std::uint32_t tensor, bytes size);
  result<done> check_size(std::uint32_t atom) const;
  result<done> write(std::uint32_t atom);
  void place(std::uint32_t atom, const entry& e, bytes offset);
  void write_names();
  result<done> check_ends() const;
  const tensor& what(std::uint32_t tensor) const { return *parts_.arriving(tensor).what; }
  std::string_view keep(std::string_view name) {
    const auto at = out_.names_.size();
    out_.names_.insert(out_.names_.end(), name.begin(), name.end());
    return {out_.names_.data() + at, name.size()};
  }

  const plan& p_;
  const module_tree& tree_;
  const tensor_parts& parts_;
  weight_images out_;
  piece_writer pieces_;
  arena_layout layout_;
  std::unordered_map<std::string_view, std::uint32_t> modules_, tensors_;
  std::unordered_map<storage_id, std::uint32_t> first_tie_;
  std::vector<std::string_view> names_;    ///< per tensor, kept in the images
  std::vector<std::uint32_t> tie_tensor_;  ///< per tie: the tensor that its atom has of it
  std::vector<bool> placed_;               ///< per storage
  std::vector<seen_storage> seen_;         ///< per storage
  std::vector<std::size_t> shape_at_;      ///< per tensor of the images
  leading_rows rows_;                      ///< of the atom at hand
  std::uint64_t parts_of_atom_ = 1;
  std::vector<entry> entries_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> aliases_;  ///< tensor, number of its entry
};

result<done> image_builder::run() {
  index();
  for (std::uint32_t i = 0; i < p_.atoms.size(); ++i) {
    if (auto ok = list_tensors(i); !ok) return ok;
    if (auto ok = check_size(i); !ok) return ok;
    if (auto ok = write(i); !ok) return ok;
  }
  for (std::size_t i = 0; i < out_.tensors_.size(); ++i) {
    auto& t = out_.tensors_[i];
    t.shape = std::span<const std::uint64_t>(out_.shapes_).subspan(shape_at_[i], t.shape.size());
  }
  return check_ends();
}

void image_builder::index() {
  std::size_t characters = 0;
  for (const auto& a : p_.atoms) characters += a.name.size();
  storage_id storages = 0;
  for (std::uint32_t i = 0; i < parts_.count(); ++i) {
    characters += what(i).name.size();
    storages = std::max(storages, what(i).storage + 1);
  }
  out_.names_.reserve(characters);
  out_.atoms_.reserve(p_.atoms.size());
  out_.tensors_.reserve(parts_.count());
  modules_.reserve(tree_.modules().size());
  tensors_.reserve(parts_.count());
  for (std::uint32_t m = 0; m < tree_.modules().size(); ++m) modules_.emplace(tree_.modules()[m].name, m);
  for (std::uint32_t i = 0; i < parts_.count(); ++i) {
    names_.push_back(keep(what(i).name));
    tensors_.emplace(names_.back(), i);
  }
  for (std::uint32_t u = 0; u < p_.ties.size(); ++u) first_tie_.emplace(p_.ties[u].storage, u);
  tie_tensor_.assign(p_.ties.size(), none);
  placed_.resize(storages);
  seen_.resize(storages);
}

/// A module with everything below it, a bare tensor, or a slice of what a module has itself.
result<done> image_builder::list_tensors(std::uint32_t atom) {
  const auto& a = p_.atoms[atom];
  const auto n = static_cast<std::uint32_t>(tree_.parameters().size());
  entries_.clear();
  aliases_.clear();
  rows_ = {};
  parts_of_atom_ = std::max<std::uint32_t>(a.parts, 1);
  const auto name = a.parts > 1 ? a.name.substr(0, std::min(a.name.rfind('.'), a.name.size())) : a.name;
  if (const auto t = tensors_.find(name); t != tensors_.end() && a.parts <= 1)
    return add(atom, std::span(&what(t->second), 1), t->second);
  const auto m = modules_.find(name);
  if (m == modules_.end())
    return fail(errc::inconsistent_model, a.name,
                "the plan places it, but the model has no such module or tensor; make the plan for this model");
  const auto at = [&](std::span<const tensor> list, std::span<const tensor> all) {
    return list.empty() ? 0 : static_cast<std::uint32_t>(&list.front() - all.data());
  };
  if (a.parts > 1) {
    const auto own = tree_.direct_parameters(m->second);
    return add(atom, own, at(own, tree_.parameters()));
  }
  const auto parameters = tree_.subtree_parameters(m->second);
  if (auto ok = add(atom, parameters, at(parameters, tree_.parameters())); !ok) return ok;
  const auto buffers = tree_.subtree_buffers(m->second);
  return add(atom, buffers, n + at(buffers, tree_.buffers()));
}

/// Adds tensors that lie side by side in the tree from number `base` on, each storage once.
result<done> image_builder::add(std::uint32_t atom, std::span<const tensor> list, std::uint32_t base) {
  for (std::uint32_t i = base; i < base + list.size(); ++i) {
    const auto& t = parts_.arriving(i);
    const auto storage = t.what->storage;
    auto& seen = seen_[storage];
    if (seen.atom != atom) {
      seen = {atom, static_cast<std::uint32_t>(entries_.size())};
      placed_[storage] = true;
      if (parts_of_atom_ > 1 && (t.what->shape.empty() || t.what->shape.front() % parts_of_atom_ != 0 ||
                                 t.size % parts_of_atom_ != 0 || p_.atoms[atom].part >= parts_of_atom_))
        return fail(
            errc::inconsistent_model, t.what->name,
            text<416>("cannot be cut into ").append(parts_of_atom_).append(" parts; make the plan for this model"));
      entry e{i, seen.number, t.size / parts_of_atom_};
      if (parts_of_atom_ == 1) {
        const auto tie = tie_of(atom, i, e.size);
        if (!tie) return tie.propagate();
        e.tie = *tie;
      }
      if (e.tie != none) e.group = layout_.shared[e.tie].holder == atom ? 1 : 2;
      entries_.push_back(e);
    }
    aliases_.emplace_back(i, seen.number);
  }
  return done{};
}

/// The tie under which the plan lists the storage of a tensor for an atom, or `none`.
result<std::uint32_t> image_builder::tie_of(std::uint32_t atom, std::uint32_t tensor, bytes size) {
  const auto first = first_tie_.find(what(tensor).storage);
  if (first == first_tie_.end()) return none;
  const storage_use wanted{what(tensor).storage, atom, 0};
  const auto at = std::lower_bound(p_.ties.begin() + first->second, p_.ties.end(), wanted);
  if (at == p_.ties.end() || at->storage != wanted.storage || at->atom != atom) return none;
  const auto tie = static_cast<std::uint32_t>(at - p_.ties.begin());
  if (at->size != size)
    return fail(errc::invalid_plan, what(tensor).name, "the plan shares it with another size; make the plan again",
                size, at->size);
  tie_tensor_[tie] = tensor;
  if (const auto other = tie_tensor_[first->second];
      other != none && !(parts_.arriving(other).form == parts_.arriving(tensor).form))
    return fail(errc::inconsistent_model, what(tensor).name,
                text<416>("shares its storage with ")
                    .append(what(other).name)
                    .append(", which is to have another dtype; give both the same"));
  return tie;
}

result<done> image_builder::check_size(std::uint32_t atom) const {
  bytes sum = 0;
  for (const auto& e : entries_) sum += e.size;
  if (sum == p_.atoms[atom].weights) return done{};
  return fail(errc::inconsistent_model, p_.atoms[atom].name,
              text<416>("the plan gives it ")
                  .append(p_.atoms[atom].weights)
                  .append(" bytes, its tensors have ")
                  .append(sum)
                  .append("; the plan is of another model or precision: make it again"),
              sum, p_.atoms[atom].weights);
}

/// Puts the tensors of the atom in the order of the image, each with its pieces.
result<done> image_builder::write(std::uint32_t atom) {
  const auto& a = p_.atoms[atom];
  if (parts_of_atom_ == 1) rows_ = {};
  out_.atoms_.push_back({keep(a.name), a.weights, layout_.weights[atom].size, out_.tensors_.size(), out_.pieces_.size(),
                         out_.aliases_.size(), parts_of_atom_ > 1});
  const auto key = [&](const entry& e) {
    // What is not a multiple of its own alignment would misplace what follows it.
    const auto natural = parts_.arriving(e.tensor).alignment;
    const bytes step = e.size == 0 ? natural : std::min(natural, e.size & (~e.size + 1));
    const bool own = e.group == 0;
    return std::tuple(e.group, own && e.size % 256 != 0, own ? ~step : 0, own ? ~natural : 0, own ? 0 : e.tie,
                      e.number);
  };
  std::sort(entries_.begin(), entries_.end(), [&](const entry& x, const entry& y) { return key(x) < key(y); });
  bytes offset = 0;
  for (std::uint32_t i = 0; i < entries_.size(); ++i) {
    const auto& e = entries_[i];
    const auto& t = parts_.arriving(e.tensor);
    place(atom, e, offset);
    if (parts_of_atom_ > 1) {
      const auto share = t.what->shape.front() / parts_of_atom_;
      rows_ = {a.part * share, (a.part + 1) * share, false};
    }
    const auto filled = pieces_.add(e.tensor, rows_, offset, i);
    if (!filled) return filled.propagate();
    if (*filled != (t.how == arrival::absent ? 0 : e.size))
      return fail(errc::inconsistent_model, t.what->name,
                  "what is stored of it does not fill its place; make the plan again", e.size, *filled);
    offset += e.size;
  }
  write_names();
  return done{};
}

void image_builder::place(std::uint32_t atom, const entry& e, bytes offset) {
  const auto& t = parts_.arriving(e.tensor);
  const auto& region = layout_.weights[atom];
  const auto in_arena = e.group == 0 ? region.offset + offset : layout_.shared[e.tie].offset;
  auto& out = out_.tensors_.emplace_back();
  out.name = names_[e.tensor];
  out.form = t.form;
  out.size = e.size;
  out.offset = offset;
  out.resident_offset = static_cast<std::int64_t>(in_arena - region.offset);
  if (const auto* part = layout_.part_of(p_.placements[atom].home))
    out.workspace_offset = static_cast<std::int64_t>(in_arena - part->workspace_offset());
  out.stored = t.how != arrival::absent;
  out.borrowed = e.group == 2;
  shape_at_.push_back(out_.shapes_.size());
  out_.shapes_.insert(out_.shapes_.end(), t.what->shape.begin(), t.what->shape.end());
  if (parts_of_atom_ > 1) out_.shapes_[shape_at_.back()] /= parts_of_atom_;
  out.shape = t.what->shape;  // its length; the place is known when all are kept
}

/// The names of the atom's tensors, sorted, with their places in the image.
void image_builder::write_names() {
  std::vector<std::uint32_t> place_of(entries_.size());
  for (std::uint32_t i = 0; i < entries_.size(); ++i) place_of[entries_[i].number] = i;
  const auto begin = out_.aliases_.size();
  for (const auto& [tensor, number] : aliases_) out_.aliases_.push_back({names_[tensor], place_of[number]});
  std::sort(out_.aliases_.begin() + static_cast<std::ptrdiff_t>(begin), out_.aliases_.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
}

/// Every tie was found in the tree, every tensor of the tree in an atom.
result<done> image_builder::check_ends() const {
  for (std::size_t u = 0; u < p_.ties.size(); ++u)
    if (tie_tensor_[u] == none)
      return fail(errc::invalid_plan, p_.atoms[p_.ties[u].atom].name,
                  "the plan shares a storage of it that the model does not share; make the plan for this model");
  for (std::uint32_t i = 0; i < parts_.count(); ++i)
    if (!placed_[what(i).storage])
      return fail(errc::inconsistent_model, what(i).name, "no atom of the plan has it; make the plan for this model");
  return done{};
}

result<weight_images> make_images(const plan& p, const module_tree& tree, const tensor_sizes& stored,
                                  const precision& how, weight_sources sources) {
  if (const auto found = check(p); !found.empty())
    return fail(errc::invalid_plan, found.front().subject, found.front().detail, found.front().needed,
                found.front().available);
  const auto parts = tensor_parts::make(tree, sources, stored, how);
  if (!parts) return parts.propagate();
  image_builder builder(p, tree, *parts, sources);
  if (auto ok = builder.run(); !ok) return ok.propagate();
  return builder.finish(std::move(sources));
}

}  // namespace berth
