// SPDX-License-Identifier: Apache-2.0
// Turning templates into modules. One line is one module:
//   name [block] [tied] Class[:Layout](arguments) tensor... [if condition]
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.formats;

import :architecture_entry;

namespace berth::architectures {
namespace {

inline constexpr std::uint64_t max_modules = 500'000;
inline constexpr std::uint64_t max_layer_fact = std::uint64_t{1} << 30;

/// Tensors of torch's layers. A letter of a shape is an argument: "a" the first, "b" the second ...; a bias exists
/// unless its argument is given as 0.
struct layout {
  std::string_view name;
  std::string_view weight;
  std::string_view bias;
  std::size_t bias_argument;
};
inline constexpr std::array<layout, 7> layouts{{
    {"Linear", "ba", "b", 2},
    {"Conv1D", "ab", "b", 2},  // GPT-2's transposed Linear, not a convolution
    {"Embedding", "ab", "", 0},
    {"LayerNorm", "a", "a", 1},
    {"Conv1d", "bac", "b", 3},
    {"Conv2d", "bacc", "b", 3},
    {"Conv3d", "bacdd", "b", 4},
}};

class emitter {
 public:
  emitter(scope& s, emission& out) : scope_(s), out_(out) {}

  void lines(std::span<const line> all) {
    for (std::size_t i = 0; i < all.size() && !scope_.problem();) {
      std::size_t end = i + 1;
      while (end < all.size() && all[end].indent > all[i].indent) ++end;
      one(all[i].text, all.subspan(i + 1, end - i - 1));
      i = end;
    }
  }

  /// Class, tensors and children of a base model's "model" part into the current module.
  void base_content(std::string_view first, std::span<const line> children) {
    const auto tokens = split(first, ' ');
    tensors(tokens, 0);
    lines(children);
  }

 private:
  void one(std::string_view text, std::span<const line> children) {
    if (const auto condition = text.find(" if "); condition != std::string_view::npos) {
      if (scope_.number(text.substr(condition + 4)) == 0) return;
      text = text.substr(0, condition);
    }
    const auto tokens = tokens_of(text);
    if (tokens[0] == "use") return include(tokens);
    if (tokens[0][0] != '[') return module(std::string(tokens[0]), tokens, children);
    // "[i < count]" repeats the module and binds i.
    const auto inner = tokens[0].substr(1, tokens[0].size() - 2);
    const auto less = inner.find('<');
    const auto variable = trim(inner.substr(0, less));
    const auto n = scope_.count(inner.substr(less + 1), max_modules);
    for (std::uint64_t i = 0; i < n && !scope_.problem(); ++i) {
      const scope::binding bound(scope_, variable, static_cast<double>(i));
      module(std::to_string(i), tokens, children);
    }
  }

