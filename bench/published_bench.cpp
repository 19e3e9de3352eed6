// SPDX-License-Identifier: Apache-2.0
// Predicted against published times: llama.cpp's layer split on RTX 3090 and 4090, ZeRO-Inference, accelerate, FlexGen.
//   BERTH_DATA=DATA berth_bench_published
// Fits a few constants per machine on the rows marked "fit" and scores them on all others. Leaves with 77 if the tables
// are not there. Method and parameters: docs/calibration.md.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "published/common.hpp"

namespace {

using namespace published;

constexpr int skipped = 77;

/// Errors of a group of rows.
class summary {
 public:
  void add(double error, bool within) {
    errors_.push_back(error);
    if (within) ++within_;
  }
  void print(const std::string& name, const char* bar) {
    if (errors_.empty()) return;
    auto size = errors_;
    for (auto& e : size) e = std::abs(e);
    std::sort(size.begin(), size.end());
    const auto worst =
        *std::max_element(errors_.begin(), errors_.end(), [](double a, double b) { return std::abs(a) < std::abs(b); });
    const auto n = size.size();
    const double median = n % 2 == 1 ? size[n / 2] : (size[n / 2 - 1] + size[n / 2]) / 2;
    std::printf("%-52s %3zu of %3zu within %-7s median %5.1f %%  worst %+6.1f %%\n", name.c_str(), within_, n, bar,
                100 * median, 100 * worst);
  }

