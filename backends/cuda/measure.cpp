// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

module berth.cuda;

import berth.base;
import berth.topology;
import :measuring;

namespace berth::cuda {
namespace {

picoseconds steady_time() {
  const auto t = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(t).count() * 1000;
}

constexpr status as(int s) { return static_cast<status>(s); }
void nothing(void*) {}

/// Figures that share the time of a GPU.
constexpr int shares = 12;
constexpr double longest = 60;

/// Columns of the matrices whose products are timed, and of square ones.
constexpr std::uint64_t columns = 8192, square = 4096, tokens = 64;

class gpu_measurement {
 public:
  gpu_measurement(const runtime_table& cuda, const kernel_table& kernels, const subject& s,
                  std::function<picoseconds()> now, picoseconds budget)
      : cuda_(cuda), kernels_(kernels), ordinal_(s.ordinal), now_(std::move(now)), budget_(budget), taken_(cuda) {
    out_.device = s.device;
    out_.ordinal = s.ordinal;
  }

  result<gpu_figures> run(const std::optional<matrix_library>& matrices, std::vector<std::string>& notes) {
    if (auto ok = take(); !ok) return ok.propagate();
    if (auto ok = copies(); !ok) return ok.propagate();
    if (auto ok = small_things(); !ok) return ok.propagate();
    if (auto ok = kernels(); !ok) return ok.propagate();
    if (matrices) {
      if (auto ok = library_products(*matrices); !ok) return ok.propagate();
    } else {
      notes.push_back("GPU " + std::string(out_.device.view()) +
                      ": no cuBLASLt could be loaded, so its rate of bf16 matrix products stays that of its model.");
    }
    return out_;
  }

 private:
  result<done> take() {
    if (const auto s = cuda_.set_device(ordinal_); s != status::success)
      return error_of(s, {"cudaSetDevice", out_.device.view(), 0, false});
    std::size_t free = 0, total = 0;
    if (const auto s = cuda_.memory_info(&free, &total); s != status::success)
      return error_of(s, {"cudaMemGetInfo", out_.device.view(), 0, false});
    size_ = std::min<bytes>(512 * MiB, free / 8) / (4 * MiB) * (4 * MiB);
    if (size_ < 32 * MiB)
      return fail(errc::out_of_memory, out_.device, "too little free memory to measure with", 8 * 32 * MiB, free);
    auto watch = stopwatch_stream::make(cuda_, taken_, ordinal_);
    if (!watch) return watch.propagate();
    watch_ = std::make_unique<stopwatch_stream>(*watch);
    const auto memory = taken_.device_memory(ordinal_, size_), pinned = taken_.pinned(ordinal_, copy_size);
    if (!memory) return memory.propagate();
    if (!pinned) return pinned.propagate();
    memory_ = *memory;
    pinned_ = *pinned;
    pageable_.reset(new (std::nothrow) std::byte[copy_size]());
    if (pageable_ == nullptr) return fail(errc::capacity, "host", "no memory to measure with", copy_size);
    return kernel_done("fill", kernels_.fill(memory_, 0, size_, watch_->stream()));
  }
  result<done> kernel_done(std::string_view what, int s) const {
    if (s != 0) return error_of(as(s), {what, out_.device.view(), 0, false});
    return done{};
  }
  result<done> put(gpu_figure& to, stopwatch_stream::plan p, const std::function<status()>& submit) const {
    p.budget = budget_ / shares;
    const auto f = watch_->figure(p, now_, submit);
    if (!f) return f.propagate();
    to = *f;
    return done{};
  }
  result<done> put_copy(gpu_figure& to, std::string_view what, std::byte* target, const std::byte* source) const {
    const auto n = std::min(copy_size, size_);
    return put(to, {what, static_cast<double>(n), true},
               [&, n] { return cuda_.copy(target, source, static_cast<std::size_t>(n), watch_->stream()); });
  }

