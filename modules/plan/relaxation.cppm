// SPDX-License-Identifier: Apache-2.0
// Internal partition: the relaxations behind `bound_of`.
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <vector>

module berth.plan:relaxation;

import berth.model;
import berth.topology;
import :problem;
import :cost;
import :certificate;

namespace berth {

inline constexpr std::size_t max_groups = 32;
inline constexpr std::size_t no_group = ~std::size_t{0};

/// Seats that need not be told apart; a disk is a group that only stores.
struct seat_group {
  seat_index first = 0;
  seat_index second = 0;  ///< another one, if there are two
  std::size_t copies = 0;
  double limit = 0;
  bool executes = true;
};

/// Which plans a bound speaks of: those that run on exactly (or at most) so many copies of each group, and whose
/// largest streamed atom lies between two sizes (or that stream nothing).
struct device_set {
  std::array<std::size_t, max_groups> used{};
  bool exactly = true;
  bool streams = false;
  double largest_low = 0, largest_high = 0;
};

/// The problem as bounds see it: groups of devices, times per atom and group, copies, messages.
struct relaxed_machine {
  relaxed_machine(const problem_view& p, std::pmr::memory_resource* memory);

  problem_view p;
  bool complete = true;  ///< false: there are more kinds of devices than this can tell apart
  std::pmr::vector<seat_group> groups;
  std::size_t cpu = no_group, disk = no_group;
  std::pmr::vector<double> weights;  ///< per atom; a shared storage counts with its first user only
  std::pmr::vector<double> states;
  std::pmr::vector<double> times;               ///< [phase][group][atom]
  std::pmr::vector<double> copies;              ///< [store][group][atom]: s from the CPU's or the disk's memory
  std::pmr::vector<double> least_message;       ///< [from][to]: the cheapest of the chain, as the objective counts it
  double dram = 0;                              ///< bytes/s that host memory serves, 0: not shared
  std::array<bool, max_groups> crosses_dram{};  ///< copies from the CPU to this group cross host memory
  /// Atoms that cost the same everywhere are one kind: the first atom of each kind, and how many it has.
  std::pmr::vector<std::uint32_t> first_of_kind, kind_size;
  /// Whole atoms per device: of the atoms that take `size` bytes or more when resident, of which there are `atoms`, a
  /// device of group g holds at most `most[g]`. For each size of a kind, largest first; a few of them if there are
  /// many.
  struct size_class {
    double size = 0;
    std::size_t atoms = 0;
    std::array<double, max_groups> most{};
  };
  std::pmr::vector<size_class> classes;

  std::size_t atoms() const { return weights.size(); }
  /// Bytes of a resident atom; shared storages are counted once in the whole chain, so this may be too little.
  double resident(std::size_t i) const { return weights[i] + states[i]; }
  bool throughput() const { return p.workload.objective == objective::throughput; }
  double weight(phase ph) const { return weight_of(p.workload, ph); }
  double time(phase ph, std::size_t g, std::size_t i) const {
    return times[(static_cast<std::size_t>(ph) * groups.size() + g) * atoms() + i];
  }
  double copy(std::size_t store, std::size_t g, std::size_t i) const {
    return copies[(store * groups.size() + g) * atoms() + i];
  }
  /// Bound from work and messages alone; `forever` if the set cannot hold the model or reach all its devices.
  lower_bound quick_bound(const device_set& set) const;
  /// Throughput: the least period at which every kind of atom can be shared out in whole atoms.
  double whole_atoms(const device_set& set) const;
  bool same_kind(std::size_t i, std::size_t j) const;
  void make_classes();
  /// What the messages of a plan that visits every device of the set cost at least.
  double visiting_cost(const device_set& set) const;
  /// Weighted time of atom i on its fastest group of the set.
  double least_time(const device_set& set, std::size_t i) const;
  bool could_hold(const device_set& set) const;
};

/// Lagrangian relaxation for one set of devices.
class relaxation {
 public:
  relaxation(const relaxed_machine& m, const device_set& set, std::pmr::memory_resource* memory);
  /// Improves `start` by subgradient steps until it reaches `target` or `budget` priced options are used up.
  lower_bound run(lower_bound start, double target, double budget);

 private:
  /// A way to place an atom: where it runs in each phase and where its weights live.
  struct option {
    std::size_t prompt = 0, decode = 0, home = 0;
    std::size_t pair = 0;  ///< number of (prompt, decode)
    bool prompt_copied = false, decode_copied = false;
  };
  /// Resources of a pass whose busy times all bound it from below.
  static constexpr std::size_t chain = 0;
  std::size_t compute_of(std::size_t g) const { return 1 + g; }
  std::size_t engine_of(std::size_t g) const { return 1 + m_.groups.size() + g; }
  std::size_t dram() const { return 1 + 2 * m_.groups.size(); }
  std::size_t resources() const { return 2 + 2 * m_.groups.size(); }
  double& share(phase ph, std::size_t r) { return share_[static_cast<std::size_t>(ph) * resources() + r]; }
  double& busy(phase ph, std::size_t r) { return busy_[static_cast<std::size_t>(ph) * resources() + r]; }

  void make_options();
  bool allowed(const option& o, std::size_t i) const;
  template <class Visit>
  void visit_resources(const option& o, std::size_t i, Visit visit) const;
  double price(const option& o, std::size_t i);
  void price_all();
  double free_minimum();
  double path_minimum();
  double message(std::size_t from, std::size_t to, std::size_t i, phase ph) const;
  void measure();
  void step(double target, double value, int round);
  void start_shares();
  bool solve_program(double scale);
  bool counts(std::size_t r) const;
  double least_chain_share();
  double capacity(std::size_t g) const;
  double whole(std::size_t c, std::size_t g) const;
  double round_up(double bound) const;

  const relaxed_machine& m_;
  device_set set_;
  std::pmr::memory_resource* memory_;
  std::pmr::vector<option> options_;
  std::pmr::vector<std::array<std::size_t, 2>> pairs_;
  std::pmr::vector<double> share_, busy_, memory_price_, memory_use_;
  std::pmr::vector<double> count_price_;         ///< [class][group]
  std::pmr::vector<double> pair_price_;          ///< [atom][pair]
  std::pmr::vector<std::uint16_t> pair_option_;  ///< the option behind it
  std::pmr::vector<double> path_;                ///< [pair] of the current atom, twice
  std::pmr::vector<std::uint16_t> from_;         ///< [atom][pair]
  std::pmr::vector<std::uint16_t> chosen_;       ///< option per atom
};

}  // namespace berth
