// SPDX-License-Identifier: Apache-2.0
// The berth command: says what every option means and calls the subcommand.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include "build_info.hpp"

import berth.tool;

namespace {

constexpr const char* model_help =
    "checkpoint folder, .safetensors, config.json, index, berth.module_tree/1 or berth.chain/1 file; - reads standard "
    "input";
constexpr const char* topology_help =
    "machine: auto (this host), preset:NAME, or a file: berth.topology/1, nvidia-smi topo -m, NCCL/RCCL XML, "
    "p2pBandwidthLatencyTest";

std::string version_text() {
  return fmt::format("berth {}\nbuilt with {}, {}, BERTH_CUDA={}, CUDA toolkit found: {}", tool::version,
                     tool::compiler, tool::build_type, tool::cuda_option, tool::cuda_found);
}

/// An option given as "" is a slip (an unset shell variable), not a wish for the default.
std::string not_empty(const std::string& value) { return value.empty() ? "must not be empty" : ""; }

void add_output(CLI::App& app, std::string& format, std::string& output, const std::vector<std::string>& formats) {
  app.add_option("--format", format, "output format")->check(CLI::IsMember(formats))->capture_default_str();
  app.add_option("-o,--output", output, "write to this file instead of standard output (- is standard output)")
      ->check(not_empty);
}

/// What every command that plans takes.
void add_question(CLI::App& app, tool::question& a) {
  app.add_option("MODEL", a.model, model_help)->required();
  app.add_option("-t,--topology", a.topology, topology_help)->check(not_empty);
  app.add_option("--gpu", a.gpu, "GPU model of a machine whose topology file does not name it")->check(not_empty);
  app.add_option("-m,--max-memory", a.max_memory,
                 "memory per device, as in 0=20GiB,1=20GiB,cpu=30GiB; without --topology its keys are the machine")
      ->check(not_empty);
  app.add_option("--reserve", a.reserve, "memory to leave free per device, as in 0=2GiB")->check(not_empty);
  app.add_option("--offload-folder", a.offload_folder, "allow the disk; weights that live there go into this folder")
      ->check(not_empty);
  auto* workload = app.add_option_group("Workload", "what the model is asked to do");
  workload
      ->add_option(
          "--context", a.context,
          "tokens of KV cache per sequence, as in 8k; 0 counts weights only (default 4096 or the model's limit)")
      ->check(not_empty);
  workload->add_option("--batch", a.batch, "sequences at a time (default 1)")->check(not_empty);
  workload->add_option("--prompt", a.prompt, "tokens of the prompt (default 512)")->check(not_empty);
  workload->add_option("--generate", a.generate, "tokens to generate (default 128)")->check(not_empty);
  workload->add_option("--objective", a.objective, "what the plan is best at (default latency)")
      ->check(CLI::IsMember({"latency", "throughput", "memory"}));
  app.add_option("--placement", a.placement, "any, or interval: consecutive parts on distinct devices only")
      ->check(CLI::IsMember({"any", "interval"}))
      ->capture_default_str();
  app.add_option("--granularity", a.granularity,
                 "size of the parts that are placed; auto takes blocks, and finer parts where they are clearly better")
      ->check(CLI::IsMember({"auto", "blocks", "parts", "experts"}))
      ->capture_default_str();
  app.add_option("--dtype", a.dtype, "load dtype, as in bf16, f16, f32")->check(not_empty);
  app.add_option("--tensor-dtype", a.tensor_dtypes, "PREFIX=DTYPE for tensors at or below a name; may be repeated");
  app.add_option("--quantize", a.quantize,
                 "int8: Linear weights as LLM.int8 (without --strategy: on the current device); auto: where that is "
                 "better")
      ->check(CLI::IsMember({"int8", "int4", "auto"}));
  app.add_option("--int8-skip", a.int8_skip,
                 "modules that stay unquantized, as in lm_head,model.layers.0 (default: head and tied)")
      ->check(not_empty);
  app.add_option("--no-split", a.no_split, "classes to keep on one device, instead of the model's own list")
      ->check(not_empty);
  app.add_option("--staging-slots", a.staging_slots, "slots for streamed weights per device")
      ->capture_default_str()
      ->check(CLI::Range(1, 16));
}

void add_plan(CLI::App& root, tool::plan_arguments& a) {
  auto& app = *root.add_subcommand("plan", "decide where every part of a model lives and runs");
  add_question(app, a);
  app.add_option("-s,--strategy", a.strategy,
                 "auto (default), balanced, balanced_low_0, balanced_in_order, sequential, single:ID, cpu, current, "
                 "manual:FILE; with --compat auto (default), balanced, balanced_low_0, sequential")
      ->check(not_empty);
  app.add_option("--compat", a.compat, "plan exactly as this package does, defects included")
      ->check(CLI::IsMember({"accelerate", "transformers"}));
  app.add_option("--pin", a.pins, "PREFIX=DEVICE for parts whose place is fixed; may be repeated");
  app.add_option("--complete", a.complete, "device-map file that fixes some parts; the strategy places the rest")
      ->check(not_empty);
  app.add_flag("--offload-buffers", a.offload_buffers, "with --compat accelerate: count buffers as offloaded too");
  app.add_flag("--fallback-allocation", a.fallback_allocation, "with --compat accelerate: look for a part that fits");
  app.add_flag("--explain", a.explain, "say what binds, where the time goes and what more memory would buy");
  add_output(app, a.format, a.output, {"table", "json", "device-map"});
  app.footer("Example:\n  berth plan examples/models/llama-3-8b --max-memory 0=12GiB,1=4GiB,cpu=32GiB --explain");
}

void add_compare(CLI::App& root, tool::compare_arguments& a) {
  auto& app =
      *root.add_subcommand("compare", "all strategies side by side: memory per device, times, distance to the best");
  add_question(app, a);
  add_output(app, a.format, a.output, {"table", "json"});
  app.footer("Example:\n  berth compare examples/models/llama-3-8b -t preset:2x4090 --context 8k");
}

void add_fit(CLI::App& root, tool::fit_arguments& a) {
  auto& app = *root.add_subcommand("fit", "the largest context or batch that fits, or the smallest machine that does");
  add_question(app, a);
  app.add_option("--search", a.search, "what to look for")
      ->check(CLI::IsMember({"context", "batch", "machine"}))
      ->capture_default_str();
  app.add_option("--machines", a.machines, "presets to choose from, as in 1x3060,1x4090,2x4090 (default: all)")
      ->check(not_empty);
  app.add_option("--min-tokens-per-second", a.min_tokens_per_second, "speed floor of decode; allows offloading")
      ->check(CLI::PositiveNumber);
  app.add_option("--max-first-token", a.max_first_token, "seconds until the first token at most")
      ->check(CLI::PositiveNumber);
  app.add_flag("--allow-offload", a.allow_offload, "weights may lie on the CPU or the disk");
  add_output(app, a.format, a.output, {"table", "json"});
  app.footer(
      "Example:\n  berth fit examples/models/llama-3-8b -t preset:1x4090\n"
      "  berth fit examples/models/llama-3-8b --search machine --context 8k");
}

void add_simulate(CLI::App& root, tool::simulate_arguments& a) {
  auto& app = *root.add_subcommand("simulate", "run a plan on a simulated machine: times, memory, what limits it");
  add_question(app, a);
  app.get_option("MODEL")->description("what to run: a berth.plan/1 file, or a model as for plan");
  app.add_option("-s,--strategy", a.strategy, "how a model is planned first, as for plan (default auto)")
      ->check(not_empty);
  app.add_option("--host-memory", a.host_memory, "memory that weights are streamed from")
      ->check(CLI::IsMember({"pinned", "pageable"}))
      ->capture_default_str();
  app.add_option("--rounds", a.rounds, "decode rounds to run (default: the generated tokens, 1024 at most)")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{100'000}));
  auto* limits = app.add_option_group("Limits", "what makes the exit code 1");
  limits->add_option("--max-ttft", a.max_first_token, "time to the first token at most, as in 2s or 350ms")
      ->check(not_empty);
  limits->add_option("--min-tokens-per-second", a.min_tokens_per_second, "decode rate at least")
      ->check(CLI::PositiveNumber);
  limits
      ->add_option("--fail-on", a.fail_on,
                   "oom (always), offload: weights outside the GPUs, warning: the plan has warnings; may be repeated")
      ->delimiter(',')
      ->check(CLI::IsMember({"oom", "offload", "warning"}));
  limits
      ->add_option("--baseline", a.baseline, "report (--format json) of an earlier run that this one is compared with")
      ->check(not_empty);
  limits->add_option("--max-slowdown", a.max_slowdown, "percent that times may exceed the baseline's")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  auto* faults = app.add_option_group("Faults", "what goes wrong");
  faults
      ->add_option("--fault", a.faults,
                   "KIND:KEY=VALUE,...;... with alloc, copy, read, stall, segment, slow, lost, random, as in copy:n=5 "
                   "or lost:device=0,at=1s")
      ->check(not_empty);
  faults->add_option("--seed", a.seed, "seed of random faults")->capture_default_str();
  faults->add_option("--repeat", a.repeat, "runs with the seeds SEED, SEED + 1, ...")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  app.add_option("--sweep", a.sweep, "one run per value, as in context=2k..128k (doubling) or batch=1,2,4,8")
      ->check(not_empty);
  app.add_option("--trace", a.trace, "write what happened for Perfetto (ui.perfetto.dev) or chrome://tracing")
      ->check(not_empty);
  app.add_option("--report", a.page, "write a page to look at: timeline, memory, plan")->check(not_empty);
  app.add_option("--program", a.program, "write the program of one decode round (berth.program/1)")->check(not_empty);
  add_output(app, a.format, a.output, {"table", "json", "csv"});
  app.footer(
      "Example:\n  berth simulate examples/models/llama-3-8b -t preset:1x3060 --report run.html --trace run.json\n"
      "  berth simulate plan.json --max-ttft 2s --min-tokens-per-second 10 --fail-on offload\n"
      "  berth simulate examples/models/llama-3-8b -t preset:1x4090 --sweep context=2k..8k --format csv");
}

void add_others(CLI::App& root, tool::inspect_arguments& inspect, tool::topology_arguments& topology,
                tool::check_arguments& check) {
  auto& i = *root.add_subcommand("inspect", "what a model is: parameters, bytes, blocks, ties, KV cache, quantization");
  i.add_option("MODEL", inspect.model, model_help)->required();
  add_output(i, inspect.format, inspect.output, {"table", "json"});
  i.footer("Example:\n  berth inspect examples/models/llama-3-8b --format json");

  auto& t = *root.add_subcommand("topology", "what a machine is: devices, memory, links");
  t.add_option("T", topology.topology, topology_help)->capture_default_str();
  t.add_option("--gpu", topology.gpu, "GPU model of a machine whose file does not name it");
  t.add_flag("--list", topology.list, "list the presets");
  add_output(t, topology.format, topology.output, {"table", "json"});
  t.footer("Example:\n  berth topology preset:4x4090 --format json -o box.json");

  auto& c = *root.add_subcommand("check", "prove a plan: every invariant, exactly");
  c.add_option("PLAN", check.plan, "berth.plan/1 file; - reads standard input")->required();
  c.add_option("--model", check.model, "also check that the plan is for this model");
  c.footer("Example:\n  berth plan examples/models/llama-3-8b -m 0=20GiB --format json | berth check -");
}

void add_calibrate(CLI::App& root, tool::calibrate_arguments& a) {
  auto& app = *root.add_subcommand(
      "calibrate", "measure GPUs, memory, disk and CPU of this host and write a topology with the figures");
  app.add_option("-t,--topology", a.topology, topology_help)->check(not_empty)->capture_default_str();
  app.add_option("--gpu", a.gpu, "GPU model of a machine whose topology file does not name it")->check(not_empty);
  app.add_option("--folder", a.folder, "folder whose disk is measured with a temporary file (default: this one)")
      ->check(not_empty);
  app.add_option("--seconds", a.seconds, "time to spend on the host and on each GPU, 0.1 to 60")->capture_default_str();
  app.add_option("--format", a.format, "table of the figures, or json: the topology itself")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  app.add_option("-o,--output", a.output, "write the topology (berth.topology/1) to this file")->check(not_empty);
  app.footer(
      "GPUs are measured where a CUDA driver shows those of the topology; elsewhere their rates stay.\n"
      "Example:\n  berth calibrate -t preset:2x4090 -o box.json\n"
      "  berth plan examples/models/llama-3-8b --topology box.json");
}

void add_quantize(CLI::App& root, tool::quantize_arguments& a) {
  auto& app = *root.add_subcommand("quantize", "write an int8 copy of a checkpoint (bitsandbytes LLM.int8)");
  app.add_option("MODEL", a.model, "safetensors checkpoint: a folder with config.json")->required();
  app.add_option("-o,--output", a.folder, "folder to write; it must not exist, or be empty")
      ->required()
      ->check(not_empty);
  app.add_option("--max-shard-size", a.max_shard_size, "largest file, but for a tensor that is larger by itself")
      ->check(not_empty)
      ->capture_default_str();
  app.add_option("--int8-skip", a.int8_skip,
                 "modules that stay as they are, as in lm_head,model.layers.0 (default: head and tied)")
      ->check(not_empty);
  app.add_option("--format", a.format, "output format")->check(CLI::IsMember({"table", "json"}))->capture_default_str();
  app.footer("Example:\n  berth quantize llama-3-8b -o llama-3-8b-int8 && berth inspect llama-3-8b-int8");
}

void add_load(CLI::App& root, tool::load_arguments& a) {
  auto& app =
      *root.add_subcommand("load", "carry a plan out: weights into memory, verified, measured beside predicted");
  app.add_option("MODEL", a.model, "checkpoint folder or .safetensors file with the weights")->required();
  app.add_option("-p,--plan", a.plan, "berth.plan/1 file of this model; - reads standard input")
      ->required()
      ->check(not_empty);
  app.add_option(
         "--machine", a.machine,
         "host: every device of the plan is memory of this computer (a rehearsal); cuda: the plan's GPUs; auto: "
         "cuda where they are, else host")
      ->check(CLI::IsMember({"auto", "host", "cuda"}))
      ->capture_default_str();
  app.add_flag("--verify", a.verify, "compare checksums of what lies in memory with the files");
  app.add_option("--rounds", a.rounds,
                 "run the prompt and this many decode rounds with stand-in work (default: load only)")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{100'000}));
  app.add_option("--readers", a.readers, "threads that read files; 0: the main thread reads")
      ->check(CLI::Range(0, 256))
      ->capture_default_str();
  app.add_option("--offload-folder", a.offload_folder,
                 "folder for weights that live on the disk and are not stored as the plan wants them")
      ->check(not_empty);
  app.add_option("--trace", a.trace, "write what happened for Perfetto (ui.perfetto.dev) or chrome://tracing")
      ->check(not_empty);
  add_output(app, a.format, a.output, {"table", "json"});
  app.footer(
      "Example:\n  berth plan MODEL -m 0=12GiB,cpu=32GiB --format json -o plan.json\n"
      "  berth load MODEL --plan plan.json --verify --rounds 8");
}

int run(int argc, char** argv) {
  CLI::App app("Decides where every tensor of a model lives and runs, proves it, simulates it, and carries it out.",
               "berth");
  app.set_version_flag("--version", version_text());
  app.require_subcommand(1);
  tool::plan_arguments plan;
  tool::compare_arguments compare;
  tool::fit_arguments fit;
  tool::simulate_arguments simulate;
  tool::inspect_arguments inspect;
  tool::topology_arguments topology;
  tool::check_arguments check;
  tool::calibrate_arguments calibrate;
  tool::quantize_arguments quantize;
  tool::load_arguments load;
  add_plan(app, plan);
  add_compare(app, compare);
  add_fit(app, fit);
  add_simulate(app, simulate);
  add_others(app, inspect, topology, check);
  add_calibrate(app, calibrate);
  add_quantize(app, quantize);
  add_load(app, load);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    std::string where = "berth";
    for (const auto* sub : app.get_subcommands()) where += " " + sub->get_name();
    tool::complain(where, fmt::format("{} ({} --help explains)", e.what(), where));
    return tool::exit_usage;
  }
  if (app.got_subcommand("plan")) return tool::run_plan(plan);
  if (app.got_subcommand("compare")) return tool::run_compare(compare);
  if (app.got_subcommand("fit")) return tool::run_fit(fit);
  if (app.got_subcommand("simulate")) return tool::run_simulate(simulate);
  if (app.got_subcommand("inspect")) return tool::run_inspect(inspect);
  if (app.got_subcommand("topology")) return tool::run_topology(topology);
  if (app.got_subcommand("calibrate")) return tool::run_calibrate(calibrate);
  if (app.got_subcommand("quantize")) return tool::run_quantize(quantize);
  if (app.got_subcommand("load")) return tool::run_load(load);
  return tool::run_check(check);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    tool::complain("berth", fmt::format("out of memory or a fault of berth itself: {}", e.what()));
    return tool::exit_usage;
  }
}
