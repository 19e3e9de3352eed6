// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <string_view>
#include <vector>

export module berth.exec:counted;

import berth.base;
import berth.topology;
import :handles;
import :requests;
import :machine;
import :forwarded;
import :bounds;

export namespace berth {

/// What was asked of one device and granted. Copies and reads count at their target, launches where they run; bytes are
/// as asked, not as the device rounds them.
struct device_counts {
  bytes live = 0;     ///< bytes of buffers that no call has freed yet
  bytes highest = 0;  ///< most of them at a time; in a total: the sum of the devices' peaks
  std::uint64_t buffers = 0;
  std::uint64_t allocations = 0, frees = 0, copies = 0, reads = 0, launches = 0;

  friend constexpr bool operator==(const device_counts&, const device_counts&) = default;
};

/// A buffer that has not been freed.
struct live_buffer {
  buffer_id buffer;
  device_index device = no_index;
  bytes size = 0;

  friend constexpr bool operator==(const live_buffer&, const live_buffer&) = default;
};

/// A machine whose use of memory is counted and checked: freeing a buffer twice, or using one after the call that frees
/// it, fails with `invalid_argument` naming the buffer (streams and events are never freed, so they cannot leak).
/// Imported buffers count as buffers without bytes.
template <Machine M>
class counted : public detail::forwarded<M> {
  using base = detail::forwarded<M>;

 public:
  explicit counted(M& m, std::pmr::memory_resource* memory = std::pmr::get_default_resource(),
                   const machine_bounds& bounds = {})
      : base(m),
        counts_(m.topology().devices.size(), device_counts{}, memory),
        streams_(bounds.streams, memory),
        buffers_(bounds.buffers, memory) {}

  /// Buffers that no call has freed yet, and their bytes.
  std::size_t live() const { return buffers_.size(); }
  bytes live_bytes() const { return total().live; }
  /// Writes the live buffers by ascending handle, as many of the first as `out` has room for; returns how many there
  /// are. O(buffers x out).
  std::size_t leaks(std::span<live_buffer> out = {}) const {
    std::size_t n = 0;
    buffers_.each([&](std::uint32_t handle, const place& p) {
      auto item = live_buffer{{handle}, p.device, p.size};
      for (std::size_t i = 0; i < n; ++i)
        if (item.buffer.index < out[i].buffer.index) std::swap(item, out[i]);
      if (n < out.size()) out[n++] = item;
    });
    return buffers_.size();
  }

  device_counts counts(device_index d) const { return d < counts_.size() ? counts_[d] : device_counts{}; }
  device_counts total() const {
    device_counts sum;
    for (const auto& c : counts_) {
      sum.live += c.live;
      sum.highest += c.highest;
      sum.buffers += c.buffers;
      sum.allocations += c.allocations;
      sum.frees += c.frees;
      sum.copies += c.copies;
      sum.reads += c.reads;
      sum.launches += c.launches;
    }
    return sum;
  }

  result<stream_id> make_stream(device_index device) {
    if (streams_.full()) return detail::beyond_bound("streams", streams_.bound());
    auto made = base::make_stream(device);
    if (made) streams_.set(made->index, device);
    return made;
  }

  result<buffer_id> allocate(device_index device, bytes size, memory_kind kind) {
    if (buffers_.full()) return detail::beyond_bound("buffers", buffers_.bound());
    auto made = base::allocate(device, size, kind);
    if (made) add(*made, device, size);
    return made;
  }
  result<buffer_id> import(device_index device, bytes size, memory_kind kind, std::uint64_t token)
    requires ImportingMachine<M>
  {
    if (buffers_.full()) return detail::beyond_bound("buffers", buffers_.bound());
    auto made = base::import(device, size, kind, token);
    if (made) add(*made, device, 0);
    return made;
  }

  result<done> deallocate(stream_id stream, buffer_id buffer) {
    const auto* p = buffers_.find(buffer.index);
    if (p == nullptr) return not_live(buffer, "freed");
    auto freed = base::deallocate(stream, buffer);
    if (!freed) return freed;
    if (p->device < counts_.size()) {
      auto& c = counts_[p->device];
      c.live -= p->size;
      --c.buffers;
      ++c.frees;
    }
    buffers_.erase(buffer.index);
    return freed;
  }

  result<done> copy(stream_id stream, const copy_request& r) {
    if (buffers_.find(r.from.buffer.index) == nullptr) return not_live(r.from.buffer, "copied from");
    const auto* to = buffers_.find(r.to.buffer.index);
    if (to == nullptr) return not_live(r.to.buffer, "copied to");
    return count(base::copy(stream, r), to->device, &device_counts::copies);
  }
  result<done> read(stream_id stream, const read_request& r) {
    const auto* to = buffers_.find(r.to.buffer.index);
    if (to == nullptr) return not_live(r.to.buffer, "read into");
    return count(base::read(stream, r), to->device, &device_counts::reads);
  }
  result<done> launch(stream_id stream, const launch_request& r) {
    const auto* device = streams_.find(stream.index);
    return count(base::launch(stream, r), device == nullptr ? no_index : *device, &device_counts::launches);
  }
  result<std::uint64_t> checksum(const buffer_range& range) {
    if (buffers_.find(range.buffer.index) == nullptr) return not_live(range.buffer, "looked at");
    return base::checksum(range);
  }
  result<std::uint64_t> checksum(const storage_range& range) { return base::checksum(range); }

 private:
  struct place {
    device_index device = no_index;
    bytes size = 0;
  };

  static failure not_live(buffer_id b, std::string_view use) {
    return fail(errc::invalid_argument, text<64>("buffer ").append(b.index),
                text<160>("is ").append(use).append(", but it is not live: freed before, or of another machine"));
  }
  void add(buffer_id b, device_index device, bytes size) {
    buffers_.set(b.index, {device, size});
    if (device >= counts_.size()) return;
    auto& c = counts_[device];
    c.live += size;
    c.highest = std::max(c.highest, c.live);
    ++c.buffers;
    ++c.allocations;
  }
  result<done> count(result<done> outcome, device_index device, std::uint64_t device_counts::* member) {
    if (outcome && device < counts_.size()) ++(counts_[device].*member);
    return outcome;
  }

  std::pmr::vector<device_counts> counts_;  // per device
  detail::handle_table<device_index> streams_;
  detail::handle_table<place> buffers_;
};

}  // namespace berth