  result<done> copies() {
    if (auto ok = put_copy(out_.to_device, "copies from pinned memory", memory_, pinned_); !ok) return ok;
    if (auto ok = put_copy(out_.from_device, "copies to pinned memory", pinned_, memory_); !ok) return ok;
    if (auto ok = put_copy(out_.pageable_to_device, "copies from pageable memory", memory_, pageable_.get()); !ok)
      return ok;
    return put_copy(out_.pageable_from_device, "copies to pageable memory", pageable_.get(), memory_);
  }

  template <class Piece>
  result<done> put_pieces(gpu_figure& to, std::string_view what, double count, Piece piece) const {
    return put(to, {what, count, false}, [&] {
      for (int i = 0; i < pieces; ++i)
        if (const auto s = piece(); s != status::success) return s;
      return status::success;
    });
  }
  result<done> small_things() {
    void* const stream = watch_->stream();
    if (auto ok = put_pieces(out_.setup, "small copies", pieces,
                             [&] { return cuda_.copy(memory_, pinned_, 4 * KiB, stream); });
        !ok)
      return ok;
    if (auto ok = put_pieces(out_.launch, "empty kernels", pieces, [&] { return as(kernels_.idle(stream)); }); !ok)
      return ok;
    return hops();
  }
  /// To a host function on a stream of its own and back, as the machine orders GPU and CPU.
  result<done> hops() {
    const auto other = taken_.stream(ordinal_);
    const auto there = taken_.event(ordinal_), back = taken_.event(ordinal_);
    if (!other) return other.propagate();
    if (!there) return there.propagate();
    if (!back) return back.propagate();
    return put_pieces(out_.hop, "messages to the CPU and back", 2.0 * pieces, [&] {
      void* const stream = watch_->stream();
      auto s = cuda_.copy(pinned_, memory_, message_size, stream);
      if (s == status::success) s = cuda_.event_record(*there, stream);
      if (s == status::success) s = cuda_.stream_wait(*other, *there);
      if (s == status::success) s = cuda_.launch_host(*other, &nothing, nullptr);
      if (s == status::success) s = cuda_.event_record(*back, *other);
      if (s == status::success) s = cuda_.stream_wait(stream, *back);
      if (s == status::success) s = cuda_.copy(memory_, pinned_, message_size, stream);
      return s;
    });
  }

  result<done> kernels() {
    void* const stream = watch_->stream();
    const bytes half = size_ / 2;
    if (auto ok = put(out_.memory, {"copies in device memory", static_cast<double>(2 * half), true},
                      [&] { return as(kernels_.copy(memory_, memory_ + half, half, stream)); });
        !ok)
      return ok;
    // Weights fill all but the last MiB of the memory, so that no cache holds them; inputs and results lie there.
    const bytes weights = size_ - MiB;
    std::byte* const rest = memory_ + weights;
    const auto f16 = kernel_type(dtype::f16);
    const std::uint64_t rows = std::min<std::uint64_t>(weights / columns, 64 * KiB) / 8 * 8;
    auto* const scales = reinterpret_cast<float*>(rest + 256 * KiB);
    if (auto ok = put(out_.gemv_int8, {"int8 weights times one input", static_cast<double>(rows * columns), true},
                      [&] {
                        return as(kernels_.product_w8a16(rows, columns, reinterpret_cast<std::int8_t*>(memory_), scales,
                                                         1, f16, rest, f16, rest + 64 * KiB, stream));
                      });
        !ok)
      return ok;
    if (auto ok = put(out_.gemv_bf16, {"bf16 weights times one input", static_cast<double>(rows * columns), true},
                      [&] {
                        return as(kernels_.product_bf16(rows / 2, columns, memory_, 1, f16, rest, f16, rest + 64 * KiB,
                                                        stream));
                      });
        !ok)
      return ok;
    return int8_products();
  }
  result<done> int8_products() {
    void* const stream = watch_->stream();
    const auto f16 = kernel_type(dtype::f16);
    std::byte* const inputs = memory_ + square * square + 64 * KiB;
    std::byte* const results = inputs + tokens * square * 2;
    std::byte* const workspace = results + tokens * square * 2;
    auto* const scales = reinterpret_cast<float*>(memory_ + square * square);
    const auto operations = 2.0 * static_cast<double>(square * square * tokens);
    return put(out_.products_int8, {"LLM.int8 products", operations, true}, [&] {
      return as(kernels_.product_int8(square, square, reinterpret_cast<std::int8_t*>(memory_), scales, tokens, 6.0f,
                                      f16, inputs, f16, results, workspace, stream));
    });
  }
  result<done> library_products(const matrix_library& m) {
    constexpr bytes matrix = square * square * 2, workspace = 32 * MiB;
    if (size_ < 3 * matrix + workspace) return done{};
    const auto side = static_cast<double>(square);
    void* const opened = m.open(square);
    const auto ok = put(out_.products_bf16, {"bf16 products", 2 * side * side * side, true}, [&] {
      const bool good = opened != nullptr && m.multiply(opened, memory_, memory_ + matrix, memory_ + 2 * matrix,
                                                        memory_ + 3 * matrix, workspace, watch_->stream()) == 0;
      return good ? status::success : status::not_supported;
    });
    if (opened != nullptr) m.close(opened);
    return ok;
  }

