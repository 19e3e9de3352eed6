// SPDX-License-Identifier: Apache-2.0
// Reading a configuration object through the definitions of a family.
module;

#include <algorithm>
#include <cmath>
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

scope::scope(const json::value& config, const family& f, std::string_view what)
    : config_(&config), family_(&f), what_(what) {
  add_definitions(f.values, 0);
}

void scope::note(errc code, std::string_view subject, std::string_view detail) {
  if (!problem_) problem_ = error{code, subject, detail};
}

std::optional<error> scope::problem() const {
  if (problem_) return problem_;
  for (const auto& [name, inner] : nested_)
    if (inner)
      if (auto p = inner->problem()) return p;
  return std::nullopt;
}

/// Later definitions hide earlier ones, so a family lists what it includes first and what differs after it.
void scope::add_definitions(std::string_view text, unsigned depth) {
  for (const auto& l : lines_of(text)) {
    if (l.text.substr(0, 4) == "use ") {
      const auto name = trim(l.text.substr(4));
      const auto included = find_part(*family_, name);
      if (!included || depth > 8) {
        note(errc::invalid_argument, family_->types, std::string("the entry uses an unknown part ").append(name));
        return;
      }
      add_definitions(*included, depth + 1);
      continue;
    }
    definition d;
    const auto equals = l.text.find('=');
    const bool computed = equals != std::string_view::npos && equals > 0 && l.text[equals - 1] == ':';
    d.name = trim(l.text.substr(0, computed ? equals - 1 : equals));
    const auto rest = trim(l.text.substr(equals + 1));
    if (computed && !rest.empty() && rest[0] == '<') {
      const auto close = rest.find('>');
      d.paths = rest.substr(1, close - 1);
      const auto type = trim(rest.substr(close + 1));
      d.how = type[0] == '=' ? definition::kind::nested_forced : definition::kind::nested_by_type;
      d.value = trim(type.substr(1));
    } else if (computed) {
      d.value = rest;
    } else {
      d.how = definition::kind::read;
      const auto pieces = split(rest, ':');
      d.paths = pieces[0];
      if (pieces.size() > 1) d.value = pieces[1];
      d.null_value = pieces.size() > 2 ? pieces[2] : d.value;
    }
    definitions_.push_back(d);
  }
}

const definition* scope::find(std::string_view name) const {
  for (auto it = definitions_.rbegin(); it != definitions_.rend(); ++it)
    if (it->name == name) return &*it;
  return nullptr;
}

bool scope::defines(std::string_view name) const {
  return find(name) != nullptr ||
         std::any_of(bound_.begin(), bound_.end(), [&](const auto& b) { return b.first == name; });
}

/// "a.b[index].c" from this configuration object; "." is the object itself; "rope.x" looks into whichever of
/// rope_scaling (old, wins if not empty) and rope_parameters is there.
scope::found scope::resolve(std::string_view path) {
  found at{config_, 0};
  if (path == ".") return at;
  bool first = true;
  while (!path.empty()) {
    const auto dot = path.find('.');
    auto key = path.substr(0, dot);
    path = dot == std::string_view::npos ? std::string_view{} : path.substr(dot + 1);
    std::string_view index;
    if (const auto open = key.find('['); open != std::string_view::npos) {
      index = key.substr(open + 1, key.size() - open - 2);
      key = key.substr(0, open);
    }
    if (first && key == "rope") {
      const auto* scaling = at.value->find("rope_scaling");
      const bool old = scaling != nullptr && scaling->if_object() && !scaling->if_object()->empty();
      at.value = old ? scaling : at.value->find("rope_parameters");
    } else {
      at.value = at.value->find(key);
    }
    first = false;
    if (at.value == nullptr) return {};
    if (index.empty()) continue;
    const auto i = static_cast<std::size_t>(std::max(0.0, evaluate(index, 1)));
    if (const auto* list = at.value->if_array()) {
      if (i >= list->size()) return {};
      at.value = &(*list)[i];
    } else if (const auto* letters = at.value->if_string()) {
      if (i >= letters->size()) return {};
      at.letter = (*letters)[i];
    } else {
      return {};
    }
  }
  return at;
}

scope::found scope::first_of(std::string_view paths, bool& null_seen, std::string_view* taken) {
  null_seen = false;
  for (const auto path : split(paths, '|')) {
    const auto f = resolve(path);
    if (f.value == nullptr) continue;
    if (f.value->is_null()) {
      null_seen = true;
      continue;
    }
    if (taken != nullptr) *taken = path;
    return f;
  }
  return {};
}

double scope::read(const definition& d, unsigned depth) {
  bool null_seen = false;
  std::string_view path;
  const auto f = first_of(d.paths, null_seen, &path);
  if (f.value != nullptr && f.letter == 0) {
    if (const auto* b = f.value->if_bool()) return *b ? 1 : 0;
    if (const auto n = f.value->to_double(); n && std::isfinite(*n)) return *n;
    const auto* word = f.value->if_string();
    if (word == nullptr || (!word->empty() && word->find_first_not_of("+-.0123456789eE") == std::string::npos)) {
      note(errc::malformed, what_,
           std::string("\"")
               .append(path)
               .append("\" is of type ")
               .append(f.value->type_name())
               .append("; a number was expected"));
      return 0;
    }
    null_seen = true;  // a word such as "auto" asks for the computed default
  }
  const auto fallback = null_seen ? d.null_value : d.value;
  if (!fallback.empty()) return evaluate(fallback, depth);
  note(errc::malformed, what_, std::string("the config has no \"").append(d.paths).append("\""));
  return 0;
}

