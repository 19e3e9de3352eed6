// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

export module berth.plan:cycle;

export namespace berth {

/// "Event `to` happens at least `weight` after event `from` of `tokens` rounds before."
struct event_arc {
  std::uint32_t from = 0;
  std::uint32_t to = 0;
  double weight = 0;  ///< seconds or any other unit; >= 0 and finite
  std::uint32_t tokens = 0;
};

/// Cells of scratch for `max_cycle_ratio`.
constexpr std::size_t cycle_values(std::size_t events) { return 2 * events; }
constexpr std::size_t cycle_marks(std::size_t events, std::size_t arcs) { return 5 * events + 1 + arcs; }

}  // namespace berth

namespace berth::detail {

/// Howard's policy iteration for the maximum cycle ratio (Cochet-Terrasson, Cohen, Gaubert, McGettrick and Quadrat
/// 1998; the form for graphs that need not be strongly connected). A policy is one arc out of every event; it leads
/// every event to one cycle, whose ratio and whose distances are the values that the next policy improves on.
class howard {
 public:
  constexpr howard(std::span<const event_arc> arcs, std::size_t events, std::span<double> values,
                   std::span<std::uint32_t> marks)
      : arcs_(arcs), n_(static_cast<std::uint32_t>(events)) {
    ratio_ = values.first(events);
    distance_ = values.subspan(events, events);
    first_ = marks.first(events + 1);
    policy_ = marks.subspan(events + 1, events);
    mark_ = marks.subspan(2 * events + 1, events);
    path_ = marks.subspan(3 * events + 1, events);
    degree_ = marks.subspan(4 * events + 1, events);
    by_head_ = marks.subspan(5 * events + 1, arcs.size());
  }

  constexpr double solve() {
    sort_by_head();
    if (!drop(false)) return std::numeric_limits<double>::infinity();
    if (drop(true)) return 0;
    choose_heaviest();
    for (auto& d : distance_) d = 0;
    double best = 0;
    for (std::uint32_t round = 0; round < max_rounds; ++round) {
      evaluate();
      best = 0;
      for (std::uint32_t v = 0; v < n_; ++v)
        if (degree_[v] != 0 && ratio_[v] > best) best = ratio_[v];
      if (!improve_ratio() && !improve_distance(best)) break;
    }
    return best;
  }

 private:
  /// Seen in practice: below 20 for hundreds of events. Policies improve strictly, up to rounding; the bound is for
  /// that.
  static constexpr std::uint32_t max_rounds = 1000;
  static constexpr std::uint32_t no_arc = std::numeric_limits<std::uint32_t>::max();

  /// Counting sort of the arcs by `to`, stable.
  constexpr void sort_by_head() {
    for (auto& f : first_) f = 0;
    for (const auto& a : arcs_) ++first_[a.to];
    std::uint32_t sum = 0;
    for (auto& f : first_) {
      const auto count = f;
      f = sum;
      sum += count;
    }
    for (std::uint32_t a = 0; a < arcs_.size(); ++a) by_head_[first_[arcs_[a].to]++] = a;
    for (std::uint32_t v = n_; v > 0; --v) first_[v] = first_[v - 1];
    first_[0] = 0;
  }

  /// Takes away events without an arc out, until none is left; with `all` false only arcs without tokens count.
  /// True if nothing remains, that is, if those arcs form no cycle. `degree_` keeps the arcs out that remain.
  constexpr bool drop(bool all) {
    for (auto& d : degree_) d = 0;
    for (const auto& a : arcs_)
      if (all || a.tokens == 0) ++degree_[a.from];
    std::uint32_t end = 0;
    for (std::uint32_t v = 0; v < n_; ++v)
      if (degree_[v] == 0) path_[end++] = v;
    for (std::uint32_t done = 0; done < end; ++done)
      for (auto k = first_[path_[done]]; k < first_[path_[done] + 1]; ++k) {
        const auto& a = arcs_[by_head_[k]];
        if ((all || a.tokens == 0) && --degree_[a.from] == 0) path_[end++] = a.from;
      }
    return end == n_;
  }

