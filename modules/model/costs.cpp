// SPDX-License-Identifier: Apache-2.0
// Costs are summed tensor by tensor, so that an atom costs the same as the finer atoms that it could be split into.
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

module berth.model;

import :layer_costs;
import :roles;
import :tensor_facts;

namespace berth {
namespace {

inline constexpr std::array<phase, phase_count> phases{phase::prefill, phase::decode};

/// What a module inherits from the modules above it.
struct module_facts {
  std::uint32_t layer = none;             ///< index into the shape's layers
  module_role role = module_role::other;  ///< of the outermost part of the block that says one
  bool experts = false;                   ///< routed experts
  bool encodes = false;                   ///< part of an encoder stack or vision tower: idle while decoding
  bool head = false;
};

/// What the tree says about a layer beside its description. Numbers of parameters are indices into the tree's list.
struct layer_facts {
  module_index module = none;
  std::uint64_t width = 0;        ///< of its activation; a vision tower has its own
  std::uint64_t widest = 0;       ///< most output rows of a matrix in its attention part
  std::uint64_t latent_rank = 0;  ///< MLA: input width of kv_b_proj
  std::uint32_t first = none;     ///< first parameter
  std::uint32_t first_attention = none;
  std::uint32_t first_cross = none;
};

/// The atom that holds parameter `parameter` is the one that keeps a layer's state and multiplies it.
struct anchor {
  std::uint32_t parameter = 0;
  std::uint32_t layer = 0;
  bool cross = false;
};

/// Where an atom lies in the tree: a module's subtree, or one tensor.
struct place_in_tree {
  module_index module = none;  ///< the module, or the tensor's owner
  bool whole = true;           ///< the whole module
  std::uint32_t parameters_begin = 0, parameters_end = 0;
  std::uint32_t buffers_begin = 0, buffers_end = 0;
};

class coster {
 public:
  coster(model& chain, const module_tree& tree, const tensor_sizes& sizes, const model_shape& shape, const workload& w,
         const cost_options& options)
      : chain_(chain), tree_(tree), sizes_(sizes), shape_(shape), w_(w), options_(options) {}

  result<costed> run() {
    if (auto problem = check_workload()) return *problem;
    if (auto problem = find_layers()) return *problem;
    mark_encoders();
    scan_parameters();
    if (auto problem = place_anchors()) return *problem;
    if (auto problem = find_atoms()) return *problem;
    for (std::size_t i = 0; i < chain_.atoms().size(); ++i)
      if (auto problem = cost(i)) return *problem;
    return costed{!shape_.layers.empty(), width_};
  }

 private:
  using step = std::optional<failure>;

  step check_workload();
  step find_layers();
  void mark_encoders();
  void scan_parameters();
  void note_parameter(std::uint32_t index);
  step place_anchors();
  step find_atoms();
  step cost(std::size_t index);

  void add_parameter(std::uint32_t index, atom& a);
  void add_buffer(std::uint32_t index, atom& a) const;
  step add_state(const place_in_tree& at, atom& a) const;
  std::optional<bytes> workspace_of(const place_in_tree& at, const atom& a) const;
  std::optional<bytes> part_workspace(const place_in_tree& at, const atom& a) const;
  std::optional<bytes> layer_workspace(std::uint32_t layer) const;
  std::optional<bytes> peak(bool encodes, std::uint64_t elements) const;
  void set_out(std::size_t index, atom& a) const;
  bool inside_layer(const place_in_tree& at) const;

  const module_node& owner_of(const tensor& t) const { return tree_.modules()[t.owner]; }
  std::uint64_t width_at(const module_facts& f) const;
  /// Tokens in flight in one pass of `p`, over all sequences.
  double tokens(phase p, bool encodes) const {
    if (encodes) return p == phase::prefill ? static_cast<double>(demand_.encoded) * batch() : 0.0;
    return p == phase::prefill ? static_cast<double>(demand_.prompt) * batch() : batch();
  }
  double batch() const { return static_cast<double>(demand_.batch); }

  model& chain_;
  const module_tree& tree_;
  const tensor_sizes& sizes_;
  const model_shape& shape_;
  const workload& w_;
  const cost_options& options_;