double scope::lookup(std::string_view name, unsigned depth) {
  if (problem_) return 0;
  for (auto it = bound_.rbegin(); it != bound_.rend(); ++it)
    if (it->first == name) return it->second;
  if (const auto* d = find(name)) {
    if (d->how == definition::kind::read) return read(*d, depth);
    if (d->how == definition::kind::computed) return evaluate(d->value, depth);
  } else if (const auto dot = name.find('.'); dot != std::string_view::npos) {
    if (auto* inner = nested(name.substr(0, dot))) return inner->number(name.substr(dot + 1));
    return 0;
  }
  note(errc::invalid_argument, family_->types, std::string("the entry does not define ").append(name));
  return 0;
}

std::uint64_t scope::count_or(std::string_view name, std::uint64_t otherwise, std::uint64_t limit) {
  return defines(name) ? count(name, limit) : otherwise;
}

std::string scope::word(std::string_view paths) {
  std::string_view otherwise;
  if (const auto colon = paths.find(':'); colon != std::string_view::npos) {
    otherwise = trim(paths.substr(colon + 1));
    paths = paths.substr(0, colon);
  }
  bool null_seen = false;
  const auto f = first_of(paths, null_seen);
  if (f.letter != 0) return std::string(1, f.letter);
  if (f.value != nullptr)
    if (const auto* s = f.value->if_string()) return *s;
  return std::string(otherwise);
}

scope* scope::nested(std::string_view name) {
  for (const auto& [known, inner] : nested_)
    if (known == name) return inner.get();
  const auto* d = find(name);
  if (d == nullptr || d->paths.empty() || d->how == definition::kind::read) {
    note(errc::invalid_argument, family_->types, std::string("the entry does not define ").append(name));
    return nullptr;
  }
  bool null_seen = false;
  const auto f = first_of(d->paths, null_seen);
  const auto& inner = f.value != nullptr && f.value->if_object() ? *f.value : absent_;
  std::string type(d->value);
  if (d->how == definition::kind::nested_by_type)
    if (const auto* own = inner.find("model_type"); own != nullptr && own->if_string()) type = *own->if_string();
  const auto* entry = find_family(type);
  if (entry == nullptr) {
    note(errc::unknown_architecture, type,
         std::string("no entry describes this model type, which \"").append(name).append("\" of the config asks for"));
    return nullptr;
  }
  return nested_.emplace_back(d->name, std::make_unique<scope>(inner, *entry, what_)).second.get();
}

std::string scope::source_of(std::string_view name) {
  const auto* d = find(name);
  if (d == nullptr) return "default";
  if (d->how == definition::kind::read) {
    bool null_seen = false;
    std::string_view path;
    return first_of(d->paths, null_seen, &path).value != nullptr ? std::string(path) : std::string("default");
  }
  // A plain reference to a nested value carries that value's source.
  if (const auto dot = d->value.find('.'); dot != std::string_view::npos)
    if (const auto* outer = find(d->value.substr(0, dot)); outer != nullptr && !outer->paths.empty())
      if (auto* inner = nested(outer->name)) {
        const auto source = inner->source_of(d->value.substr(dot + 1));
        return source == "default" ? source : std::string(split(outer->paths, '|')[0]) + "." + source;
      }
  return "default";
}

std::optional<double> scope::query(std::string_view name, std::span<const std::string_view> args, unsigned depth) {
  bool null_seen = false;
  if (name == "has" && args.size() == 1) return first_of(args[0], null_seen).value != nullptr ? 1 : 0;
  if (name == "len" && args.size() == 1) {
    const auto f = first_of(args[0], null_seen);
    if (f.value == nullptr) return 0;
    if (const auto* list = f.value->if_array()) return static_cast<double>(list->size());
    if (const auto* letters = f.value->if_string()) return static_cast<double>(letters->size());
    if (const auto* members = f.value->if_object()) return static_cast<double>(members->size());
    return 0;
  }
  if (name == "is" && args.size() == 2) return word(args[0]) == args[1] ? 1 : 0;
  if (name == "begins" && args.size() == 2) return word(args[0]).substr(0, args[1].size()) == args[1] ? 1 : 0;
  if (args.size() != 2) return std::nullopt;
  if (name == "any" || name == "in") {
    const auto f = first_of(args[name == "any" ? 0 : 1], null_seen);
    const auto* list = f.value == nullptr ? nullptr : f.value->if_array();
    if (list == nullptr) return 0;
    const double wanted = name == "in" ? evaluate(args[0], depth) : 0;
    return std::any_of(list->begin(), list->end(),
                       [&](const json::value& v) {
                         if (name == "in") return v.to_double() == wanted;
                         return v.if_string() && *v.if_string() == args[1];
                       })
               ? 1
               : 0;
  }
  return std::nullopt;
}

}  // namespace berth::architectures
