// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <vector>

module berth.plan;

import :linear_program;

namespace berth {
namespace {

constexpr double tiny = 1e-9;
constexpr std::size_t none_found = ~std::size_t{0};

}  // namespace

// Columns: the variables, one slack (or artificial) per row, the right side.
linear_program::linear_program(std::size_t rows, std::size_t columns, std::pmr::memory_resource* memory)
    : rows_(rows),
      columns_(columns),
      width_(columns + rows + 1),
      table_(rows * width_, 0.0, memory),
      cost_(columns, 0.0, memory),
      objective_(width_, 0.0, memory),
      price_(rows, 0.0, memory),
      basis_(rows, 0, memory),
      equal_(rows, 0, memory) {}

/// Reduced costs of the current basis: of the artificial variables alone, or of the real costs.
void linear_program::set_objective(bool artificial) {
  const auto cost_of = [&](std::size_t column) {
    if (column < columns_) return artificial ? 0.0 : cost_[column];
    return artificial && equal_[column - columns_] != 0 ? 1.0 : 0.0;
  };
  for (std::size_t j = 0; j < width_; ++j) objective_[j] = j + 1 < width_ ? cost_of(j) : 0;
  for (std::size_t r = 0; r < rows_; ++r)
    if (const double c = cost_of(basis_[r]); c != 0)
      for (std::size_t j = 0; j < width_; ++j) objective_[j] -= c * at(r, j);
}

void linear_program::pivot(std::size_t row, std::size_t column) {
  const double inverse = 1 / at(row, column);
  for (std::size_t j = 0; j < width_; ++j) at(row, j) *= inverse;
  const double* source = table_.data() + row * width_;
  const auto eliminate = [&](double* target) {
    const double factor = target[column];
    if (factor == 0) return;
    for (std::size_t j = 0; j < width_; ++j) target[j] -= factor * source[j];
    target[column] = 0;
  };
  for (std::size_t r = 0; r < rows_; ++r)
    if (r != row) eliminate(table_.data() + r * width_);
  eliminate(objective_.data());
  basis_[row] = column;
}

/// Pivots until no reduced cost is negative. The most negative first; after many pivots the first, which cannot cycle.
bool linear_program::run(std::size_t usable) {
  const std::size_t most = 40 * (rows_ + 10);
  for (std::size_t step = 0; step < most; ++step) {
    std::size_t column = none_found;
    for (std::size_t j = 0; j < usable; ++j) {
      // An artificial variable that has left does not come back.
      if (j >= columns_ && equal_[j - columns_] != 0) continue;
      if (objective_[j] >= -tiny) continue;
      if (column != none_found && (step > most / 2 || objective_[j] >= objective_[column])) continue;
      column = j;
    }
    if (column == none_found) return true;
    std::size_t row = none_found;
    double least = 0;
    for (std::size_t r = 0; r < rows_; ++r) {
      const double a = at(r, column);
      if (a <= tiny) continue;
      const double ratio = at(r, width_ - 1) / a;
      if (row == none_found || ratio < least - 1e-13 || (ratio <= least && basis_[r] < basis_[row])) {
        row = r;
        least = ratio;
      }
    }
    if (row == none_found) return false;
    pivot(row, column);
  }
  return false;
}

bool linear_program::solve() {
  for (std::size_t r = 0; r < rows_; ++r) {
    at(r, columns_ + r) = 1;
    basis_[r] = columns_ + r;
  }
  set_objective(true);
  if (!run(width_ - 1)) return false;
  if (-objective_[width_ - 1] > 1e-7) return false;
  // An artificial variable left in the basis at zero is exchanged for any real one of its row.
  for (std::size_t r = 0; r < rows_; ++r) {
    if (basis_[r] < columns_ || equal_[basis_[r] - columns_] == 0) continue;
    for (std::size_t j = 0; j < columns_; ++j)
      if (std::abs(at(r, j)) > 1e-7) {
        pivot(r, j);
        break;
      }
  }
  set_objective(false);
  if (!run(width_ - 1)) return false;
  value_ = -objective_[width_ - 1];
  for (std::size_t r = 0; r < rows_; ++r) price_[r] = std::max(0.0, objective_[columns_ + r]);
  return true;
}

}  // namespace berth