  demand demand_;
  std::vector<module_facts> facts_;
  std::vector<layer_facts> layers_;
  std::vector<std::uint32_t> layer_order_;                     ///< layers by module
  std::vector<anchor> anchors_;                                ///< by parameter
  std::vector<place_in_tree> places_;                          ///< of the atoms
  std::vector<std::uint32_t> uses_;                            ///< tensors of each storage
  std::unordered_map<storage_id, std::uint16_t> table_depth_;  ///< deepest embedding of a storage
  std::unordered_map<storage_id, std::array<double, phase_count>>
      counted_;                                          ///< of the atom at hand: what shared storages were read
  std::array<double, dtype_table.size()> arithmetic_{};  ///< matrix elements of the atom at hand, by compute type
  bool idle_ = false;  ///< the atom at hand is nothing but a table that others look up
  std::uint64_t hidden_ = 0, vocabulary_ = 0, width_ = 2;
  dtype compute_ = dtype::bf16;  ///< of most of the model
};

coster::step coster::check_workload() {
  if (w_.batch == 0) return fail(errc::invalid_argument, "batch", "is 0; at least one sequence must be in flight");
  const auto sum = checked_add(w_.prompt, w_.generate);
  if (!sum || !checked_mul(*sum, w_.batch) || !checked_mul(w_.context, w_.batch))
    return fail(errc::overflow, "workload", "the tokens of all sequences together exceed 2^63 - 1");
  if (w_.context != 0 && *sum > w_.context)
    return fail(errc::invalid_argument, "context",
                text<416>("a prompt of ")
                    .append(w_.prompt)
                    .append(" and ")
                    .append(w_.generate)
                    .append(" generated tokens are ")
                    .append(*sum)
                    .append(" tokens, but the context keeps only ")
                    .append(w_.context)
                    .append("; ask for a context of at least ")
                    .append(*sum)
                    .append(", or for a shorter prompt or generation"));
  demand_ = {w_.batch, w_.prompt, w_.prompt + w_.generate / 2, w_.prompt};
  // An encoder works on as many positions as its decoder keeps.
  std::uint64_t crossed = 0;
  for (const auto& l : shape_.layers) crossed = std::max(crossed, l.cache.cross_tokens);
  if (crossed != 0) demand_.encoded = crossed;
  return std::nullopt;
}

/// Facts of every module, and the module of every layer. Parents come before children.
coster::step coster::find_layers() {
  std::unordered_map<std::string_view, std::uint32_t> layer_at;
  for (std::size_t i = 0; i < shape_.layers.size(); ++i)
    layer_at.emplace(shape_.layers[i].module, static_cast<std::uint32_t>(i));
  layers_.resize(shape_.layers.size());
  const auto modules = tree_.modules();
  facts_.resize(modules.size());
  for (std::size_t m = 0; m < modules.size(); ++m) {
    const auto& node = modules[m];
    auto& f = facts_[m];
    if (node.parent != none) f = facts_[node.parent];
    f.head = f.head || (tree_.output_embedding && node.name == *tree_.output_embedding);
    if (f.layer != none) {
      if (f.role == module_role::other) f.role = role_of(node.class_name, node.local_name());
      f.experts = f.experts || is_expert_bundle(node.class_name, node.local_name());
    } else if (const auto it = layer_at.find(node.name); it != layer_at.end()) {
      f.layer = it->second;
      layers_[it->second].module = static_cast<module_index>(m);
      layer_order_.push_back(it->second);
    }
  }
  for (std::size_t i = 0; i < layers_.size(); ++i)
    if (layers_[i].module == none)
      return fail(errc::inconsistent_model, shape_.layers[i].module, "a described layer is not a module of the tree");
  return std::nullopt;
}

/// A module encodes if it holds blocks without a cache and no others, or is a bridge from such a stack to the rest.
void coster::mark_encoders() {
  std::vector<bool> encoding(facts_.size()), other(facts_.size());
  for (const auto l : layer_order_) {
    auto& mark = shape_.layers[l].cache.kind == attention_kind::uncached ? encoding : other;
    for (auto m = layers_[l].module; m != none && !mark[m]; m = tree_.modules()[m].parent) mark[m] = true;
  }
  for (std::size_t m = 0; m < facts_.size(); ++m) {
    const auto& node = tree_.modules()[m];
    const bool inherited = node.parent != none && facts_[node.parent].encodes;
    const bool bridge = !shape_.layers.empty() && facts_[m].layer == none &&
                        node.local_name().find("projector") != std::string_view::npos;
    facts_[m].encodes = inherited || bridge || (encoding[m] && !other[m]);
  }
}

std::uint16_t depth_of(std::string_view name) {
  return static_cast<std::uint16_t>(std::count(name.begin(), name.end(), '.'));
}

void coster::scan_parameters() {
  hidden_ = shape_.hidden;
  vocabulary_ = shape_.vocabulary;
  storage_id last = 0;
  for (const auto list : {tree_.parameters(), tree_.buffers()})
    for (const auto& t : list) last = std::max(last, t.storage);
  uses_.assign(std::size_t{last} + 1, 0);
  for (const auto list : {tree_.parameters(), tree_.buffers()})
    for (const auto& t : list) ++uses_[t.storage];
  for (std::size_t i = 0; i < tree_.parameters().size(); ++i) note_parameter(static_cast<std::uint32_t>(i));
  const auto most = std::max_element(arithmetic_.begin(), arithmetic_.end());
  if (*most > 0) compute_ = static_cast<dtype>(most - arithmetic_.begin());
  width_ =
      options_.activation_bytes > 0 ? options_.activation_bytes : std::max<std::uint64_t>(2, bits_of(compute_) / 8);
}

void coster::note_parameter(std::uint32_t index) {
  const auto& t = tree_.parameters()[index];
  const auto& owner = owner_of(t);
  const auto& f = facts_[t.owner];
  const bool matrix = is_matrix(t, owner);
  if (matrix) arithmetic_[static_cast<std::size_t>(compute_type(t, sizes_.parameters[index]))] += logical_elements(t);
  if (is_row_table(t, owner)) {
    if (hidden_ == 0) hidden_ = t.shape[1];
    if (uses_[t.storage] > 1) {
      auto& deepest = table_depth_[t.storage];
      deepest = std::max(deepest, depth_of(t.name));
    }
  }
  if (f.head && matrix && vocabulary_ == 0) vocabulary_ = t.shape[0];
  if (f.layer == none) return;
  auto& l = layers_[f.layer];
  l.first = std::min(l.first, index);
  if (f.role == module_role::attention) l.first_attention = std::min(l.first_attention, index);
  if (f.role == module_role::cross_attention) l.first_cross = std::min(l.first_cross, index);
  if (l.width == 0 && f.role == module_role::norm && t.shape.size() == 1 && owner.parent == l.module)
    l.width = t.shape[0];
  if (!matrix) return;
  if (f.role == module_role::attention) l.widest = std::max(l.widest, t.shape[owner.class_name == "Conv1D" ? 1 : 0]);
  if (owner.local_name() == "kv_b_proj") l.latent_rank = t.shape[1];
}

coster::step coster::place_anchors() {
  for (const auto i : layer_order_) {
    const auto& l = layers_[i];
    const auto& cache = shape_.layers[i].cache;
    if (l.first == none) {
      if (cache.kind != attention_kind::none)
        return fail(errc::inconsistent_model, shape_.layers[i].module,
                    "the layer is said to keep state or to attend, but holds no parameters");
      continue;
    }
    const auto own = l.first_attention != none ? l.first_attention : l.first;
    anchors_.push_back({own, i, false});
    if (cache.cross_tokens != 0) anchors_.push_back({l.first_cross != none ? l.first_cross : own, i, true});
  }
  std::sort(anchors_.begin(), anchors_.end(), [](const auto& a, const auto& b) {
    return std::pair(a.parameter, a.cross) < std::pair(b.parameter, b.cross);
  });
  return std::nullopt;
}

coster::step coster::find_atoms() {
  const auto atoms = chain_.view().atoms;
  const auto base_name = [](const atom& a) {
    return a.parts > 1 ? a.name.substr(0, a.name.rfind('.')) : a.name;  // slices are not modules of the tree
  };
  std::unordered_map<std::string_view, place_in_tree> found;
  found.reserve(atoms.size());
  for (const auto& a : atoms) found.emplace(base_name(a), place_in_tree{});
  const auto offset = [](const auto part, const auto all) {
    return static_cast<std::uint32_t>(part.data() - all.data());
  };
  for (std::size_t i = 0; i < tree_.modules().size(); ++i) {
    const auto it = found.find(tree_.modules()[i].name);
    if (it == found.end()) continue;
    const auto m = static_cast<module_index>(i);
    const auto p = tree_.subtree_parameters(m);
    const auto b = tree_.subtree_buffers(m);
    const auto p0 = offset(p, tree_.parameters()), b0 = offset(b, tree_.buffers());
    it->second = {
        m, true, p0, p0 + static_cast<std::uint32_t>(p.size()), b0, b0 + static_cast<std::uint32_t>(b.size())};
  }
  const auto find_tensors = [&](std::span<const tensor> list, bool buffers) {
    for (std::uint32_t i = 0; i < list.size(); ++i)
      if (const auto it = found.find(list[i].name); it != found.end() && it->second.module == none)
        it->second = buffers ? place_in_tree{list[i].owner, false, 0, 0, i, i + 1}
                             : place_in_tree{list[i].owner, false, i, i + 1, 0, 0};
  };
  find_tensors(tree_.parameters(), false);
  find_tensors(tree_.buffers(), true);
  places_.reserve(atoms.size());
  for (const auto& a : atoms) {
    places_.push_back(found.find(base_name(a))->second);
    if (places_.back().module == none)
      return fail(errc::inconsistent_model, a.name, "the atom is neither a module nor a tensor of the tree");
  }
  return std::nullopt;
}

coster::step coster::cost(std::size_t index) {
  auto& a = chain_.atoms()[index];
  const auto& at = places_[index];
  a.state = a.workspace = 0;
  a.work = {};
  arithmetic_ = {};
  counted_.clear();
  idle_ = at.parameters_begin != at.parameters_end;
  for (auto i = at.parameters_begin; i < at.parameters_end; ++i) add_parameter(i, a);
  for (auto i = at.buffers_begin; i < at.buffers_end; ++i) add_buffer(i, a);
  if (auto problem = add_state(at, a)) return problem;
  const auto most = std::max_element(arithmetic_.begin(), arithmetic_.end());
  a.compute = *most > 0 ? static_cast<dtype>(most - arithmetic_.begin()) : compute_;
  set_out(index, a);
  if (w_.context == 0) return std::nullopt;
  const auto workspace = workspace_of(at, a);
  if (!workspace) return fail(errc::overflow, a.name, "its workspace exceeds 2^63 - 1 bytes");
  a.workspace = *workspace;
  return std::nullopt;
}

/// FLOPs and touched bytes of one parameter, or of one part of it.
void coster::add_parameter(std::uint32_t index, atom& a) {
  constexpr std::array<std::string_view, 6> key_value_names{"k", "v", "k_proj", "v_proj", "key", "value"};
  const auto& t = tree_.parameters()[index];
  const auto& owner = owner_of(t);
  const auto& f = facts_[t.owner];
  const auto* layer = f.layer != none ? &shape_.layers[f.layer] : nullptr;
  const double size = static_cast<double>(sizes_.parameters[index]) / a.parts;
  const bool matrix = is_matrix(t, owner);
  const bool table = is_row_table(t, owner);
  const bool routed = f.experts && layer != nullptr && layer->ffn.experts != 0 && layer->ffn.active != 0;
  const auto experts = routed ? layer->ffn.experts : 1, active = routed ? std::min(layer->ffn.active, experts) : 1;
  // Keys and values of the encoder's output are computed once, in prefill.
  const bool encoder_side = layer != nullptr && layer->cache.cross_tokens != 0 &&
                            f.role == module_role::cross_attention && is_one_of(owner.local_name(), key_value_names);
  // T5 registers its table a second time beside its stacks; only the stacks look rows up.
  const bool shell = table && uses_[t.storage] > 1 && depth_of(t.name) < table_depth_[t.storage];
  idle_ = idle_ && shell;
  if (matrix) {
    const auto type = compute_type(t, sizes_.parameters[index]);
    arithmetic_[static_cast<std::size_t>(type)] += logical_elements(t) / a.parts;
  }
  std::array<double, phase_count> touched{};
  for (const auto p : phases) {
    double n = tokens(p, f.encodes);
    if (encoder_side) n = p == phase::prefill ? static_cast<double>(layer->cache.cross_tokens) * batch() : 0.0;
    if (f.head && !f.encodes) n = p == phase::prefill ? std::min(n, batch()) : batch();
    if (n == 0 || shell) continue;
    double read = size;
    if (table) read = read * std::min(n, static_cast<double>(t.shape[0])) / static_cast<double>(t.shape[0]);
    if (routed) read *= touched_share(active, experts, static_cast<std::uint64_t>(n));
    touched[static_cast<std::size_t>(p)] = read;
    if (matrix)
      a.work[static_cast<std::size_t>(p)].flops +=
          2 * logical_elements(t) * n * static_cast<double>(active) / static_cast<double>(experts) / a.parts;
  }
  if (uses_[t.storage] > 1) {  // a storage with several names in one atom is read once, as far as its widest use
    auto& before = counted_[t.storage];
    for (std::size_t p = 0; p < phase_count; ++p) {
      const double now = std::max(touched[p], before[p]);
      touched[p] = now - before[p];
      before[p] = now;
    }
  }
  for (std::size_t p = 0; p < phase_count; ++p) a.work[p].touched += touched[p];
}

/// Buffers are tables (rotary angles, masks): a row per token.
void coster::add_buffer(std::uint32_t index, atom& a) const {
  const auto& t = tree_.buffers()[index];
  const auto rows = static_cast<double>(table_rows(t));
  for (const auto p : phases)
    a.work[static_cast<std::size_t>(p)].touched +=
        static_cast<double>(sizes_.buffers[index]) * std::min(tokens(p, facts_[t.owner].encodes), rows) / rows;
}

/// State, its traffic and the attention over it, of the layers whose anchor lies in the atom.
coster::step coster::add_state(const place_in_tree& at, atom& a) const {
  const auto too_large = [&] { return fail(errc::overflow, a.name, "its state exceeds 2^63 - 1 bytes"); };
  if (a.parts > 1) return std::nullopt;  // slices hold experts
  auto it = std::lower_bound(anchors_.begin(), anchors_.end(), at.parameters_begin,
                             [](const anchor& x, std::uint32_t i) { return x.parameter < i; });
  for (; it != anchors_.end() && it->parameter < at.parameters_end; ++it) {
    const auto& cache = shape_.layers[it->layer].cache;
    if (w_.context != 0) {
      const auto kept = state_of(cache, w_.context, options_.cache);
      const auto all = kept ? checked_mul(it->cross ? kept->crossed : kept->own, w_.batch) : std::nullopt;
      const auto sum = all ? checked_add(a.state, *all) : std::nullopt;
      if (!sum) return too_large();
      a.state = *sum;
    }
    for (const auto p : phases) {
      auto& work = a.work[static_cast<std::size_t>(p)];
      const auto moved = state_traffic(cache, p, demand_, options_.cache);
      if (!moved) return too_large();
      const bool idle = p == phase::prefill && demand_.prompt == 0 && cache.kind != attention_kind::uncached;
      if (idle) continue;
      work.touched += static_cast<double>(it->cross ? moved->crossed : moved->own) * batch();
      const auto rank = layers_[it->layer].latent_rank != 0 ? layers_[it->layer].latent_rank : cache.latent_dim;
      work.flops += batch() * (it->cross ? cross_attention_flops(cache, p, demand_)
                                         : self_attention_flops(cache, p, demand_, options_.cache, rank));
    }
  }
  return std::nullopt;
}

std::uint64_t coster::width_at(const module_facts& f) const {
  if (f.layer != none && layers_[f.layer].width != 0) return layers_[f.layer].width;
  if (!f.encodes || f.layer != none) return hidden_;
  for (const auto l : layer_order_)  // what stands beside a tower's blocks has their width
    if (facts_[layers_[l].module].encodes && layers_[l].width != 0) return layers_[l].width;
  return hidden_;
}

/// b B s `elements`
std::optional<bytes> coster::peak(bool encodes, std::uint64_t elements) const {
  return product(width_, demand_.batch, std::max<std::uint64_t>(1, encodes ? demand_.encoded : demand_.prompt),
                 elements);
}

/// b B s (2h + max((H + kv)(dk + dv), 2f)); of a recurrent layer the widest projection stands for its heads.
std::optional<bytes> coster::layer_workspace(std::uint32_t layer) const {
  const auto& d = shape_.layers[layer];
  const auto& f = facts_[layers_[layer].module];
  const auto recurrent = d.cache.state_f32_elements + d.cache.state_elements != 0 ? layers_[layer].widest : 0;
  const auto attention = std::max(attention_elements(d.cache), recurrent);
  return peak(f.encodes, 2 * width_at(f) + std::max(attention, 2 * inner_width(d.ffn)));
}

std::optional<bytes> coster::part_workspace(const place_in_tree& at, const atom& a) const {
  const auto& f = facts_[at.module];
  const auto& d = shape_.layers[f.layer];
  const auto h = width_at(f);
  if (attends(f.role)) {
    const auto recurrent = d.cache.state_f32_elements + d.cache.state_elements != 0 ? layers_[f.layer].widest : 0;
    return peak(f.encodes, 2 * h + std::max(attention_elements(d.cache), recurrent));
  }
  if (f.role != module_role::ffn) return peak(f.encodes, h);
  const auto& node = tree_.modules()[at.module];
  const bool outermost = facts_[node.parent].role != module_role::ffn;
  std::uint64_t inner = outermost ? inner_width(d.ffn) : 0;  // a router has no inner activation
  if (f.experts)
    inner =
        a.parts > 1 || !is_expert_bundle(node.class_name, node.local_name()) ? d.ffn.expert_width : inner_width(d.ffn);
  else if (node.local_name().find("shared_expert") != std::string_view::npos)
    inner = d.ffn.shared_width;
  return peak(f.encodes, 2 * h + 2 * inner);
}

bool coster::inside_layer(const place_in_tree& at) const {
  const auto layer = facts_[at.module].layer;
  return layer != none && !(at.whole && layers_[layer].module == at.module);
}

std::optional<bytes> coster::workspace_of(const place_in_tree& at, const atom& a) const {
  if (inside_layer(at)) return part_workspace(at, a);
  const auto& f = facts_[at.module];
  if (shape_.layers.empty() && (a.kind == atom_kind::block || a.kind == atom_kind::other)) return 0;
  if (a.kind == atom_kind::head)  // logits of one position, in f32 beside the activation's type
    return product(demand_.batch, vocabulary_, width_ + 4, f.encodes ? std::max<std::uint64_t>(1, demand_.encoded) : 1);
  std::optional<bytes> most = peak(f.encodes, width_at(f));
  if (!at.whole) return most;
  const auto first = std::lower_bound(layer_order_.begin(), layer_order_.end(), at.module,
                                      [&](std::uint32_t l, module_index m) { return layers_[l].module < m; });
  for (auto l = first; most && l != layer_order_.end(); ++l) {
    if (layers_[*l].module >= tree_.modules()[at.module].subtree_end) break;
    const auto one = layer_workspace(*l);
    most = one ? std::optional(std::max(*most, *one)) : std::nullopt;
  }
  return most;
}

/// One activation; two between parts of one block, the residual and what the part has made.
void coster::set_out(std::size_t index, atom& a) const {
  const auto& at = places_[index];
  const auto& f = facts_[at.module];
  if (idle_) return;
  const bool within = inside_layer(at) && index + 1 < places_.size() && inside_layer(places_[index + 1]) &&
                      facts_[places_[index + 1].module].layer == f.layer;
  const double width = static_cast<double>(width_at(f)) * static_cast<double>(width_) * (within ? 2.0 : 1.0);
  for (const auto p : phases) a.work[static_cast<std::size_t>(p)].out = width * tokens(p, f.encodes);
}

}  // namespace

result<costed> cost_model(model& chain, const module_tree& tree, const tensor_sizes& sizes, const model_shape& shape,
                          const workload& w, const cost_options& options) {
  return coster(chain, tree, sizes, shape, w, options).run();
}

}  // namespace berth
