// SPDX-License-Identifier: Apache-2.0
// A small plan with resident weights, weights streamed from host memory and from the disk and a second GPU, and
// callables that compute with what they are given: a wrong byte in a slot changes the result. Include after the
// standard headers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "fake_cuda.hpp"

import berth;
import berth.cuda;

namespace rehearsal {

inline constexpr berth::bytes weights = 4 * berth::KiB;
inline constexpr std::uint64_t rounds = 3;

inline std::uint64_t mixed(std::uint64_t a, std::uint64_t b) {
  a = (a ^ b) * 0x9e3779b97f4a7c15u;
  return a ^ (a >> 29);
}
/// The byte at a place of an atom's image.
inline std::byte stored_byte(std::uint32_t atom, std::uint64_t place) {
  return static_cast<std::byte>(mixed(atom + 1, place) >> 56);
}
inline berth::result<berth::done> stored_bytes(void*, const berth::storage_range& from, std::span<std::byte> to) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] = stored_byte(from.file, from.offset + i);
  return berth::done{};
}

inline berth::topology small_box() {
  auto t = *berth::preset("2x3060");
  for (auto& d : t.devices) {
    if (d.kind != berth::device_kind::gpu) continue;
    d.memory = d.free = 23 * berth::KiB;
    d.context = 0;
    d.granularity = 256;
  }
  return t;
}

/// Six blocks, an embedding and a head: on GPU 0 three stay, two stream from host memory, one from the disk; two on 1.
inline berth::result<berth::plan> streamed_plan() {
  static const auto m = [] {
    constexpr std::array<std::string_view, 8> names{"embed",    "layers.0", "layers.1", "layers.2",
                                                    "layers.3", "layers.4", "layers.5", "head"};
    berth::model made;
    for (const auto name : names) {
      berth::atom a;
      a.name = name;
      a.weights = weights;
      a.state = 64;
      a.workspace = 512;
      a.work[0] = {4e6, 5000, 128};
      a.work[1] = {8e3, 5000, 128};
      made.add(a);
    }
    return made;
  }();
  static const auto box = small_box();
  static const std::vector<berth::map_entry> homes{{"embed", "0"},    {"layers.0", "0"},   {"layers.1", "cpu"},
                                                   {"layers.2", "0"}, {"layers.3", "cpu"}, {"layers.4", "disk"},
                                                   {"layers.5", "1"}, {"head", "1"}};
  berth::place_options o;
  o.workload = {64, 1, 16, rounds, berth::objective::latency};
  o.use_disk = true;
  o.certify = false;
  return berth::place_fn(berth::Manual{homes})(m, box, o);
}

/// What the launches of a run saw and made.
struct log {
  std::uint64_t launches = 0;
  std::uint64_t wrong_weights = 0;  ///< launches whose weights were not those of their atom
  std::uint64_t result = 0;         ///< of the last launch: depends on everything before
  friend bool operator==(const log&, const log&) = default;
};

/// Callables for all atoms: on GPUs they enqueue a stand-in for a kernel, on the CPU they compute at once.
class callables {
 public:
  callables(fake_cuda::runtime& cuda, std::size_t atoms) {
    for (std::uint32_t a = 0; a < atoms; ++a) of_.push_back({&cuda, &seen, a});
  }
  callables(const callables&) = delete;
  callables& operator=(const callables&) = delete;

  berth::work_source source() {
    return {this, [](void* self, berth::program_phase, std::uint32_t atom) {
              return berth::work{&static_cast<callables*>(self)->of_[atom], run};
            }};
  }
  log seen;

 private:
  struct of_atom {
    fake_cuda::runtime* cuda;
    log* seen;
    std::uint32_t atom;
  };
  static void run(void* self, const berth::work_call& call) {
    const auto& a = *static_cast<const of_atom*>(self);
    const auto m = call.memory;
    const auto kernel = [a, m] { compute(a, m); };
    if (call.native_stream == nullptr) return kernel();
    std::vector<fake_cuda::range> touched;
    for (const auto* v : {&m.weights, &m.state, &m.workspace, &m.in, &m.out})
      if (v->size > 0) touched.push_back({v->data, static_cast<std::size_t>(v->size)});
    a.cuda->enqueue(call.native_stream, kernel, touched);
  }
  /// out = f(in, weights, state); state = g(state): every launch counts, and in its order.
  static void compute(const of_atom& a, const berth::work_memory<berth::memory_view>& m) {
    std::uint64_t value = 0, state = 0;
    bool right = true;
    for (std::size_t i = 0; i < m.weights.size; ++i) {
      right = right && m.weights.data[i] == stored_byte(a.atom, i);
      value = mixed(value, static_cast<std::uint64_t>(m.weights.data[i]));
    }
    if (m.state.size >= sizeof state) {
      std::memcpy(&state, m.state.data, sizeof state);
      value = mixed(value, state++);
      std::memcpy(m.state.data, &state, sizeof state);
    }
    std::uint64_t in = 0;
    if (m.in.size >= sizeof in) std::memcpy(&in, m.in.data, sizeof in);
    value = mixed(value, in);
    if (m.out.size >= sizeof value) std::memcpy(m.out.data, &value, sizeof value);
    ++a.seen->launches;
    a.seen->wrong_weights += right && m.weights.size == weights ? 0 : 1;
    a.seen->result = value;
  }
  std::vector<of_atom> of_;
};

inline fake_cuda::options runtime_options(std::uint64_t seed, bool peers) {
  fake_cuda::options o;
  o.devices = {{"NVIDIA GeForce RTX 3060", berth::MiB, "0000:01:00.0", 1, {}},
               {"NVIDIA GeForce RTX 3060", berth::MiB, "0000:02:00.0", 2, {}}};
  o.peers = peers;
  o.seed = seed;
  return o;
}

inline berth::cuda::machine_options small_machine() {
  berth::cuda::machine_options o;
  o.storage = {nullptr, stored_bytes};
  o.staging = {3 * 1536, 3};  // an atom takes several chunks
  o.bounds = {64, 256, 64, 256, 256};
  return o;
}

}  // namespace rehearsal
