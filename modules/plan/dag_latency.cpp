// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

module berth.plan;

import :dag_items;

namespace berth {
namespace {

/// Steps that timing moves may take in all.
constexpr double max_latency_work = 3e8;

/// A large graph gets fewer orders, since each takes time that grows with its square.
std::uint32_t latency_orders(const dag_items& items) {
  const double n = static_cast<double>(items.count()) + 1;
  const double affordable = max_latency_work / (n * n * (items.accelerators + 1));
  constexpr std::uint32_t most = dag_named_orders + 8;
  return affordable >= most ? most : std::max(1u, static_cast<std::uint32_t>(affordable));
}

/// Times splits of items. A block is an accelerator with all its items, or one item on a CPU.
class stopwatch {
 public:
  explicit stopwatch(const dag_items& items) : items_(items) {}

  /// Infinite if blocks wait for each other or an accelerator cannot hold its items. `device[i]` = accelerator, or
  /// `items.accelerators` for the CPUs.
  double time(const std::vector<dag_index>& device) {
    device_ = &device;
    if (!measure()) return dag_unreached;
    const auto k = items_.accelerators;
    inputs_.assign(k + items_.count(), 0);
    start_.assign(k + items_.count(), 0.0);
    for (dag_index i = 0; i < items_.count(); ++i)
      for (const auto j : items_.successors[i])
        if (block_of(i) != block_of(j)) ++inputs_[block_of(j)];
    ready_.clear();
    for (dag_index i = 0; i < items_.count(); ++i) make_ready(block_of(i));
    double latest = 0;
    std::size_t done = 0;
    for (std::size_t at = 0; at < ready_.size(); ++at) {
      const auto block = ready_[at];
      const double end = start_[block] + (block < k ? load_[block] : items_.cpu_time[block - k]);
      latest = std::max(latest, end);
      if (block >= k) {
        release(block - k, end);
        ++done;
      } else {
        for (const auto i : members_[block]) release(i, end);
        done += members_[block].size();
      }
    }
    return done == items_.count() ? latest : dag_unreached;
  }

 private:
  dag_index block_of(dag_index i) const {
    const auto d = (*device_)[i];
    return d < items_.accelerators ? d : items_.accelerators + i;
  }
  void make_ready(dag_index block) {
    if (inputs_[block] != 0) return;
    inputs_[block] = none;  // once
    ready_.push_back(block);
  }
  void release(dag_index i, double end) {
    for (const auto j : items_.successors[i]) {
      const auto to = block_of(j);
      if (to == block_of(i)) continue;
      start_[to] = std::max(start_[to], end);
      if (--inputs_[to] == 0) make_ready(to);
    }
  }

  /// Loads and members of the accelerators.
  bool measure() {
    const auto k = items_.accelerators;
    members_.assign(k, {});
    load_.assign(k, 0.0);
    std::vector<bytes> size(k);
    for (dag_index i = 0; i < items_.count(); ++i) {
      const auto d = (*device_)[i];
      if (d >= k) continue;
      members_[d].push_back(i);
      load_[d] += items_.accelerator_time[i];
      size[d] += items_.size[i];
      if (items_.on_accelerator[i] == 0 || size[d] > items_.accelerator_memory) return false;
    }
    for (std::size_t n = 0; n < items_.net_cost.size(); ++n) {
      payers_.clear();
      for (const auto i : items_.nets[n]) payers_.push_back((*device_)[i]);
      std::sort(payers_.begin(), payers_.end());
      payers_.erase(std::unique(payers_.begin(), payers_.end()), payers_.end());
      // Items on CPUs count as one device: a net between CPUs costs nothing, one that an accelerator shares does.
      if (payers_.size() > 1)
        for (const auto d : payers_)
          if (d < k) load_[d] += items_.net_cost[n];
    }
    return true;
  }

