// SPDX-License-Identifier: Apache-2.0
module;

#include <string>
#include <string_view>
#include <vector>

module berth.formats;

namespace berth {

result<const gpu_spec*> importer_gpu(const topology_options& options, std::string_view guess, std::string_view what,
                                     std::vector<std::string>& notes) {
  const auto* spec = find_gpu(options.gpu.empty() ? guess : std::string_view(options.gpu));
  if (spec == nullptr)
    return fail(errc::unknown_device, options.gpu,
                text<160>("no such GPU model for ").append(what).append("; write one like \"RTX 4090\""));
  if (options.gpu.empty())
    notes.push_back(std::string("The file does not name the GPU model; ").append(spec->name).append(" is assumed."));
  return spec;
}

std::string host_note(const host_spec& host) {
  return std::string("The host's memory, CPU and disk are assumed: ").append(host.model).append(".");
}

}  // namespace berth
