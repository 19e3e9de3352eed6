// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

module berth.plan;

import :dag_items;

namespace berth {
namespace {

/// The dynamic program over the prefixes of one order: `value` of (a accelerators and c CPUs used, prefix) is the
/// smallest maximum load. Communication makes loads fall as well as rise with the length of an interval, so the
/// farthest prefix does not dominate and every prefix is kept.
class chain_table {
 public:
  chain_table(const dag_items& items, const std::vector<dag_index>& order, double limit)
      : items_(items),
        order_(order),
        limit_(limit),
        states_(static_cast<std::size_t>(items.accelerators + 1) * (items.cpus + 1)),
        value_(states_ * (order.size() + 1), dag_unreached),
        from_(value_.size()) {}

  dag_stages solve() {
    value_[0] = 0;
    for (dag_index begin = 0; begin < order_.size(); ++begin) extend(begin);
    return best();
  }

  std::uint64_t work = 0;  ///< steps taken

 private:
  std::size_t cell(std::size_t state, std::size_t prefix) const { return prefix * states_ + state; }

  /// All intervals that start at `begin`, as the next stage of everything that ends there.
  void extend(dag_index begin) {
    alive_.clear();
    for (std::size_t s = 0; s < states_; ++s)
      if (value_[cell(s, begin)] < limit_ && !dominated(s, begin)) alive_.push_back(s);
    if (alive_.empty()) return;
    dag_set set(items_);
    for (auto end = begin; end < order_.size(); ++end) {
      set.add(order_[end]);
      work += 4 + items_.nets_of[order_[end]].size() + alive_.size();
      if (set.accelerator_bound() >= limit_ && (set.cpu_load() >= limit_ || items_.cpus == 0)) return;
      const double on_accelerator = set.accelerator_load(), on_cpu = set.cpu_load();
      for (const auto s : alive_) {
        if (s / (items_.cpus + 1) < items_.accelerators) offer(s, false, begin, end + 1, on_accelerator);
        if (s % (items_.cpus + 1) < items_.cpus) offer(s, true, begin, end + 1, on_cpu);
      }
    }
  }

  /// True if one device less covers the same prefix no worse.
  bool dominated(std::size_t state, std::size_t prefix) const {
    const std::size_t row = items_.cpus + 1;
    const double value = value_[cell(state, prefix)];
    return (state >= row && value_[cell(state - row, prefix)] <= value) ||
           (state % row > 0 && value_[cell(state - 1, prefix)] <= value);
  }

  void offer(std::size_t state, bool cpu, dag_index begin, dag_index end, double load) {
    const double value = std::max(value_[cell(state, begin)], load);
    const auto to = cell(state + (cpu ? 1 : items_.cpus + 1), end);
    if (value >= value_[to] || value >= limit_) return;
    value_[to] = value;
    from_[to] = {begin, cpu};
  }

  /// The state with the smallest maximum for the whole order, walked back.
  dag_stages best() const {
    dag_stages out;
    std::size_t state = 0;
    for (std::size_t s = 0; s < states_; ++s)
      if (value_[cell(s, order_.size())] < out.maximum) {
        out.maximum = value_[cell(s, order_.size())];
        state = s;
      }
    if (out.maximum == dag_unreached) return out;
    out.stage.resize(order_.size());
    dag_index stage = 0;
    for (auto end = static_cast<dag_index>(order_.size()); end > 0; ++stage) {
      const auto& step = from_[cell(state, end)];
      for (auto i = step.begin; i < end; ++i) out.stage[order_[i]] = stage;
      out.is_cpu.push_back(step.cpu ? 1 : 0);
      state -= step.cpu ? 1 : items_.cpus + 1;
      end = step.begin;
    }
    std::reverse(out.is_cpu.begin(), out.is_cpu.end());
    for (auto& s : out.stage) s = stage - 1 - s;
    return out;
  }

  struct origin {
    dag_index begin = 0;
    bool cpu = false;
  };
  const dag_items& items_;
  const std::vector<dag_index>& order_;
  double limit_;
  std::size_t states_;
  std::vector<double> value_;
  std::vector<origin> from_;
  std::vector<std::size_t> alive_;
};

}  // namespace

dag_stages cut_order(const dag_items& items, const std::vector<dag_index>& order, double limit, std::uint64_t& work) {
  chain_table table(items, order, limit);
  auto out = table.solve();
  work += table.work;
  return out;
}

}  // namespace berth
