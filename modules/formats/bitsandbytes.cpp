// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.formats;

namespace berth {
namespace {

constexpr std::string_view weight_end = ".weight";

bool has_rows(const stored_tensor& t) {
  return t.shape.size() == 2 && (t.type == dtype::f32 || t.type == dtype::f16 || t.type == dtype::bf16) &&
         t.name.ends_with(weight_end);
}

std::string module_of(std::string_view tensor) { return std::string(tensor.substr(0, tensor.rfind('.'))); }

/// "a.experts.3.w1.weight" -> "a.experts": the pattern that covers all of a stack.
std::string stack_of(std::string_view tensor) {
  constexpr std::string_view experts = ".experts";
  const auto at = tensor.find(experts);
  return at == std::string_view::npos ? module_of(tensor) : std::string(tensor.substr(0, at + experts.size()));
}

class int8_planner {
 public:
  int8_planner(const loaded_model& model, const int8_options& options) : model_(model), options_(options) {}

  result<int8_checkpoint> run() {
    if (const auto fit = check_input(); !fit) return fit.propagate();
    precision wanted;
    wanted.int8 = true;
    wanted.int8_skip = options_.skip;
    const auto forms = apply_forms(model_.tree(), model_.sizes, wanted);
    if (!forms) return forms.propagate();
    for (std::size_t i = 0; i < forms->parameters.size(); ++i)
      if (forms->parameters[i].int8) form_of_.emplace(model_.tree().parameters()[i].name, &forms->parameters[i]);
    for (const auto& c : model_.names.conversions) conversion_of_.emplace(c.stored, &c);
    decide();
    if (out_.quantized == 0)
      return fail(errc::invalid_argument, model_.tree().id,
                  "no weight of this model is to be quantized: none is a Linear's in f32, f16 or bf16 that is not "
                  "skipped");
    if (const auto placed = fill_shards(); !placed) return placed.propagate();
    write_config();
    return std::move(out_);
  }

 private:
  result<done> check_input() const {
    const auto& read = model_.checkpoint;
    if (!read || !read->has_headers())
      return fail(errc::unsupported, read ? read->location : model_.tree().id,
                  "quantizing needs the weights themselves: a safetensors checkpoint with all of its files");
    if (model_.quantization)
      return fail(errc::unsupported, read->location,
                  text<416>("is quantized already (")
                      .append(model_.quantization->method)
                      .append(", by its ")
                      .append(model_.quantization->source)
                      .append("); start from the checkpoint that it was made of"));
    if (!read->config)
      return fail(errc::unsupported, read->location,
                  "has no config.json beside it, without which no reader would know that the result is quantized");
    if (options_.skip)
      for (const auto& name : *options_.skip)
        if (std::ranges::none_of(model_.tree().modules(),
                                 [&](const module_node& m) { return is_dotted_prefix(name, m.name); }))
          return fail(errc::invalid_argument, name,
                      "this name to skip is no module of the model, nor the start of one");
    return done{};
  }

  void decide() {
    const auto& tensors = model_.checkpoint->tensors;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      int8_part part;
      part.stored = static_cast<std::uint32_t>(i);
      decide(tensors[i], part);
      out_.quantized += part.quantized ? 1 : 0;
      out_.bytes_before += tensors[i].length;
      out_.parts.push_back(part);
    }
  }

  void decide(const stored_tensor& t, int8_part& part) {
    const auto conversion = conversion_of_.find(t.name);
    if (conversion == conversion_of_.end()) return;
    const auto form = form_of_.find(conversion->second->tensor);
    if (form == form_of_.end()) {
      const auto* target = model_.tree().find_tensor(conversion->second->tensor);
      if (target != nullptr && target->shape.size() == 3 && t.name.ends_with(weight_end))
        left_.insert(stack_of(t.name));
      return;
    }
    if (!has_rows(t) || conversion->second->transposed) {
      left_.insert(module_of(t.name));
      return;
    }
    part.quantized = true;
    part.by_column = form->second->by_column;
    part.rows = t.shape[part.by_column ? 1 : 0];
    part.columns = t.shape[part.by_column ? 0 : 1];
  }

  /// The tensors that `part` becomes.
  std::vector<tensor_outline> outlines(const int8_part& part) const {
    const auto& t = model_.checkpoint->tensors[part.stored];
    if (!part.quantized) return {{t.name, t.type, t.shape}};
    const auto module = module_of(t.name);
    return {{t.name, dtype::i8, {part.rows, part.columns}},
            {module + ".SCB", dtype::f32, {part.rows}},
            {module + ".weight_format", dtype::u8, {}}};
  }

  /// In stored order; what belongs together stays in one file.
  result<done> fill_shards() {
    bytes filled = 0;
    for (auto& part : out_.parts) {
      auto tensors = outlines(part);
      bytes size = 0;
      for (const auto& t : tensors) {
        const auto one = size_of(t);
        if (!one) return one.propagate();
        size += *one;
      }
      if (out_.shards.empty() || (filled > 0 && filled + size > options_.max_shard)) {
        out_.shards.emplace_back();
        filled = 0;
      }
      filled += size;
      out_.bytes_after += size;
      part.shard = static_cast<std::uint32_t>(out_.shards.size() - 1);
      part.first = static_cast<std::uint32_t>(out_.shards.back().size());
      std::ranges::move(tensors, std::back_inserter(out_.shards.back()));
    }
    return done{};
  }

  /// Null stands for every reader's own default: the head and tied modules. A list replaces it, so it repeats them.
  json::value skip_list() const {
    if (!options_.skip && left_.empty()) return nullptr;
    std::set<std::string> names = left_;
    if (options_.skip) {
      names.insert(options_.skip->begin(), options_.skip->end());
    } else {
      const auto& tree = model_.tree();
      if (tree.output_embedding) names.insert(*tree.output_embedding);
      for (const auto& [target, source] : tree.tied_weights_keys) {
        names.insert(module_of(target));
        names.insert(module_of(source));
      }
    }
    json::array out;
    for (const auto& n : names) out.emplace_back(n);
    return out;
  }

  void write_config() {
    out_.config = *model_.checkpoint->config;
    json::object block{{"_load_in_4bit", false},
                       {"_load_in_8bit", true},
                       {"llm_int8_enable_fp32_cpu_offload", false},
                       {"llm_int8_has_fp16_weight", false},
                       {"llm_int8_skip_modules", skip_list()},
                       {"llm_int8_threshold", 6.0},
                       {"load_in_4bit", false},
                       {"load_in_8bit", true},
                       {"quant_method", "bitsandbytes"}};
    auto& members = *out_.config.if_object();
    std::erase_if(members, [](const json::member& m) { return m.key == "quantization_config"; });
    members.push_back({"quantization_config", std::move(block)});
  }

  const loaded_model& model_;
  const int8_options& options_;
  int8_checkpoint out_;
  std::unordered_map<std::string_view, const tensor_form*> form_of_;
  std::unordered_map<std::string_view, const conversion*> conversion_of_;
  std::set<std::string> left_;  ///< modules that other readers would take for quantized ones
};

}  // namespace

result<int8_checkpoint> plan_int8_checkpoint(const loaded_model& model, const int8_options& options) {
  return int8_planner(model, options).run();
}

}  // namespace berth
