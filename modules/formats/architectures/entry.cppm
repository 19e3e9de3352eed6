// SPDX-License-Identifier: Apache-2.0
// The vocabulary in which architectures are written down. An architecture is text: values (how numbers are read from
// config.json) and templates (the module tree, one line per module). docs/architectures.md describes the language.
module;

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

module berth.formats:architecture_entry;

import berth.model;
import :architecture;
import :json;

namespace berth::architectures {

/// A named piece of text that templates and values `use`. A family's own parts hide shared ones of the same name.
struct part {
  std::string_view name;
  std::string_view text;
};

/// A model class around the base model: what `architectures` in config.json names.
struct head {
  std::string_view class_name;  ///< "$" stands for the family's prefix
  std::string_view tree;
  std::string_view ties;    ///< lines "target = source", in force if `tied` is not 0
  std::string_view output;  ///< module name of the output embedding, "" if none
};

struct family {
  /// Model types, separated by spaces; the first is the canonical one. A type that ends in "*" is built like the
  /// others but claimed by parameter count only.
  std::string_view types;
  exactness how = exactness::exact;
  std::string_view prefix;        ///< of class names
  std::string_view no_split;      ///< classes, separated by spaces
  std::string_view keep_in_fp32;  ///< module names, separated by spaces
  std::string_view values;
  std::span<const part> parts;  ///< "model" is the base model; without one the shared decoder is used
  std::span<const head> heads;  ///< the first is the default; empty: the base model stands alone
};

/// Heads of decoders: language model (the default), sequence and token classification.
inline constexpr std::array<head, 3> decoder_heads{{
    {"$ForCausalLM", "model <self>\nlm_head Linear(hidden, vocab, head_bias)",
     "lm_head.weight = model.embed_tokens.weight", "lm_head"},
    {"$ForSequenceClassification", "model <self>\nscore Linear(hidden, classes, 0)", "", ""},
    {"$ForTokenClassification", "model <self>\ndropout Dropout\nscore Linear(hidden, classes)", "", ""},
}};

/// A vision-language model around its language model.
inline constexpr std::array<head, 1> conditional_heads{{
    {"$ForConditionalGeneration", "model <self>\nlm_head Linear(hidden, vocab, 0)",
     "lm_head.weight = model.language_model.embed_tokens.weight", "lm_head"},
}};

/// Families of one source file; `registry.cpp` lists them all.
std::span<const family> decoder_families();
std::span<const family> gpt_families();
std::span<const family> mixture_families();
std::span<const family> encoder_families();
std::span<const family> encoder_decoder_families();
std::span<const family> vision_language_families();
std::span<const family> qwen3_vision_families();
std::span<const family> recurrent_families();
std::span<const family> counted_families();

const family* find_family(std::string_view model_type);
std::string_view canonical_type(const family& f);
/// How far the entry may be trusted for `model_type`, one of its types.
exactness claim_for(const family& f, std::string_view model_type);
/// The text of a part: the family's own, else the shared one; nothing if neither has it.
std::optional<std::string_view> find_part(const family& f, std::string_view name);

/// One line of a values text.
struct definition {
  enum class kind : std::uint8_t { read, computed, nested_by_type, nested_forced };
  kind how = kind::computed;
  std::string_view name;
  std::string_view paths;       ///< read, nested: alternatives separated by '|'
  std::string_view value;       ///< expression; read: the default; nested: the model type
  std::string_view null_value;  ///< read: if the key is there but null (or a word such as "auto")
};

std::string_view trim(std::string_view text);
/// Splits `text` at the separator where it stands outside brackets; pieces are trimmed.
std::vector<std::string_view> split(std::string_view text, char separator);
/// Lines that are not blank, with their indentation removed and returned.
struct line {
  std::size_t indent = 0;
  std::string_view text;
};
std::vector<line> lines_of(std::string_view text);

/// Names and their meaning while one configuration object is read: the definitions of its family, loop variables and
/// arguments of `use`. The first error is kept; after it every value is 0.
class scope {
 public:
  scope(const json::value& config, const family& f, std::string_view what);

  double number(std::string_view expression);
  /// A number that must be a whole, non-negative count up to `limit`.
  std::uint64_t count(std::string_view expression, std::uint64_t limit = std::uint64_t{1} << 53);
  bool defines(std::string_view name) const;
  /// Value of a defined name, else `otherwise`.
  std::uint64_t count_or(std::string_view name, std::uint64_t otherwise, std::uint64_t limit);
  /// The string at `paths` ("a|b:default").
  std::string word(std::string_view paths);
  /// The scope of a nested configuration, or null after an error.
  scope* nested(std::string_view name);

  /// Binds a loop variable or an argument for as long as the returned object lives.
  class binding {
   public:
    binding(scope& s, std::string_view name, double value) : scope_(s) { s.bound_.emplace_back(name, value); }
    ~binding() { scope_.bound_.pop_back(); }
    binding(const binding&) = delete;
    binding& operator=(const binding&) = delete;

   private:
    scope& scope_;
  };

  /// Where the value of a `read` definition came from: the key, or "default".
  std::string source_of(std::string_view name);

  const family& entry() const { return *family_; }
  const json::value& config() const { return *config_; }
  std::optional<error> problem() const;
  void note(errc code, std::string_view subject, std::string_view detail);

 private:
  friend class expression;
  struct found {
    const json::value* value = nullptr;
    char letter = 0;  ///< set when the path indexes into a string
  };
  found resolve(std::string_view path);
  /// The first alternative that is there and not null; a null one is reported in `null_seen`.
  found first_of(std::string_view paths, bool& null_seen, std::string_view* taken = nullptr);
  double lookup(std::string_view name, unsigned depth);
  double read(const definition& d, unsigned depth);
  double evaluate(std::string_view expression, unsigned depth);
  void add_definitions(std::string_view text, unsigned depth);
  const definition* find(std::string_view name) const;

  /// A function that looks at the config itself: has, len, is, any, in.
  std::optional<double> query(std::string_view name, std::span<const std::string_view> arguments, unsigned depth);

  const json::value* config_;
  const family* family_;
  std::string_view what_;
  std::vector<definition> definitions_;
  std::vector<std::pair<std::string_view, double>> bound_;
  std::vector<std::pair<std::string_view, std::unique_ptr<scope>>> nested_;
  json::value absent_ = json::object{};  ///< stands for a nested configuration that the file lacks
  std::optional<error> problem_;
};

/// What emitting a tree collects beside the builder's own tree.
struct emission {
  tree_builder* builder = nullptr;
  dtype load = dtype::f32;
  std::vector<layer_description> layers;
  std::vector<std::string> no_split;
  std::vector<std::string> keep_in_fp32;
  /// Modules marked "tied": all copies share the first one's parameters.
  std::vector<std::string> tied_modules;
  std::uint64_t modules = 0;
};

/// Emits the children described by `text` into the current module.
void emit_children(scope& s, emission& out, std::string_view text);
/// Class of the base model: first line of its "model" part.
std::string base_class(const scope& s);
/// Tensors and children of the base model into the current module.
void emit_base(scope& s, emission& out);
std::string with_prefix(const scope& s, std::string_view name);

/// Class that transformers' activation table instantiates for a name; nothing if the table lacks it.
std::optional<std::string_view> activation_class(std::string_view name);

}  // namespace berth::architectures
