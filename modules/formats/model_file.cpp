// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.formats;

namespace berth {
namespace {

/// Module trees nest two JSON levels per module level.
constexpr json::parse_options document_options{.max_depth = 1024, .allow_nonfinite = true};

/// "a, b and 3 more"
std::string some_of(std::span<const std::string> names) {
  std::string out;
  for (std::size_t i = 0; i < std::min<std::size_t>(names.size(), 3); ++i)
    out.append(i > 0 ? ", " : "").append(names[i]);
  if (names.size() > 3) out.append(" and ").append(std::to_string(names.size() - 3)).append(" more");
  return out;
}

/// Puts a loaded_model together; the steps share `out_`.
class model_loader {
 public:
  explicit model_loader(bool allow_unknown_sizes = false) : allow_unknown_sizes_(allow_unknown_sizes) {}

  result<loaded_model> from_checkpoint(checkpoint c);
  result<loaded_model> from_document(const json::value& document, std::string_view what);

 private:
  using step = std::optional<failure>;

  step build(std::string_view what);
  step build_structural(std::string_view why);
  step choose_dtype(std::string_view what);
  step size_from_config();
  void map_stored();
  void tie_head();
  void size_from_headers();
  void report_names();
  bool maps_well() const;
  dtype_choice dtype_of_headers() const;
  void finish();

  void infer(std::string what, std::string value, std::string source) {
    out_.inferred.push_back({std::move(what), std::move(value), std::move(source)});
  }
  void warn(std::string text) { out_.warnings.push_back(std::move(text)); }