 private:
  std::vector<double> errors_;
  std::size_t within_ = 0;
};

constexpr double decode_bar = 0.15, prefill_bar = 0.2, offload_bar = 0.2, accelerate_bar = 2, flat_bar = 0.03;

std::string stored_name(format f) { return f == format::native ? "F16" : "Q4_K_M"; }

void print_split(const std::vector<split_row>& rows) {
  std::printf("\nllama.cpp, layers split over the GPUs (tokens/s)\n");
  std::printf("%-5s %4s %-12s %-7s %-7s %10s %10s %8s %-6s %s\n", "GPU", "GPUs", "model", "format", "test", "measured",
              "predicted", "error", "", "");
  for (const auto& r : rows) {
    const bool within = std::abs(r.error()) <= (r.decode ? decode_bar : prefill_bar);
    std::printf("%-5s %4zu %-12s %-7s %-7s %10.2f %10.2f %+7.1f%% %-6s %s", r.gpu.c_str(), r.gpus, r.model.c_str(),
                stored_name(r.stored).c_str(), r.test().c_str(), r.measured, r.predicted, 100 * r.error(),
                r.fitted ? "fit" : "scored", within ? "within" : "MISS");
    if (!r.decode && r.stored != format::native)
      std::printf("   without unpacking %10.2f %+7.1f%%", r.plain, 100 * (r.plain / r.measured - 1));
    std::printf("\n");
  }
}

/// Sizes of the files against the sizes that the chains have.
void print_sizes(const std::vector<split_row>& rows) {
  std::map<std::string, std::pair<double, double>> sizes;
  for (const auto& r : rows) {
    double sum = 0;
    for (const auto& a : r.chain.atoms) sum += static_cast<double>(a.weights);
    sizes[r.model + " " + stored_name(r.stored)] = {r.file_gib, sum / 1073741824.0};
  }
  std::printf("\n");
  for (const auto& [name, gib] : sizes)
    std::printf("%-20s file %7.2f GiB, from its config %7.2f GiB\n", name.c_str(), gib.first, gib.second);
}

/// Rates over GPU counts relative to the smallest count on the same host, for one (GPU, model, format, test).
void print_scaling(const std::vector<split_row>& rows, bool decode, summary& flat) {
  std::printf("\n%s\n",
              decode ? "Decode over GPU counts, relative to the smallest count on the same host (points of difference)"
                     : "Prefill over GPU counts, relative to the smallest count on the same host");
  for (const auto& r : rows) {
    if (r.decode != decode || r.micro_batch != 512) continue;
    const auto base = std::find_if(rows.begin(), rows.end(), [&](const auto& b) {
      return b.gpu == r.gpu && b.host == r.host && b.model == r.model && b.stored == r.stored && b.decode == decode &&
             b.tokens == r.tokens && b.micro_batch == 512;
    });
    if (base->gpus == r.gpus) continue;
    const double measured = r.measured / base->measured, predicted = r.predicted / base->predicted;
    const bool within = std::abs(predicted - measured) <= flat_bar;
    std::printf("%-5s %zu -> %zu  %-12s %-7s %-7s measured %5.3f  predicted %5.3f  %+6.1f %s\n", r.gpu.c_str(),
                base->gpus, r.gpus, r.model.c_str(), stored_name(r.stored).c_str(), r.test().c_str(), measured,
                predicted, 100 * (predicted - measured),
                !decode  ? ""
                : within ? "within"
                         : "MISS");
    if (decode) flat.add(predicted - measured, within);
  }
}

void print_split_summary(const std::vector<split_row>& rows) {
  std::set<std::pair<std::string, std::string>> hosts;
  for (const auto& r : rows)
    if (r.fitted) hosts.emplace(r.gpu, r.host);
  const auto print = [&](std::string name, bool decode, const auto& in_group) {
    summary s;
    for (const auto& r : rows)
      if (r.decode == decode && in_group(r))
        s.add(r.error(), std::abs(r.error()) <= (decode ? decode_bar : prefill_bar));
    s.print((decode ? "decode, " : "prefill, ") + name, decode ? "15 %" : "20 %");
  };
  for (const bool decode : {true, false}) {
    print("fitted rows", decode, [](const auto& r) { return r.fitted; });
    print("1 GPU, Q4_K_M, scored", decode, [](const auto& r) { return !r.fitted && r.gpus == 1; });
    for (const auto stored : {format::native, format::q4_k_m})
      for (const bool known : {true, false})
        print("2-8 GPUs, " + stored_name(stored) + (known ? ", host of the fit, scored" : ", another host, scored"),
              decode, [&](const auto& r) {
                return !r.fitted && r.gpus > 1 && r.stored == stored && hosts.contains({r.gpu, r.host}) == known;
              });
  }
}

/// What decode on one GPU would be with the rates that a GPU has before calibration.
void print_prior(const std::vector<split_row>& rows) {
  for (const auto stored : {format::native, format::q4_k_m}) {
    summary s;
    for (const auto& r : rows) {
      if (!r.decode || r.gpus != 1 || r.stored != stored) continue;
      const auto* g = berth::find_gpu(r.gpu);
      rates p;
      p.bandwidth = g->bandwidth_gb * 1e9 * g->bandwidth_efficiency;
      p.flops = g->half_tflops * 1e12 * g->compute_efficiency;
      p.overhead = berth::default_gpu_overhead;
      const double error = tokens_per_second(r, p) / r.measured - 1;
      s.add(error, std::abs(error) <= decode_bar);
    }
    s.print("decode, 1 GPU, " + stored_name(stored) + ", rates of gpu_specs", "15 %");
  }
}

void print_offload(const std::vector<offload_row>& rows) {
  std::printf("\nOffloading and accelerate (time_per_token and load_time in s, others in tokens/s)\n");
  for (const auto& r : rows) {
    if (!r.scored()) continue;
    const bool twice = r.set == "accelerate_big_model";
    const bool within =
        twice ? r.within(1 / accelerate_bar, accelerate_bar) : r.within(1 - offload_bar, 1 + offload_bar);
    std::printf("%-20s %zu %-12s %-8s %-24s b%-3llu %-29s %8s %9.4g %+7.1f%% %-6s %s%s%s | %s\n", r.set.c_str(), r.gpus,
                r.model.c_str(), r.dtype.c_str(), r.framework.c_str(), static_cast<unsigned long long>(r.batch),
                r.metric.c_str(), r.printed.c_str(), r.predicted, 100 * (r.predicted / r.measured - 1),
                r.fitted.empty() ? "scored" : "fit", within ? "within" : "MISS",
                r.fitted.empty() ? "" : " fits: ", r.fitted.c_str(), r.placement.c_str());
  }
  std::printf("\nRows that are not predicted\n");
  std::map<std::string, std::size_t> left;
  for (const auto& r : rows)
    if (!r.scored()) ++left[r.set + ", " + r.framework + ": " + r.left_out];
  for (const auto& [what, n] : left) std::printf("%3zu  %s\n", n, what.c_str());
}

void print_offload_summary(const std::vector<offload_row>& rows) {
  for (const std::string_view group : {"zero_inference_v100", "flexgen_t4", "accelerate_big_model"})
    for (const bool fitted : {true, false})
      for (const std::string_view metric : {"throughput", "time_per_token", "load_time"}) {
        const bool twice = group == "accelerate_big_model";
        summary s;
        for (const auto& r : rows)
          if (r.scored() && r.set == group && r.fitted.empty() != fitted && r.metric.find(metric) != std::string::npos)
            s.add(r.predicted / r.measured - 1,
                  twice ? r.within(1 / accelerate_bar, accelerate_bar) : r.within(1 - offload_bar, 1 + offload_bar));
        s.print(std::string(group) + " " + std::string(metric) + (fitted ? ", fit" : ", scored"),
                twice ? "2x" : "20 %");
      }
}

void print_rates(const std::map<std::string, rates>& split, const constants& c) {
  std::printf("\nParameters, llama.cpp\n");
  std::printf("%-44s", "");
  for (const auto& [gpu, r] : split) std::printf(" %10s", gpu.c_str());
  const auto line = [&](const char* name, auto value) {
    std::printf("\n%-44s", name);
    for (const auto& [gpu, r] : split) std::printf(" %10.4g", value(gpu, r));
  };
  const auto spec = [](const std::string& gpu) { return berth::find_gpu(gpu); };
  line("memory, GB/s", [](const auto&, const auto& r) { return r.bandwidth / 1e9; });
  line("  of nominal", [&](const auto& g, const auto& r) { return r.bandwidth / 1e9 / spec(g)->bandwidth_gb; });
  line("  prior (gpu_specs)", [&](const auto& g, const auto&) { return spec(g)->bandwidth_efficiency; });
  line("products at width 4096, TFLOP/s", [](const auto&, const auto& r) { return r.flops / 1e12; });
  line("  of nominal", [&](const auto& g, const auto& r) { return r.flops / 1e12 / spec(g)->half_tflops; });
  line("  prior (gpu_specs)", [&](const auto& g, const auto&) { return spec(g)->compute_efficiency; });
  line("width of half the limit, elements", [](const auto&, const auto& r) { return r.half_width; });
  line("attention in prefill over products", [](const auto&, const auto& r) { return r.attention_share; });
  line("cache reads over cache bytes in decode", [](const auto&, const auto& r) { return r.state_reads; });
  line("per atom, us", [](const auto&, const auto& r) { return r.overhead * 1e6; });
  line("per message between GPUs, us", [](const auto&, const auto& r) { return r.hop * 1e6; });
  line("messages between GPUs, GB/s", [](const auto&, const auto& r) { return r.hop_bandwidth / 1e9; });
  line("start of a pipeline, share of one pass", [](const auto&, const auto& r) { return r.start; });
  line("kernels per block in prefill", [](const auto&, const auto& r) { return r.launches; });
  std::printf("\n\nParameters, offloading\n");
  std::printf("V100: host to device %.2f GB/s, NVMe %.2f GB/s\n", c.v100_host / 1e9, c.v100_disk / 1e9);
  std::printf(
      "T4: host to device %.2f GB/s pinned, half of it pageable (not fitted), disk %.1f GB/s (stated, not fitted)\n",
      c.t4_host / 1e9, t4_disk / 1e9);
  std::printf("Titan RTX: host to device %.2f GB/s, disk %.2f GB/s, %.0f us per atom, loading %.2f GB/s\n",
              c.titan_host / 1e9, c.titan_disk / 1e9, c.eager * 1e6, c.titan_load / 1e9);
}

}  // namespace

