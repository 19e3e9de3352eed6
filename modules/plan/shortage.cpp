// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

module berth.plan;

import :cells;

namespace berth::detail {
namespace {

/// A difference in budget that matters to a person.
constexpr bytes finest = MiB;

}  // namespace

std::size_t shortage_cells(const problem_view& p) {
  return cells_for<seat>(p.seats.size()) + Sequential{}.scratch_cells(p);
}

failure shortage(const problem_view& p, std::string_view strategy, std::span<placement> out,
                 std::span<std::uint64_t> scratch) {
  cell_cutter cut(scratch);
  const auto seats = cut.take<seat>(p.seats.size());
  problem_view larger = p;
  larger.seats = seats;
  const Sequential any_way;  // keeps, packs, streams or computes on the CPU: whatever fits
  const auto fits_with = [&](seat_index s, bytes more) {
    std::copy(p.seats.begin(), p.seats.end(), seats.begin());
    seats[s].limit += more;
    return static_cast<bool>(any_way.solve(larger, out, cut.rest()));
  };
  const bytes all = total_load(p) + staging_bytes_of_largest(p);
  const bytes resolution = std::clamp<bytes>(all / 4096, 1, finest);
  seat_index best = none;
  bytes least = 0;
  for (seat_index s = 0; s < p.seats.size(); ++s) {
    bytes low = 0, high = best == none ? all : least;
    if (high <= resolution || !fits_with(s, high)) continue;
    while (high - low > resolution) {
      const bytes middle = low + (high - low) / 2;
      (fits_with(s, middle) ? high : low) = middle;
    }
    if (best != none && high >= least) continue;
    best = s;
    least = high;
  }
  if (best == none) return does_not_fit(p, strategy);
  const auto& seat = p.seats[best];
  // A budget is rounded down to whole arena pages: name one that still suffices then.
  if (seat.device < p.machine.devices.size())
    least = round_up(seat.limit + least, std::max<bytes>(p.machine.devices[seat.device].granularity, 1)) - seat.limit;
  return fail(
      errc::does_not_fit, seat.id.view(),
      text<416>("strategy ")
          .append(strategy)
          .append(": the model needs ")
          .append(format_size(total_load(p)))
          .append(" and does not fit; this device is short of ")
          .append(format_size(least))
          .append(" (")
          .append(least)
          .append(" bytes): with a budget of ")
          .append(format_size(seat.limit + least))
          .append(" instead of ")
          .append(format_size(seat.limit))
          .append(find_seat(p, device_kind::cpu) == none ? " it would fit, or add cpu=SIZE to --max-memory"
                                                         : " it would fit; a shorter context, a smaller dtype or "
                                                           "int8 also help"),
      seat.limit + least, seat.limit);
}

}  // namespace berth::detail
