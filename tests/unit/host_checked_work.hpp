// SPDX-License-Identifier: Apache-2.0
// Work for real machines that checks what it is given: its weights byte for byte, its state from call to call, the
// activation of the atom before; and that spoils what it may spoil. Include last: it ends in imports.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "host_generated_storage.hpp"

import berth;
import berth.exec;

namespace host_test {

/// The atom whose bytes an atom has: with ties, which in the chains of these tests cover all weights, the first one.
inline std::uint32_t bytes_of(const berth::plan& p, std::uint32_t atom) {
  for (const auto& t : p.ties)
    if (t.atom == atom)
      for (const auto& first : p.ties)
        if (first.storage == t.storage) return first.atom;
  return atom;
}
/// The files that hold a plan's atoms: file i is atom i.
inline std::vector<generated_file> files_of(const berth::plan& p) {
  std::vector<generated_file> out;
  for (std::uint32_t i = 0; i < p.atoms.size(); ++i) out.push_back({p.atoms[i].weights, bytes_of(p, i)});
  return out;
}

/// Callables for all atoms of a plan whose weights are those of `files_of`. One run at a time.
class checked_work {
 public:
  explicit checked_work(const berth::plan& p) : plan_(p) {
    for (std::uint32_t phase = 0; phase < 2; ++phase)
      for (std::uint32_t i = 0; i < p.atoms.size(); ++i) visits_.push_back({this, phase == 0, i, 0});
  }

  berth::work_source as_source() {
    return {this, [](void* self, berth::program_phase phase, std::uint32_t atom) {
              auto& w = *static_cast<checked_work*>(self);
              const auto first = phase == berth::program_phase::prefill ? 0 : w.plan_.atoms.size();
              return berth::work{&w.visits_[first + atom], &checked_work::run};
            }};
  }
  /// Before another run.
  void start_again() {
    for (auto& v : visits_) v.calls = 0;
    wrong_.clear();
  }

  /// The first thing that was wrong, or nothing. When nothing is under way.
  const std::string& wrong() const { return wrong_; }
  /// Calls of all atoms in a phase.
  std::uint64_t calls(bool prompt) const {
    std::uint64_t n = 0;
    for (const auto& v : visits_) n += v.prompt == prompt ? v.calls : 0;
    return n;
  }

 private:
  struct visit {
    checked_work* owner;
    bool prompt;
    std::uint32_t atom;
    std::uint64_t calls;  ///< an atom's calls of a phase follow one another
  };

  static void run(void* context, const berth::work_call& call) {
    auto& v = *static_cast<visit*>(context);
    v.owner->check(v, call);
    ++v.calls;
  }
  void complain(const visit& v, const char* what) {
    const std::lock_guard hold(lock_);
    if (wrong_.empty())
      wrong_ = std::string(v.prompt ? "prompt" : "decode") + " " + std::to_string(v.calls) + ", atom " +
               std::to_string(v.atom) + ": " + what;
  }

  /// What atom i leaves in round `round` of a phase.
  static std::uint64_t activation(bool prompt, std::uint64_t round, std::uint32_t atom) {
    const auto h = (round * 1'000'003 + atom + 1) * 0x9e3779b97f4a7c15u + (prompt ? 1 : 0);
    return h ^ h >> 31;
  }
  /// The start and the end of a range hold a number.
  static void put(const berth::memory_view& m, std::uint64_t value) {
    const auto n = std::min<std::size_t>(sizeof value, m.size);
    std::memcpy(m.data, &value, n);
    std::memcpy(m.data + m.size - n, &value, n);
  }
  static bool starts_with(const berth::memory_view& m, std::uint64_t value) {
    return std::memcmp(m.data, &value, std::min<std::size_t>(sizeof value, m.size)) == 0;
  }
  static bool holds(const berth::memory_view& m, std::uint64_t value) {
    const auto n = std::min<std::size_t>(sizeof value, m.size);
    return std::memcmp(m.data, &value, n) == 0 && std::memcmp(m.data + m.size - n, &value, n) == 0;
  }

  void check(const visit& v, const berth::work_call& c) {
    const auto& at = plan_.placements[v.atom];
    if (c.device != (v.prompt && at.prompt != berth::no_index ? at.prompt : at.execution))
      complain(v, "another device");
    check_weights(v, c.memory.weights, at.home != c.device);
    check_state(v, c.memory.state, at.prompt != berth::no_index);
    const auto& m = c.memory;
    if (v.atom > 0 && m.in.size == 0) complain(v, "no activation arrives");
    if (v.atom > 0 && !holds(m.in, activation(v.prompt, v.calls, v.atom - 1))) complain(v, "a wrong activation");
    if (m.workspace.size > 0) std::memset(m.workspace.data, 0xa5, m.workspace.size);
    if (m.out.size > 0) put(m.out, activation(v.prompt, v.calls, v.atom));
  }
  void check_weights(const visit& v, const berth::memory_view& w, bool streamed) {
    const auto file = bytes_of(plan_, v.atom);
    if (w.size != plan_.atoms[v.atom].weights && (streamed || file == v.atom)) complain(v, "weights of another size");
    for (berth::bytes i = 0; i < w.size; ++i)
      if (w.data[i] != byte_at(file, i)) return complain(v, "wrong weights");
  }
  /// It counts the atom's calls. What the prompt leaves on another device is the part that moves, and only that.
  void check_state(const visit& v, const berth::memory_view& s, bool moves) {
    if (s.size == 0) return;
    const auto prompts = visits_[v.atom].calls, before = (v.prompt ? v.calls : prompts + v.calls) + 77 * v.atom;
    const bool fresh = v.prompt && (v.calls == 0 || moves);
    const bool arrived = !v.prompt && v.calls == 0 && moves;
    if (!fresh && !(arrived ? starts_with(s, before) : holds(s, before))) complain(v, "a wrong state");
    put(s, before + 1);
  }

  const berth::plan& plan_;
  std::vector<visit> visits_;  ///< of the prompt, then of decode
  std::mutex lock_;
  std::string wrong_;
};

}  // namespace host_test
