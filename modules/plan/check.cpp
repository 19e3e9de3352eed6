// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory_resource>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.plan;

namespace berth {
namespace {

constexpr bytes tensor_alignment_of_arenas = 256;

/// Collects the violations of one plan.
class checker {
 public:
  checker(const plan& p, std::pmr::memory_resource* memory) : p_(p), memory_(memory), found_(memory) {}

  std::pmr::vector<error> run() {
    if (!shape()) return std::move(found_);
    for (const auto& w : found_)
      if (w.code == errc::invalid_topology) return std::move(found_);
    atoms();
    ties();
    if (!found_.empty()) return std::move(found_);  // sums over broken placements would only confuse
    devices();
    worth();
    return std::move(found_);
  }

 private:
  void violate(errc code, std::string_view subject, const std::string& detail, bytes needed = 0, bytes available = 0) {
    found_.push_back(error{code, subject, std::string_view(detail), needed, available});
  }
  void broken(std::string_view subject, const std::string& detail) { violate(errc::invalid_plan, subject, detail); }

  /// Lists that must be parallel, indices that must be in range.
  bool shape() {
    if (p_.placements.size() != p_.atoms.size() || p_.loads.size() != p_.atoms.size()) {
      broken("plan", "atoms, loads and placements differ in number");
      return false;
    }
    if (auto valid = validate(p_.topology()); !valid) found_.push_back(valid.error());
    std::pmr::set<device_index> used(memory_);
    for (const auto& u : p_.uses) {
      if (u.device >= p_.devices.size()) {
        broken("plan", "a device use refers to device number " + std::to_string(u.device) + ", which does not exist");
        return false;
      }
      if (!used.insert(u.device).second) {
        broken(p_.devices[u.device].id.view(), "the device is listed twice");
        return false;
      }
    }
    return true;
  }

  void atoms() {
    std::pmr::set<std::string_view> names(memory_);
    for (std::size_t i = 0; i < p_.atoms.size(); ++i) {
      const auto& a = p_.atoms[i];
      const auto& at = p_.placements[i];
      if (!names.insert(a.name).second) broken(a.name, "the atom is listed twice");
      const auto padded = p_.padded ? a.weights + a.padding : a.weights;
      if (p_.loads[i] != padded)
        broken(a.name,
               "its load is " + std::to_string(p_.loads[i]) + " bytes, its tensors take " + std::to_string(padded));
      if (!usable(a.name, at.home, "home") || !usable(a.name, at.execution, "execution")) continue;
      const auto& home = p_.devices[at.home];
      const auto& runs = p_.devices[at.execution];
      if (!runs.executes())
        broken(a.name, "is executed on " + std::string(runs.id.view()) + ", but a disk stores, it does not execute");
      if (at.prompt != no_index && !usable(a.name, at.prompt, "prompt")) continue;
      if (at.prompt != no_index && !p_.devices[at.prompt].executes())
        broken(a.name, "runs its prompt on a disk, but a disk stores, it does not execute");
      // Certificates speak of no other plans.
      if (at.prompt != no_index && at.prompt != at.execution && runs.kind != device_kind::cpu)
        broken(a.name, "runs its prompt on another device than " + std::string(runs.id.view()) +
                           "; only what the CPU computes may be streamed for the prompt");
      if (at.streamed() && p_.devices[at.home].kind == device_kind::gpu)
        broken(a.name,
               "is streamed from " + std::string(home.id.view()) + "; only the CPU and the disk are streamed from");
      for (const auto to : {at.execution, at.runs(phase::prefill)})
        if (at.home != to && !connected(at.home, to))
          broken(a.name, "is streamed from " + std::string(home.id.view()) + " to " +
                             std::string(p_.devices[to].id.view()) + ", which no route connects");
      if (at.streamed() && p_.staging_slots == 0) broken(a.name, "is streamed, but the plan has no staging slots");
    }
  }

  bool usable(std::string_view atom, device_index d, std::string_view role) {
    if (d >= p_.devices.size()) {
      broken(atom, "has no " + std::string(role) + " device");
      return false;
    }
    for (const auto& u : p_.uses)
      if (u.device == d) return true;
    broken(atom, std::string(role) + " is " + std::string(p_.devices[d].id.view()) + ", which the plan may not use");
    return false;
  }

  /// Weights from the disk may pass through host memory.
  bool connected(device_index from, device_index to) const {
    const auto t = p_.topology();
    if (t.route(from, to) != nullptr) return true;
    const auto cpu = t.first(device_kind::cpu);
    return p_.devices[from].kind == device_kind::disk && cpu && t.route(from, *cpu) != nullptr &&
           t.route(*cpu, to) != nullptr;
  }

