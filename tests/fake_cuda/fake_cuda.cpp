// SPDX-License-Identifier: Apache-2.0
// Streams, memory and scripted failures of the fake runtime.
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "fake_cuda.hpp"
#include "fake_state.hpp"

namespace fake_cuda {

runtime* current_runtime = nullptr;

runtime::runtime(options o) : options_(std::move(o)), random_(options_.seed), used_(options_.devices.size()) {
  current_runtime = this;
}

runtime::~runtime() {
  for (const auto& [p, a] : memory_) munmap(const_cast<void*>(p), std::max<std::size_t>(a.size, 1));
  current_runtime = nullptr;
}

void runtime::fail(std::string call, std::uint64_t nth, status s, bool sticky) {
  scripts_.push_back({std::move(call), nth, s, sticky});
}

/// Counts a call; what it is to return instead of doing anything.
status runtime::begin(const char* call) {
  ++all_calls_;
  ++calls_[call];
  if (in_host_function_) {
    wrong(std::string(call) + " from a host function");
    return static_cast<status>(800);
  }
  if (lost_ != status::success) return last_error_ = lost_;
  for (auto& s : scripts_) {
    if (s.left == 0 || (!s.call.empty() && s.call != call) || --s.left > 0) continue;
    if (s.sticky) lost_ = s.what;
    if (capture_ != nullptr) capture_->invalid = true;
    return last_error_ = s.what;
  }
  return status::success;
}

/// Thread-local capture mode: calls that may wait or allocate end the capture.
status runtime::unsafe_while_capturing() {
  if (capture_ == nullptr) return status::success;
  capture_->invalid = true;
  return last_error_ = status::stream_capture_unsupported;
}

fake_stream* runtime::stream_of(void* s, const char* call) {
  const auto at = streams_.find(s);
  if (at != streams_.end()) return at->second.get();
  wrong(std::string(call) + " on a stream that is not alive");
  return nullptr;
}

fake_event* runtime::event_of(void* e, const char* call) {
  const auto at = events_.find(e);
  if (at != events_.end()) return at->second.get();
  wrong(std::string(call) + " on an event that is not alive");
  return nullptr;
}

const runtime::allocation* runtime::find(const void* p, std::size_t size) const {
  auto at = memory_.upper_bound(p);
  if (at == memory_.begin()) return nullptr;
  --at;
  const auto offset =
      static_cast<std::size_t>(static_cast<const std::byte*>(p) - static_cast<const std::byte*>(at->first));
  return offset <= at->second.size && size <= at->second.size - offset ? &at->second : nullptr;
}

bool runtime::inside(const range& r) const { return r.size == 0 || find(r.begin, r.size) != nullptr; }

status runtime::add(fake_stream& s, item i) {
  for (const auto& r : i.touched)
    if (!inside(r)) wrong("an item touches memory outside of all allocations");
  if (s.recording == nullptr) {
    s.queue.emplace_back(++submitted_, std::move(i));
    return status::success;
  }
  if (s.recording->invalid) return last_error_ = status::stream_capture_invalidated;
  s.recording->nodes.push_back({std::move(i), s.deps});
  s.deps = {s.recording->nodes.size() - 1};
  return status::success;
}

void runtime::enqueue(void* stream, std::function<void()> work, std::vector<range> touched) {
  auto* s = stream_of(stream, "a kernel launch");
  if (s == nullptr) return;
  if (s->device != current_) wrong("a kernel launch while another device is current");
  if (const auto e = add(*s, {std::move(work), std::move(touched)}); e != status::success) last_error_ = e;
}

/// Runs the head of one stream. False: no stream can go on.
bool runtime::step() {
  std::vector<fake_stream*> able;
  for (auto& [handle, s] : streams_)
    if (!s->queue.empty() && (!s->queue.front().second.runnable || s->queue.front().second.runnable()))
      able.push_back(s.get());
  if (able.empty()) return false;
  auto* chosen = able.front();
  if (options_.seed != 0)
    chosen = able[random_() % able.size()];
  else
    for (auto* s : able)
      if (s->queue.front().first < chosen->queue.front().first) chosen = s;
  auto what = std::move(chosen->queue.front().second);
  chosen->queue.pop_front();
  for (const auto& r : what.touched)
    if (!inside(r)) wrong("an item ran after its memory was freed");
  chosen->time += what.nanoseconds;
  in_host_function_ = true;
  if (what.run) what.run();
  in_host_function_ = false;
  return true;
}

void runtime::drain() {
  while (step()) {
  }
}

status runtime::take(void** out, std::size_t size, int device) {
  auto& used = device < 0 ? pinned_ : used_[static_cast<std::size_t>(device)];
  const auto room = device < 0 ? options_.pinnable : options_.devices[static_cast<std::size_t>(device)].memory;
  if (size > room - used) return last_error_ = status::memory_allocation;
  auto* p = mmap(nullptr, std::max<std::size_t>(size, 1), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return last_error_ = status::memory_allocation;
  used += size;
  memory_[p] = {size, device};
  *out = p;
  return status::success;
}

/// Memory that an item or a graph under way still touches must not go.
void runtime::check_free(const void* p, std::size_t size) {
  if (lost_ != status::success) return;  // nothing runs any more
  const auto* begin = static_cast<const std::byte*>(p);
  for (const auto& [handle, s] : streams_)
    for (const auto& [number, i] : s->queue)
      for (const auto& r : i.touched)
        if (r.begin < begin + size && begin < r.begin + r.size) return wrong("memory was freed while in use");
}

status runtime::give(void* p, bool pinned) {
  const auto at = memory_.find(p);
  if (at == memory_.end() || (at->second.device < 0) != pinned) {
    wrong("memory was freed that is not allocated");
    return last_error_ = status::invalid_value;
  }
  check_free(p, at->second.size);
  (pinned ? pinned_ : used_[static_cast<std::size_t>(at->second.device)]) -= at->second.size;
  munmap(p, std::max<std::size_t>(at->second.size, 1));
  memory_.erase(at);
  return status::success;
}

status runtime::copy(void* to, const void* from, std::size_t size, void* stream, bool peer) {
  auto* s = stream_of(stream, "a copy");
  if (s == nullptr) return last_error_ = status::invalid_resource_handle;
  const auto *source = find(from, size), *target = find(to, size);
  if (source == nullptr || target == nullptr) {
    wrong("a copy of memory that is neither device nor pinned memory");
    return last_error_ = status::invalid_value;
  }
  const int a = source->device, b = target->device;
  if (a != s->device && b != s->device) wrong("a copy on a stream of a device that has neither end");
  if (a >= 0 && b >= 0 && a != b) {
    ++peer_copies_;
    if (!peer) wrong("a plain copy between devices");
    if (peers_.count({a, b}) == 0 || peers_.count({b, a}) == 0) wrong("a peer copy without peer access");
  }
  auto move = [to, from, size] { std::memcpy(to, from, size); };
  return add(*s, {move,
                  {{static_cast<const std::byte*>(from), size}, {static_cast<const std::byte*>(to), size}},
                  2000 + size / 20});
}

live_objects runtime::live() const {
  live_objects out;
  for (const auto& [p, a] : memory_) {
    ++(a.device < 0 ? out.pinned : out.allocations);
    (a.device < 0 ? out.pinned_bytes : out.device_bytes) += a.size;
  }
  out.streams = streams_.size();
  out.events = events_.size();
  out.graphs = graphs_.size();
  return out;
}

std::uint64_t runtime::calls(const std::string& name) const {
  const auto at = calls_.find(name);
  return at == calls_.end() ? 0 : at->second;
}

}  // namespace fake_cuda
