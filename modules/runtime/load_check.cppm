// SPDX-License-Identifier: Apache-2.0
// Exports nothing: comparing what lies in memory with what is stored.
module;

#include <algorithm>
#include <cstdint>
#include <string_view>

export module berth.runtime:load_check;

import berth.base;
import berth.topology;
import berth.plan;
import berth.exec;
import :image;
import :load_report;
import :slots;
import :load_memory;
import :load_watch;

namespace berth::detail {

/// Compares checksums, tensor by tensor and at most `most_compared` bytes at a time.
template <class M>
class load_check {
 public:
  load_check(load_memory<M>& memory, const load_watch& watch) : at_(memory), watch_(watch) {}

  result<done> run() {
    const auto from = at_.machine.now();
    bytes all = 0;
    for (const auto& op : at_.load.operations) all += op.kind == op_kind::read ? op.to.size : 0;
    for (const auto& op : at_.load.operations) {
      if (op.kind != op_kind::read) continue;
      for (const auto& t : at_.images.of(op.atom)) {
        if (t.offset >= op.to.size) break;
        for (bytes at = 0; at < t.size; at += most_compared) {
          const auto size = std::min(most_compared, t.size - at);
          if (auto ok = compare(op, t, at, size); !ok) return ok;
          at_.report.verified += size;
          watch_.tell(at_.report.verified, all, t.name, true, seconds_from(at_.machine.now() - from));
          if (auto ok = watch_.stopped(); !ok) return ok;
        }
      }
    }
    at_.report.verifying = seconds_from(at_.machine.now() - from);
    return done{};
  }

 private:
  result<done> compare(const operation& op, const image_tensor& t, bytes at, bytes size) {
    const auto stored = at_.machine.checksum(storage_range{op.atom, t.offset + at, size});
    if (!stored) return stored.propagate();
    const auto here =
        at_.machine.checksum(buffer_range{at_.handles.buffers[op.to.buffer], op.to.offset + t.offset + at, size});
    if (!here) return here.propagate();
    if (*stored == *here) return done{};
    return fail(errc::corrupted, t.name,
                text<256>("bytes ")
                    .append(at)
                    .append(" to ")
                    .append(at + size)
                    .append(" on device ")
                    .append(at_.p.devices[at_.load.frame.buffers[op.to.buffer].device].id.view())
                    .append(" are not those of its file; load again, and look at the memory if that happens again"));
  }

  load_memory<M>& at_;
  const load_watch& watch_;
};

}  // namespace berth::detail
