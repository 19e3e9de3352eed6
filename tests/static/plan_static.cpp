// SPDX-License-Identifier: Apache-2.0
// Plans made by the compiler. Passes by compiling within the compiler's default limits.
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

import berth;

namespace {

using namespace berth;

template <std::size_t N>
consteval static_model<N> layers(bytes each) {
  constexpr std::array<std::string_view, 16> names{
      "layers.0", "layers.1", "layers.2",  "layers.3",  "layers.4",  "layers.5",  "layers.6",  "layers.7",
      "layers.8", "layers.9", "layers.10", "layers.11", "layers.12", "layers.13", "layers.14", "layers.15"};
  static_model<N> m;
  for (std::size_t i = 0; i < N; ++i) m.atoms[i] = {names[i], atom_kind::block, each + 256 * i, 0};
  return m;
}

template <std::size_t K>
consteval static_topology<K, 0, 0, 0> gpus(bytes memory, bytes step) {
  static_topology<K, 0, 0, 0> t;
  for (std::size_t i = 0; i < K; ++i) {
    device d;
    d.id = device_id(static_cast<int>(i));
    d.memory = d.free = memory + step * i;
    t.add(d);
  }
  return t;
}

constexpr auto tiny_model = layers<4>(100 * MiB);
constexpr auto box = gpus<2>(GiB, 0);
static_assert(Place<Sequential>(tiny_model, box)->device_of("layers.3") == 0);
static_assert(Place<Balanced>(tiny_model, box)->device_of("layers.0") == 0);
static_assert(Place<Balanced>(tiny_model, box)->device_of("layers.3") == 1);
static_assert(Place<BalancedLow0>(tiny_model, box)->device_of("layers") == 1);
static_assert(place_fn{Single{1}}(tiny_model, box)->device_of("layers.2") == 1);
static_assert(Place<CpuOnly>(tiny_model, box).error().code == errc::unknown_device);
static_assert(Place<Sequential>(tiny_model, gpus<1>(MiB, 0)).error().code == errc::does_not_fit);

// 16 atoms x 4 different devices, all rules of the exact balance.
constexpr auto sixteen = layers<16>(10 * MiB);
constexpr auto four = gpus<4>(60 * MiB, 16 * MiB);
constexpr auto spread = Place<Balanced>(sixteen, four);
static_assert(spread.has_value());
static_assert(Place<Prefer<Single, Sequential>>(sixteen, four)->device_of("layers.0") == 0);

constexpr map_entry pins[]{{"layers.3", device_id(0)}};
static_assert(place_fn{Pin<Balanced>{pins, {}}}(tiny_model, box)->device_of("layers.3") == 0);
constexpr map_entry whole[]{{"", device_id(1)}, {"layers.2", device_id(0)}};
static_assert(place_fn{Manual{whole}}(tiny_model, box)->device_of("layers.2") == 0);
static_assert(place_fn{Manual{whole}}(tiny_model, box)->device_of("layers.1") == 1);
static_assert(place_fn{Manual{pins}}(tiny_model, box).error().code == errc::uncovered);

/// A strategy of a user's, defined in the importer: everything on the last device.
struct LastDevice {
  constexpr std::string_view name() const { return "last"; }
  constexpr std::size_t scratch_cells(const problem_view&) const { return 0; }
  constexpr result<done> solve(const problem_view& p, std::span<placement> out, std::span<std::uint64_t>) const {
    const auto last = static_cast<seat_index>(p.seats.size() - 1);
    for (auto& o : out) o = {last, last};
    return done{};
  }
};
static_assert(Strategy<LastDevice>);
static_assert(Place<LastDevice>(tiny_model, box)->device_of("layers.0") == 1);

}  // namespace