  bool allow_unknown_sizes_;
  loaded_model out_;
};

result<loaded_model> model_loader::from_document(const json::value& document, std::string_view what) {
  if (const auto* format = document.find("format"); format != nullptr && format->if_string() != nullptr) {
    auto tree = read_module_tree(document, what);
    if (!tree) return tree.propagate();
    out_.architecture.model_type = tree->model_type;
    out_.architecture.how = exactness::exact;
    out_.architecture.tree = *std::move(tree);
    out_.sizes = native_sizes(out_.tree());
    out_.dtype_source = "module tree";
    finish();
    return std::move(out_);
  }
  checkpoint c;
  c.location = what;
  c.config = document;
  return from_checkpoint(std::move(c));
}

result<loaded_model> model_loader::from_checkpoint(checkpoint c) {
  out_.checkpoint = std::move(c);
  auto& read = *out_.checkpoint;
  const auto what = read.location;
  out_.warnings = read.warnings;
  out_.index_total = read.index_total_size;
  if (read.has_headers()) out_.stored_bytes = read.stored_bytes();
  auto q = read_quantization(read.config ? &*read.config : nullptr,
                             read.quantization_document ? &*read.quantization_document : nullptr, what);
  if (!q) return q.propagate();
  out_.quantization = *std::move(q);
  if (out_.quantization) {
    infer("quantization", out_.quantization->method, out_.quantization->source);
    for (const auto& w : out_.quantization->warnings) warn(w);
  }
  if (auto problem = build(what)) return *problem;
  if (read.has_headers()) size_from_headers();
  report_names();
  finish();
  return std::move(out_);
}

/// The tree: by config where the architecture is known and the stored names fit it, else by the names themselves.
model_loader::step model_loader::build(std::string_view what) {
  const auto& read = *out_.checkpoint;
  if (!read.config) return build_structural("there is no config.json");
  auto built = build_architecture(*read.config, {.what = what, .load = std::nullopt});
  if (!built) {
    const auto& e = built.error();
    const bool foreign = e.code == errc::unknown_architecture || e.code == errc::unknown_format;
    if (!foreign) return built.propagate();
    return build_structural(e.code == errc::unknown_architecture
                                ? std::string("model_type \"").append(e.subject.view()).append("\" is not known")
                                : std::string("config.json is ").append(e.detail.view()));
  }
  out_.architecture = *std::move(built);
  map_stored();
  if (read.has_headers() && !maps_well())
    return build_structural("most stored names do not fit the tree of model_type \"" + out_.architecture.model_type +
                            "\"");
  if (auto problem = choose_dtype(what)) return problem;
  tie_head();
  return size_from_config();
}

model_loader::step model_loader::build_structural(std::string_view why) {
  const auto& read = *out_.checkpoint;
  std::vector<stored_tensor> unsized;
  if (!read.has_headers()) {
    out_.sizes_known = false;
    if (!allow_unknown_sizes_ || read.names.empty())
      return fail(errc::unknown_architecture, read.location,
                  text<416>(why)
                      .append(", and without tensor headers (")
                      .append(describe(read.source))
                      .append(") the shapes are not known; add the shards or a config.json of a known architecture"));
    for (const auto& [name, file] : read.names) {
      stored_tensor t;
      t.name = name;
      t.file = file;
      t.shape = {0};
      unsized.push_back(std::move(t));
    }
    warn("sizes are not known: no tensor headers and no known config");
  }
  auto tree = tree_from_names(read.has_headers() ? read.tensors : unsized, read.location);
  if (!tree) return tree.propagate();
  architecture a;
  a.model_type = out_.architecture.model_type;
  a.how = exactness::structural;
  a.tree = *std::move(tree);
  a.tree.model_type = a.model_type;
  out_.architecture = std::move(a);
  infer("module tree", "blocks found from tensor names", std::string(why));
  warn(std::string(why) + ": the blocks were found from the names of the tensors; KV cache and FLOPs are not known");
  const auto choice = dtype_of_headers();
  out_.architecture.tree.dtype_name = info_of(choice.type).torch;
  out_.dtype_source = choice.source;
  out_.sizes = native_sizes(out_.tree());
  map_stored();
  return std::nullopt;
}

/// Rebuilds the tree if the files say another dtype than the config.
model_loader::step model_loader::choose_dtype(std::string_view what) {
  const auto& read = *out_.checkpoint;
  const auto stated = config_dtype(*read.config);
  dtype_choice choice;
  if (read.has_headers()) {
    choice = dtype_of_headers();
    if (choice.source.empty()) choice = checkpoint_dtype(&*read.config, std::nullopt, 0);
  } else {
    // The total of a quantized checkpoint says nothing about the dtype of the rest.
    const auto total = out_.quantization ? std::nullopt : read.index_total_size;
    choice = checkpoint_dtype(&*read.config, total, out_.tree().element_total());
  }
  out_.dtype_source = choice.source;
  infer("dtype", std::string(info_of(choice.type).torch), choice.source);
  if (stated && stated->type != choice.type)
    warn("config says " + std::string(info_of(stated->type).torch) + ", the checkpoint is " +
         std::string(info_of(choice.type).torch) + " (" + choice.source + ")");
  if (out_.tree().dtype_name == info_of(choice.type).torch) return std::nullopt;
  auto built = build_architecture(*read.config, {.what = what, .load = choice.type});
  if (!built) return built.propagate();
  out_.architecture = *std::move(built);
  return std::nullopt;
}

/// Most common floating dtype among stored weights by bytes; parts of quantized weights do not count.
dtype_choice model_loader::dtype_of_headers() const {
  const auto& read = *out_.checkpoint;
  std::unordered_set<std::string_view> packed;
  for (const auto& c : out_.names.companions) packed.insert(c.stored);
  for (const auto& n : out_.names.mismatched) packed.insert(n);
  std::array<bytes, dtype_table.size()> total{};
  for (const auto& t : read.tensors)
    if (is_floating(t.type) && bits_of(t.type) >= (out_.quantization ? 16u : 8u) && !packed.contains(t.name))
      total[static_cast<std::size_t>(t.type)] += t.length;
  const auto most = std::ranges::max_element(total);
  if (*most == 0) return {};
  return {static_cast<dtype>(most - total.begin()), "headers", std::nullopt};
}

void model_loader::map_stored() {
  const auto& read = *out_.checkpoint;
  std::vector<stored_name> stored;
  for (const auto& t : read.tensors) stored.push_back({t.name, std::span<const std::uint64_t>(t.shape)});
  for (const auto& [name, file] : read.names) stored.push_back({name, std::nullopt});
  if (!stored.empty()) out_.names = map_names(out_.tree(), stored);
}

bool model_loader::maps_well() const {
  const auto& n = out_.names;
  const auto mapped = n.conversions.size() + n.companions.size();
  return n.unexpected.empty() || mapped > n.unexpected.size();
}

/// The stored names decide: a head that is not stored is the embedding.
void model_loader::tie_head() {
  const auto& output = out_.tree().output_embedding;
  const auto& read = *out_.checkpoint;
  if (!output || (read.tensors.empty() && read.names.empty())) return;
  const auto head_name = *output + ".weight";
  const auto missing = std::ranges::find(out_.names.missing, head_name);
  if (missing == out_.names.missing.end()) return;
  const auto* head = out_.tree().find_tensor(head_name);
  if (head == nullptr) return;
  for (const auto& p : out_.tree().parameters()) {
    const auto& owner = out_.tree().modules()[p.owner].class_name;
    if (p.storage == head->storage || p.shape != head->shape || owner.find("Embedding") == std::string::npos) continue;
    const auto source = p.name;
    auto tree = out_.tree();
    tree.tied_weights_keys.emplace_back(head_name, source);
    tree.tie_word_embeddings = true;
    out_.architecture.tree = tree.tied();
    out_.names.missing.erase(missing);
    infer("tie of " + *output, source, "no " + head_name + " in the checkpoint");
    return;
  }
}

/// Sizes by the tree's dtype and the quantization rules.
model_loader::step model_loader::size_from_config() {
  const auto& tree = out_.tree();
  if (!out_.quantization) {
    out_.sizes = native_sizes(tree);
    out_.config_bytes = tree.byte_total();
    return std::nullopt;
  }
  auto sized = quantized_sizes(tree, *out_.quantization, &out_.names);
  if (sized) {
    out_.sizes = std::move(sized->sizes);
    out_.config_bytes = sized->total;
    return std::nullopt;
  }
  // With headers the rules are not needed.
  if (!out_.checkpoint->has_headers()) return sized.propagate();
  out_.sizes = native_sizes(tree);
  return std::nullopt;
}

/// What lies in the files for each storage, scales included; tensors that are not stored keep their computed size.
void model_loader::size_from_headers() {
  const auto& tree = out_.tree();
  std::unordered_map<std::string_view, bytes> length_of;
  for (const auto& t : out_.checkpoint->tensors) length_of.emplace(t.name, t.length);
  std::unordered_map<std::string_view, bytes> stored;  // by tree name
  for (const auto& c : out_.names.conversions) stored[c.tensor] += length_of[c.stored];
  for (const auto& c : out_.names.companions) stored[c.tensor] += length_of[c.stored];
  std::unordered_map<storage_id, bytes> size_of;
  for (const auto list : {tree.parameters(), tree.buffers()})
    for (const auto& t : list)
      if (const auto it = stored.find(t.name); it != stored.end())
        size_of[t.storage] = std::max(size_of[t.storage], it->second);
  const std::unordered_set<std::string_view> incomplete(out_.names.missing.begin(), out_.names.missing.end());
  const auto apply = [&](std::span<const tensor> list, std::vector<bytes>& sizes) {
    for (std::size_t i = 0; i < list.size(); ++i)
      if (const auto it = size_of.find(list[i].storage); it != size_of.end() && !incomplete.contains(list[i].name))
        sizes[i] = it->second;
  };
  apply(tree.parameters(), out_.sizes.parameters);
  apply(tree.buffers(), out_.sizes.buffers);
}

void model_loader::report_names() {
  const auto& n = out_.names;
  if (n.conversions.empty() && n.unexpected.empty()) return;
  if (!n.unexpected.empty())
    warn(std::to_string(n.unexpected.size()) + " stored tensors are not part of the model: " + some_of(n.unexpected));
  if (!n.missing.empty())
    warn(std::to_string(n.missing.size()) + " tensors of the model are not stored: " + some_of(n.missing));
  if (!n.mismatched.empty() && !out_.quantization)
    warn(std::to_string(n.mismatched.size()) +
         " stored tensors have another shape than the model: " + some_of(n.mismatched));
  if (!n.ignored.empty())
    infer("left out", std::to_string(n.ignored.size()) + " stored tensors",
          "known tables or prediction layers: " + some_of(n.ignored));
}

void model_loader::finish() { out_.fingerprint = fingerprint_of(out_.tree(), out_.sizes); }

/// FNV-1a over bytes in a fixed order.
struct hasher {
  std::uint64_t state = 0xcbf29ce484222325u;