  const runtime_table& cuda_;
  const kernel_table& kernels_;
  int ordinal_;
  std::function<picoseconds()> now_;
  picoseconds budget_;
  borrowed taken_;
  std::unique_ptr<stopwatch_stream> watch_;
  std::unique_ptr<std::byte[]> pageable_;
  std::byte *memory_ = nullptr, *pinned_ = nullptr;
  bytes size_ = 0;
  gpu_figures out_;
};

/// The CUDA number of a GPU: as the caller says, else its id.
result<int> ordinal_of(const device& d, std::span<const device_ordinal> given) {
  for (const auto& g : given)
    if (g.device == d.id) return g.ordinal;
  int n = -1;
  const auto id = d.id.view();
  const auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), n);
  if (error != std::errc{} || end != id.data() + id.size() || n < 0)
    return fail(errc::unknown_device, d.id, "is no CUDA number; say which device it is in measure_options::ordinals");
  return n;
}

void note_noise(const measured_gpus& m, std::vector<std::string>& notes) {
  constexpr double usual = 0.2;
  for (const auto& g : m.gpus)
    if (g.to_device.spread() > usual || g.from_device.spread() > usual || g.memory.spread() > usual)
      notes.push_back("GPU " + std::string(g.device.view()) +
                      ": repetitions differ by more than a fifth: clocks changed or others used the machine; measure "
                      "again on an idle one.");
}

}  // namespace

result<measured_gpus> measure_gpus(const runtime_table& cuda, const kernel_table& kernels, const topology_view& machine,
                                   const measure_options& options) {
  if (!(options.seconds > 0 && options.seconds <= longest))
    return fail(errc::invalid_argument, "seconds", "must be above 0 and at most 60");
  const auto now = options.now ? options.now : std::function<picoseconds()>(steady_time);
  std::vector<subject> found;
  for (const auto& d : machine.devices) {
    if (d.kind != device_kind::gpu) continue;
    const auto n = ordinal_of(d, options.ordinals);
    if (!n) return n.propagate();
    found.push_back({d.id, *n});
  }
  int before = 0;
  if (const auto s = cuda.get_device(&before); s != status::success)
    return error_of(s, {"cudaGetDevice", "CUDA", 0, false});
  measured_gpus out;
  constexpr double alone = 0.8;  // the rest is for the copies between GPUs
  for (const auto& g : found) {
    auto one = gpu_measurement(cuda, kernels, g, now, to_picoseconds(options.seconds * alone))
                   .run(options.matrices, out.notes);
    if (!one) {
      (void)cuda.set_device(before);
      return one.propagate();
    }
    out.gpus.push_back(*std::move(one));
  }
  const auto rest = to_picoseconds(options.seconds * (1 - alone));
  const auto peers = measure_peers(cuda, found, rest, now, out);
  (void)cuda.set_device(before);
  if (!peers) return peers.propagate();
  note_noise(out, out.notes);
  return out;
}

}  // namespace berth::cuda
