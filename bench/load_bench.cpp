// SPDX-License-Identifier: Apache-2.0
// Loading against reading: a synthetic checkpoint in the shape of a Llama goes into host memory, all of it to "cpu" and
// all of it to two rehearsed GPUs, beside plain parallel reads of the same files in the same run. Warm: the files are
// in the page cache. Cold: the kernel was asked to drop them before every repetition.
//   berth_bench_load FOLDER [GIB] [READERS]   (FOLDER gets a checkpoint of GIB, 4 unless told, which is deleted again)
// Rates are those of the fastest of three repetitions, taken in turn.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

import berth;
import berth.formats;
import berth.host;
import berth.runtime;

namespace {

constexpr std::size_t chunk = 16u << 20;
constexpr int repetitions = 3;

double seconds_since(std::chrono::steady_clock::time_point t) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count();
}

struct tensor_line {
  std::string name;
  std::uint64_t rows, columns;  ///< 0 columns: a vector
  std::uint64_t size() const { return 2 * rows * (columns == 0 ? 1 : columns); }
};

constexpr std::uint64_t hidden = 4096, inner = 14336, narrow = 1024, vocabulary = 32768;

std::vector<tensor_line> block(std::uint64_t l) {
  const auto p = "model.layers." + std::to_string(l) + ".";
  return {{p + "input_layernorm.weight", hidden, 0},          {p + "mlp.down_proj.weight", hidden, inner},
          {p + "mlp.gate_proj.weight", inner, hidden},        {p + "mlp.up_proj.weight", inner, hidden},
          {p + "post_attention_layernorm.weight", hidden, 0}, {p + "self_attn.k_proj.weight", narrow, hidden},
          {p + "self_attn.o_proj.weight", hidden, hidden},    {p + "self_attn.q_proj.weight", hidden, hidden},
          {p + "self_attn.v_proj.weight", narrow, hidden}};
}

/// Writes the checkpoint, one shard per two layers; the number of bytes of its tensors.
std::uint64_t write_checkpoint(const std::string& folder, double gib) {
  const double ends = 4.0 * hidden * vocabulary,
               layer = 2.0 * (2 * hidden * hidden + 2 * narrow * hidden + 3 * hidden * inner);
  const auto layers = static_cast<std::uint64_t>(std::max(1.0, (gib * 0x1p30 - ends) / layer + 0.5));
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/config.json")
      << "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":" << hidden
      << ",\"intermediate_size\":" << inner << ",\"num_hidden_layers\":" << layers
      << ",\"num_attention_heads\":32,\"num_key_value_heads\":8,\"vocab_size\":" << vocabulary
      << ",\"max_position_embeddings\":8192,\"rms_norm_eps\":1e-5,\"torch_dtype\":\"bfloat16\"}";
  std::vector<std::vector<tensor_line>> shards(1);
  shards.back().push_back({"model.embed_tokens.weight", vocabulary, hidden});
  for (std::uint64_t l = 0; l < layers; ++l) {
    if (l % 2 == 0) shards.emplace_back();
    for (auto& t : block(l)) shards.back().push_back(std::move(t));
  }
  shards.push_back({{"lm_head.weight", vocabulary, hidden}, {"model.norm.weight", hidden, 0}});
  std::vector<std::uint64_t> noise(1u << 17);
  std::uint64_t z = 1, all = 0;
  for (auto& v : noise) v = (z = z * 6364136223846793005u + 1442695040888963407u) & 0xbfffbfffbfffbfffu;
  std::string map;
  for (std::size_t s = 0; s < shards.size(); ++s) {
    char name[64];
    std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", s + 1, shards.size());
    std::string header = "{";
    std::uint64_t offset = 0;
    for (const auto& t : shards[s]) {
      header += (header.size() > 1 ? "," : "") + ("\"" + t.name + "\":{\"dtype\":\"BF16\",\"shape\":[") +
                std::to_string(t.rows) + (t.columns == 0 ? "" : "," + std::to_string(t.columns)) +
                "],\"data_offsets\":[" + std::to_string(offset) + "," + std::to_string(offset + t.size()) + "]}";
      offset += t.size();
      map += (map.empty() ? "" : ",") + ("\"" + t.name + "\":\"" + name + "\"");
    }
    header += "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    std::ofstream out(folder + "/" + name, std::ios::binary);
    const std::uint64_t size = header.size();
    out.write(reinterpret_cast<const char*>(&size), sizeof size);
    out << header;
    for (std::uint64_t left = offset; left > 0;) {
      noise[left % noise.size()] ^= left & 0x3fff3fffu;
      const auto n = std::min<std::uint64_t>(left, noise.size() * 8);
      out.write(reinterpret_cast<const char*>(noise.data()), static_cast<std::streamsize>(n));
      left -= n;
    }
    all += offset;
  }
  std::ofstream(folder + "/model.safetensors.index.json") << "{\"weight_map\":{" << map << "}}";
  return all;
}

