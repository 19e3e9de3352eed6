// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <utility>

export module berth.runtime:materialise;

import berth.base;
import berth.topology;
import berth.plan;
import berth.exec;
import :image;
import :load_report;
import :materialise_options;
import :load_memory;
import :loader;

export namespace berth {

/// A plan's weights in the memory of a machine, and what that took.
struct loaded {
  frame_handles handles;  ///< for `execution`, which frees the memory, or `release_loaded`
  load_report report;
};

/// Brings a plan's weights from their files to where they live. Allocates what the plan counts on every device, one
/// piece per device; reads the files in order, several large reads at a time, into pinned slots, copies from there and
/// transforms behind the copy, or reads straight into host memory. Never holds more than `staging` per device in
/// memory beyond what stays. Weights that live on the disk are left there.
///
/// `images` are those of `p`, `programs` those of `p` by `compile_all`. Errors: those of the machine (`out_of_memory`,
/// `device_lost`, `copy_failed`, ...); `not_found`, `unreadable`, `corrupted` for files, with tensor and file;
/// `unsupported` for values that cannot become what is wanted, with tensor and row, and for machines without memory;
/// `corrupted` for what verification finds; `unwritable` for the offload folder; `cancelled`. After an error all that
/// was taken is given back and the machine can be used again. Allocates during set-up only.
template <Machine M>
result<loaded> materialise(M& machine, const plan& p, const compiled_plan& programs, const weight_images& images,
                           const materialise_options& options,
                           std::pmr::memory_resource* memory = std::pmr::get_default_resource()) {
  detail::loader<M> work(machine, p, programs, images, options, memory);
  auto ok = work.run();
  if (!ok) return ok.propagate();
  return loaded{work.take_handles(), work.take_report()};
}

/// Frees the memory of a load that no execution took over. Nothing of it may be under way. The first error, if any; all
/// buffers are tried.
template <Machine M>
result<done> release_loaded(M& machine, const compiled_plan& programs, frame_handles& handles) {
  result<done> first = done{};
  detail::buffer_release release(machine);
  for (std::size_t b = 0; b < handles.buffers.size(); ++b) {
    if (handles.buffers[b] == buffer_id{}) continue;
    auto ok = release(programs.load.frame.buffers[b].device, handles.buffers[b], handles.streams);
    if (!ok && first) first = ok;
    handles.buffers[b] = {};
  }
  return first;
}

}  // namespace berth
