// SPDX-License-Identifier: Apache-2.0
// Random planning problems and the shapes of real models, with the storage that their views need. Include last: it ends
// in imports.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

import berth;
import berth.formats;

namespace plan_test {

/// Draws that are the same with every standard library.
class dice {
 public:
  explicit dice(std::uint64_t seed) : random_(seed) {}
  std::uint64_t pick(std::uint64_t low, std::uint64_t high) { return low + random_() % (high - low + 1); }
  bool one_in(std::uint64_t n) { return pick(1, n) == 1; }
  double real(double low, double high) { return low + (high - low) * static_cast<double>(pick(0, 1000)) / 1000; }

 private:
  std::mt19937_64 random_;
};

/// Cases to run: BERTH_PROPERTY_CASES scales all counts (1000 = as committed).
inline std::uint64_t cases(std::uint64_t committed) {
  const char* text = std::getenv("BERTH_PROPERTY_CASES");
  const auto scale = text == nullptr ? 1000 : std::strtoull(text, nullptr, 10);
  return std::max<std::uint64_t>(1, committed * scale / 1000);
}

/// One (model, topology, workload).
struct triple {
  berth::model model;
  berth::topology topology;
  berth::workload workload;
  std::vector<berth::device_bytes> limits, reserve;
  std::uint32_t staging_slots = 2;
  bool use_disk = false;

