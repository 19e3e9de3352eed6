// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.plan;

import :dag_items;

namespace berth {

double cpu_share(const dag_items& items, std::uint32_t cpus, double limit) {
  std::vector<dag_index> order(items.count());
  std::iota(order.begin(), order.end(), dag_index{0});
  // Most accelerator time per CPU time first; what takes the CPU no time comes before everything.
  std::sort(order.begin(), order.end(), [&](dag_index a, dag_index b) {
    const double x = items.accelerator_time[a] * items.cpu_time[b], y = items.accelerator_time[b] * items.cpu_time[a];
    return x != y ? x > y : a < b;
  });
  double room = cpus == 0 ? 0 : limit * cpus, share = 0;
  if (cpus == 0) return 0;
  for (const auto i : order) {
    if (items.cpu_time[i] > room) return share + items.accelerator_time[i] * (room / items.cpu_time[i]);
    room -= items.cpu_time[i];
    share += items.accelerator_time[i];
  }
  return share;
}

double work_bound(const dag_items& items) {
  double largest = 0, total = 0, cpu_total = 0;
  for (dag_index i = 0; i < items.count(); ++i) {
    const bool accelerator = items.accelerators > 0 && items.on_accelerator[i] != 0;
    double least = accelerator ? items.accelerator_time[i] : items.cpu_time[i];
    if (items.cpus > 0) least = std::min(least, items.cpu_time[i]);
    largest = std::max(largest, least);
    total += items.accelerator_time[i];
    cpu_total += items.cpu_time[i];
  }
  if (items.accelerators == 0) return std::max(largest, cpu_total / std::max(1u, items.cpus));
  // Smallest limit at which accelerators and CPUs together can do the work; the low end never can.
  double low = 0, high = total / items.accelerators;
  for (int step = 0; step < 60 && low < high; ++step) {
    const double middle = low + (high - low) / 2;
    if (middle * items.accelerators + cpu_share(items, items.cpus, middle) >= total)
      high = middle;
    else
      low = middle;
  }
  return std::max(largest, low);
}

namespace {

/// All downward closed sets ("ideals"), numbered by size, as bit rows in one array, and which item leads to which.
class ideal_lattice {
 public:
  struct step {
    dag_index item, ideal;
  };

  /// False if there are more than `most`.
  bool build(const dag_items& items, std::size_t most) {
    words_ = (items.count() + 63) / 64;
    bits_.assign(words_, 0);
    std::unordered_set<std::size_t, hash, equal> known(16, hash{this}, equal{this});
    known.insert(0);
    std::vector<step> origin(1);  // of each ideal: an ideal that leads to it, and by which item
    start_.push_back(0);
    for (std::size_t at = 0; at < origin.size(); ++at) {
      find_ready(items, at, origin[at]);
      for (const auto i : ready_) {
        append(at, i);
        const auto [place, is_new] = known.insert(origin.size());
        if (is_new)
          origin.push_back({i, static_cast<dag_index>(at)});
        else
          bits_.resize(bits_.size() - words_);
        if (origin.size() > most) return false;
        steps_.push_back({i, static_cast<dag_index>(*place)});
      }
      start_.push_back(steps_.size());
    }
    return true;
  }

  std::size_t count() const { return start_.size() - 1; }
  std::span<const step> steps(std::size_t ideal) const {
    return std::span(steps_).subspan(start_[ideal], start_[ideal + 1] - start_[ideal]);
  }
  bool contains(std::size_t ideal, dag_index i) const { return (bits_[ideal * words_ + i / 64] >> (i % 64) & 1) != 0; }

