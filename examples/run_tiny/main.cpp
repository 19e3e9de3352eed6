// SPDX-License-Identifier: Apache-2.0
// example_run_tiny MODEL [--tokens 1,17,42,99] [--new 16] [--strategy auto|balanced|sequential|cpu|single:ID]
//   [--topology host|PRESET] [--max-memory 0=200KiB,cpu=1MiB] [--offload-folder DIR] [--int8 yes] [--threads 2]
//   [--machine cuda]
//   [--write-plan FILE | --plan FILE]
// Plans a small model, carries the plan out in this computer's memory, prints the tokens, and the times measured beside
// those simulated. Without --machine cuda, GPUs of the topology are rehearsed: their plan is carried out as it is, at
// this computer's speed.
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <map>
#include <memory_resource>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "forward.hpp"

import berth;
import berth.cuda;
import berth.formats;
import berth.host;
import berth.runtime;
import berth.sim;
import tiny;

namespace {

using berth::errc;
using berth::fail;
using berth::result;

using options = std::map<std::string, std::string, std::less<>>;

std::string_view given(const options& o, std::string_view name, std::string_view otherwise) {
  const auto it = o.find(name);
  return it == o.end() ? otherwise : std::string_view(it->second);
}

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const auto comma = text.find(',');
    out.push_back(text.substr(0, comma));
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
  }
  return out;
}

result<std::int32_t> number(std::string_view text, std::string_view option) {
  std::int32_t n = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (status != std::errc{} || end != text.data() + text.size() || n < 0)
    return fail(errc::invalid_argument, option, "needs a whole number");
  return n;
}

result<berth::topology> machine_of(const options& o) {
  const auto name = given(o, "--topology", "host");
  return name == "host" ? berth::host::detect_host() : berth::preset(name);
}

result<std::vector<berth::device_bytes>> budgets_of(const options& o) {
  std::vector<berth::device_bytes> out;
  for (const auto pair : split(given(o, "--max-memory", ""))) {
    const auto equals = pair.find('=');
    if (equals == std::string_view::npos || !berth::device_id::fits(pair.substr(0, equals)))
      return fail(errc::invalid_argument, "--max-memory", "needs pairs such as 0=200KiB");
    const auto size = berth::parse_size(pair.substr(equals + 1));
    if (!size) return size.propagate();
    out.push_back({berth::device_id(pair.substr(0, equals)), *size});
  }
  return out;
}

result<berth::plan> place(std::string_view strategy, const berth::model& chain, const berth::topology& machine,
                          const berth::place_options& how) {
  constexpr std::string_view single = "single:";
  if (strategy == "auto") return berth::Place<berth::Auto>(chain, machine, how);
  if (strategy == "balanced") return berth::Place<berth::Balanced>(chain, machine, how);
  if (strategy == "sequential") return berth::Place<berth::Sequential>(chain, machine, how);
  if (strategy == "cpu") return berth::Place<berth::CpuOnly>(chain, machine, how);
  if (strategy.starts_with(single) && berth::device_id::fits(strategy.substr(single.size())))
    return berth::place_fn{berth::Single{berth::device_id(strategy.substr(single.size()))}}(chain, machine, how);
  return fail(errc::invalid_argument, "--strategy", "needs auto, balanced, sequential, cpu or single:ID");
}

/// A plan of this model as it was written before.
result<berth::plan> read_plan(const tiny::opened& model, const std::string& path) {
  const auto text = berth::read_json_file(path);
  if (!text) return text.propagate();
  auto read = berth::read_plan(*text, path);
  if (!read) return read.propagate();
  if (read->plan.fingerprint != model.model.fingerprint)
    return fail(errc::inconsistent_model, path, "is a plan for another model; make it again");
  return std::move(read->plan);
}

result<berth::plan> make_plan(const tiny::opened& model, const options& o, std::uint64_t prompt) {
  if (const auto path = given(o, "--plan", ""); !path.empty()) return read_plan(model, std::string(path));
  const auto fresh = number(given(o, "--new", "16"), "--new");
  auto machine = machine_of(o);
  auto budgets = budgets_of(o);
  if (!fresh) return fresh.propagate();
  if (!machine) return machine.propagate();
  if (!budgets) return budgets.propagate();
  berth::precision how;
  how.int8 = given(o, "--int8", "no") == "yes";
  berth::place_options options;
  options.workload.prompt = prompt;
  options.workload.generate = static_cast<std::uint64_t>(*fresh);
  options.workload.context = prompt + options.workload.generate;
  options.workload.objective = berth::objective::latency;
  options.max_memory = *budgets;
  options.use_disk = !given(o, "--offload-folder", "").empty();
  const auto chain = tiny::chain_of(model, how, options.workload);
  if (!chain) return chain.propagate();
  auto plan = place(given(o, "--strategy", "auto"), *chain, *machine, options);
  if (!plan) return plan;
  plan->fingerprint = model.model.fingerprint;
  plan->precision = std::string_view(berth::words_of(how));
  if (const auto path = given(o, "--write-plan", ""); !path.empty())
    std::ofstream(std::string(path)) << berth::json::write(berth::write_plan(*plan), 2) << "\n";
  return plan;
}

void print_times(std::string_view what, const berth::report& r) {
  std::cout << what << ": loaded in " << berth::seconds_from(r.load_time) * 1e3 << " ms, first token after "
            << berth::seconds_from(r.first_token) * 1e3 << " ms, then one in " << r.period() * 1e3 << " ms\n";
}