  berth::place_options options(bool certify = true) const {
    berth::place_options o;
    o.workload = workload;
    o.max_memory = limits;
    o.reserve = reserve;
    o.use_disk = use_disk;
    o.staging_slots = staging_slots;
    o.certify = certify;
    return o;
  }
};

/// Sizes of a random triple.
struct extent {
  std::size_t least_atoms = 1, most_atoms = 12;
  std::size_t most_gpus = 4;
  bool streaming = true;
  bool segments = true;  ///< links share segments
  bool ties = true;
  bool rounding = true;  ///< arenas of 4 KiB pages
};

inline berth::atom random_atom(dice& d, bool zero_allowed) {
  berth::atom a;
  a.kind = berth::atom_kind::block;
  a.weights = zero_allowed && d.one_in(12) ? 0 : d.pick(1, 200) * 1'000'003;
  a.padding = berth::round_up(a.weights, 256) - a.weights;
  a.state = d.one_in(2) ? d.pick(0, 20) * 1'000'000 : 0;
  a.workspace = d.one_in(2) ? d.pick(0, 30) * 100'000 : 0;
  const double tokens = static_cast<double>(d.pick(1, 600)), read = d.one_in(4) ? 0.2 : 1;
  const double w = static_cast<double>(a.weights), s = static_cast<double>(a.state);
  const double hidden = static_cast<double>(d.pick(1, 16)) * 1024;
  a.work[0] = {w * tokens, std::min(w, w * read * 2) + s / 2 + 1000, hidden * tokens};
  a.work[1] = {w, w * read + s + 1000, hidden};
  return a;
}

inline void random_chain(dice& d, const extent& e, berth::model& m) {
  const auto n = d.pick(e.least_atoms, e.most_atoms);
  const auto style = d.pick(0, 3);
  const auto one = random_atom(d, false), other = random_atom(d, false);
  for (std::uint64_t i = 0; i < n; ++i) {
    auto a = random_atom(d, true);
    if (style == 0 || (style == 1 && i > 0 && i + 1 < n)) a = one;
    if (style == 2) a = d.one_in(3) ? other : one;
    const auto name = "a" + std::to_string(i);
    a.name = name;
    m.add(a);
  }
  if (!e.ties || n < 3 || !d.one_in(4)) return;
  const auto shared = std::min(m.atoms().front().weights, m.atoms().back().weights);
  m.set_ties({{0, 0, shared}, {0, static_cast<std::uint32_t>(n - 1), shared}});
}

/// GPUs of up to four kinds, mostly a CPU, sometimes a disk; links at random, some missing.
inline void random_machine(dice& d, const extent& e, berth::bytes need, berth::topology& t) {
  using namespace berth;
  t.name = "random";
  const auto kinds = d.pick(1, 4), gpus = d.pick(0, 9) == 0 ? 0 : d.pick(1, e.most_gpus);
  const bool cpu = gpus == 0 || !d.one_in(5), disk = e.streaming && d.one_in(3);
  const double tight = d.one_in(2) ? d.real(0.2, 1.1) : d.real(1.0, 3.0);
  const bytes granularity = e.rounding && d.one_in(3) ? 4096 : 1;
  std::vector<device> kind(kinds);
  for (auto& k : kind) {
    k.kind = device_kind::gpu;
    k.api = accelerator_api::cuda;
    k.memory = static_cast<bytes>(static_cast<double>(need) * tight * d.real(0.3, 1.5) /
                                  static_cast<double>(std::max<std::uint64_t>(gpus, 1))) +
               1'000'000;
    k.free = k.memory;
    const double flops = d.real(1, 300) * 1e12;
    k.peak_flops = {flops / 2, flops, 0, 0};
    k.peak_bandwidth = d.real(0.2, 30) * 1e11;
    k.overhead = d.one_in(2) ? 0 : d.real(1, 20) * 1e-6;
    k.granularity = granularity;
  }
  const auto first_id = d.pick(0, 2);
  for (std::uint64_t g = 0; g < gpus; ++g) {
    auto one = kind[d.pick(0, kinds - 1)];
    one.id = device_id(static_cast<int>(first_id + g * (d.one_in(4) ? 3 : 1)));
    while (t.view().find(one.id)) one.id = device_id(*one.id.ordinal() + 1);
    t.add(one);
  }
  const bool dram = e.segments && cpu && d.one_in(2);
  const double dram_rate = d.real(1, 8) * 1e10;
  segment_index dram_segment = no_index;
  device_index cpu_at = no_index, disk_at = no_index;
  if (cpu) {
    device c;
    c.id = "cpu";
    c.kind = device_kind::cpu;
    c.memory = static_cast<bytes>(static_cast<double>(need) * (d.one_in(4) ? 0.6 : 2)) + 10'000'000;
    c.free = c.memory;
    const double flops = d.real(0.1, 3) * 1e12;
    c.peak_flops = {flops, 0, 0, 0};
    c.peak_bandwidth = d.real(0.1, 2) * (d.one_in(5) ? 1e12 : 1e11);
    c.overhead = d.one_in(2) ? 0 : 1e-5;
    if (dram) c.memory_segment = dram_segment = t.add(segment{"dram", segment_kind::dram, dram_rate});
    cpu_at = t.add(c);
  }
  if (disk) {
    device s;
    s.id = "disk";
    s.kind = device_kind::disk;
    s.memory = s.free = need * 3;
    disk_at = t.add(s);
  }
  // Mostly the same link for equal pairs of kinds, so that devices can be exchanged; sometimes every link differs.
  const bool alike = !d.one_in(3);
  const route peers{0, 0, d.real(0, 4) * 1e-4, d.real(0, 10) * 1e-6, d.real(1, 60) * 1e9, 0, 0};
  const route host{0, 0, d.real(0, 4) * 1e-4, d.real(0, 10) * 1e-6, d.real(1, 60) * 1e9, 0, 0};
  for (device_index a = 0; a < t.devices.size(); ++a)
    for (device_index b = 0; b < t.devices.size(); ++b) {
      if (a == b || b == disk_at) continue;
      const bool stored = a == disk_at, hosted = a == cpu_at || b == cpu_at;
      if (stored && b != cpu_at && !(cpu_at == no_index || d.one_in(4))) continue;
      if (!stored && !hosted && d.one_in(alike ? 40 : 5)) continue;
      if (hosted && !stored && d.one_in(30)) continue;
      route r = hosted ? host : peers;
      if (!alike || stored) r.bandwidth = d.real(1, 60) * (stored ? 1e8 : 1e9);
      if (!alike) r.latency = d.real(0, 4) * 1e-4;
      r.from = a;
      r.to = b;
      const auto own = t.add(segment{text<48>("link ").append(a).append(" ").append(b), segment_kind::pcie, 1e12});
      std::vector<segment_index> over{own};
      if (dram && (hosted || stored) && !d.one_in(10)) over.push_back(dram_segment);
      t.connect(r, over);
    }
  t.sort_routes();
}

inline triple random_triple(std::uint64_t seed, const extent& e) {
  dice d(seed);
  triple out;
  random_chain(d, e, out.model);
  berth::bytes need = 0;
  for (const auto& a : out.model.atoms()) need += a.weights + a.state + a.workspace;
  random_machine(d, e, need, out.topology);
  out.workload = {.context = 1000,
                  .batch = 1,
                  .prompt = d.pick(1, 900),
                  .generate = d.one_in(5) ? d.pick(0, 1) : d.pick(1, 200),
                  .objective = d.one_in(2) ? berth::objective::latency : berth::objective::throughput};
  out.use_disk = true;
  out.staging_slots = e.streaming ? static_cast<std::uint32_t>(d.pick(1, 4)) : 0;
  if (d.one_in(6) && !out.topology.devices.empty())
    out.reserve.push_back({out.topology.devices[0].id, out.topology.devices[0].free / 10});
  return out;
}

/// A config.json of a decoder of the Llama kind.
struct decoder_config {
  std::string type = "llama";
  std::uint64_t vocabulary = 128256, hidden = 4096, ffn = 14336, layers = 32, heads = 32, kv_heads = 8;
  bool tied = false;
  std::string more;  ///< starts with a comma

