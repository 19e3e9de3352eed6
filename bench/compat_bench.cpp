// SPDX-License-Identifier: Apache-2.0
// How long device-map planning takes, beside the stored times of the Python packages, and how it grows with the model.
//   berth_bench_compat [DATA]   (DATA: default $BERTH_DATA, else ../shared/data)
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

import berth.compat;
import berth.formats;

namespace {

namespace fs = std::filesystem;
namespace hf = berth::hf;
using berth::module_tree;

constexpr auto type = berth::dtype::bf16;

void linear(berth::tree_builder& b, std::string_view name, std::uint64_t out, std::uint64_t in) {
  b.enter(name, "Linear");
  b.parameter("weight", type, {out, in});
  b.leave();
}

void norm(berth::tree_builder& b, std::string_view name, std::uint64_t width) {
  b.enter(name, "RMSNorm");
  b.parameter("weight", type, {width});
  b.leave();
}

void empty(berth::tree_builder& b, std::string_view name, std::string_view class_name) {
  b.enter(name, class_name);
  b.leave();
}

void expert_layer(berth::tree_builder& b, std::size_t index, std::size_t experts) {
  constexpr std::uint64_t hidden = 7168, width = 2048;
  b.enter(std::to_string(index), "DecoderLayer");
  b.enter("self_attn", "Attention");
  linear(b, "q_a_proj", 1536, hidden);
  norm(b, "q_a_layernorm", 1536);
  linear(b, "q_b_proj", 24576, 1536);
  linear(b, "kv_a_proj_with_mqa", 576, hidden);
  norm(b, "kv_a_layernorm", 512);
  linear(b, "kv_b_proj", 32768, 512);
  linear(b, "o_proj", hidden, 16384);
  b.leave();
  b.enter("mlp", "MoE");
  b.enter("gate", "Router");
  b.parameter("weight", type, {experts, hidden});
  b.parameter("e_score_correction_bias", berth::dtype::f32, {experts});
  b.leave();
  b.enter("experts", "ModuleList");
  for (std::size_t e = 0; e < experts; ++e) {
    b.enter(std::to_string(e), "MLP");
    linear(b, "gate_proj", width, hidden);
    linear(b, "up_proj", width, hidden);
    linear(b, "down_proj", hidden, width);
    b.leave();
  }
  b.leave();
  empty(b, "act_fn", "SiLU");
  b.leave();
  norm(b, "input_layernorm", hidden);
  norm(b, "post_attention_layernorm", hidden);
  empty(b, "dropout", "Dropout");
  b.leave();
}

/// A mixture-of-experts model with a module per expert; about `layers * (3 * experts + 11)` tensors.
module_tree per_expert_model(std::size_t layers, std::size_t experts) {
  berth::tree_builder b("ForCausalLM");
  linear(b, "embed_tokens", 129280, 7168);
  b.enter("layers", "ModuleList");
  for (std::size_t i = 0; i < layers; ++i) expert_layer(b, i, experts);
  b.leave();
  norm(b, "norm", 7168);
  linear(b, "lm_head", 129280, 7168);
  b.tree().no_split_modules = {"DecoderLayer"};
  return *b.finish();
}

std::optional<module_tree> read_model(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  const auto document = berth::json::parse(text.str(), file.string());
  if (!document) return std::nullopt;
  auto tree = berth::read_module_tree(*document, file.string());
  return tree ? std::optional(std::move(*tree)) : std::nullopt;
}

/// Seconds of one call: the median of several, at least a fifth of a second of measuring where calls are short.
template <class F>
double seconds(F&& f) {
  using clock = std::chrono::steady_clock;
  std::vector<double> times;
  double sum = 0;
  while (times.size() < 3 || (sum < 0.2 && times.size() < 200)) {
    const auto begin = clock::now();
    f();
    times.push_back(std::chrono::duration<double>(clock::now() - begin).count());
    sum += times.back();
  }
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

hf::request request_for(const module_tree& tree, std::int64_t gpus, bool balanced) {
  hf::request r;
  r.how = balanced ? hf::strategy::automatic : hf::strategy::sequential;
  r.no_split = tree.no_split_modules;
  const auto total = tree.byte_total();
  // Balanced: the model fits well. Sequential: the GPUs hold half of it, the CPU takes the rest.
  const auto each = balanced ? 2 * total : total / 2 / static_cast<std::uint64_t>(gpus);
  r.memory.limits.emplace();
  for (std::int64_t i = 0; i < gpus; ++i)
    r.memory.limits->push_back({hf::device_key::accelerator(i), hf::number(each)});
  r.memory.limits->push_back({hf::device_key::named("cpu"), hf::number(2 * total)});
  return r;
}

/// One planning call as the table names it; nothing for a call that it does not know.
std::optional<double> measure(const module_tree& tree, std::int64_t gpus, std::string_view peer,
                              std::string_view call) {
  auto r = request_for(tree, gpus, call.find("sequential") == std::string_view::npos);
  if (call.ends_with("no_split empty")) r.no_split.clear();
  if (call.starts_with("check_device_map")) {
    const auto planned = hf::accelerate::device_map_for(tree, r);
    if (!planned.map) return std::nullopt;
    return seconds([&] { return hf::accelerate::check_device_map(tree, *planned.map); });
  }
  if (peer == "accelerate") return seconds([&] { return hf::accelerate::device_map_for(tree, r); });
  if (peer == "transformers") return seconds([&] { return hf::transformers::device_map_for(tree, r); });
  return std::nullopt;
}

/// Fields of one line of a CSV file with quotes.
std::vector<std::string> fields(const std::string& line) {
  std::vector<std::string> out(1);
  bool quoted = false;
  for (const char c : line) {
    if (c == '"')
      quoted = !quoted;
    else if (c == ',' && !quoted)
      out.emplace_back();
    else if (c != '\r')
      out.back() += c;
  }
  return out;
}

void compare_with_peers(const fs::path& data) {
  std::ifstream table(data / "golden" / "peer_planning_time.csv");
  std::map<std::string, std::optional<module_tree>> models;
  std::string line;
  std::getline(table, line);
  std::printf("%-16s %4s %-12s %-62s %10s %10s %8s\n", "model", "gpus", "peer", "call", "peer s", "berth s", "ratio");
  double least = HUGE_VAL, log_sum = 0;
  int rows = 0;
  while (std::getline(table, line)) {
    const auto row = fields(line);
    if (row.size() != 7) continue;
    const auto name = row[0].substr(0, row[0].find(" ("));
    auto [it, fresh] = models.try_emplace(name);
    if (fresh) {
      std::size_t layers = 0, experts = 0;
      if (std::sscanf(name.c_str(), "per-expert %zux%zu", &layers, &experts) == 2)
        it->second = per_expert_model(layers, experts);
      else
        it->second = read_model(data / "golden" / "trees" / (name + ".json"));
    }
    const auto ours = it->second ? measure(*it->second, std::atoll(row[3].c_str()), row[4], row[5]) : std::nullopt;
    if (!ours) continue;
    const auto ratio = std::atof(row[6].c_str()) / *ours;
    std::printf("%-16s %4s %-12s %-62s %10s %10.6f %7.0fx\n", name.c_str(), row[3].c_str(), row[4].c_str(),
                row[5].c_str(), row[6].c_str(), *ours, ratio);
    least = std::min(least, ratio);
    log_sum += std::log(ratio);
    ++rows;
  }
  if (rows > 0)
    std::printf("least ratio %.0fx, geometric mean %.0fx over %d rows (stored times of another machine)\n\n", least,
                std::exp(log_sum / rows), rows);
}

void growth() {
  std::printf("%10s %10s %24s %24s %24s\n", "tensors", "modules", "accelerate auto s", "auto, no_split empty s",
              "transformers auto s");
  for (const std::size_t layers : {1u, 13u, 128u, 1284u}) {
    const auto tree = per_expert_model(layers, 256);
    std::printf("%10zu %10zu", tree.parameters().size() + tree.buffers().size(), tree.modules().size());
    std::printf(" %24.6f", *measure(tree, 8, "accelerate", "auto"));
    std::printf(" %24.6f", *measure(tree, 8, "accelerate", "auto, no_split empty"));
    std::printf(" %24.6f\n", *measure(tree, 8, "transformers", "auto"));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const char* environment = std::getenv("BERTH_DATA");
  const fs::path data = argc > 1 ? argv[1] : environment != nullptr ? environment : "../shared/data";
  compare_with_peers(data);
  growth();
}
