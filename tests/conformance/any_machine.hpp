// SPDX-License-Identifier: Apache-2.0
// A machine behind virtual calls, so that the suite is compiled once for all of them. Include after the standard
// headers and before importing anything else than berth.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

import berth;

namespace conformance {

class any_machine {
 public:
  virtual ~any_machine() = default;
  virtual berth::topology_view topology() const = 0;
  virtual berth::result<berth::stream_id> make_stream(berth::device_index d) = 0;
  virtual berth::result<berth::event_id> make_event() = 0;
  virtual berth::result<berth::buffer_id> allocate(berth::device_index d, berth::bytes n, berth::memory_kind k) = 0;
  virtual berth::result<berth::done> deallocate(berth::stream_id s, berth::buffer_id b) = 0;
  virtual berth::result<berth::done> copy(berth::stream_id s, const berth::copy_request& r) = 0;
  virtual berth::result<berth::done> read(berth::stream_id s, const berth::read_request& r) = 0;
  virtual berth::result<berth::done> launch(berth::stream_id s, const berth::launch_request& r) = 0;
  virtual berth::result<berth::done> record(berth::stream_id s, berth::event_id e) = 0;
  virtual berth::result<berth::done> wait(berth::stream_id s, berth::event_id e) = 0;
  virtual berth::result<bool> ready(berth::event_id e) = 0;
  virtual berth::result<berth::done> synchronize(berth::stream_id s) = 0;
  virtual berth::result<berth::done> synchronize(berth::event_id e) = 0;
  virtual berth::result<std::uint64_t> checksum(const berth::buffer_range& r) = 0;
  virtual berth::result<std::uint64_t> checksum(const berth::storage_range& r) = 0;
  virtual berth::picoseconds now() const = 0;
  virtual berth::picoseconds next_time() = 0;
  virtual void advance_to(berth::picoseconds t) = 0;
  virtual void observe(berth::observer o) = 0;
  virtual void* native(berth::stream_id s) = 0;
  virtual std::byte* address(berth::buffer_id b) = 0;
};
static_assert(berth::Machine<any_machine>);

/// Calls go to a machine of any type.
template <berth::Machine M>
class as_any : public any_machine {
 public:
  explicit as_any(M& m) : m_(m) {}
  berth::topology_view topology() const override { return m_.topology(); }
  berth::result<berth::stream_id> make_stream(berth::device_index d) override { return m_.make_stream(d); }
  berth::result<berth::event_id> make_event() override { return m_.make_event(); }
  berth::result<berth::buffer_id> allocate(berth::device_index d, berth::bytes n, berth::memory_kind k) override {
    return m_.allocate(d, n, k);
  }
  berth::result<berth::done> deallocate(berth::stream_id s, berth::buffer_id b) override { return m_.deallocate(s, b); }
  berth::result<berth::done> copy(berth::stream_id s, const berth::copy_request& r) override { return m_.copy(s, r); }
  berth::result<berth::done> read(berth::stream_id s, const berth::read_request& r) override { return m_.read(s, r); }
  berth::result<berth::done> launch(berth::stream_id s, const berth::launch_request& r) override {
    return m_.launch(s, r);
  }
  berth::result<berth::done> record(berth::stream_id s, berth::event_id e) override { return m_.record(s, e); }
  berth::result<berth::done> wait(berth::stream_id s, berth::event_id e) override { return m_.wait(s, e); }
  berth::result<bool> ready(berth::event_id e) override { return m_.ready(e); }
  berth::result<berth::done> synchronize(berth::stream_id s) override { return m_.synchronize(s); }
  berth::result<berth::done> synchronize(berth::event_id e) override { return m_.synchronize(e); }
  berth::result<std::uint64_t> checksum(const berth::buffer_range& r) override { return m_.checksum(r); }
  berth::result<std::uint64_t> checksum(const berth::storage_range& r) override { return m_.checksum(r); }
  berth::picoseconds now() const override { return m_.now(); }
  berth::picoseconds next_time() override { return m_.next_time(); }
  void advance_to(berth::picoseconds t) override { m_.advance_to(t); }
  void observe(berth::observer o) override { m_.observe(o); }
  void* native(berth::stream_id s) override { return m_.native(s); }
  std::byte* address(berth::buffer_id b) override { return m_.address(b); }

 private:
  M& m_;
};

/// A machine made for one case: GPUs "0" and "1", "cpu" and "disk", storage with file 0 of at least 1 MiB. `owners`
/// keeps what the machine is made of alive, in the order of construction.
struct machine_under_test {
  std::vector<std::shared_ptr<void>> owners;
  std::unique_ptr<any_machine> machine;

  machine_under_test() = default;
  machine_under_test(machine_under_test&&) = default;
  machine_under_test& operator=(machine_under_test&&) = default;
  ~machine_under_test() {
    machine.reset();
    while (!owners.empty()) owners.pop_back();  // decorators before what they decorate
  }

  template <class T, class... Args>
  T& own(Args&&... args) {
    auto made = std::make_shared<T>(std::forward<Args>(args)...);
    owners.push_back(made);
    return *made;
  }
};

/// A kind of machine. `skips` names cases that do not apply to it, with the reason, which is printed.
struct machine_kind {
  std::string name;
  std::function<machine_under_test()> make;
  std::vector<std::pair<std::string, std::string>> skips;
};
std::vector<machine_kind> all_machines();
std::vector<machine_kind> host_machines();
/// Those of the CUDA backend: on the fake runtime, and on a real GPU where there is one.
std::vector<machine_kind> cuda_machines();

struct test_case {
  std::string name;
  void (*run)(any_machine& m);
};
std::vector<test_case> all_cases();
std::vector<test_case> memory_cases();

}  // namespace conformance