  std::string text() const {
    const auto number = [](const char* key, std::uint64_t v) {
      return std::string(",\"").append(key).append("\":").append(std::to_string(v));
    };
    return std::string(R"({"model_type":")")
        .append(type)
        .append(R"(","torch_dtype":"bfloat16","max_position_embeddings":131072)")
        .append(number("vocab_size", vocabulary))
        .append(number("hidden_size", hidden))
        .append(number("intermediate_size", ffn))
        .append(number("num_hidden_layers", layers))
        .append(number("num_attention_heads", heads))
        .append(number("num_key_value_heads", kv_heads))
        .append(tied ? R"(,"tie_word_embeddings":true)" : R"(,"tie_word_embeddings":false)")
        .append(more)
        .append("}");
  }
};

inline decoder_config llama_3_8b() { return {}; }
inline decoder_config llama_3_70b() { return {.hidden = 8192, .ffn = 28672, .layers = 80, .heads = 64, .more = {}}; }
inline decoder_config llama_32_1b() {
  return {.hidden = 2048, .ffn = 8192, .layers = 16, .tied = true, .more = R"(,"head_dim":64)"};
}
inline decoder_config gemma_2_2b() {
  return {.type = "gemma2",
          .vocabulary = 256000,
          .hidden = 2304,
          .ffn = 9216,
          .layers = 26,
          .heads = 8,
          .kv_heads = 4,
          .tied = true,
          .more = R"(,"head_dim":256,"sliding_window":4096)"};
}
inline decoder_config mixtral_8x7b() {
  return {.type = "mixtral", .vocabulary = 32000, .more = R"(,"num_local_experts":8,"num_experts_per_tok":2)"};
}

/// A model of a config with its costs. Aborts on a config that cannot be read: the tests write their own.
struct shaped_model {
  berth::loaded_model loaded;
  berth::model chain;

  shaped_model(const decoder_config& config, const berth::workload& w)
      : loaded(*berth::load_model_text(config.text(), "config.json")),
        chain(berth::derive_model(loaded.tree(), loaded.sizes)) {
    const auto& a = loaded.architecture;
    const berth::model_shape shape{a.hidden, a.vocabulary, a.layers};
    if (!berth::cost_model(chain, loaded.tree(), loaded.sizes, shape, w)) std::abort();
  }
};

/// Medians and tails of gaps, printed so that a run's log shows them.
class gap_table {
 public:
  void add(std::string_view what, double gap) {
    for (auto& [name, list] : rows_)
      if (name == what) return list.push_back(gap);
    rows_.emplace_back(what, std::vector<double>{gap});
  }
  void print(const char* title) {
    std::sort(rows_.begin(), rows_.end());
    for (auto& [name, list] : rows_) {
      std::sort(list.begin(), list.end());
      const auto at = [&](double q) {
        return 100 * list[static_cast<std::size_t>(q * static_cast<double>(list.size() - 1))];
      };
      std::printf("%s, %s: %zu plans, gap median %.3g %%, 95 of 100 within %.3g %%, worst %.3g %%\n", title,
                  name.c_str(), list.size(), at(0.5), at(0.95), at(1));
    }
    std::fflush(stdout);
  }

 private:
  std::vector<std::pair<std::string, std::vector<double>>> rows_;
};

}  // namespace plan_test
