// SPDX-License-Identifier: Apache-2.0
// The kinds of golden cases. Each is one file beside this one; main.cpp recognises cases by content and calls these.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "report.hpp"

// Include this file last: what follows an import may not be included.
import berth.formats;

namespace golden {

namespace json = berth::json;

/// Plans and helper functions of accelerate and transformers. Keeps the module trees that cases refer to.
class compat_cases {
 public:
  compat_cases();
  ~compat_cases();
  /// One line with `peer` and `function`; `name` names it in the report.
  void run(const std::filesystem::path& file, const std::string& name, const json::value& line, report& out);

 private:
  struct trees;
  std::unique_ptr<trees> trees_;
};

/// A configuration beside the module tree that the framework builds from it.
void run_architecture_case(const std::filesystem::path& config, const std::filesystem::path& tree, report& out);
/// `berth.conversion/1`: how a checkpoint's tensors make up the module tree.
void run_conversion_case(const std::string& name, const json::value& document, report& out);
/// A table of parameter counts per configuration.
void run_param_counts(const std::filesystem::path& csv, report& out);
/// A table of device placement workloads with their optima and the loads of splits made by hand.
void run_msr_fiddle(const std::filesystem::path& csv, report& out);
/// safetensors files as hexadecimal text, good and bad ones.
void run_safetensors_vectors(const std::filesystem::path& file, const json::value& document, report& out);
/// One of the vectors of `berth.int8_vectors/1`: LLM.int8 codes, scales and products.
void run_int8_vector(const std::string& name, const json::value& vector, report& out);
/// `berth.stream/1`: period and first rounds of cyclic weight streaming.
void run_stream_case(const std::string& name, const json::value& line, report& out);
/// `berth.residency/1`: which atoms of a chain to stream.
void run_residency_case(const std::string& name, const json::value& line, report& out);
/// Gaps of `Auto`, collected over chain cases and printed at the end.
class gaps {
 public:
  void add(std::string_view what, std::string_view objective, double gap);
  void print();

 private:
  std::map<std::string, std::vector<double>> values_;
};
/// `berth.chain/1`: the exact optimum over intervals, `Auto` and its bound, for both objectives.
void run_chain_case(const std::string& name, const json::value& line, gaps& spread, report& out);
/// Values of other tools' rules on a chain instance from the file that the line names.
void run_baseline_case(const std::string& name, const json::value& line, const json::value& instance, report& out);
/// `berth.balance/1`: exact minimum of the largest load, absolute or relative to budgets.
void run_balance_case(const std::string& name, const json::value& line, report& out);
/// How many instances agree to the last picosecond, and by how much the others differ; printed at the end.
class exact_counts {
 public:
  void add(std::int64_t difference) {
    ++all_;
    exact_ += difference == 0 ? 1 : 0;
    largest_ = difference > largest_ ? difference : largest_;
  }
  void print(const char* what) const;

 private:
  std::size_t all_ = 0, exact_ = 0;
  std::int64_t largest_ = 0;
};
/// `berth.engine/1`: streams, engines, events and memory on the simulator.
void run_engine_case(const std::string& name, const json::value& line, report& out);
/// `berth.flows/1`: max-min fair sharing of segments.
void run_flows_case(const std::string& name, const json::value& line, exact_counts& exact, report& out);
/// `berth.machine/1`: engines and shared segments together.
void run_machine_case(const std::string& name, const json::value& line, exact_counts& exact, report& out);
/// A small checkpoint with prompts, logits and greedy tokens: carried out by plans of every kind. Keeps the largest
/// differences, printed at the end.
class tiny_model_cases {
 public:
  void run(const std::filesystem::path& folder, const std::string& name, const json::value& expected, report& out);
  void print() const;

 private:
  double float_error_ = 0, int8_error_ = 0, int8_distance_ = 0, weight_error_ = 0;
  std::size_t runs_ = 0;
};
/// A file that every reader must refuse.
void run_malformed_file(const std::filesystem::path& file, report& out);

}  // namespace golden
