// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "rehearsal.hpp"

import berth;
import berth.host;
import berth.runtime;
import tiny;

namespace tiny_test {
namespace {

/// Shows launches on GPUs a stream, as the CUDA machine does.
class streamed_work {
 public:
  streamed_work(const berth::plan& p, berth::work_source what) : plan_(p), what_(what) {}
  berth::work_source source() {
    return {this, [](void* self, berth::program_phase phase, std::uint32_t atom) {
              auto& s = *static_cast<streamed_work*>(self);
              const auto inner = s.what_(phase, atom);
              const auto ph = phase == berth::program_phase::decode ? berth::phase::decode : berth::phase::prefill;
              if (s.plan_.devices[s.plan_.placements[atom].runs(ph)].kind != berth::device_kind::gpu) return inner;
              return berth::work{&s.launches_.emplace_back(inner), [](void* w, const berth::work_call& call) {
                                   auto with = call;
                                   with.native_stream = w;
                                   (*static_cast<const berth::work*>(w))(with);
                                 }};
            }};
  }

 private:
  const berth::plan& plan_;
  berth::work_source what_;
  std::deque<berth::work> launches_;
};

}  // namespace

berth::topology room_beside(const tiny::prepared& run) {
  auto out = berth::materialize(run.plan().topology());
  for (std::size_t d = 0; d < out.devices.size(); ++d) {
    auto& device = out.devices[d];
    const auto beside = berth::round_up(run.programs().load.frame.uncounted(static_cast<berth::device_index>(d)) +
                                            (run.plan().uses.size() + 1) * staging,
                                        device.granularity);
    device.memory += beside;
    device.free += beside;
  }
  return out;
}

berth::result<outcome> rehearse(const tiny::opened& m, berth::plan p, const berth::precision& how,
                                std::span<const std::int32_t> prompt, const manner& way) {
  auto run = tiny::prepare(m, std::move(p), how, true);
  if (!run) return run.propagate();
  if (auto ok = (*run)->begin(prompt); !ok) return ok.propagate();
  berth::image_storage storage((*run)->images());
  const auto topology = room_beside(**run);
  berth::host::machine_options options;
  options.storage = storage.as_storage();
  options.threads = way.threads;
  berth::host::machine machine(topology, options);
  berth::materialise_options load;
  load.readers = way.threads;
  load.staging = staging;
  load.gpu = berth::cpu_transforms();  // GPUs are host memory here
  load.storage = &storage;
  load.offload_folder = way.offload_folder;
  streamed_work launches((*run)->plan(), (*run)->work(way.gpu));
  const auto work = way.gpu != nullptr ? launches.source() : (*run)->work();
  const auto ok =
      way.materialised ? tiny::generate(machine, **run, load, work) : tiny::generate_from_storage(machine, **run, work);
  if (!ok) return ok.propagate();
  for (std::size_t d = 0; d < topology.devices.size(); ++d)
    if (const auto left = machine.used(static_cast<berth::device_index>(d)); left != 0)
      return berth::fail(berth::errc::invalid_program, topology.devices[d].id.view(), "memory is left after the run",
                         left, 0);
  const auto tokens = (*run)->generated();
  const auto logits = (*run)->logits();
  return outcome{{tokens.begin(), tokens.end()}, {logits.begin(), logits.end()}};
}

}  // namespace tiny_test
