// SPDX-License-Identifier: Apache-2.0
// The CUDA backend: on the fake runtime with and without peer access, decorated, and on a GPU where there is one.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "any_machine.hpp"
#include "fake_cuda.hpp"
#include "stored_file.hpp"

import berth;
import berth.cuda;

namespace conformance {
namespace {

const berth::topology& box() {
  static const auto made = berth::preset("2x3090");
  return *made;
}

berth::cuda::machine_options small_room() {
  berth::cuda::machine_options o;
  o.storage = {nullptr, read_stored};
  o.staging = {60 * berth::KiB, 3};  // copies of the suite take several chunks, and the last one is smaller
  o.bounds = {64, 256, 64, 256, 256};
  return o;
}

/// The suite's callables are for the machine's time, not the caller's: on GPU streams a host function stands in for the
/// kernel that would be launched.
template <berth::Machine M>
class with_kernels : public as_any<M> {
 public:
  with_kernels(M& m, const berth::cuda::runtime_table& cuda) : as_any<M>(m), cuda_(cuda) {}

  berth::result<berth::done> launch(berth::stream_id s, const berth::launch_request& r) override {
    auto& k = kernels_.emplace_back(kernel{&cuda_, r.work, {}});
    auto with = r;
    with.work = {&k, start};
    return as_any<M>::launch(s, with);
  }

 private:
  struct kernel {
    const berth::cuda::runtime_table* cuda;
    berth::work what;
    berth::work_call call;
  };
  static void start(void* self, const berth::work_call& call) {
    auto& k = *static_cast<kernel*>(self);
    k.call = call;
    if (call.native_stream == nullptr)
      run(self);
    else
      (void)k.cuda->launch_host(call.native_stream, run, self);
  }
  static void run(void* self) {
    const auto& k = *static_cast<kernel*>(self);
    if (k.what.run == nullptr) std::this_thread::sleep_for(std::chrono::microseconds(200));
    k.what(k.call);
  }

  const berth::cuda::runtime_table& cuda_;
  std::deque<kernel> kernels_;
};

/// Nothing may be alive or misused when a case is over.
struct checked_runtime : fake_cuda::runtime {
  using fake_cuda::runtime::runtime;
  ~checked_runtime() {
    for (const auto& what : misuse()) std::fprintf(stderr, "misuse of CUDA: %s\n", what.c_str());
    if (live().total() > 0) std::fprintf(stderr, "left alive: %zu CUDA objects\n", live().total());
    if (live().total() > 0 || !misuse().empty()) std::abort();
  }
};

template <class M>
machine_under_test finished(machine_under_test out, M& m, const berth::cuda::runtime_table& cuda) {
  out.machine = std::make_unique<with_kernels<M>>(m, cuda);
  return out;
}

machine_under_test faked(bool peers) {
  machine_under_test out;
  fake_cuda::options o;
  o.peers = peers;
  o.seed = 20'261'121;
  auto& cuda = out.own<checked_runtime>(o);
  auto& m = out.own<berth::cuda::machine>(cuda.table(), box(), small_room());
  return finished(std::move(out), m, cuda.table());
}

machine_under_test faked_and_decorated() {
  machine_under_test out;
  using counted = berth::counted<berth::cuda::machine>;
  using faulty = berth::faulty<counted>;
  using traced = berth::traced<faulty>;
  auto& cuda = out.own<checked_runtime>(fake_cuda::options{});
  auto& m = out.own<berth::cuda::machine>(cuda.table(), box(), small_room());
  auto& c = out.own<counted>(m);
  auto& none = out.own<berth::fault_schedule>();
  auto& f = out.own<faulty>(c, none);
  auto& t = out.own<berth::trace>(std::size_t{4096});
  auto& all = out.own<traced>(f, t);
  return finished(std::move(out), all, cuda.table());
}

/// Both GPUs of the suite may be one.
machine_under_test real() {
  machine_under_test out;
  const auto* cuda = *berth::cuda::runtime();
  int devices = 0;
  (void)cuda->device_count(&devices);
  const std::array<berth::cuda::device_ordinal, 2> ordinals{{{0, 0}, {1, devices > 1 ? 1 : 0}}};
  auto o = small_room();
  o.ordinals = ordinals;
  auto& m = out.own<berth::cuda::machine>(*cuda, box(), o);
  return finished(std::move(out), m, *cuda);
}

}  // namespace

std::vector<machine_kind> cuda_machines() {
  const std::vector<std::pair<std::string, std::string>> own_stream{
      {"a_failing_read_is_an_error_behind_it_and_nowhere_else",
       "CUDA does not know of the failure: its stream and events tell of it, streams that waited for them do not"}};
  std::vector<machine_kind> out{{"fake_cuda", [] { return faked(true); }, own_stream},
                                {"fake_cuda_no_peer", [] { return faked(false); }, own_stream},
                                {"fake_cuda_all_decorators", faked_and_decorated, own_stream}};
  if (const auto cuda = berth::cuda::runtime(); cuda) {
    out.push_back({"cuda", real, own_stream});
  } else {
    const std::string why(cuda.error().detail.view());
    std::printf("skipped: cuda: %s\n", why.c_str());
  }
  return out;
}

}  // namespace conformance