 private:
  struct hash {
    const ideal_lattice* lattice;
    std::size_t operator()(std::size_t ideal) const {
      std::uint64_t h = 0;
      for (std::size_t w = 0; w < lattice->words_; ++w)
        h = (std::rotl(h, 23) ^ lattice->bits_[ideal * lattice->words_ + w]) * 0x9e3779b97f4a7c15u;
      return h ^ (h >> 32);
    }
  };
  struct equal {
    const ideal_lattice* lattice;
    bool operator()(std::size_t a, std::size_t b) const {
      const auto* row = lattice->bits_.data();
      const auto w = lattice->words_;
      return std::equal(row + a * w, row + (a + 1) * w, row + b * w);
    }
  };
  /// Items whose predecessors are all in the ideal: those of the ideal that led here, and what the new item set free.
  void find_ready(const dag_items& items, std::size_t ideal, step from) {
    ready_.clear();
    const auto consider = [&](dag_index i) {
      for (const auto j : items.predecessors[i])
        if (!contains(ideal, j)) return;
      ready_.push_back(i);
    };
    if (ideal == 0) {
      for (dag_index i = 0; i < items.count(); ++i) consider(i);
      return;
    }
    for (const auto& s : steps(from.ideal))
      if (s.item != from.item) ready_.push_back(s.item);
    for (const auto i : items.successors[from.item]) consider(i);
  }
  void append(std::size_t ideal, dag_index i) {
    const auto end = bits_.size();
    bits_.resize(end + words_);
    std::copy_n(bits_.begin() + static_cast<std::ptrdiff_t>(ideal * words_), words_,
                bits_.begin() + static_cast<std::ptrdiff_t>(end));
    bits_[end + i / 64] |= std::uint64_t{1} << (i % 64);
  }

  std::size_t words_ = 0;
  std::vector<std::uint64_t> bits_;
  std::vector<std::size_t> start_;
  std::vector<step> steps_;
  std::vector<dag_index> ready_;
};

/// value(a accelerators and c CPUs used, ideal) = smallest maximum load. Ideals are taken by size, and from each all
/// larger ones are visited depth first, one item at a time, as far as a stage below the limit can reach.
class ideal_program {
 public:
  ideal_program(const dag_items& items, const ideal_lattice& lattice, double limit, std::uint64_t& pairs)
      : items_(items),
        lattice_(lattice),
        limit_(limit),
        pairs_(pairs),
        states_(static_cast<std::size_t>(items.accelerators + 1) * (items.cpus + 1)),
        value_(states_ * lattice.count(), dag_unreached),
        from_(value_.size()),
        seen_(lattice.count()),
        set_(items) {
    for (std::size_t s = 0; s < states_; ++s)
      room_.push_back((items.accelerators - static_cast<double>(s / (items.cpus + 1))) * limit +
                      cpu_share(items, items.cpus - static_cast<std::uint32_t>(s % (items.cpus + 1)), limit));
    measure_rest();
  }

  dag_search solve() {
    value_[0] = 0;
    dag_search out;
    out.complete = true;
    for (std::size_t ideal = 0; ideal + 1 < lattice_.count() && out.complete; ++ideal) out.complete = extend(ideal);
    out.best = best();
    return out;
  }

 private:
  struct origin {
    dag_index ideal = 0;
    bool cpu = false;
  };
  struct frame {
    dag_index ideal, item;
    std::size_t step;
    dag_set::sums before;
  };

  std::size_t cell(std::size_t state, std::size_t ideal) const { return ideal * states_ + state; }
  /// False if the devices not used in `state` cannot do what is not in the ideal.
  bool can_finish(std::size_t state, std::size_t ideal) const { return rest_[ideal] <= room_[state] * (1 + 1e-12); }

  /// True if one device less reaches the same ideal no worse.
  bool dominated(std::size_t state, std::size_t ideal) const {
    const std::size_t row = items_.cpus + 1;
    const double value = value_[cell(state, ideal)];
    return (state >= row && value_[cell(state - row, ideal)] <= value) ||
           (state % row > 0 && value_[cell(state - 1, ideal)] <= value);
  }

  void measure_rest() {
    double total = 0;
    for (const auto t : items_.accelerator_time) total += t;
    rest_.assign(lattice_.count(), dag_unreached);
    rest_[0] = total;
    for (std::size_t ideal = 0; ideal < lattice_.count(); ++ideal)
      for (const auto& s : lattice_.steps(ideal))
        if (rest_[s.ideal] == dag_unreached) rest_[s.ideal] = rest_[ideal] - items_.accelerator_time[s.item];
  }

  bool reachable() const {
    return (may_add_accelerator_ && set_.accelerator_bound() < limit_) || (may_add_cpu_ && set_.cpu_load() < limit_);
  }

