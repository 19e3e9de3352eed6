// SPDX-License-Identifier: Apache-2.0
// llama.cpp with layers split over equal GPUs: passes from `predict`, micro-batches through a pipeline, the fit.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "common.hpp"

namespace published {
namespace {

using berth::phase;

/// Seconds from the first to the last of `chunks` micro-batches that follow one another through `gpus` GPUs. A GPU
/// takes the next one after `period` and what does not overlap; llama.cpp keeps four on their way. One thread issues
/// all kernels in order and waits while a GPU's queue of 1024 launches is full: with many blocks on each GPU it cannot
/// run ahead, and the GPUs take turns.
double pipelined(double pass, double period, std::size_t chunks, std::size_t gpus, double kernels, const rates& r) {
  constexpr double queue = 1024;
  constexpr std::size_t copies = 4;
  if (gpus == 1) return pass * static_cast<double>(chunks);
  const double stage = pass / static_cast<double>(gpus), next = std::max(stage, period);
  const double launches = kernels / static_cast<double>(gpus);
  std::vector<double> start(chunks * gpus);
  double issued = 0;
  for (std::size_t k = 0; k < chunks; ++k)
    for (std::size_t g = 0; g < gpus; ++g) {
      double& at = start[k * gpus + g];
      at = issued;
      if (g > 0) at = std::max(at, start[k * gpus + g - 1] + stage);
      if (g == 0 && k >= copies) at = std::max(at, start[(k - copies + 1) * gpus - 1] + stage);
      if (k > 0) at = std::max(at, start[(k - 1) * gpus + g] + next);
      const double done = static_cast<double>(k + 1) - queue / launches;  // micro-batches whose kernels must be gone
      if (done <= 0) continue;
      const auto whole = static_cast<std::size_t>(done);
      issued = std::max(issued, start[whole * gpus + g] + (done - static_cast<double>(whole)) * stage);
    }
  return start.back() + stage + (chunks > 1 ? r.start * pass : 0);
}

}  // namespace

double tokens_per_second(const split_row& row, const rates& r, bool unpack) {
  const auto micro = row.decode ? 1 : (row.tokens + row.micro_batch - 1) / row.micro_batch;
  const double share = 1 / static_cast<double>(micro);
  const double width = (1 + r.half_width / row.chain.hidden) / (1 + r.half_width / 4096);
  berth::model m;
  places at;
  std::uint64_t layer = 0;
  for (const auto& w : row.chain.atoms) {
    berth::atom a;
    a.name = w.name;
    a.kind = w.kind;
    a.compute = w.compute;
    a.weights = w.kind == berth::atom_kind::embedding ? 0 : w.weights;
    // Both kinds of pass are priced as decode, because only decode has a pipelined period. Activations are f32.
    auto& pass = a.work[static_cast<std::size_t>(phase::decode)];
    if (row.decode) {
      pass = {w.step_flops, w.read + r.state_reads * w.state, 2 * w.out[1]};
    } else {
      const double unpacking = unpack ? w.unpacked / r.bandwidth * r.flops : 0;
      pass = {share * (w.products * width + w.attention / r.attention_share) + unpacking, w.read, 2 * share * w.out[0]};
    }
    m.add(a);
    // llama.cpp counts the output as one more layer and gives each GPU the same number.
    at.emplace_back(static_cast<int>(layer * row.gpus / (row.chain.layers + 1)));
    if (w.kind == berth::atom_kind::block) ++layer;
  }
  berth::workload w;
  w.objective = berth::objective::throughput;
  const auto times = predict(m, machine_of(row.gpus, r), at, w, 0, r.times);
  if (row.decode) return 1 / times.decode;
  return static_cast<double>(row.tokens) /
         pipelined(times.decode, times.period, micro, row.gpus,
                   static_cast<double>(row.chain.layers) * (r.launches + (row.stored == format::native ? 0 : 7)), r);
}

std::vector<split_row> read_split(const table& t) {
  std::vector<split_row> rows;
  std::map<std::string, std::size_t> most;
  for (std::size_t i = 0; i < t.rows.size(); ++i) {
    split_row r;
    r.gpu = t.at(i, "gpu");
    r.host = t.at(i, "host_cpu");
    r.gpus = t.count(i, "n_gpu");
    r.model = t.at(i, "model").find("70B") != std::string::npos ? "Llama-3-70B" : "Llama-3-8B";
    r.stored = t.at(i, "model").ends_with("F16") ? format::native : format::q4_k_m;
    r.decode = t.at(i, "test") == "tg";
    r.tokens = t.count(i, "tokens");
    r.measured = t.number(i, "tok_per_s");
    r.file_gib = t.number(i, "file_gib");
    if (const auto n = t.count(i, "n_ubatch"); n > 0) r.micro_batch = n;
    berth::workload w;
    w.prompt = r.decode ? 0 : r.tokens;
    w.generate = r.decode ? r.tokens : 0;
    r.chain = chain_of(r.model, "float16", r.stored, w);
    most[r.gpu] = std::max(most[r.gpu], r.gpus);
    rows.push_back(std::move(r));
  }
  for (auto& r : rows) {
    if (r.stored != format::native) continue;
    const bool single = r.gpus == 1, small = r.model.ends_with("8B");
    const bool largest = r.gpus == most[r.gpu] && (r.tokens == 512 || (!r.decode && r.tokens == (small ? 1024 : 4096)));
    r.fitted = single || largest;
  }
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) {
    return std::tuple(a.gpu, a.model, a.stored, !a.decode, a.gpus, a.tokens) <
           std::tuple(b.gpu, b.model, b.stored, !b.decode, b.gpus, b.tokens);
  });
  return rows;
}

namespace {

constexpr std::size_t rates_per_gpu = 9;

/// Parameters of GPU number `i`; the last one, kernels per block, belongs to llama.cpp and is the same on all.
rates split_rates(const std::vector<double>& all, std::size_t i) {
  const double* p = all.data() + rates_per_gpu * i;
  rates r;
  r.bandwidth = p[0] * 1e9;
  r.overhead = p[1] * 1e-6;
  r.state_reads = p[2];
  r.flops = p[3] * 1e12;
  r.half_width = p[4];
  r.attention_share = p[5];
  r.hop = p[6] * 1e-6;
  r.hop_bandwidth = p[7] * 1e9;
  r.start = p[8];
  r.launches = all.back();
  return r;
}

}  // namespace

std::map<std::string, rates> fit_split(const std::vector<split_row>& rows) {
  std::vector<std::string> gpus;
  for (const auto& r : rows)
    if (std::find(gpus.begin(), gpus.end(), r.gpu) == gpus.end()) gpus.push_back(r.gpu);
  std::vector<double> first;
  for (const auto& gpu : gpus) {
    const auto* spec = berth::find_gpu(gpu);
    const std::array<double, rates_per_gpu> p{
        spec->bandwidth_gb * 0.9, 50, 2, spec->half_tflops * 0.8, 2000, 0.2, 100, 5, 0.1};
    first.insert(first.end(), p.begin(), p.end());
  }
  first.push_back(50);
  const auto best = fit(first, [&](const std::vector<double>& p) {
    std::vector<double> out;
    for (std::size_t i = 0; i < gpus.size(); ++i) {
      const auto rates = split_rates(p, i);
      for (const auto& r : rows)
        if (r.gpu == gpus[i] && r.fitted) out.push_back(std::log(tokens_per_second(r, rates) / r.measured));
    }
    return out;
  });
  std::map<std::string, rates> out;
  for (std::size_t i = 0; i < gpus.size(); ++i) out[gpus[i]] = split_rates(best, i);
  return out;
}

}  // namespace published
