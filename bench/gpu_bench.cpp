// SPDX-License-Identifier: Apache-2.0
// What the kernels do on the GPU of this machine, as JSON: rates of our products and of quantisation as shares of the
// rate at which the same GPU copies its memory, in the same run; and quantising behind a copy against the bare copy.
// `--device` prints only which GPU it is. Without a usable GPU it says why and leaves with 77.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string_view>
#include <vector>

import berth;
import berth.cuda;

namespace {

using berth::cuda::kernel_table;
using berth::cuda::runtime_table;
using berth::cuda::status;

/// A bench that cannot go on says where and leaves; there is nothing to give back that the process does not.
void demand(status s, const char* what) {
  if (s == status::success) return;
  std::fprintf(stderr, "%s: CUDA status %d\n", what, static_cast<int>(s));
  std::exit(1);
}
void demand(int s, const char* what) { demand(static_cast<status>(s), what); }

struct gpu {
  const runtime_table& cuda;
  const kernel_table& kernels;
  void *work = nullptr, *copies = nullptr;
  void *begin = nullptr, *end = nullptr;
  std::byte* memory = nullptr;
  std::size_t size = 0;
  std::byte* pinned = nullptr;
  std::uint32_t* bad_row = nullptr;

  gpu(const runtime_table& c, const kernel_table& k) : cuda(c), kernels(k) {
    void* p = nullptr;
    demand(cuda.set_device(0), "cudaSetDevice");
    demand(cuda.stream_create(&work), "cudaStreamCreate");
    demand(cuda.stream_create(&copies), "cudaStreamCreate");
    demand(cuda.event_create(&begin, true), "cudaEventCreate");
    demand(cuda.event_create(&end, true), "cudaEventCreate");
    std::size_t free = 0, total = 0;
    demand(cuda.memory_info(&free, &total), "cudaMemGetInfo");
    size = std::min<std::size_t>(std::size_t{2} << 30, free / 2) >> 20 << 20;
    demand(cuda.malloc(&p, size), "cudaMalloc");
    memory = static_cast<std::byte*>(p);
    demand(cuda.host_alloc(&p, pinned_size), "cudaHostAlloc");
    pinned = static_cast<std::byte*>(p);
    demand(cuda.host_alloc(&p, sizeof(std::uint32_t)), "cudaHostAlloc");
    bad_row = static_cast<std::uint32_t*>(p);
    *bad_row = 0xffffffffu;
    // 0x3c3c: small positive numbers in f16 and bf16.
    demand(kernels.fill(memory, 0x3c3c3c3cu, size, work), "fill");
    std::fill(pinned, pinned + pinned_size, std::byte{0x3c});
    demand(cuda.stream_synchronize(work), "cudaStreamSynchronize");
  }
  static constexpr std::size_t pinned_size = std::size_t{256} << 20;