  /// Pieces of a line; "{name}" stands for the pieces of that part.
  std::vector<std::string_view> tokens_of(std::string_view text) {
    auto tokens = split(text, ' ');
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i][0] != '{') continue;
      const auto pieces = split(find_part(scope_.entry(), tokens[i].substr(1, tokens[i].size() - 2)).value_or(""), ' ');
      const auto at = tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(i));
      tokens.insert(at, pieces.begin(), pieces.end());
    }
    return tokens;
  }

  /// "use part" or, for a head that is the base model with other arguments, "use <self>".
  void include(std::span<const std::string_view> tokens) {
    if (tokens[1] == "<self>") return with_arguments(scope_, tokens, 2, [&] { emit_base(scope_, out_); });
    const auto text = find_part(scope_.entry(), tokens[1]);
    if (!text) {
      scope_.note(errc::invalid_argument, scope_.entry().types,
                  std::string("the entry uses an unknown part ").append(tokens[1]));
      return;
    }
    with_arguments(scope_, tokens, 2, [&] {
      const auto all = lines_of(*text);
      lines(all);
    });
  }

  /// Runs `body` with the arguments "name=expression" from tokens[at] on bound in `inner`.
  template <class Body>
  void with_arguments(scope& inner, std::span<const std::string_view> tokens, std::size_t at, const Body& body) {
    if (at >= tokens.size()) return body();
    const auto equals = tokens[at].find('=');
    const auto value = scope_.number(tokens[at].substr(equals + 1));
    const scope::binding bound(inner, tokens[at].substr(0, equals), value);
    with_arguments(inner, tokens, at + 1, body);
  }

  void module(const std::string& name, std::span<const std::string_view> tokens, std::span<const line> children) {
    std::size_t at = 1;
    bool block = false;
    bool tied = false;
    for (; at < tokens.size() && (tokens[at] == "block" || tokens[at] == "tied"); ++at)
      (tokens[at] == "block" ? block : tied) = true;
    if (++out_.modules > max_modules) {
      scope_.note(errc::capacity, scope_.entry().types, "the config describes more than 500,000 modules");
      return;
    }
    const auto token = tokens[at];
    if (token[0] == '<') return nested(name, tokens, at);
    out_.builder->enter(name, class_of(token));
    if (block) describe();
    if (tied) out_.tied_modules.emplace_back(out_.builder->current());
    tensors(tokens, at);
    lines(children);
    out_.builder->leave();
  }

  /// "<self>" is the base model of this entry, "<name>" that of a nested configuration; arguments may follow.
  void nested(const std::string& name, std::span<const std::string_view> tokens, std::size_t at) {
    const auto which = tokens[at].substr(1, tokens[at].size() - 2);
    scope* inner = which == "self" ? &scope_ : scope_.nested(which);
    if (inner == nullptr) return;
    with_arguments(*inner, tokens, at + 1, [&] {
      out_.builder->enter(name, base_class(*inner));
      emit_base(*inner, out_);
      out_.builder->leave();
    });
  }

  std::string class_of(std::string_view token) {
    if (token[0] == '@') {
      const auto word = scope_.word(token.substr(1));
      if (const auto known = activation_class(word)) return std::string(*known);
      scope_.note(errc::unsupported, word,
                  "the config asks for an activation that no entry of the activation table names");
      return {};
    }
    // "A?condition:B" is one of two classes.
    if (const auto q = token.find('?'); q != std::string_view::npos) {
      const auto colon = token.rfind(':');
      const bool first = scope_.number(token.substr(q + 1, colon - q - 1)) != 0;
      return with_prefix(scope_, first ? token.substr(0, q) : token.substr(colon + 1));
    }
    return with_prefix(scope_, token.substr(0, token.find_first_of(":(")));
  }

  void tensors(std::span<const std::string_view> tokens, std::size_t at) {
    auto token = tokens[at];
    if (const auto open = token.find('('); open != std::string_view::npos && token[0] != '@') {
      const auto colon = token.find(':');
      const auto name = colon < open ? token.substr(colon + 1, open - colon - 1) : token.substr(0, open);
      arguments(name, split(token.substr(open + 1, token.size() - open - 2), ','));
    }
    for (std::size_t i = at + 1; i < tokens.size(); ++i) explicit_tensor(tokens[i]);
  }

  void arguments(std::string_view name, const std::vector<std::string_view>& args) {
    if (name == "Scale") {  // a norm without bias: the weight has the given shape
      std::vector<std::uint64_t> shape;
      for (const auto a : args) shape.push_back(scope_.count(a));
      out_.builder->parameter("weight", out_.load, std::move(shape));
      return;
    }
    const auto* known = std::find_if(layouts.begin(), layouts.end(), [&](const auto& l) { return l.name == name; });
    if (known == layouts.end()) {
      scope_.note(errc::invalid_argument, scope_.entry().types, std::string("no layout is called ").append(name));
      return;
    }
    const auto shape_of = [&](std::string_view letters) {
      std::vector<std::uint64_t> shape;
      for (const char c : letters) shape.push_back(scope_.count(args[static_cast<std::size_t>(c - 'a')]));
      return shape;
    };
    if (name == "LayerNorm" && args.size() > 2 && scope_.number(args[2]) == 0) return;  // not affine
    out_.builder->parameter("weight", out_.load, shape_of(known->weight));
    const auto b = known->bias_argument;
    if (!known->bias.empty() && (args.size() <= b || scope_.number(args[b]) != 0))
      out_.builder->parameter("bias", out_.load, shape_of(known->bias));
  }

  /// "name[dims]" a parameter, "+name[dims]" a persistent buffer, "~name[dims]" one that is not; then optionally
  /// ":dtype" and "?condition".
  void explicit_tensor(std::string_view text) {
    if (const auto q = text.find('?'); q != std::string_view::npos) {
      if (scope_.number(text.substr(q + 1)) == 0) return;
      text = text.substr(0, q);
    }
    const char mark = text[0] == '~' || text[0] == '+' ? text[0] : ' ';
    if (mark != ' ') text.remove_prefix(1);
    const auto open = text.find('[');
    const auto close = text.rfind(']');
    auto type = out_.load;
    if (close + 1 < text.size()) type = dtype_from_torch(text.substr(close + 2)).value_or(type);
    std::vector<std::uint64_t> shape;
    for (const auto d : split(text.substr(open + 1, close - open - 1), ',')) shape.push_back(scope_.count(d));
    const auto name = with_prefix(scope_, text.substr(0, open));
    if (mark == ' ')
      out_.builder->parameter(name, type, std::move(shape));
    else
      out_.builder->buffer(name, type, std::move(shape), mark == '+');
  }

  std::uint64_t fact(std::string_view name, std::uint64_t otherwise = 0) {
    return scope_.count_or(name, otherwise, max_layer_fact);
  }

  /// Facts of the block that was just entered, from names with a fixed meaning (docs/architectures.md).
  void describe() {
    layer_description d;
    d.module = std::string(out_.builder->current());
    const bool attends = fact("attends", scope_.defines("heads") ? 1 : 0) != 0;
    if (attends) {
      d.cache.heads = fact("heads");
      const bool cached = fact("cached", 1) != 0;
      d.cache.kind = attention_kind::uncached;
      d.cache.key_dim = fact("key_dim", fact("head_dim"));
      d.cache.value_dim = fact("value_dim", fact("head_dim"));
      if (cached) {
        d.cache.kv_heads = fact("kv_heads", d.cache.heads);
        d.cache.window = fact("window");
        d.cache.latent_dim = fact("latent_dim");
        d.cache.cross_tokens = fact("cross_tokens");
        d.cache.kind = d.cache.latent_dim != 0             ? attention_kind::latent
                       : d.cache.kv_heads == d.cache.heads ? attention_kind::multihead
                       : d.cache.kv_heads == 1             ? attention_kind::multiquery
                                                           : attention_kind::grouped;
      }
    }
    d.cache.state_elements = scope_.count_or("state", 0, std::uint64_t{1} << 50);
    d.cache.state_f32_elements = scope_.count_or("state_f32", 0, std::uint64_t{1} << 50);
    if (!attends && (d.cache.state_elements != 0 || d.cache.state_f32_elements != 0))
      d.cache.kind = attention_kind::recurrent;
    if (fact("sparse") != 0) {
      d.ffn.experts = fact("experts");
      d.ffn.active = fact("active_experts");
      d.ffn.expert_width = fact("expert_width");
      d.ffn.shared_width = fact("shared_width");
    } else {
      d.ffn.width = fact("ffn");
    }
    out_.layers.push_back(std::move(d));
  }

  scope& scope_;
  emission& out_;
};

void add_words(std::vector<std::string>& to, const scope& s, std::string_view words) {
  for (const auto w : split(words, ' ')) to.push_back(with_prefix(s, w));
}

/// The base model's part: its first line and the rest.
std::vector<line> model_lines(const scope& s) { return lines_of(find_part(s.entry(), "model").value_or("$Model")); }

}  // namespace

std::string with_prefix(const scope& s, std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (c == '$')
      out += s.entry().prefix;
    else
      out += c;
  }
  return out;
}

std::string base_class(const scope& s) {
  const auto all = model_lines(s);
  return with_prefix(s, split(all[0].text, ' ')[0]);
}

void emit_base(scope& s, emission& out) {
  add_words(out.no_split, s, s.entry().no_split);
  add_words(out.keep_in_fp32, s, s.entry().keep_in_fp32);
  const auto all = model_lines(s);
  emitter(s, out).base_content(all[0].text, std::span(all).subspan(1));
}

void emit_children(scope& s, emission& out, std::string_view text) {
  const auto all = lines_of(text);
  emitter(s, out).lines(all);
}

}  // namespace berth::architectures
