// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

module berth.formats;

namespace berth {
namespace {

constexpr std::size_t max_module_depth = 256;

/// Reads the nodes into a builder; the first problem is kept in `problem`.
class tree_reader {
 public:
  tree_reader(std::string_view what, tree_builder& builder) : what_(what), builder_(builder) {}

  bool read_node_content(const json::value& node, std::size_t depth) {
    if (depth > max_module_depth) return refuse("modules are nested too deep");
    if (!read_tensors(node, "parameters", false) || !read_tensors(node, "buffers", true)) return false;
    const auto* children = node.find("children");
    if (children == nullptr) return true;
    if (!children->if_array()) return refuse("\"children\" is not an array");
    for (const auto& child : *children->if_array()) {
      const auto* name = string_of(child, "name");
      if (name == nullptr) return refuse("a child has no \"name\"");
      if (const auto* target = string_of(child, "same_as")) {
        builder_.alias(*name, *target);
        continue;
      }
      const auto* class_name = string_of(child, "class");
      if (class_name == nullptr) return refuse("the module \"" + *name + "\" has neither \"class\" nor \"same_as\"");
      builder_.enter(*name, *class_name);
      if (!read_node_content(child, depth + 1)) return false;
      builder_.leave();
    }
    return true;
  }

  std::optional<failure> problem;

 private:
  static const std::string* string_of(const json::value& v, std::string_view key) {
    const auto* m = v.find(key);
    return m == nullptr ? nullptr : m->if_string();
  }

  bool refuse(std::string why) {
    problem = fail(errc::malformed, what_, why + " (in module \"" + std::string(builder_.current()) + "\")");
    return false;
  }

  bool read_tensors(const json::value& node, std::string_view key, bool buffers) {
    const auto* list = node.find(key);
    if (list == nullptr) return true;
    if (!list->if_array()) return refuse(std::string(key) + " is not an array");
    for (const auto& t : *list->if_array())
      if (!read_tensor(t, buffers)) return false;
    return true;
  }

  bool read_tensor(const json::value& t, bool is_buffer) {
    const auto* name = string_of(t, "name");
    const auto* type_name = string_of(t, "dtype");
    const auto* shape = t.find("shape");
    if (name == nullptr || type_name == nullptr || shape == nullptr || !shape->if_array())
      return refuse("a tensor lacks \"name\", \"dtype\" or \"shape\"");
    const auto type = dtype_from_torch(*type_name);
    if (!type) return refuse("the tensor \"" + *name + "\" has the unknown dtype \"" + *type_name + "\"");
    std::vector<std::uint64_t> dims;
    for (const auto& d : *shape->if_array()) {
      const auto n = d.to_uint64();
      if (!n) return refuse("the shape of \"" + *name + "\" is not a list of sizes");
      dims.push_back(*n);
    }
    bool persistent = true;
    if (const auto* p = t.find("persistent")) {
      if (!p->if_bool()) return refuse("\"persistent\" of \"" + *name + "\" is not true or false");
      persistent = *p->if_bool();
    }
    return place(t, *name, *type, std::move(dims), is_buffer, persistent);
  }

  bool place(const json::value& t, const std::string& name, dtype type, std::vector<std::uint64_t> dims, bool is_buffer,
             bool persistent) {
    const auto* storage = t.find("storage");
    if (storage == nullptr) {
      is_buffer ? builder_.buffer(name, type, std::move(dims), persistent)
                : builder_.parameter(name, type, std::move(dims));
      return true;
    }
    const auto number = storage->to_uint64();
    if (!number) return refuse("\"storage\" of \"" + name + "\" is not a number");
    if (auto it = storages_.find(*number); it != storages_.end()) {
      if (it->second.type != type || it->second.dims != dims)
        return refuse("\"" + name + "\" shares storage " + std::to_string(*number) + " but has another shape or dtype");
      is_buffer ? builder_.buffer_again(name, it->second.id, persistent)
                : builder_.parameter_again(name, it->second.id);
      return true;
    }
    const auto id = is_buffer ? builder_.buffer(name, type, dims, persistent) : builder_.parameter(name, type, dims);
    storages_.emplace(*number, known{id, type, std::move(dims)});
    return true;
  }

  struct known {
    storage_id id;
    dtype type;
    std::vector<std::uint64_t> dims;
  };