  /// Median seconds of what `submit` enqueues between two events on `stream`, of 31 runs after three.
  double seconds(void* stream, const std::function<void()>& submit) const {
    std::vector<double> found;
    for (int i = 0; i < 34; ++i) {
      float ms = 0;
      demand(cuda.event_record(begin, stream), "cudaEventRecord");
      submit();
      demand(cuda.event_record(end, stream), "cudaEventRecord");
      demand(cuda.stream_synchronize(stream), "cudaStreamSynchronize");
      demand(cuda.event_elapsed(&ms, begin, end), "cudaEventElapsedTime");
      if (i >= 3) found.push_back(static_cast<double>(ms) / 1e3);
    }
    std::sort(found.begin(), found.end());
    return found[found.size() / 2];
  }
};

constexpr int f16 = 1, bf16 = 2;

double copy_rate(const gpu& g) {
  const auto half = g.size / 2;
  return 2 * static_cast<double>(half) /
         g.seconds(g.work, [&] { demand(g.kernels.copy(g.memory, g.memory + half, half, g.work), "copy"); });
}

/// Products with one input: int8 and bf16 weights of the same shape. Successive runs read other weights, until all of
/// the memory has been read, so that no cache serves them.
void print_product(const gpu& g, std::uint64_t rows, std::uint64_t columns, double memory, bool last) {
  const std::size_t inputs = std::size_t{4} << 20, wide = g.size - inputs;
  std::byte* const rest = g.memory + wide;
  auto* const scales = reinterpret_cast<float*>(rest + (inputs >> 2));
  std::byte* const out = rest + (inputs >> 1);
  const auto time = [&](std::size_t each, const std::function<int(std::byte*)>& product) {
    const auto matrices = std::max<std::size_t>(1, std::min<std::size_t>(wide / each, 64));
    return g.seconds(g.work, [&] {
      for (std::size_t i = 0; i < matrices; ++i) demand(product(g.memory + i * each), "product");
    }) / static_cast<double>(matrices);
  };
  const auto weights = static_cast<double>(rows * columns);
  const double int8 = time(rows * columns, [&](std::byte* w) {
    return g.kernels.product_w8a16(rows, columns, reinterpret_cast<std::int8_t*>(w), scales, 1, f16, rest, f16, out,
                                   g.work);
  });
  const double wide16 = time(rows * columns * 2, [&](std::byte* w) {
    return g.kernels.product_bf16(rows, columns, w, 1, bf16, rest, bf16, out, g.work);
  });
  std::printf(
      "  {\"rows\": %llu, \"columns\": %llu, \"int8_seconds\": %.9g, \"bf16_seconds\": %.9g, "
      "\"int8_share_of_copy\": %.4f, \"bf16_share_of_copy\": %.4f, \"speedup\": %.4f}%s\n",
      static_cast<unsigned long long>(rows), static_cast<unsigned long long>(columns), int8, wide16,
      weights / int8 / memory, 2 * weights / wide16 / memory, wide16 / int8, last ? "" : ",");
}

void print_quantize(const gpu& g, double memory) {
  constexpr std::uint64_t columns = 4096;
  const std::uint64_t rows = g.size / 2 / (columns * 2) / 2;
  auto* const codes = reinterpret_cast<std::int8_t*>(g.memory + g.size / 2);
  auto* const scales = reinterpret_cast<float*>(g.memory + g.size / 2 + rows * columns);
  const double s = g.seconds(g.work, [&] {
    demand(g.kernels.quantize(rows, columns, bf16, g.memory, columns, 1, codes, scales, g.bad_row, g.work), "quantize");
  });
  const double moved = static_cast<double>(rows * columns) * 3 + static_cast<double>(rows) * 4;
  std::printf(
      " \"quantize\": {\"rows\": %llu, \"columns\": %llu, \"bytes_per_second\": %.6g, \"share_of_copy\": %.4f},\n",
      static_cast<unsigned long long>(rows), static_cast<unsigned long long>(columns), moved / s, moved / s / memory);
}

/// Chunks of 16 MiB from pinned memory into two slots; each is quantised behind its copy on another stream, and its
/// slot is copied into again when that is done. Against the same copies alone.
void print_load(const gpu& g) {
  constexpr std::size_t chunk = std::size_t{16} << 20;
  constexpr std::uint64_t columns = 4096, rows = chunk / 2 / columns;
  constexpr int chunks = static_cast<int>(gpu::pinned_size / chunk), slots = 2;
  void *arrived[slots], *quantized[slots];
  for (int i = 0; i < slots; ++i) {
    demand(g.cuda.event_create(&arrived[i], false), "cudaEventCreate");
    demand(g.cuda.event_create(&quantized[i], false), "cudaEventCreate");
  }
  const auto run = [&](bool quantize) {
    for (int i = 0; i < chunks; ++i) {
      const int slot = i % slots;
      std::byte* const at = g.memory + static_cast<std::size_t>(slot) * chunk;
      if (quantize && i >= slots) demand(g.cuda.stream_wait(g.copies, quantized[slot]), "cudaStreamWaitEvent");
      demand(g.cuda.copy(at, g.pinned + static_cast<std::size_t>(i) * chunk, chunk, g.copies), "cudaMemcpyAsync");
      if (!quantize) continue;
      std::byte* const to = g.memory + slots * chunk + static_cast<std::size_t>(i) * (chunk / 2 + rows * 4);
      demand(g.cuda.event_record(arrived[slot], g.copies), "cudaEventRecord");
      demand(g.cuda.stream_wait(g.work, arrived[slot]), "cudaStreamWaitEvent");
      demand(g.kernels.quantize(rows, columns, bf16, at, columns, 1, reinterpret_cast<std::int8_t*>(to + rows * 4),
                                reinterpret_cast<float*>(to), g.bad_row, g.work),
             "quantize");
      demand(g.cuda.event_record(quantized[slot], g.work), "cudaEventRecord");
    }
    // The time is that of the last quantised chunk.
    if (quantize) demand(g.cuda.stream_wait(g.copies, quantized[(chunks - 1) % slots]), "cudaStreamWaitEvent");
  };
  const double bare = g.seconds(g.copies, [&] { run(false); }), both = g.seconds(g.copies, [&] { run(true); });
  std::printf(
      " \"quantize_on_load\": {\"bytes\": %zu, \"copy_bytes_per_second\": %.6g, \"with_quantize\": %.6g, "
      "\"overhead\": %.4f},\n",
      gpu::pinned_size, static_cast<double>(gpu::pinned_size) / bare, static_cast<double>(gpu::pinned_size) / both,
      both / bare - 1);
}

int skipped(const berth::error& why) {
  std::printf("skipped: %.*s: %.*s\n", static_cast<int>(why.subject.view().size()), why.subject.view().data(),
              static_cast<int>(why.detail.view().size()), why.detail.view().data());
  return 77;
}

}  // namespace

int main(int argc, char** argv) {
  const auto cuda = berth::cuda::runtime();
  if (!cuda) return skipped(cuda.error());
  const auto kernels = berth::cuda::kernels();
  if (!kernels) return skipped(kernels.error());
  berth::cuda::device_properties about;
  int driver = 0, runtime = 0;
  demand((*cuda)->properties(&about, 0), "cudaGetDeviceProperties");
  demand((*cuda)->driver_version(&driver), "cudaDriverGetVersion");
  demand((*cuda)->runtime_version(&runtime), "cudaRuntimeGetVersion");
  const auto device = [&](const char* after) {
    std::printf("{\"name\": \"%s\", \"memory\": %llu, \"driver\": %d, \"runtime\": %d}%s\n", about.name.data(),
                static_cast<unsigned long long>(about.memory), driver, runtime, after);
  };
  if (argc > 1 && std::string_view(argv[1]) == "--device") {
    device("");
    return 0;
  }
  const gpu g(**cuda, **kernels);
  const double memory = copy_rate(g);
  std::printf("{\"device\": ");
  device(",");
  std::printf(" \"memory_copy_bytes_per_second\": %.6g,\n", memory);
  print_quantize(g, memory);
  print_load(g);
  std::printf(" \"products\": [\n");
  print_product(g, 4096, 4096, memory, false);
  print_product(g, 8192, 8192, memory, false);
  print_product(g, 14336, 4096, memory, false);
  print_product(g, 4096, 14336, memory, true);
  std::printf(" ]}\n");
  return 0;
}
