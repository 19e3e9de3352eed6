// SPDX-License-Identifier: Apache-2.0
// Internal partition: a small dense linear program, for the multipliers of bounds.
module;

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <vector>

export module berth.plan:linear_program;

namespace berth {

/// Minimise c x subject to rows a x <= b or a x = b with b >= 0, and x >= 0, by the two-phase simplex method on a dense
/// tableau. Made for a few hundred variables. Only its duals are used, as multipliers of relaxations that are valid for
/// any multipliers, so rounding here weakens a bound but never falsifies it.
class linear_program {
 public:
  linear_program(std::size_t rows, std::size_t columns, std::pmr::memory_resource* memory);

  void cost(std::size_t column, double c) { cost_[column] = c; }
  void coefficient(std::size_t row, std::size_t column, double a) { at(row, column) += a; }
  void bound(std::size_t row, double b, bool equal) {
    at(row, width_ - 1) = b;
    equal_[row] = equal ? 1 : 0;
  }
  /// False if there is no solution or the pivots run out. O(pivots x rows x columns).
  bool solve();
  double value() const { return value_; }
  /// Decrease of the minimum per unit of the row's right side, >= 0 for <= rows.
  double price(std::size_t row) const { return price_[row]; }

 private:
  double& at(std::size_t row, std::size_t column) { return table_[row * width_ + column]; }
  bool run(std::size_t usable);
  void pivot(std::size_t row, std::size_t column);
  void set_objective(bool artificial);

  std::size_t rows_, columns_, width_;
  std::pmr::vector<double> table_, cost_, objective_, price_;
  std::pmr::vector<std::size_t> basis_;
  std::pmr::vector<std::uint8_t> equal_;
  double value_ = 0;
};

}  // namespace berth
