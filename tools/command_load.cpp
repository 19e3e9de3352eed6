// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.tool;

import berth;
import berth.formats;
import berth.runtime;
import :load_summary;
import :real_run;

namespace tool {
namespace {

using berth::errc;
using berth::fail;
using berth::result;

/// A plan with the weights that it is for.
struct loading {
  berth::plan_document document;
  berth::loaded_model model;
  berth::compiled_plan programs;
  berth::weight_images images;
};

result<loading> prepare(const load_arguments& a) {
  if (a.plan == "-" && a.model == "-")
    return fail(errc::invalid_argument, "--plan", "model and plan cannot both come from standard input");
  auto document = checked_plan_file(a.plan);
  if (!document) return document.propagate();
  auto model = load(a.model);
  if (!model) return model.propagate();
  const auto& p = document->plan;
  if (!model->checkpoint || !model->checkpoint->has_headers())
    return fail(errc::not_found, a.model, "holds no weights; give a folder with safetensors files, or one such file");
  if (model->fingerprint != p.fingerprint)
    return fail(
        errc::invalid_plan, a.model,
        berth::text<416>("is not the model of this plan: ").append(difference(p, *model)).append("; plan it again"));
  const auto how = berth::precision_from(p.precision.view());
  if (!how)
    return fail(
        errc::invalid_plan, a.plan,
        berth::text<160>("stores weights in a way that this version does not know: ").append(p.precision.view()));
  auto programs = programs_of(p, {});
  if (!programs) return programs.propagate();
  auto sources = berth::sources_of(*model);
  if (!sources) return sources.propagate();
  auto images = berth::make_images(p, model->tree(), model->sizes, *how, *std::move(sources));
  if (!images) return images.propagate();
  return loading{*std::move(document), *std::move(model), *std::move(programs), *std::move(images)};
}

/// What the same plan does on the simulated machine, with as many rounds.
result<load_prediction> predict(const loading& l, std::uint64_t rounds) {
  simulation_setting s;
  s.rounds = std::max<std::uint64_t>(rounds, 1);
  auto run = simulate(l.document.plan, l.programs, s);
  if (!run) return run.propagate();
  load_prediction out;
  if (run->error) return out;
  out.report = std::move(run->report);
  std::vector<berth::stream_id> streams;
  for (std::uint32_t i = 0; i < l.programs.load.frame.streams.size(); ++i) streams.push_back({i});
  out.busy = busy_times(l.programs.load.frame, run->trace, streams);
  out.known = true;
  return out;
}

}  // namespace

int run_load(const load_arguments& a) {
  auto l = prepare(a);
  if (!l) return report(l.error());
  auto machine = choose_real_machine(a.machine, l->document.plan, l->programs);
  if (!machine) return report(machine.error());
  auto predicted = predict(*l, a.rounds);
  if (!predicted) return report(predicted.error());
  real_setting s;
  s.machine = *machine;
  s.readers = a.readers;
  s.verify = a.verify;
  s.rounds = a.rounds;
  s.offload_folder = a.offload_folder;
  auto run = carry_out(l->document.plan, l->programs, l->images, s);
  if (!run) return report(run.error());
  if (run->error) return report(*run->error);
  if (!a.trace.empty() && !write_output(a.trace, berth::write_trace(l->document.plan, run->trace, run->marks)))
    return exit_usage;
  const load_summary summary{l->document.plan, l->programs, *run, *predicted, s, l->document.notes};
  const auto text = a.format == "json" ? berth::json::write(load_json(summary), 2) + "\n" : load_table(summary);
  return write_output(a.output, text) ? exit_done : exit_usage;
}

}  // namespace tool