result<berth::done> print_simulated(const tiny::prepared& run) {
  berth::sim::machine machine(run.plan().topology(), {});
  berth::trace trace(100'000);
  berth::traced traced(machine, trace);
  berth::execution execution(traced, run.programs(), {.rounds = run.rounds()});
  if (auto ok = execution.run(); !ok) return ok;
  print_times("simulated", berth::make_report(run.plan(), trace, berth::marks_of(run.programs(), trace)));
  return berth::done{};
}

berth::materialise_options load_options(berth::image_storage& storage, const options& o) {
  berth::materialise_options load;
  load.gpu = berth::cpu_transforms();
  load.storage = &storage;
  load.offload_folder = given(o, "--offload-folder", "");
  return load;
}

/// Generates and prints.
template <berth::Machine M>
result<berth::done> go_on(M& machine, tiny::prepared& run, const berth::materialise_options& load,
                          berth::work_source work) {
  berth::trace trace(100'000);
  berth::picoseconds loaded_at = 0;
  {
    berth::traced traced(machine, trace);
    if (auto ok = tiny::generate(traced, run, load, work, &loaded_at); !ok) return ok;
  }
  auto marks = berth::marks_of(run.programs(), trace);
  marks.load_end = loaded_at;  // weights did not come by the load program
  std::cout << "tokens:";
  for (const auto t : run.generated()) std::cout << " " << t;
  std::cout << "\n";
  print_times("measured", berth::make_report(run.plan(), trace, marks));
  return print_simulated(run);
}

/// Every device of the plan is this computer's memory, GPUs too.
result<berth::done> on_host(const tiny::opened& model, berth::plan plan, const berth::precision& how,
                            std::span<const std::int32_t> prompt, const options& o) {
  const auto threads = number(given(o, "--threads", "2"), "--threads");
  if (!threads) return threads.propagate();
  auto run = tiny::prepare(model, std::move(plan), how);
  if (!run) return run.propagate();
  if (auto ok = (*run)->begin(prompt); !ok) return ok;
  berth::image_storage storage((*run)->images());
  berth::host::machine_options options;
  options.storage = storage.as_storage();
  options.threads = *threads;
  berth::host::machine machine((*run)->plan().topology(), options);
  return go_on(machine, **run, load_options(storage, o), (*run)->work());
}

#ifdef TINY_HAS_CUDA
/// Memory that the CPU and all GPUs can use under one address.
class pinned_memory final : public std::pmr::memory_resource {
 public:
  explicit pinned_memory(const berth::cuda::runtime_table& cuda) : cuda_(cuda) {}

 private:
  void* do_allocate(std::size_t size, std::size_t) override {
    void* out = nullptr;
    if (cuda_.host_alloc(&out, size) != berth::cuda::status::success) throw std::bad_alloc();
    return out;
  }
  void do_deallocate(void* memory, std::size_t, std::size_t) override { (void)cuda_.host_free(memory); }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }

  const berth::cuda::runtime_table& cuda_;
};

result<berth::done> on_cuda(const tiny::opened& model, berth::plan plan, const berth::precision& how,
                            std::span<const std::int32_t> prompt, const options& o) {
  const auto cuda = berth::cuda::runtime();
  if (!cuda) return cuda.propagate();
  const auto kernels = berth::cuda::kernels();
  if (!kernels) return kernels.propagate();
  pinned_memory shared(**cuda);
  auto run = tiny::prepare(model, std::move(plan), how, false, &shared);
  if (!run) return run.propagate();
  if (auto ok = (*run)->begin(prompt); !ok) return ok;
  berth::image_storage storage((*run)->images());
  berth::cuda::machine_options options;
  options.storage = storage.as_storage();
  berth::cuda::machine machine(**cuda, (*run)->plan().topology(), options);
  auto load = load_options(storage, o);
  load.gpu = berth::cuda::cuda_transforms(**kernels);
  return go_on(machine, **run, load, (*run)->work(&tiny::cuda_forward()));
}
#else
result<berth::done> on_cuda(const tiny::opened&, berth::plan, const berth::precision&, std::span<const std::int32_t>,
                            const options&) {
  return fail(errc::unavailable, "--machine cuda", "this build has no CUDA; configure it with -DBERTH_CUDA=ON");
}
#endif

result<berth::done> go(const std::string& path, const options& o) {
  std::vector<std::int32_t> prompt;
  for (const auto word : split(given(o, "--tokens", "1,17,42,99"))) {
    const auto token = number(word, "--tokens");
    if (!token) return token.propagate();
    prompt.push_back(*token);
  }
  const auto model = tiny::open(path);
  if (!model) return model.propagate();
  auto plan = make_plan(*model, o, prompt.size());
  if (!plan) return plan.propagate();
  const auto how = berth::precision_from(plan->precision.view());
  if (!how) return fail(errc::invalid_plan, "precision", "is not in words that berth writes");
  return given(o, "--machine", "host") == "cuda" ? on_cuda(*model, *std::move(plan), *how, prompt, o)
                                                 : on_host(*model, *std::move(plan), *how, prompt, o);
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  for (int i = 2; i + 1 < argc; i += 2) o[argv[i]] = argv[i + 1];
  if (argc < 2 || argc % 2 != 0) {
    std::cerr << "usage: example_run_tiny MODEL [--OPTION VALUE]... (see the top of main.cpp)\n";
    return 2;
  }
  if (const auto ok = go(argv[1], o); !ok) {
    std::cerr << ok.error().subject.view() << ": " << ok.error().detail.view() << "\n";
    return 1;
  }
}