  const dag_items& items_;
  const std::vector<dag_index>* device_ = nullptr;
  std::vector<dag_index> inputs_, ready_, payers_;
  std::vector<double> start_, load_;
  std::vector<std::vector<dag_index>> members_;
};

/// Cuts one order into accelerators and single items on CPUs, one after the other: the least sum. An upper bound of
/// the latency, since CPU items that do not wait for each other really run at the same time.
std::vector<dag_index> cut_for_sum(const dag_items& items, const std::vector<dag_index>& order) {
  const std::size_t n = order.size(), row = items.accelerators + 1;
  std::vector<double> value((n + 1) * row, dag_unreached);
  std::vector<dag_index> from(value.size(), none);  // begin of the accelerator's interval, none: a CPU item
  value[0] = 0;
  for (dag_index begin = 0; begin < n; ++begin) {
    for (std::size_t a = 0; a < row; ++a) {
      const double alone = value[begin * row + a] + items.cpu_time[order[begin]];
      if (alone < value[(begin + 1) * row + a]) {
        value[(begin + 1) * row + a] = alone;
        from[(begin + 1) * row + a] = none;
      }
    }
    dag_set set(items);
    for (auto end = begin; end < n; ++end) {
      set.add(order[end]);
      if (set.accelerator_bound() == dag_unreached) break;
      for (std::size_t a = 0; a + 1 < row; ++a) {
        const double sum = value[begin * row + a] + set.accelerator_load();
        if (sum >= value[(end + 1) * row + a + 1]) continue;
        value[(end + 1) * row + a + 1] = sum;
        from[(end + 1) * row + a + 1] = begin;
      }
    }
  }
  std::vector<dag_index> device(n, items.accelerators);
  auto a = static_cast<std::size_t>(std::min_element(value.end() - static_cast<std::ptrdiff_t>(row), value.end()) -
                                    (value.end() - static_cast<std::ptrdiff_t>(row)));
  for (auto end = static_cast<dag_index>(n); end > 0;) {
    const auto begin = from[end * row + a];
    if (begin == none) {
      --end;
      continue;
    }
    --a;
    for (auto i = begin; i < end; ++i) device[order[i]] = static_cast<dag_index>(a);
    end = begin;
  }
  return device;
}

/// Moves items, alone or with their neighbours on the same device, while the latency falls.
class latency_climber {
 public:
  latency_climber(const dag_items& items, std::vector<dag_index>& device)
      : items_(items), device_(device), watch_(items), value_(watch_.time(device)) {}

  double run() {
    const double cost = static_cast<double>(items_.count() + 1) * 8;
    for (bool moved = true; moved;) {
      moved = false;
      for (dag_index i = 0; i < items_.count(); ++i)
        for (dag_index d = 0; d <= items_.accelerators; ++d) {
          if ((work_ += cost) > max_latency_work) return value_;
          moved = try_move(i, d) || moved;
        }
    }
    return value_;
  }

 private:
  /// The item alone, then with its successors, then with its predecessors that are on the same device.
  bool try_move(dag_index i, dag_index to) {
    const auto from = device_[i];
    if (from == to || !touches(i, to)) return false;
    for (const int with : {0, 1, 2}) {
      block_.assign(1, i);
      if (with == 1) collect(items_.successors[i], from);
      if (with == 2) collect(items_.predecessors[i], from);
      if (with > 0 && block_.size() == 1) continue;
      for (const auto j : block_) device_[j] = to;
      const double value = watch_.time(device_);
      if (value < value_ * (1 - 1e-12)) {
        value_ = value;
        return true;
      }
      for (const auto j : block_) device_[j] = from;
    }
    return false;
  }
  void collect(std::span<const dag_index> row, dag_index from) {
    for (const auto j : row)
      if (device_[j] == from) block_.push_back(j);
  }
  /// Only a device with a neighbour of the item, the CPUs, or an empty accelerator is worth a try.
  bool touches(dag_index i, dag_index to) const {
    if (to == items_.accelerators) return true;
    for (const auto j : items_.successors[i])
      if (device_[j] == to) return true;
    for (const auto j : items_.predecessors[i])
      if (device_[j] == to) return true;
    return std::find(device_.begin(), device_.end(), to) == device_.end();
  }