std::vector<std::string> shards_of(const std::string& folder) {
  std::vector<std::string> out;
  for (const auto& e : std::filesystem::directory_iterator(folder))
    if (e.path().extension() == ".safetensors") out.push_back(e.path().string());
  std::sort(out.begin(), out.end());
  return out;
}

void drop(const std::vector<std::string>& files) {
  for (const auto& f : files) {
    const int fd = ::open(f.c_str(), O_RDONLY | O_CLOEXEC);
    ::fdatasync(fd);
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
  }
}

/// Bytes per second of reading all files with threads: into one small buffer each, or into fresh memory for all of it.
double read_all(const std::vector<std::string>& files, int readers, bool keep) {
  struct job {
    int fd;
    off_t at;
    std::size_t size, to;
  };
  std::vector<job> jobs;
  std::vector<int> open;
  std::size_t all = 0;
  for (const auto& f : files) {
    open.push_back(::open(f.c_str(), O_RDONLY | O_CLOEXEC));
    const auto size = static_cast<std::size_t>(std::filesystem::file_size(f));
    for (std::size_t at = 0; at < size; at += chunk)
      jobs.push_back({open.back(), static_cast<off_t>(at), std::min(chunk, size - at), all + at});
    all += size;
  }
  const auto count = static_cast<std::size_t>(readers);
  const auto begin = std::chrono::steady_clock::now();
  const auto room = keep ? all : count * chunk;
  auto* memory = static_cast<std::byte*>(
      ::mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  std::atomic<std::size_t> next = 0, got = 0;
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < count; ++i)
    threads.emplace_back([&, i] {
      for (auto j = next++; j < jobs.size(); j = next++) {
        const auto n = ::pread(jobs[j].fd, memory + (keep ? jobs[j].to : i * chunk), jobs[j].size, jobs[j].at);
        got += n > 0 ? static_cast<std::size_t>(n) : 0;
      }
    });
  for (auto& t : threads) t.join();
  const auto seconds = seconds_since(begin);
  for (const int fd : open) ::close(fd);
  ::munmap(memory, room);
  return got == all ? static_cast<double>(all) / seconds : 0;
}

struct subject {
  berth::loaded_model model;
  berth::plan plan;
  berth::compiled_plan programs;
  berth::weight_images images;
};

template <class T>
T or_stop(berth::result<T> r) {
  if (!r) {
    std::fprintf(stderr, "%s: %s\n", std::string(r.error().subject.view()).c_str(),
                 std::string(r.error().detail.view()).c_str());
    std::exit(2);
  }
  return *std::move(r);
}

