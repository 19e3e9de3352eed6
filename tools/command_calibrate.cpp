// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

module berth.tool;

import berth;
import berth.cuda;
import berth.formats;
import berth.host;

namespace tool {
namespace {

using berth::errc;
using berth::fail;

constexpr double shortest = 0.1, longest = 60;

/// The measured host and GPUs, the topology that the figures go into, and that topology with them.
struct calibration {
  berth::host::facts facts;
  berth::topology before;
  berth::topology after;
  berth::host::host_figures figures;
  berth::cuda::measured_gpus gpus;
  std::vector<std::string> notes;
};

/// Why GPUs are not measured: the CUDA runtime's or the kernels' absence, with what mends it.
std::string unmeasured(const berth::error& why) {
  return fmt::format("GPUs are not measured: {}: {}", why.subject.view(), why.detail.view());
}

/// Why `path` will not take a file, found before seconds are spent on measuring; empty if nothing speaks against it.
std::string refusal(const std::string& path) {
  if (path.empty() || path == "-") return {};
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return "is a folder; name a file";
  auto folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) folder = ".";
  return ::access(folder.c_str(), W_OK) == 0 ? std::string() : std::strerror(errno);
}

/// The machine to start from: this host with its GPUs, or the given one.
berth::result<machine_choice> start_from(const calibrate_arguments& a, const berth::topology& host) {
  return a.topology == "auto" ? with_gpus(host) : choose_machine(a.topology, a.gpu);
}

/// Whether the GPUs of a topology are those of this machine.
berth::result<berth::done> find_gpus(const berth::topology& t) {
  for (const auto& d : t.devices)
    if (d.kind == berth::device_kind::gpu)
      if (auto ok = find_gpu(d); !ok) return ok;
  return berth::done{};
}

/// Puts the figures of the GPUs into `c.after`, or a note about why there are none.
berth::result<berth::done> add_gpus(const calibrate_arguments& a, calibration& c) {
  const auto view = c.before.view();
  if (view.count(berth::device_kind::gpu) == 0) return berth::done{};
  const auto cuda = berth::cuda::runtime();
  const auto kernels = berth::cuda::kernels();
  if (!cuda || !kernels) {
    c.notes.push_back(unmeasured(!cuda ? cuda.error() : kernels.error()));
    return berth::done{};
  }
  if (const auto here = find_gpus(c.before); !here) {
    c.notes.push_back(unmeasured(here.error()));
    return berth::done{};
  }
  berth::cuda::measure_options options;
  options.seconds = a.seconds;
  options.matrices = berth::cuda::load_matrix_library();
  auto figures = berth::cuda::measure_gpus(**cuda, **kernels, view, options);
  if (!figures) return figures.propagate();
  c.gpus = *std::move(figures);
  auto after = berth::cuda::calibrated(c.after, c.gpus);
  if (!after) return after.propagate();
  c.after = *std::move(after);
  c.notes.insert(c.notes.end(), c.gpus.notes.begin(), c.gpus.notes.end());
  return berth::done{};
}

berth::result<calibration> calibrate(const calibrate_arguments& a) {
  const auto folder = a.folder.empty() ? std::string(".") : a.folder;
  auto facts = berth::host::read_facts({"/", folder});
  if (!facts) return facts.propagate();
  const auto host = berth::host::topology_of(*facts);
  auto start = start_from(a, host);
  if (!start) return start.propagate();
  calibration c{*facts, start->topology, {}, {}, {}, start->notes};
  const auto view = c.before.view();
  if (!view.first(berth::device_kind::cpu))
    return fail(errc::unknown_device, a.topology, "has no device \"cpu\" that the figures could be put into");
  // A folder that cannot be examined gives the host no disk; that it was meant to be measured is what --folder says.
  const bool disk = view.first(berth::device_kind::disk) || a.topology == "auto";
  if (!disk && !a.folder.empty())
    return fail(errc::invalid_argument, "--folder", "this topology has no disk that its rates could be put into");
  if (!disk) c.notes.emplace_back("this topology has no disk; none is measured");

  berth::host::host_options options;
  options.seconds = a.seconds;
  if (disk) options.folder = folder;
  auto figures = berth::host::measure_host(*facts, options);
  if (!figures) return figures.propagate();
  c.figures = *std::move(figures);
  auto after = berth::host::calibrated(c.before, host, c.figures);
  if (!after) return after.propagate();
  c.after = *std::move(after);
  c.notes.insert(c.notes.end(), facts->notes.begin(), facts->notes.end());
  c.notes.insert(c.notes.end(), c.figures.notes.begin(), c.figures.notes.end());
  if (auto ok = add_gpus(a, c); !ok) return ok.propagate();
  const std::string_view measured =
      c.gpus.gpus.empty() ? ", CPU, memory and disk measured" : ", GPUs, CPU, memory and disk measured";
  if (c.before.name.view().find(measured) == std::string_view::npos) c.after.name.append(measured);
  return c;
}

/// SI prefixes for rates and times.
std::string quantity(double v, std::string_view unit) {
  constexpr std::pair<double, std::string_view> prefixes[]{{1e12, "T"}, {1e9, "G"},  {1e6, "M"}, {1e3, "k"},
                                                           {1, ""},     {1e-3, "m"}, {1e-6, "u"}};
  if (!(v > 0)) return "-";
  for (const auto& [scale, prefix] : prefixes)
    if (v >= scale) return fmt::format("{:.3g} {}{}", v / scale, prefix, unit);
  return fmt::format("{:.3g} n{}", v * 1e9, unit);
}

template <class Figure>
std::string row(std::string_view what, const Figure& f, double prior, std::string_view unit) {
  if (f.repetitions == 0) return {};
  return fmt::format("  {:<16} {:>12} {:>8} {:>12} {:>12}\n", what, quantity(f.value, unit),
                     fmt::format("{:.0f} %", f.spread() * 100), f.repetitions, quantity(prior, unit));
}

std::string gpu_rows(const calibration& c) {
  const auto view = c.before.view();
  const auto cpu = *view.first(berth::device_kind::cpu);
  const auto rate = [&](berth::device_index from, berth::device_index to) {
    const auto* way = view.route(from, to);
    return way == nullptr ? 0 : view.bandwidth_of(*way);
  };
  std::string out;
  for (const auto& g : c.gpus.gpus) {
    const auto at = *view.find(g.device);
    const auto& d = view.devices[at];
    out += fmt::format("\n  GPU {}: {}\n", g.device.view(), d.model.view());
    out += row("from pinned", g.to_device, rate(cpu, at), "B/s");
    out += row("to pinned", g.from_device, rate(at, cpu), "B/s");
    out += row("from pageable", g.pageable_to_device, 0, "B/s");
    out += row("to pageable", g.pageable_from_device, 0, "B/s");
    out += row("memory copy", g.memory, d.bandwidth(), "B/s");
    out += row("bf16 weights", g.gemv_bf16, d.bandwidth(), "B/s");
    out += row("int8 weights", g.gemv_int8, d.bandwidth(), "B/s");
    out += row("bf16 products", g.products_bf16, d.flops(berth::rate_class::half), "FLOP/s");
    out += row("LLM.int8, ours", g.products_int8, 0, "OP/s");
    const auto* way = view.route(cpu, at);
    out += row("small copy", g.setup, way == nullptr ? 0 : way->setup, "s");
    out += row("kernel launch", g.launch, d.overhead / berth::cuda::kernels_per_atom, "s");
    out += row("message to CPU", g.hop, way == nullptr ? 0 : way->latency, "s");
  }
  for (const auto& p : c.gpus.peers) {
    const auto* way = view.route(*view.find(p.from), *view.find(p.to));
    const auto name = fmt::format("{} -> {}", p.from.view(), p.to.view());
    out += row(name, p.rate, way == nullptr ? 0 : view.bandwidth_of(*way), "B/s");
    out += row(name + " message", p.hop, way == nullptr ? 0 : way->latency, "s");
  }
  return out;
}

std::string figure_table(const calibration& c) {
  const auto view = c.before.view();
  const auto& cpu = view.devices[*view.first(berth::device_kind::cpu)];
  const auto& m = c.figures;
  auto out = fmt::format("{}: {}, {} cores, {} of memory\n\n", c.after.name.view(), c.facts.cpu_model, c.facts.cores,
                         berth::format_size(c.facts.memory));
  out += fmt::format("  {:<16} {:>12} {:>8} {:>12} {:>12}\n", "what", "measured", "spread", "repetitions", "prior");
  out += row("memory read", m.memory.read, cpu.bandwidth(), "B/s");
  out += row("memory copy", m.memory.copy, 0, "B/s");
  out += row("f32 products", m.products, cpu.flops(berth::rate_class::f32), "FLOP/s");
  out += row("hand-over", m.handover, cpu.overhead, "s");
  if (!m.disk) return out + gpu_rows(c);
  const auto disk = view.first(berth::device_kind::disk);
  const auto* way = disk ? view.route(*disk, *view.first(berth::device_kind::cpu)) : nullptr;
  out += row("disk read", m.disk->read, disk ? view.devices[*disk].bandwidth() : 0, "B/s");
  return out + row("small disk read", m.disk->latency, way == nullptr ? 0 : way->setup, "s") + gpu_rows(c);
}

}  // namespace

int run_calibrate(const calibrate_arguments& a) {
  if (!(a.seconds >= shortest && a.seconds <= longest)) {
    complain("--seconds", fmt::format("must be from {} to {} (berth calibrate --help explains)", shortest, longest));
    return exit_usage;
  }
  if (const auto why = refusal(a.output); !why.empty()) {
    complain(a.output, why);
    return exit_usage;
  }
  const auto c = calibrate(a);
  if (!c) return report(c.error());
  const auto document = berth::json::write(berth::write_topology_json(c->after), 2) + "\n";
  if (a.format == "json" || a.output == "-") {
    for (const auto& n : c->notes) warn(n);
    return write_output(a.output, document) ? exit_done : exit_usage;
  }
  if (!a.output.empty() && !write_output(a.output, document)) return exit_usage;
  auto out = figure_table(*c) + "\n";
  for (const auto& n : c->notes) out += fmt::format("  note: {}\n", n);
  if (a.output.empty()) out += "  note: nothing is kept; -o FILE writes the topology that --topology takes\n";
  return write_output({}, out) ? exit_done : exit_usage;
}

}  // namespace tool