  /// False when the budget of pairs is used up.
  bool extend(std::size_t begin) {
    alive_.clear();
    may_add_accelerator_ = may_add_cpu_ = false;
    for (std::size_t s = 0; s < states_; ++s) {
      if (value_[cell(s, begin)] >= limit_ || !can_finish(s, begin) || dominated(s, begin)) continue;
      alive_.push_back(s);
      may_add_accelerator_ = may_add_accelerator_ || s / (items_.cpus + 1) < items_.accelerators;
      may_add_cpu_ = may_add_cpu_ || s % (items_.cpus + 1) < items_.cpus;
    }
    if (alive_.empty()) return true;
    stack_.clear();
    stack_.push_back({static_cast<dag_index>(begin), none, 0, {}});
    while (!stack_.empty()) {
      auto& top = stack_.back();
      const auto steps = lattice_.steps(top.ideal);
      if (top.step == steps.size()) {
        if (top.item != none) set_.undo(top.item, top.before);
        stack_.pop_back();
        continue;
      }
      const auto next = steps[top.step++];
      if (seen_[next.ideal] == begin + 1) continue;
      seen_[next.ideal] = static_cast<dag_index>(begin + 1);
      const auto before = set_.now();
      set_.add(next.item);
      if (!reachable()) {
        set_.undo(next.item, before);
        continue;
      }
      if (pairs_ == 0) return false;
      --pairs_;
      offer(begin, next.ideal);
      stack_.push_back({next.ideal, next.item, 0, before});
    }
    return true;
  }

  void offer(std::size_t begin, std::size_t end) {
    const double on_accelerator = set_.accelerator_load(), on_cpu = set_.cpu_load();
    for (const auto s : alive_) {
      const double so_far = value_[cell(s, begin)];
      if (s / (items_.cpus + 1) < items_.accelerators)
        offer(begin, end, s + items_.cpus + 1, false, std::max(so_far, on_accelerator));
      if (s % (items_.cpus + 1) < items_.cpus) offer(begin, end, s + 1, true, std::max(so_far, on_cpu));
    }
  }
  void offer(std::size_t begin, std::size_t end, std::size_t state, bool cpu, double value) {
    const auto to = cell(state, end);
    if (value >= limit_ || value >= value_[to]) return;
    value_[to] = value;
    from_[to] = {static_cast<dag_index>(begin), cpu};
  }

  dag_stages best() const {
    dag_stages out;
    const auto last = lattice_.count() - 1;
    std::size_t state = 0;
    for (std::size_t s = 0; s < states_; ++s)
      if (value_[cell(s, last)] < out.maximum) {
        out.maximum = value_[cell(s, last)];
        state = s;
      }
    if (out.maximum == dag_unreached) return out;
    out.stage.resize(items_.count());
    dag_index stage = 0;
    for (auto ideal = last; ideal != 0; ++stage) {
      const auto& step = from_[cell(state, ideal)];
      for (dag_index i = 0; i < items_.count(); ++i)
        if (lattice_.contains(ideal, i) && !lattice_.contains(step.ideal, i)) out.stage[i] = stage;
      out.is_cpu.push_back(step.cpu ? 1 : 0);
      state -= step.cpu ? 1 : items_.cpus + 1;
      ideal = step.ideal;
    }
    std::reverse(out.is_cpu.begin(), out.is_cpu.end());
    for (auto& s : out.stage) s = stage - 1 - s;
    return out;
  }

  const dag_items& items_;
  const ideal_lattice& lattice_;
  double limit_;
  std::uint64_t& pairs_;
  std::size_t states_;
  std::vector<double> value_;
  std::vector<origin> from_;
  std::vector<dag_index> seen_;
  dag_set set_;
  std::vector<double> room_, rest_;
  std::vector<std::size_t> alive_;
  std::vector<frame> stack_;
  bool may_add_accelerator_ = false, may_add_cpu_ = false;
};

}  // namespace

bool has_few_ideals(const dag_items& items, std::size_t most) {
  ideal_lattice lattice;
  return lattice.build(items, most);
}

dag_search search_ideals(const dag_items& items, double limit, std::size_t max_ideals, std::uint64_t& pairs) {
  ideal_lattice lattice;
  const auto states = static_cast<std::size_t>(items.accelerators + 1) * (items.cpus + 1);
  const auto most = std::min<std::size_t>(max_ideals, max_dag_cells / states);
  if (most < 2 || pairs == 0 || !lattice.build(items, most)) return {};
  return ideal_program(items, lattice, limit, pairs).solve();
}

}  // namespace berth