/// The model on the CPU alone, or half and half on two GPUs.
subject plan_for(const std::string& folder, bool gpus) {
  auto model = or_stop(berth::load_model(folder));
  const berth::workload w{256, 1, 16, 8, berth::objective::latency};
  auto chain = berth::derive_model(model.tree(), model.sizes);
  const auto& a = model.architecture;
  (void)or_stop(berth::cost_model(chain, model.tree(), model.sizes, {a.hidden, a.vocabulary, a.layers}, w));
  const auto box = or_stop(berth::preset("2x4090"));
  berth::place_options o;
  o.workload = w;
  o.certify = false;
  auto plan = gpus ? or_stop(berth::place_fn(berth::Balanced{})(chain, box, o))
                   : or_stop(berth::place_fn(berth::CpuOnly{})(chain, box, o));
  auto programs = or_stop(berth::compile_all(plan));
  auto images = or_stop(berth::make_images(plan, model.tree(), model.sizes, {}, or_stop(berth::sources_of(model))));
  return {std::move(model), std::move(plan), std::move(programs), std::move(images)};
}

struct load_rate {
  double rate = 0, waiting = 0;
  berth::bytes direct = 0;
};

load_rate load(const subject& s, int readers, int threads) {
  berth::host::machine machine(s.plan.topology(), {.threads = threads});
  berth::materialise_options o;
  o.readers = readers;
  o.gpu = berth::cpu_transforms();
  const auto begin = std::chrono::steady_clock::now();
  auto done = or_stop(berth::materialise(machine, s.plan, s.programs, s.images, o));
  const auto seconds = seconds_since(begin);
  (void)or_stop(berth::release_loaded(machine, s.programs, done.handles));
  return {static_cast<double>(done.report.stored) / seconds, done.report.waiting / seconds, done.report.from_disk};
}

void print(const char* what, double rate, double beside_small, double beside_fresh) {
  std::printf("  %-34s %7.2f GB/s  %6.1f %%  %6.1f %%\n", what, rate / 1e9, 100 * rate / beside_small,
              100 * rate / beside_fresh);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "berth_bench_load FOLDER [GIB] [READERS]\n");
    return 2;
  }
  const std::string folder = std::string(argv[1]) + "/berth-load-bench";
  const double gib = argc > 2 ? std::atof(argv[2]) : 4;
  const int readers = argc > 3 ? std::atoi(argv[3]) : 4;
  if (std::filesystem::exists(folder)) {
    std::fprintf(stderr, "%s is there already; remove it first\n", folder.c_str());
    return 2;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const auto size = write_checkpoint(folder, gib);
  const auto files = shards_of(folder);
  std::printf("berth_bench_load; %.2f GiB in %zu files, %d readers, %u processors\n",
              static_cast<double>(size) / 0x1p30, files.size(), readers, std::thread::hardware_concurrency());
  {
    const auto cpu = plan_for(folder, false), gpus = plan_for(folder, true);
    for (const bool cold : {false, true}) {
      double small = 0, fresh = 0;
      load_rate in_place, staged, alone;
      const auto better = [](load_rate& best, const load_rate& r) {
        if (r.rate > best.rate) best = r;
      };
      if (!cold) (void)read_all(files, readers, false);
      for (int i = 0; i < repetitions; ++i) {
        const auto prepare = [&] {
          if (cold) drop(files);
        };
        prepare();
        small = std::max(small, read_all(files, readers, false));
        prepare();
        fresh = std::max(fresh, read_all(files, readers, true));
        prepare();
        better(in_place, load(cpu, readers, 0));
        prepare();
        better(staged, load(gpus, readers, 2));
        prepare();
        better(alone, load(gpus, 0, 2));
      }
      std::printf("\n%s                            %24s  of read   of read\n", cold ? "cold" : "warm", "");
      std::printf("  %-34s %12s  into a few  into fresh\n", "", "");
      print("read into a few buffers", small, small, fresh);
      print("read into fresh memory", fresh, small, fresh);
      print("load, all on cpu (in place)", in_place.rate, small, fresh);
      print("load, two rehearsed GPUs", staged.rate, small, fresh);
      print("  the caller's thread reads", alone.rate, small, fresh);
      std::printf("  past the page cache: %.2f, %.2f, %.2f GiB\n", static_cast<double>(in_place.direct) / 0x1p30,
                  static_cast<double>(staged.direct) / 0x1p30, static_cast<double>(alone.direct) / 0x1p30);
    }
  }
  std::filesystem::remove_all(folder);
  return 0;
}