  void add(std::string_view s) {
    for (const char c : s) byte(static_cast<unsigned char>(c));
    byte(0);
  }
  void add(std::uint64_t n) {
    for (int i = 0; i < 8; ++i) byte(static_cast<unsigned char>(n >> (8 * i)));
  }

 private:
  void byte(unsigned char b) {
    state ^= b;
    state *= 0x100000001b3u;
  }
};

}  // namespace

std::uint64_t fingerprint_of(const module_tree& tree, const tensor_sizes& sizes) {
  hasher h;
  std::unordered_map<storage_id, std::string_view> first_name;
  const auto add = [&](std::span<const tensor> list, const std::vector<bytes>& bytes_of) {
    h.add(list.size());
    for (std::size_t i = 0; i < list.size(); ++i) {
      const auto& t = list[i];
      h.add(t.name);
      h.add(info_of(t.type).torch);
      h.add(t.shape.size());
      for (const auto d : t.shape) h.add(d);
      h.add(t.persistent ? 1 : 0);
      // Ties by name: storage numbers are not stable.
      h.add(first_name.try_emplace(t.storage, t.name).first->second);
      h.add(i < bytes_of.size() ? bytes_of[i] : t.size());
    }
  };
  add(tree.parameters(), sizes.parameters);
  add(tree.buffers(), sizes.buffers);
  return h.state;
}

result<loaded_model> load_model(const std::string& path, const load_options& options) {
  if (path.ends_with(".json") && !path.ends_with(".index.json")) {
    // A module tree, or a config that read_checkpoint takes as well.
    const auto document = read_json_file(path, document_options);
    if (document && document->find("format") != nullptr) return model_loader().from_document(*document, path);
    if (!document && document.error().code != errc::unreadable) return document.propagate();
  }
  auto read = read_checkpoint(path, {.progress = options.progress});
  if (!read) return read.propagate();
  return model_loader(options.allow_unknown_sizes).from_checkpoint(*std::move(read));
}

result<loaded_model> load_model_text(std::string_view text, std::string_view what) {
  const auto document = json::parse(text, what, document_options);
  if (!document) return document.propagate();
  if (document->if_object() == nullptr) return fail(errc::malformed, what, "a model document is a JSON object");
  return model_loader().from_document(*document, what);
}

}  // namespace berth
