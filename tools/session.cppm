// SPDX-License-Identifier: Apache-2.0
// One planning question, read and ready: model, machine, workload. What plan, compare, fit and simulate share.
module;

#include <optional>
#include <string>
#include <string_view>
#include <vector>

export module berth.tool:session;

import berth;
import berth.formats;
import :commands;
import :machine;
import :strategy_choice;

export namespace tool {

/// How an atom's weights are stored: as loaded, or as LLM.int8.
enum class stored_as { native, int8 };

/// Devices, budgets and the workload that one plan is made for; changed copies answer "what if".
struct setting {
  berth::topology topology;
  std::vector<berth::device_bytes> max_memory, reserve;
  berth::workload workload;
  bool use_disk = false;
  std::uint32_t staging_slots = 2;

  /// Views this setting, which must outlive them.
  berth::place_options options() const;
};

/// A model file, or a chain instance, with everything that was asked about it.
class session {
 public:
  /// Reads the model and the machine. Errors: those of the readers; `invalid_argument` for options that contradict
  /// each other or the model.
  static berth::result<session> open(const question& q);

  bool is_chain() const { return chain_.has_value(); }
  const berth::loaded_model& model() const { return *model_; }
  const setting& asked() const { return setting_; }
  const std::vector<std::string>& notes() const { return notes_; }
  /// Layers the model's own limit on the context, 0: none stated.
  std::uint64_t max_context() const { return model_ ? model_->architecture.max_context : 0; }

  /// The strategy that was asked for: `word`, or the default; with --pin and --complete as fixed parts.
  berth::result<strategy_choice> choice(const std::string& word) const;
  /// Plans with a strategy in a setting; `auto` chooses granularity and precision where it may. The plan says what it
  /// is for and carries warnings.
  berth::result<berth::plan> plan(const strategy_choice& choice, const setting& s) const;
  /// The chain of atoms in execution order, costed for a workload.
  berth::result<berth::model> chain(berth::granularity parts, stored_as how, const berth::workload& w,
                                    const strategy_choice& choice) const;
  /// "bfloat16, Linear weights int8".
  std::string dtype_words() const;
  bool quantize_if_better() const { return question_.quantize == "auto"; }
  const question& asked_as() const { return question_; }

 private:
  berth::result<berth::plan> plan_chain(const strategy_choice& choice, const setting& s) const;
  berth::result<berth::plan> plan_at(berth::granularity parts, stored_as how, const strategy_choice& choice,
                                     const setting& s) const;
  berth::result<berth::plan> best_granularity(stored_as how, const strategy_choice& choice, const setting& s) const;
  berth::result<berth::workload> workload_of() const;
  void describe(berth::granularity parts, berth::plan& p) const;
  void add_warnings(const strategy_choice& choice, berth::plan& p) const;

  question question_;
  std::optional<berth::loaded_model> model_;
  std::optional<berth::chain_instance> chain_;
  setting setting_;
  berth::precision precision_;
  std::vector<std::string> notes_;
};

/// "4096", "8k" or "1m": k is 1024 tokens.
berth::result<std::uint64_t> parse_tokens(const std::string& text, std::string_view option);

}  // namespace tool