  constexpr void choose_heaviest() {
    for (auto& p : policy_) p = no_arc;
    for (std::uint32_t a = 0; a < arcs_.size(); ++a) {
      const auto& arc = arcs_[a];
      if (degree_[arc.to] == 0) continue;
      auto& p = policy_[arc.from];
      if (p == no_arc || arc.weight > arcs_[p].weight) p = a;
    }
  }

  constexpr void evaluate() {
    for (auto& m : mark_) m = 0;
    for (std::uint32_t v = 0; v < n_; ++v) {
      if (degree_[v] == 0 || mark_[v] != 0) continue;
      std::uint32_t length = 0, at = v;
      for (; mark_[at] == 0; at = arcs_[policy_[at]].to) {
        mark_[at] = v + 1;
        path_[length++] = at;
      }
      if (mark_[at] == v + 1) evaluate_cycle(at);
      while (length > 0) {
        const auto u = path_[--length];
        const auto& a = arcs_[policy_[u]];
        if (u == at && mark_[at] == settled) continue;  // the root of a new cycle has its values already
        ratio_[u] = ratio_[a.to];
        distance_[u] = distance_[a.to] + (a.weight - ratio_[u] * a.tokens);
      }
      mark_[at] = v + 1;
    }
  }
  static constexpr std::uint32_t settled = std::numeric_limits<std::uint32_t>::max();

  /// Ratio of the policy's cycle through `root`, summed afresh each time: no error builds up over the rounds.
  /// The root keeps its distance: with a new origin each time, cycles of one ratio could swap events for ever.
  constexpr void evaluate_cycle(std::uint32_t root) {
    double weight = 0, tokens = 0;
    auto at = root;
    do {
      const auto& a = arcs_[policy_[at]];
      weight += a.weight;
      tokens += a.tokens;
      at = a.to;
    } while (at != root);
    ratio_[root] = weight / tokens;
    mark_[root] = settled;
  }

  /// First to cycles of a larger ratio.
  constexpr bool improve_ratio() {
    bool changed = false;
    for (std::uint32_t a = 0; a < arcs_.size(); ++a) {
      const auto& arc = arcs_[a];
      if (degree_[arc.to] == 0 || !(ratio_[arc.to] > ratio_[arcs_[policy_[arc.from]].to])) continue;
      policy_[arc.from] = a;
      changed = true;
    }
    return changed;
  }

  /// Then to longer distances at the same ratio. Gains below a few roundings are none.
  constexpr bool improve_distance(double best) {
    bool changed = false;
    double scale = best;
    for (std::uint32_t v = 0; v < n_; ++v)
      if (degree_[v] != 0) scale = magnitude(distance_[v]) > scale ? magnitude(distance_[v]) : scale;
    const double least = 4 * std::numeric_limits<double>::epsilon() * scale;
    for (std::uint32_t a = 0; a < arcs_.size(); ++a) {
      const auto& arc = arcs_[a];
      if (degree_[arc.to] == 0 || ratio_[arc.to] < ratio_[arc.from]) continue;
      const double through = distance_[arc.to] + (arc.weight - ratio_[arc.from] * arc.tokens);
      if (!(through > distance_[arc.from] + least)) continue;
      distance_[arc.from] = through;
      policy_[arc.from] = a;
      changed = true;
    }
    return changed;
  }
  static constexpr double magnitude(double x) { return x < 0 ? -x : x; }

  std::span<const event_arc> arcs_;
  std::uint32_t n_;
  std::span<double> ratio_, distance_;
  std::span<std::uint32_t> first_, policy_, mark_, path_, degree_, by_head_;
};

}  // namespace berth::detail

export namespace berth {

/// Maximum over all cycles of sum of weights / sum of tokens: the steady-state period of a cyclic schedule (Baccelli et
/// al. 1992). 0 without a cycle, infinity if a cycle has no token (a deadlock). Any graph; the arcs may be in any
/// order, and the same arcs give the same bits. Preconditions: from, to < events; the scratch sizes above. The result
/// is the ratio of a cycle of the graph, summed in doubles; a cycle better by less than about 1e-15 x arcs, relative,
/// may be missed. O(arcs) per round of Howard's iteration, few rounds in practice.
constexpr double max_cycle_ratio(std::span<const event_arc> arcs, std::size_t events, std::span<double> values,
                                 std::span<std::uint32_t> marks) {
  return detail::howard(arcs, events, values, marks).solve();
}

}  // namespace berth