  const dag_items& items_;
  std::vector<dag_index>& device_;
  stopwatch watch_;
  double value_, work_ = 0;
  std::vector<dag_index> block_;
};

}  // namespace

namespace {

result<done> check_inference(const dag_problem& p) {
  for (const auto& n : p.nodes)
    if (n.backward) return fail(errc::unsupported, "latency", "is defined for inference graphs, not for training");
  return done{};
}

}  // namespace

result<double> latency_of(const dag_problem& p, const std::vector<std::uint32_t>& device) {
  if (auto inference = check_inference(p); !inference) return inference.propagate();
  auto all = p;
  for (const auto d : device) all.cpus = std::max(all.cpus, d >= p.accelerators ? d - p.accelerators + 1 : 0);
  if (auto loads = loads_of(all, device); !loads) return loads.propagate();
  auto timed = plain_items(p);
  timed.accelerator_memory = max_bytes;
  std::vector<dag_index> of_item;
  for (const auto d : device) of_item.push_back(std::min(d, p.accelerators));
  const double latency = stopwatch(timed).time(of_item);
  if (latency == dag_unreached)
    return fail(errc::invalid_plan, "split", "accelerators and nodes on CPUs wait for each other's outputs");
  return latency;
}

namespace {

/// The best split so far, timed node by node: items of several nodes look slower on CPUs than they are.
class latency_search {
 public:
  explicit latency_search(const dag_problem& p) : p_(p) { best_.latency = dag_unreached; }

  void keep(std::vector<std::uint32_t> device) {
    for (auto& d : device) d = std::min(d, p_.accelerators);
    const auto timed = latency_of(p_, device);
    if (timed && *timed < best_.latency) best_ = {std::move(device), *timed};
  }

  /// The least sums over several orders, the best of them climbed from, and the same from the best split so far.
  void run(const dag_items& items) {
    std::vector<std::pair<double, std::vector<dag_index>>> found;
    for (std::uint32_t kind = 0; kind < latency_orders(items); ++kind) {
      auto device = cut_for_sum(items, topological_order(items, kind));
      const double value = stopwatch(items).time(device);
      found.emplace_back(value, std::move(device));
    }
    std::sort(found.begin(), found.end());
    found.resize(std::min<std::size_t>(found.size(), 3));
    if (auto known = of_items(items)) found.emplace_back(0, *std::move(known));
    for (auto& [value, device] : found) {
      latency_climber(items, device).run();
      std::vector<std::uint32_t> of_node;
      for (const auto item : items.item_of_node)
        of_node.push_back(device[item] < items.accelerators ? device[item] : p_.accelerators);
      keep(std::move(of_node));
    }
  }

  const dag_latency_split& best() const { return best_; }

 private:
  /// The best split per item; nothing if it takes an item apart or needs more accelerators than there are items.
  std::optional<std::vector<dag_index>> of_items(const dag_items& items) const {
    if (best_.device.empty() || items.accelerators < p_.accelerators) return std::nullopt;
    std::vector<dag_index> out(items.count(), none);
    for (std::size_t n = 0; n < best_.device.size(); ++n) {
      auto& device = out[items.item_of_node[n]];
      if (device != none && device != best_.device[n]) return std::nullopt;
      device = best_.device[n];
    }
    return out;
  }

  const dag_problem& p_;
  dag_latency_split best_;
};

}  // namespace

result<dag_latency_split> split_for_latency(const dag_problem& p) {
  if (auto valid = validate(p); !valid) return valid.propagate();
  if (auto inference = check_inference(p); !inference) return inference.propagate();
  latency_search search(p);
  // Never worse than the split for throughput.
  if (auto pipeline = split_dag(p)) search.keep(pipeline->device);
  for (const bool merge_idle : {true, false}) {
    const auto items = items_of(p, merge_idle);
    if ((items.accelerators + std::size_t{1}) * (items.count() + 1) > max_dag_cells)
      return fail(errc::capacity, "devices", "too many nodes for so many accelerators");
    search.run(items);
  }
  return search.best();
}

}  // namespace berth