  void ties() {
    for (std::size_t i = 0; i < p_.ties.size(); ++i) {
      if (p_.ties[i].atom >= p_.atoms.size()) {
        broken("plan", "a tie refers to atom number " + std::to_string(p_.ties[i].atom) + ", which does not exist");
        continue;
      }
      if (p_.ties[i].size > p_.loads[p_.ties[i].atom])
        broken(p_.atoms[p_.ties[i].atom].name, "shares a storage that is larger than the atom itself");
      if (i > 0 && !(p_.ties[i - 1] < p_.ties[i])) broken("plan", "ties are not sorted by storage and atom");
    }
  }

  /// Own sums, by maps instead of the strategies' prefix sums.
  void devices() {
    using sums = std::pmr::map<device_index, unsigned __int128>;
    sums weights(memory_), charged(memory_), largest(memory_), state(memory_), workspace(memory_);
    for (std::size_t i = 0; i < p_.atoms.size(); ++i) {
      const auto& at = p_.placements[i];
      weights[at.home] += p_.atoms[i].weights;
      charged[at.home] += p_.loads[i];
      state[at.execution] += aligned(p_.atoms[i].state);
      for (const auto on : {at.execution, at.runs(phase::prefill)}) {
        if (at.home != on && largest[on] < p_.loads[i]) largest[on] = p_.loads[i];
        if (const auto w = aligned(p_.atoms[i].workspace); workspace[on] < w) workspace[on] = w;
      }
    }
    std::pmr::set<std::pair<std::uint32_t, device_index>> held(memory_);
    for (const auto& use : p_.ties) {
      const auto home = p_.placements[use.atom].home;
      if (held.emplace(use.storage, home).second) continue;
      const auto exact = use.size;
      charged[home] -= aligned(exact);
      weights[home] -= exact;
    }
    for (const auto& u : p_.uses) {
      const auto& d = p_.devices[u.device];
      const auto staging = largest[u.device] * p_.staging_slots;
      auto total = charged[u.device] + staging + state[u.device] + workspace[u.device];
      if (p_.padded && d.granularity > 1) total = (total + d.granularity - 1) / d.granularity * d.granularity;
      compare(d.id.view(), "weights", u.weights, weights[u.device]);
      compare(d.id.view(), "staging slots", u.staging, staging);
      compare(d.id.view(), "state", u.state, state[u.device]);
      compare(d.id.view(), "workspace", u.workspace, workspace[u.device]);
      compare(d.id.view(), "all it holds", u.used(), total);
      if (total > u.available())
        violate(errc::does_not_fit, d.id.view(),
                "holds " + std::to_string(static_cast<bytes>(total)) + " bytes, " +
                    std::to_string(static_cast<bytes>(total) - u.available()) +
                    " more than its budget minus reserve, " + std::to_string(u.available()),
                static_cast<bytes>(total), u.available());
    }
  }
  bytes aligned(bytes amount) const { return p_.padded ? round_up(amount, tensor_alignment_of_arenas) : amount; }

  /// The stated times must be those of the stated placement, and no bound may exceed what the plan reaches.
  void worth() {
    const planning_problem problem(p_, memory_);
    if (p_.priced != rates_known(problem.view())) {
      broken("plan", p_.priced ? "states times, but its devices have no rates or its atoms no work"
                               : "states no times although they can be computed");
      return;
    }
    if (!p_.priced) return;
    const auto now = price(problem.view(), problem.placements(), memory_);
    const std::array<std::pair<std::string_view, std::array<double, 2>>, 4> stated{
        {{"prefill", {p_.times.prefill, now.prefill}},
         {"decode", {p_.times.decode, now.decode}},
         {"period", {p_.times.period, now.period}},
         {"value", {p_.times.value, now.value}}}};
    for (const auto& [what, v] : stated)
      if (!close(v[0], v[1]))
        broken("plan", "states " + std::string(what) + " " + std::to_string(v[0]) + ", its placement gives " +
                           std::to_string(v[1]));
    const auto& c = p_.certificate;
    if (!c.present()) return;
    if (!close(c.value, now.value)) broken("plan", "the certificate speaks of another value than the plan has");
    if (c.bound > now.value + std::abs(now.value) * 1e-9)
      broken("plan", "the certificate's bound exceeds the plan's value");
  }
  static bool close(double a, double b) {
    return a == b || std::abs(a - b) <= 1e-9 * std::max(std::abs(a), std::abs(b));
  }

  void compare(std::string_view device, std::string_view what, bytes stated, unsigned __int128 computed) {
    if (stated == computed) return;
    broken(device, "states " + std::to_string(stated) + " bytes of " + std::string(what) + ", its atoms add up to " +
                       std::to_string(static_cast<bytes>(computed)));
  }

  const plan& p_;
  std::pmr::memory_resource* memory_;
  std::pmr::vector<error> found_;
};

}  // namespace

std::pmr::vector<error> check(const plan& p, std::pmr::memory_resource* memory) { return checker(p, memory).run(); }

}  // namespace berth
