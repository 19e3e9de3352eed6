// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

export module berth.topology:owners;

import berth.base;
import :ids;
import :device;
import :segment;
import :view;

namespace berth::detail {

constexpr bool route_before(const route& a, const route& b) { return a.from != b.from ? a.from < b.from : a.to < b.to; }

}  // namespace berth::detail

export namespace berth {

/// A topology that owns its parts in vectors: what readers, detection and run-time presets return.
struct topology {
  text<64> name;
  std::vector<device> devices;
  std::vector<segment> segments;
  std::vector<route> routes;
  std::vector<segment_index> hops;

  device_index add(const device& d) {
    devices.push_back(d);
    return static_cast<device_index>(devices.size() - 1);
  }
  segment_index add(const segment& s) {
    segments.push_back(s);
    return static_cast<segment_index>(segments.size() - 1);
  }
  /// Adds a route over `over`; the route's own hop fields are set here. Call `sort_routes` when all are there.
  void connect(route r, std::span<const segment_index> over) {
    r.hops_begin = static_cast<std::uint32_t>(hops.size());
    r.hop_count = static_cast<std::uint32_t>(over.size());
    hops.insert(hops.end(), over.begin(), over.end());
    routes.push_back(r);
  }
  /// Sorts the routes and stores their hops in the same order, so that equal machines compare equal.
  void sort_routes();

  topology_view view() const { return {name.view(), devices, segments, routes, hops}; }
  operator topology_view() const { return view(); }

  friend bool operator==(const topology&, const topology&) = default;
};

/// A topology of bounded size inside the object: a literal type, so that it can be a constexpr variable and be
/// planned for at compile time. The parameters are capacities; adding beyond one sets `overflowed` and is dropped.
template <std::size_t Devices, std::size_t Segments, std::size_t Routes, std::size_t Hops>
class static_topology {
 public:
  text<64> name;

  constexpr device_index add(const device& d) { return push(devices_, device_count_, d); }
  constexpr segment_index add(const segment& s) { return push(segments_, segment_count_, s); }
  /// As `topology::connect`.
  constexpr void connect(route r, std::span<const segment_index> over) {
    r.hops_begin = hop_count_;
    r.hop_count = static_cast<std::uint32_t>(over.size());
    for (const auto s : over) push(hops_, hop_count_, s);
    push(routes_, route_count_, r);
  }
  constexpr void sort_routes() { std::sort(routes_.data(), routes_.data() + route_count_, detail::route_before); }

  /// True after an addition that did not fit: the topology is incomplete and must not be used.
  constexpr bool overflowed() const { return overflowed_; }

  constexpr topology_view view() const {
    return {name.view(), std::span(devices_.data(), device_count_), std::span(segments_.data(), segment_count_),
            std::span(routes_.data(), route_count_), std::span(hops_.data(), hop_count_)};
  }
  constexpr operator topology_view() const { return view(); }

 private:
  template <class T, std::size_t N>
  constexpr std::uint32_t push(std::array<T, N>& list, std::uint32_t& count, const T& item) {
    if (count == N) {
      overflowed_ = true;
      return no_index;
    }
    list[count] = item;
    return count++;
  }

  std::array<device, Devices> devices_{};
  std::array<segment, Segments> segments_{};
  std::array<route, Routes> routes_{};
  std::array<segment_index, Hops> hops_{};
  std::uint32_t device_count_ = 0, segment_count_ = 0, route_count_ = 0, hop_count_ = 0;
  bool overflowed_ = false;
};

/// A run-time copy of any valid topology.
topology materialize(const topology_view& t);

}  // namespace berth
