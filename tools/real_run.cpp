// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.tool;

import berth;
import berth.cuda;
import berth.formats;
import berth.host;
import berth.runtime;
import :real_run;
import :stand_in;

namespace tool {
namespace {

using berth::errc;
using berth::fail;
using berth::result;

/// Host memory beside what a rehearsal takes: the process itself, and what others need meanwhile.
constexpr berth::bytes margin = 256 * berth::MiB;
constexpr berth::bytes staging = 64 * berth::MiB;
constexpr int most_threads = 16;

berth::bytes rehearsed_bytes(const berth::compiled_plan& programs) {
  berth::bytes sum = 0;
  std::size_t loading = 0;
  for (const auto& b : programs.load.frame.buffers) sum += b.size;
  for (const auto& s : programs.load.frame.streams) loading += s.role == berth::stream_role::load ? 1 : 0;
  return sum + loading * staging;
}

/// The plan's machine with room for what the plan does not count: activations in flight, and slots that weights pass
/// through on their way.
berth::topology room_beside(const berth::plan& p, const berth::compiled_plan& programs) {
  auto out = berth::materialize(p.topology());
  for (std::size_t d = 0; d < out.devices.size(); ++d) {
    auto& device = out.devices[d];
    auto beside = programs.load.frame.uncounted(static_cast<berth::device_index>(d));
    if (device.kind == berth::device_kind::cpu) beside += (p.uses.size() + 1) * staging;
    if (device.kind == berth::device_kind::gpu) beside += staging;
    device.memory += berth::round_up(beside, device.granularity);
    device.free += berth::round_up(beside, device.granularity);
  }
  return out;
}

struct bar_context {
  progress_bar bar;
  static void show(void* context, const berth::load_progress& l) {
    const auto file = l.file.substr(l.file.rfind('/') + 1);
    const auto words = l.verifying
                           ? fmt::format("MiB verified, {}", file)
                           : fmt::format("MiB, {}/s, {}", berth::format_size(static_cast<berth::bytes>(l.rate)), file);
    static_cast<bar_context*>(context)->bar.show(l.done / berth::MiB, l.total / berth::MiB, words);
  }
};

std::size_t records_for(const berth::compiled_plan& programs, std::uint64_t rounds) {
  constexpr std::size_t most = 4'000'000, beside = 65'536;
  const auto run = programs.prefill.operations.size() + rounds * programs.decode.operations.size();
  return std::min(most, beside + 64 * programs.load.operations.size() + run);
}

bool pipelined(const berth::plan& p) { return p.workload.objective == berth::objective::throughput; }

/// Writes the index that other programs find offloaded weights by; what it named before stays in it.
result<berth::done> write_index(const berth::load_report& load, const std::string& folder) {
  if (load.offloaded.tensors.empty()) return berth::done{};
  const auto path = folder + "/index.json";
  std::vector<berth::offload_entry> older;
  if (const auto text = read_input(path)) {
    auto read = berth::read_offload_index(*text, path);
    if (!read) return read.propagate();
    older = *std::move(read);
  }
  return berth::replace_file(path, berth::write_offload_index(berth::offload_entries(load.offloaded, folder), older));
}

template <class M>
void load_and_run(M& machine, const berth::plan& p, const berth::compiled_plan& programs,
                  const berth::weight_images& images, const real_setting& s, berth::image_storage& storage,
                  const berth::transform_engine& gpu, const berth::cuda::kernel_table* kernels, real_run& out) {
  berth::counted counting(machine);
  berth::traced traced(counting, out.trace);
  bar_context bar;
  berth::materialise_options o;
  o.readers = s.readers;
  o.staging = staging;
  o.verify = s.verify;
  o.gpu = gpu;
  o.storage = &storage;
  o.offload_folder = s.offload_folder;
  o.progress_context = &bar;
  o.progress = &bar_context::show;
  auto loaded = berth::materialise(traced, p, programs, images, o);
  if (!loaded) {
    out.error = loaded.error();
    return;
  }
  out.load = std::move(loaded->report);
  const auto load_end = traced.now();
  if (auto ok = write_index(out.load, s.offload_folder); !ok) out.error = ok.error();
  const std::vector<berth::stream_id> streams(loaded->handles.streams.begin(), loaded->handles.streams.end());
  stand_in work;
  work.kernels = kernels;
  if (s.rounds > 0 && !out.error) {
    berth::execution_options e;
    e.rounds = s.rounds;
    e.work = work.source();
    berth::execution run(traced, programs, std::move(loaded->handles), e);
    if (auto ok = run.run(); !ok) out.error = ok.error();
  } else if (auto ok = berth::release_loaded(traced, programs, loaded->handles); !ok && !out.error) {
    out.error = ok.error();
  }
  out.marks = berth::marks_of(programs, out.trace, pipelined(p));
  out.marks.load_end = load_end;
  if (s.rounds > 0 && !out.error) out.report = berth::make_report(p, out.trace, out.marks);
  out.busy = busy_times(programs.load.frame, out.trace, streams);
  out.load.peak_resident = berth::peak_resident_memory();
  for (std::size_t d = 0; d < p.devices.size(); ++d)
    out.peaks.push_back(counting.counts(static_cast<berth::device_index>(d)).highest);
}

result<real_run> on_host(const berth::plan& p, const berth::compiled_plan& programs, const berth::weight_images& images,
                         const real_setting& s) {
  real_run out(records_for(programs, s.rounds));
  out.resident_before = berth::peak_resident_memory();
  berth::image_storage storage(images);
  const auto topology = room_beside(p, programs);
  const auto facts = berth::host::read_facts();
  const int threads = facts ? std::clamp(facts->threads, 1, most_threads) : 1;
  berth::host::machine_options options;
  options.storage = storage.as_storage();
  options.threads = threads;
  berth::host::machine machine(topology, options);
  load_and_run(machine, p, programs, images, s, storage, berth::cpu_transforms(), nullptr, out);
  for (const auto& w : machine.warnings()) out.warnings.emplace_back(w.view());
  return out;
}

/// Whether CUDA has the GPUs that a plan uses, by number and model. Error: `unavailable` with what is missing.
result<berth::done> find_gpus(const berth::plan& p) {
  const auto cuda = berth::cuda::runtime();
  if (!cuda) return cuda.propagate();
  if (const auto kernels = berth::cuda::kernels(); !kernels) return kernels.propagate();
  bool any = false;
  for (const auto& u : p.uses) {
    const auto& d = p.devices[u.device];
    if (d.kind != berth::device_kind::gpu) continue;
    any = true;
    if (auto ok = find_gpu(d); !ok) return ok;
  }
  if (!any) return fail(errc::unavailable, "cuda", "the plan uses no GPU; --machine host carries it out");
  return berth::done{};
}

result<real_run> on_cuda(const berth::plan& p, const berth::compiled_plan& programs, const berth::weight_images& images,
                         const real_setting& s) {
  const auto cuda = berth::cuda::runtime();
  if (!cuda) return cuda.propagate();
  const auto kernels = berth::cuda::kernels();
  if (!kernels) return kernels.propagate();
  real_run out(records_for(programs, s.rounds));
  out.resident_before = berth::peak_resident_memory();
  berth::image_storage storage(images);
  const auto topology = room_beside(p, programs);
  berth::cuda::machine_options options;
  options.storage = storage.as_storage();
  berth::cuda::machine machine(**cuda, topology, options);
  load_and_run(machine, p, programs, images, s, storage, berth::cuda::cuda_transforms(**kernels), *kernels, out);
  if (const auto& w = machine.warning())
    out.warnings.push_back(fmt::format("{}: {}", w->subject.view(), w->detail.view()));
  return out;
}

}  // namespace

std::vector<double> busy_times(const berth::program_frame& frame, const berth::trace& t,
                               const std::vector<berth::stream_id>& handles) {
  std::vector<double> out(frame.streams.size());
  for (const auto& a : t.records()) {
    const auto found = std::find(handles.begin(), handles.end(), a.stream);
    if (found == handles.end() || a.kind == berth::activity_kind::free || a.kind == berth::activity_kind::fault)
      continue;
    out[static_cast<std::size_t>(found - handles.begin())] += berth::seconds_from(a.end - a.start);
  }
  return out;
}

result<real_machine> choose_real_machine(const std::string& wish, const berth::plan& p,
                                         const berth::compiled_plan& programs) {
  if (wish != "host") {
    const auto found = find_gpus(p);
    if (found) return real_machine::cuda;
    if (wish == "cuda") return found.propagate();
  }
  const auto needed = rehearsed_bytes(programs) + margin;
  const auto facts = berth::host::read_facts();
  if (!facts) return facts.propagate();
  if (needed > facts->available)
    return fail(errc::does_not_fit, "host memory",
                berth::text<416>("rehearsing every device of this plan in host memory takes ")
                    .append(berth::format_size(needed))
                    .append(", this computer has ")
                    .append(berth::format_size(facts->available))
                    .append(" available; free some, plan a smaller context or model, or use --machine cuda where the "
                            "plan's GPUs are"),
                needed, facts->available);
  return real_machine::host;
}

result<real_run> carry_out(const berth::plan& p, const berth::compiled_plan& programs,
                           const berth::weight_images& images, const real_setting& s) {
  return s.machine == real_machine::cuda ? on_cuda(p, programs, images, s) : on_host(p, programs, images, s);
}

}  // namespace tool
