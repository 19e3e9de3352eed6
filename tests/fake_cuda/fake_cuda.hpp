// SPDX-License-Identifier: Apache-2.0
// A CUDA runtime without CUDA, behind the same table of functions: device memory is host memory with a capacity per
// device; streams run lazily, when something asks or waits; a virtual clock tells times; calls fail when told to; what
// CUDA would leave undefined is noted as misuse. Include after the standard headers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

import berth;
import berth.cuda;

namespace fake_cuda {

using berth::cuda::status;

struct device {
  std::string name = "NVIDIA GeForce RTX 3090";
  berth::bytes memory = 24 * berth::GiB;  ///< that can be allocated
  std::string bus_id = "0000:01:00.0";
  unsigned char uuid = 1;  ///< all bytes of it
  std::map<int, int> attributes{};
};

struct options {
  std::vector<device> devices{device{}, device{"NVIDIA GeForce RTX 3090", 24 * berth::GiB, "0000:02:00.0", 2}};
  bool peers = true;                       ///< devices can access each other
  berth::bytes pinnable = 1 * berth::TiB;  ///< host memory that can be pinned
  std::uint64_t seed = 0;                  ///< 0: in the order of submission; else streams advance in a random order
  int driver = 13000;
};

/// What is alive.
struct live_objects {
  std::size_t allocations = 0, pinned = 0, streams = 0, events = 0, graphs = 0;
  berth::bytes device_bytes = 0, pinned_bytes = 0;
  std::size_t total() const { return allocations + pinned + streams + events + graphs; }
};

struct range {
  const std::byte* begin = nullptr;
  std::size_t size = 0;
};

/// Something that a stream does. A graph is one, made of others.
struct item {
  std::function<void()> run;
  std::vector<range> touched{};
  std::uint64_t nanoseconds = 2000;
  std::function<bool()> runnable{};  ///< empty: always
};

struct node {
  item what;
  std::vector<std::size_t> after;
};
struct capture;
struct fake_graph {
  std::vector<node> nodes;
  bool executable = false;
};
struct fake_stream {
  int device = 0;
  std::deque<std::pair<std::uint64_t, item>> queue;
  std::uint64_t time = 0;
  std::shared_ptr<capture> recording;
  std::vector<std::size_t> deps;  ///< nodes that the next one comes after
};
struct fake_event {
  int device = 0;
  bool timing = false;
  std::uint64_t recorded = 0, completed = 0;
  std::uint64_t time = 0;
  std::shared_ptr<capture> recording;  ///< its latest record is in this capture
  std::vector<std::size_t> deps;
};
struct capture {
  fake_stream* origin = nullptr;
  std::vector<node> nodes;
  std::set<fake_stream*> streams;
  bool invalid = false;
  bool ended = false;
};

/// One at a time: the table's functions have no context. Single-threaded.
class runtime {
 public:
  explicit runtime(options o = {});
  runtime(const runtime&) = delete;
  runtime& operator=(const runtime&) = delete;
  ~runtime();

  const berth::cuda::runtime_table& table() const;

  /// The nth call of that name from now on (1: the next) returns `s`, and so does every call after it if `sticky`.
  void fail(std::string call, std::uint64_t nth, status s, bool sticky = false);
  /// The nth call of any name.
  void fail_any(std::uint64_t nth, status s, bool sticky = false) { fail("", nth, s, sticky); }

  /// Puts work on a stream as a kernel launch would; usable while capturing.
  void enqueue(void* stream, std::function<void()> work, std::vector<range> touched = {});
  /// What a kernel launch that cannot be leaves behind.
  void set_last_error(status s) { last_error_ = s; }
  /// Runs everything that can run.
  void drain();

  live_objects live() const;
  std::uint64_t calls(const std::string& name) const;
  std::uint64_t calls() const { return all_calls_; }
  const std::vector<std::string>& misuse() const { return misuse_; }
  /// Devices on which a context was made.
  const std::set<int>& contexts() const { return contexts_; }
  std::uint64_t copies_between_devices() const { return peer_copies_; }

 private:
  friend struct calls_of;
  struct script {
    std::string call;
    std::uint64_t left = 0;
    status what = status::success;
    bool sticky = false;
  };
  struct allocation {
    std::size_t size = 0;
    int device = -1;  ///< -1: pinned host memory
  };

  status begin(const char* call);
  status unsafe_while_capturing();
  void wrong(std::string what) { misuse_.push_back(std::move(what)); }
  fake_stream* stream_of(void* s, const char* call);
  fake_event* event_of(void* e, const char* call);
  status add(fake_stream& s, item i);
  bool step();
  bool inside(const range& r) const;
  const allocation* find(const void* p, std::size_t size) const;
  void check_free(const void* p, std::size_t size);
  status take(void** out, std::size_t size, int device);
  status give(void* p, bool pinned);
  status copy(void* to, const void* from, std::size_t size, void* stream, bool peer);

  options options_;
  std::mt19937_64 random_;
  std::map<const void*, allocation> memory_;
  std::vector<berth::bytes> used_;
  berth::bytes pinned_ = 0;
  std::map<void*, std::unique_ptr<fake_stream>> streams_;
  std::map<void*, std::shared_ptr<fake_event>> events_;
  std::map<void*, std::unique_ptr<fake_graph>> graphs_;
  std::set<std::pair<int, int>> peers_;
  std::shared_ptr<capture> capture_;
  std::vector<script> scripts_;
  std::map<std::string, std::uint64_t> calls_;
  std::uint64_t all_calls_ = 0, submitted_ = 0, peer_copies_ = 0;
  std::vector<std::string> misuse_;
  std::set<int> contexts_;
  int current_ = 0;
  bool in_host_function_ = false;
  status lost_ = status::success;
  status last_error_ = status::success;
};

}  // namespace fake_cuda
