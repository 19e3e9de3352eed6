// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <vector>

export module berth.exec:limited;

import berth.base;
import berth.topology;
import berth.plan;
import :handles;
import :machine;
import :forwarded;
import :bounds;

export namespace berth {

/// A machine whose devices have less memory: an allocation that would exceed its device's budget fails with
/// `out_of_memory` (device, needed, available) and changes nothing. Devices without a budget keep what they have. Sizes
/// count as rounded up to the device's granularity; freed bytes count as available from the call of `deallocate` on,
/// earlier than on the machine, which frees them when the stream gets there. Imported buffers cost nothing.
template <Machine M>
class limited : public detail::forwarded<M> {
  using base = detail::forwarded<M>;

 public:
  explicit limited(M& m, std::span<const device_bytes> budgets,
                   std::pmr::memory_resource* memory = std::pmr::get_default_resource(),
                   const machine_bounds& bounds = {})
      : base(m),
        pools_(m.topology().devices.size(), pool{}, memory),
        buffers_(bounds.buffers, memory),
        supported_(detail::check_ids(m.topology(), budgets, "the list of budgets")) {
    const auto t = m.topology();
    for (const auto& b : budgets)
      if (const auto d = t.find(b.id)) pools_[*d].budget = b.amount;
  }

  /// Whether all budgets could be taken over: `unknown_device` for one that the machine does not have,
  /// `invalid_argument` for one named twice. Budgets of unknown devices have no effect.
  result<done> supported() const { return supported_; }

  bytes used(device_index d) const { return d < pools_.size() ? pools_[d].used : 0; }
  bytes available(device_index d) const { return d < pools_.size() ? pools_[d].budget - pools_[d].used : 0; }

  result<buffer_id> allocate(device_index device, bytes size, memory_kind kind) {
    if (device >= pools_.size()) return base::allocate(device, size, kind);
    if (buffers_.full()) return detail::beyond_bound("buffers", buffers_.bound());
    const auto& d = base::topology().devices[device];
    auto& p = pools_[device];
    const auto left = p.budget - p.used;
    if (size > left || round_up(size, d.granularity) > left)
      return fail(errc::out_of_memory, d.id,
                  text<160>("the budget of this device is ")
                      .append(p.budget)
                      .append(" bytes, ")
                      .append(p.used)
                      .append(" of them in use; raise the budget or free something first"),
                  size, left);
    auto made = base::allocate(device, size, kind);
    if (!made) return made;
    const auto charged = round_up(size, d.granularity);
    p.used += charged;
    buffers_.set(made->index, {device, charged});
    return made;
  }

  result<done> deallocate(stream_id stream, buffer_id buffer) {
    auto freed = base::deallocate(stream, buffer);
    if (!freed) return freed;
    if (const auto* c = buffers_.find(buffer.index)) {
      pools_[c->device].used -= c->size;
      buffers_.erase(buffer.index);
    }
    return freed;
  }

 private:
  struct pool {
    bytes budget = max_bytes;
    bytes used = 0;
  };
  struct charge {
    device_index device = no_index;
    bytes size = 0;
  };

  std::pmr::vector<pool> pools_;  // per device
  detail::handle_table<charge> buffers_;
  result<done> supported_;
};

}  // namespace berth