  std::string_view what_;
  tree_builder& builder_;
  std::unordered_map<std::uint64_t, known> storages_;
};

result<std::vector<std::string>> string_list(const json::value& v, std::string_view what, std::string_view key) {
  std::vector<std::string> out;
  if (const auto* a = v.if_array()) {
    for (const auto& e : *a) {
      if (!e.if_string()) return fail(errc::malformed, what, text<96>(key).append(" is not a list of strings"));
      out.push_back(*e.if_string());
    }
    return out;
  }
  return fail(errc::malformed, what, text<96>(key).append(" is not a list of strings"));
}

/// The members beside "root". Unknown ones are left alone: newer minor writers may add some.
std::optional<failure> read_header(const json::value& document, std::string_view what, module_tree& tree) {
  for (const auto& [key, field] : {std::pair<std::string_view, std::string*>{"id", &tree.id},
                                   {"model_type", &tree.model_type},
                                   {"dtype", &tree.dtype_name}})
    if (const auto* v = document.find(key); v != nullptr && v->if_string()) *field = *v->if_string();
  for (const auto& [key, field] :
       {std::pair<std::string_view, std::vector<std::string>*>{"no_split_modules", &tree.no_split_modules},
        {"keep_in_fp32_modules", &tree.keep_in_fp32_modules}})
    if (const auto* v = document.find(key); v != nullptr && !v->is_null()) {
      auto list = string_list(*v, what, key);
      if (!list) return list.propagate();
      *field = *std::move(list);
    }
  if (const auto* v = document.find("no_placement_params"); v != nullptr && !v->is_null()) {
    auto list = string_list(*v, what, "no_placement_params");
    if (!list) return list.propagate();
    tree.no_placement_params = *std::move(list);
  }
  if (const auto* v = document.find("tied_weights_keys"); v != nullptr && !v->is_null()) {
    if (!v->if_object()) return fail(errc::malformed, what, "tied_weights_keys is not an object");
    for (const auto& m : *v->if_object()) {
      if (!m.value.if_string()) return fail(errc::malformed, what, "tied_weights_keys is not a map from name to name");
      tree.tied_weights_keys.emplace_back(m.key, *m.value.if_string());
    }
  }
  if (const auto* v = document.find("tie_word_embeddings"); v != nullptr && v->if_bool())
    tree.tie_word_embeddings = *v->if_bool();
  if (const auto* v = document.find("output_embedding"); v != nullptr && v->if_string())
    tree.output_embedding = *v->if_string();
  return std::nullopt;
}

}  // namespace

result<module_tree> read_module_tree(const json::value& document, std::string_view what) {
  const auto* format = document.find("format");
  if (format == nullptr || !format->if_string() || *format->if_string() != "berth.module_tree/1")
    return fail(errc::unknown_format, what, "not a berth.module_tree/1 document");
  const auto* root = document.find("root");
  if (root == nullptr || !root->if_object()) return fail(errc::malformed, what, "\"root\" is missing or not an object");
  const auto* class_name = root->find("class");
  tree_builder builder(class_name != nullptr && class_name->if_string() ? *class_name->if_string() : std::string());
  if (auto problem = read_header(document, what, builder.tree())) return *problem;
  tree_reader reader(what, builder);
  if (!reader.read_node_content(*root, 0)) return *reader.problem;
  return builder.finish();
}

namespace {

json::value strings(const std::vector<std::string>& list) {
  json::array out;
  for (const auto& s : list) out.emplace_back(s);
  return out;
}

json::value write_tensor(const tensor& t, bool is_buffer) {
  json::array shape;
  for (const auto d : t.shape) shape.emplace_back(d);
  json::object out{{"name", t.local_name()}, {"shape", std::move(shape)}, {"dtype", info_of(t.type).torch}};
  if (is_buffer) out.push_back({"persistent", t.persistent});
  out.push_back({"storage", std::uint64_t{t.storage}});
  return out;
}

json::value write_node(const module_tree& tree, module_index m) {
  const auto& node = tree.modules()[m];
  if (node.is_alias())
    return json::object{{"name", node.local_name()}, {"same_as", tree.modules()[node.alias_of].name}};
  json::object out{{"name", node.local_name()}, {"class", node.class_name}};
  const auto tensors = [&](std::string_view key, std::span<const tensor> list, bool is_buffer) {
    if (list.empty()) return;
    json::array items;
    for (const auto& t : list) items.push_back(write_tensor(t, is_buffer));
    out.push_back({std::string(key), std::move(items)});
  };
  tensors("parameters", tree.direct_parameters(m), false);
  tensors("buffers", tree.direct_buffers(m), true);
  json::array children;
  for (auto c = tree.first_child(m); c != none; c = tree.next_sibling(c)) children.push_back(write_node(tree, c));
  if (!children.empty()) out.push_back({"children", std::move(children)});
  return out;
}

}  // namespace

json::value write_module_tree(const module_tree& tree) {
  json::object ties;
  for (const auto& [target, source] : tree.tied_weights_keys) ties.push_back({target, source});
  json::object out{
      {"format", "berth.module_tree/1"},
      {"id", tree.id},
      {"model_type", tree.model_type},
      {"no_split_modules", strings(tree.no_split_modules)},
      {"tied_weights_keys", std::move(ties)},
      {"tie_word_embeddings", tree.tie_word_embeddings},
      {"output_embedding", tree.output_embedding ? json::value(*tree.output_embedding) : json::value(nullptr)},
      {"keep_in_fp32_modules", strings(tree.keep_in_fp32_modules)}};
  if (tree.no_placement_params) out.push_back({"no_placement_params", strings(*tree.no_placement_params)});
  out.push_back({"dtype", tree.dtype_name});
  out.push_back({"root", write_node(tree, 0)});
  return out;
}

}  // namespace berth
