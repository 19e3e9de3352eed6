// SPDX-License-Identifier: Apache-2.0
// Weights on the CPU or the disk that stream to a GPU: ZeRO-Inference, accelerate, FlexGen's table.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common.hpp"

namespace published {
namespace {

/// Rates that a machine has before anything is fitted: those of the table of GPU models. NVIDIA's figures for the
/// Titan RTX, which is not in it.
rates prior(const std::string& set, std::string_view dtype) {
  rates r;
  const auto of = [&](std::string_view name) {
    const auto* g = berth::find_gpu(name);
    r.bandwidth = g->bandwidth_gb * 1e9 * g->bandwidth_efficiency;
    r.flops = (dtype == "float32" ? g->f32_tflops : g->half_tflops) * 1e12 * g->compute_efficiency;
    r.overhead = berth::default_gpu_overhead;
  };
  r.hop = berth::default_hop_cost;
  r.hop_bandwidth = 1e10;
  if (set == "zero_inference_v100") of("v100-32g");
  if (set == "flexgen_t4") of("t4");
  if (set == "accelerate_big_model") {
    r.bandwidth = 672e9 * 0.85;
    r.flops = (dtype == "float32" ? 16.3e12 : 130e12) * 0.6;
  }
  return r;
}

constexpr double pageable_share = 0.5;  ///< of the pinned rate, the default of the machine model; not fitted

/// The figures in "GPU0 20.3 GB; GPU1 22.7 GB; CPU 24.4 GB; disk yes", in bytes (they are GiB).
double gib_in(const std::string& text, std::string_view key) {
  const auto at = text.find(key);
  return at == std::string::npos ? 0 : std::strtod(text.c_str() + at + key.size(), nullptr) * 1073741824.0;
}

/// accelerate: atoms in order fill the first GPU as far as was measured, then the next; the last device takes the rest.
places filled(const offload_row& row) {
  const bool disk = row.placement.ends_with("yes");
  struct room {
    berth::device_id id;
    double bytes;
  };
  std::vector<room> rooms{{0, gib_in(row.placement, "GPU0")}};
  if (const double n = gib_in(row.placement, "GPU1"); n > 0) rooms.push_back({1, n});
  if (const double n = gib_in(row.placement, "CPU"); n > 0) rooms.push_back({"cpu", n});
  if (disk) rooms.push_back({"disk", 0});
  places at;
  std::size_t k = 0;
  double used = 0;
  for (const auto& a : row.chain.atoms) {
    const auto need = static_cast<double>(a.weights);
    if (k + 1 < rooms.size() && used + need > rooms[k].bytes) {
      ++k;
      used = 0;
    }
    used += need;
    at.push_back(a.tied ? rooms[0].id : rooms[k].id);
  }
  return at;
}

/// The last blocks live on the CPU or the disk, as many as make up `share` of all; everything else on the GPU.
places offloaded(const offload_row& row, double share, const berth::device_id& where) {
  const double n = static_cast<double>(row.chain.layers);
  const auto stay = static_cast<std::uint64_t>(std::lround(n * (1 - share)));
  places at;
  std::uint64_t block = 0;
  for (const auto& a : row.chain.atoms) {
    const bool out = a.kind == berth::atom_kind::block && block >= stay;
    at.push_back(out ? where : berth::device_id(0));
    if (a.kind == berth::atom_kind::block) ++block;
  }
  return at;
}

/// A rate of n copies of 1/n each over n links, put together over NVLink: (n - 1)/n of the bytes arrive that way.
double gathered(double rate, std::size_t n) {
  if (n == 1) return rate;
  const auto k = static_cast<double>(n);
  const double nvlink = 6 * berth::nvlink_rate(70);
  return 1 / (1 / (k * rate) + (k - 1) / k / nvlink);
}

}  // namespace

double offload_value(const offload_row& row, const constants& c) {
  auto r = prior(row.set, row.dtype);
  std::size_t gpus = 1;
  std::uint32_t slots = 2;
  places at;
  if (row.metric == "load_time") {
    double total = 0;
    for (const auto& a : row.chain.atoms) total += a.tied ? 0 : static_cast<double>(a.weights);
    return total / c.titan_load;
  }
  if (row.set == "accelerate_big_model") {
    gpus = 2;
    slots = 1;
    r.overhead = c.eager;
    r.host_to_device = c.titan_host;
    r.disk = c.titan_disk;
    at = filled(row);
  } else if (row.set == "flexgen_t4") {
    const bool eager = row.framework == "HF Accelerate";
    const bool resident = row.placement.ends_with("gpu"), disk = row.placement.ends_with("disk");
    slots = eager ? 1 : 2;
    r.overhead = c.eager;
    r.host_to_device = c.t4_host * (eager ? pageable_share : 1);
    r.disk = t4_disk;
    at = offloaded(row, resident ? 0 : 1, disk ? "disk" : "cpu");
  } else {
    const bool disk = row.placement.find("NVMe") != std::string::npos;
    const auto pinned = row.placement.find("B parameters pinned");
    const double share = pinned == std::string::npos ? 1 : 1 - std::strtod(row.placement.c_str(), nullptr) / 30;
    slots = row.placement.find("no prefetch") != std::string::npos ? 1 : 2;
    r.host_to_device = gathered(c.v100_host, row.gpus);
    r.disk = gathered(c.v100_disk, row.gpus);
    at = offloaded(row, share, disk ? "disk" : "cpu");
  }
  berth::workload w;
  w.batch = row.batch;
  w.prompt = row.prompt;
  w.generate = row.generate;
  berth::model m;
  for (const auto& o : row.chain.atoms) {
    berth::atom a;
    a.name = o.name;
    a.kind = o.kind;
    a.compute = o.compute;
    a.weights = o.weights;
    a.work[0] = {o.products + o.attention, o.read, o.out[0]};
    a.work[1] = {o.step_flops, o.read + o.state, o.out[1]};
    m.add(a);
  }
  const auto times = predict(m, machine_of(gpus, r), at, w, slots, c.times);
  if (row.metric == "time_per_token") return times.decode;
  const auto tokens = static_cast<double>(row.generate);
  return static_cast<double>(row.batch) * tokens / (times.prefill + (tokens - 1) * times.decode);
}

namespace {

std::string reason_to_leave_out(const offload_row& r) {
  if (r.set == "llamacpp_ngl_sweep") return "the GPU and the host are not named";
  if (r.set == "llamacpp_cpu_threads") return "the CPU is not named";
  if (r.set != "zero_inference_v100" && r.set != "flexgen_t4" && r.set != "accelerate_big_model")
    return "another machine";
  if (r.framework == "Petals") return "several machines over a network";
  if (r.dtype == "4bit") return "weights and cache are compressed in groups; the cost of unpacking is not known";
  if (r.batch == 0) return "the source does not say which batch";
  return {};
}

/// Fits one constant on one row of the table.
void fit_constant(std::vector<offload_row>& rows, constants& c, double constants::* which, std::string_view what,
                  const std::function<bool(const offload_row&)>& is) {
  const auto it = std::find_if(rows.begin(), rows.end(), is);
  if (it == rows.end()) return;
  it->fitted = what;
  c.*which = fit({c.*which}, [&](const std::vector<double>& p) {
    auto moved = c;
    moved.*which = p[0];
    return std::vector<double>{std::log(offload_value(*it, moved) / it->measured)};
  })[0];
}

}  // namespace

std::vector<offload_row> read_offload(const table& t) {
  std::vector<offload_row> rows;
  for (std::size_t i = 0; i < t.rows.size(); ++i) {
    offload_row r;
    r.set = t.at(i, "set");
    r.model = t.at(i, "model");
    r.dtype = t.at(i, "dtype") == "fp16" ? "float16" : t.at(i, "dtype");
    r.framework = t.at(i, "framework");
    r.placement = t.at(i, "placement");
    r.metric = t.at(i, "metric");
    r.printed = t.at(i, "value");
    r.gpus = t.count(i, "n_gpu");
    r.batch = t.count(i, "batch");
    r.prompt = t.count(i, "prompt_tokens");
    r.generate = t.count(i, "gen_tokens");
    r.measured = t.number(i, "value");
    r.left_out = reason_to_leave_out(r);
    if (r.set == "accelerate_big_model") r.prompt = r.generate = 16;  // not stated; barely matters
    if (r.scored()) {
      berth::workload w;
      w.batch = r.batch;
      w.prompt = r.prompt;
      w.generate = r.generate;
      r.chain = chain_of(r.model, r.dtype, format::native, w);
    }
    rows.push_back(std::move(r));
  }
  return rows;
}

constants fit_offload(std::vector<offload_row>& rows) {
  constants c;
  const auto zero = [](std::string_view where) {
    return [where](const offload_row& r) { return r.set == "zero_inference_v100" && r.placement == where; };
  };
  const auto titan = [](std::string_view model, std::string_view dtype, std::string_view metric) {
    return [=](const offload_row& r) {
      return r.set == "accelerate_big_model" && r.model == model && r.dtype == dtype && r.metric == metric;
    };
  };
  fit_constant(rows, c, &constants::v100_host, "host to device", zero("0B parameters pinned on GPU, 30B on CPU"));
  fit_constant(rows, c, &constants::v100_disk, "disk", zero("0B parameters pinned on GPU, 30B on NVMe"));
  fit_constant(rows, c, &constants::eager, "per atom", titan("GPT-J-6B", "float16", "time_per_token"));
  fit_constant(rows, c, &constants::titan_host, "host to device", titan("OPT-30B", "float16", "time_per_token"));
  fit_constant(rows, c, &constants::titan_disk, "disk", titan("OPT-30B", "float32", "time_per_token"));
  fit_constant(rows, c, &constants::titan_load, "loading", titan("GPT-J-6B", "float16", "load_time"));
  fit_constant(rows, c, &constants::t4_host, "host to device", [](const offload_row& r) {
    return r.set == "flexgen_t4" && r.framework == "DeepSpeed ZeRO-Inference" && r.model == "OPT-30B";
  });
  return c;
}

}  // namespace published