int main() {
  const char* data = std::getenv("BERTH_DATA");
  const std::string folder = std::string(data == nullptr ? "" : data) + "/benchmarks/";
  const auto split = data == nullptr ? std::nullopt : read_csv(folder + "llamacpp_llama3_layer_split_2024-05.csv");
  const auto offload = data == nullptr ? std::nullopt : read_csv(folder + "offload_and_split_measurements.csv");
  if (!split || !offload) {
    std::printf("skipped: set BERTH_DATA to the folder that holds benchmarks/*.csv\n");
    return skipped;
  }
  auto rows = read_split(*split);
  const auto fitted = fit_split(rows);
  for (auto& r : rows) {
    auto run = fitted.at(r.gpu);
    run.times = source::simulator;
    r.predicted = tokens_per_second(r, run);
    r.plain = tokens_per_second(r, run, false);
  }
  auto others = read_offload(*offload);
  auto c = fit_offload(others);
  c.times = source::simulator;
  for (auto& r : others)
    if (r.scored()) r.predicted = offload_value(r, c);
  summary flat;
  print_sizes(rows);
  print_split(rows);
  print_scaling(rows, true, flat);
  print_scaling(rows, false, flat);
  print_offload(others);
  print_rates(fitted, c);
  std::printf("\nSummary\n");
  print_split_summary(rows);
  print_prior(rows);
  flat.print("decode over GPU counts, points", "3");
  print_offload_summary(others);
  return 0;
}
