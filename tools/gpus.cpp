// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <charconv>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.tool;

import berth;
import berth.cuda;

namespace tool {

berth::result<machine_choice> with_gpus(berth::topology host) {
  const auto cuda = berth::cuda::runtime();
  if (!cuda) {
    machine_choice out{std::move(host), {}};
    out.notes.push_back(
        fmt::format("CPU, memory and disk only: {}: {}", cuda.error().subject.view(), cuda.error().detail.view()));
    return out;
  }
  const auto nvml = berth::cuda::load_nvml();
  auto found = berth::cuda::detect(**cuda, nvml ? &*nvml : nullptr, host);
  if (!found) return found.propagate();
  return machine_choice{std::move(found->machine), std::move(found->notes)};
}

berth::result<berth::done> find_gpu(const berth::device& gpu) {
  const auto cuda = berth::cuda::runtime();
  if (!cuda) return cuda.propagate();
  int ordinal = -1;
  const auto id = gpu.id.view();
  const auto* end = id.data() + id.size();
  const bool number = std::from_chars(id.data(), end, ordinal).ptr == end && ordinal >= 0;
  berth::cuda::device_properties found;
  if (!number || (*cuda)->properties(&found, ordinal) != berth::cuda::status::success)
    return berth::fail(berth::errc::unavailable, id, "CUDA shows no such device; use the GPUs of this machine");
  if (std::string_view(found.name.data()).find(gpu.model.view()) == std::string_view::npos)
    return berth::fail(berth::errc::unavailable, id,
                       berth::text<256>("is meant to be ")
                           .append(gpu.model.view())
                           .append(", this machine has ")
                           .append(found.name.data())
                           .append("; use the GPUs of this machine (--topology auto)"));
  return berth::done{};
}

}  // namespace tool
