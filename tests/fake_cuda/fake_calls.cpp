// SPDX-License-Identifier: Apache-2.0
// The calls of the fake runtime, as CUDA documents them.
#include <algorithm>
#include <cstring>
#include <utility>

#include "fake_cuda.hpp"
#include "fake_state.hpp"

namespace fake_cuda {

/// Static members, because the table holds plain functions; a friend of the runtime.
struct calls_of {
  static runtime& r() { return *current_runtime; }
  static status bad(status s) { return r().last_error_ = s; }
  static bool known(int device) {
    return device >= 0 && static_cast<std::size_t>(device) < r().options_.devices.size();
  }
  static const device& at(int d) { return r().options_.devices[static_cast<std::size_t>(d)]; }

  static status driver_version(int* v) { return *v = r().options_.driver, r().begin("cudaDriverGetVersion"); }
  static status runtime_version(int* v) { return *v = 13000, r().begin("cudaRuntimeGetVersion"); }
  static status device_count(int* n) {
    *n = 0;
    if (const auto s = r().begin("cudaGetDeviceCount"); s != status::success) return s;
    *n = static_cast<int>(r().options_.devices.size());
    return *n == 0 ? bad(status::no_device) : status::success;
  }
  static status attribute(int* v, berth::cuda::device_attribute which, int d) {
    if (const auto s = r().begin("cudaDeviceGetAttribute"); s != status::success) return s;
    if (!known(d)) return bad(status::invalid_device);
    const auto found = at(d).attributes.find(static_cast<int>(which));
    *v = found == at(d).attributes.end() ? 0 : found->second;
    return status::success;
  }
  static status properties(berth::cuda::device_properties* out, int d) {
    if (const auto s = r().begin("cudaGetDeviceProperties"); s != status::success) return s;
    if (!known(d)) return bad(status::invalid_device);
    std::copy(at(d).name.begin(), at(d).name.end(), out->name.begin());
    out->uuid.fill(at(d).uuid);
    out->memory = at(d).memory;
    return status::success;
  }
  static status pci_bus_id(char* text, int size, int d) {
    if (const auto s = r().begin("cudaDeviceGetPCIBusId"); s != status::success) return s;
    if (!known(d)) return bad(status::invalid_device);
    std::strncpy(text, at(d).bus_id.c_str(), static_cast<std::size_t>(size) - 1);
    text[size - 1] = 0;
    return status::success;
  }
  static status peer(int* v, berth::cuda::peer_attribute, int, int) {
    *v = r().options_.peers;
    return r().begin("cudaDeviceGetP2PAttribute");
  }
  static status can_access_peer(int* can, int a, int b) {
    if (const auto s = r().begin("cudaDeviceCanAccessPeer"); s != status::success) return s;
    if (!known(a) || !known(b)) return bad(status::invalid_device);
    *can = r().options_.peers && a != b;
    return status::success;
  }
  static status enable_peer(int peer) {
    if (const auto s = r().begin("cudaDeviceEnablePeerAccess"); s != status::success) return s;
    if (!known(peer) || peer == r().current_ || !r().options_.peers) return bad(static_cast<status>(217));
    return r().peers_.insert({r().current_, peer}).second ? status::success : bad(status::peer_access_already_enabled);
  }
  static status get_device(int* d) {
    *d = r().current_;
    return r().begin("cudaGetDevice");
  }
  static status set_device(int d) {
    if (const auto s = r().begin("cudaSetDevice"); s != status::success) return s;
    if (!known(d)) return bad(status::invalid_device);
    r().current_ = d;
    r().contexts_.insert(d);
    return status::success;
  }
  /// Calls that work in the context of the current device, which they make.
  static status begin_in_context(const char* call, bool safe) {
    if (const auto s = r().begin(call); s != status::success) return s;
    r().contexts_.insert(r().current_);
    return safe ? status::success : r().unsafe_while_capturing();
  }
  static status memory_info(std::size_t* free, std::size_t* total) {
    if (const auto s = begin_in_context("cudaMemGetInfo", false); s != status::success) return s;
    *total = at(r().current_).memory;
    *free = *total - r().used_[static_cast<std::size_t>(r().current_)];
    return status::success;
  }

  static status malloc(void** out, std::size_t n) {
    if (const auto s = begin_in_context("cudaMalloc", false); s != status::success) return s;
    return r().take(out, n, r().current_);
  }
  static status host_alloc(void** out, std::size_t n) {
    if (const auto s = begin_in_context("cudaHostAlloc", false); s != status::success) return s;
    return r().take(out, n, -1);
  }
  /// What is given back is gone, whatever the call returns: errors of such calls come from earlier work.
  static status free(void* p) {
    const auto s = r().begin("cudaFree");
    const auto done = r().give(p, false);
    return s != status::success ? s : done;
  }
  static status host_free(void* p) {
    const auto s = r().begin("cudaFreeHost");
    const auto done = r().give(p, true);
    return s != status::success ? s : done;
  }

  static status stream_create(void** out) {
    if (const auto s = begin_in_context("cudaStreamCreateWithFlags", true); s != status::success) return s;
    auto made = std::make_unique<fake_stream>();
    made->device = r().current_;
    *out = made.get();
    r().streams_[*out] = std::move(made);
    return status::success;
  }
  static status stream_destroy(void* stream) {
    const auto s = r().begin("cudaStreamDestroy");
    const auto* found = r().stream_of(stream, "cudaStreamDestroy");
    if (found == nullptr) return bad(status::invalid_value);
    if (!found->queue.empty() && r().lost_ == status::success) r().wrong("a stream was destroyed with work in it");
    r().streams_.erase(stream);
    return s;
  }
  /// What waits does so even if it then tells of an error, which comes from earlier work.
  static status stream_synchronize(void* stream) {
    const auto told = r().begin("cudaStreamSynchronize");
    if (r().lost_ != status::success || r().in_host_function_) return told;
    if (const auto s = r().unsafe_while_capturing(); s != status::success) return s;
    auto* found = r().stream_of(stream, "cudaStreamSynchronize");
    if (found == nullptr) return bad(status::invalid_resource_handle);
    while (!found->queue.empty())
      if (!r().step()) {
        r().wrong("a stream was waited for that can never go on");
        return bad(status::unknown);
      }
    return told;
  }
  static status stream_wait(void* stream, void* event) {
    if (const auto s = r().begin("cudaStreamWaitEvent"); s != status::success) return s;
    auto* s = r().stream_of(stream, "cudaStreamWaitEvent");
    auto* e = r().event_of(event, "cudaStreamWaitEvent");
    if (s == nullptr || e == nullptr) return bad(status::invalid_resource_handle);
    if (e->recording != nullptr) return join(*s, *e);
    if (e->recorded == 0) return status::success;
    if (s->recording != nullptr) {
      s->recording->invalid = true;
      return bad(status::stream_capture_isolation);
    }
    const auto shared = r().events_[event];
    const auto wanted = shared->recorded;
    item i;
    i.nanoseconds = 0;
    i.runnable = [shared, wanted] { return shared->completed >= wanted; };
    i.run = [shared, s] { s->time = std::max(s->time, shared->time); };
    return r().add(*s, std::move(i));
  }
  /// A wait for an event that was recorded in a capture draws the stream into it.
  static status join(fake_stream& s, const fake_event& e) {
    if (e.recording->ended) return bad(status::captured_event);
    if (e.recording->invalid) return bad(status::stream_capture_invalidated);
    if (s.recording == nullptr) {
      s.recording = e.recording;
      s.recording->streams.insert(&s);
      s.deps.clear();
    }
    s.deps.insert(s.deps.end(), e.deps.begin(), e.deps.end());
    return status::success;
  }

  static status event_create(void** out, bool timing) {
    if (const auto s = begin_in_context("cudaEventCreateWithFlags", true); s != status::success) return s;
    auto made = std::make_shared<fake_event>();
    made->device = r().current_;
    made->timing = timing;
    *out = made.get();
    r().events_[*out] = std::move(made);
    return status::success;
  }
  static status event_destroy(void* event) {
    const auto s = r().begin("cudaEventDestroy");
    if (r().event_of(event, "cudaEventDestroy") == nullptr) return bad(status::invalid_value);
    r().events_.erase(event);
    return s;
  }
  static status event_record(void* event, void* stream) {
    if (const auto s = r().begin("cudaEventRecord"); s != status::success) return s;
    auto* s = r().stream_of(stream, "cudaEventRecord");
    auto* e = r().event_of(event, "cudaEventRecord");
    if (s == nullptr || e == nullptr || s->device != e->device) return bad(status::invalid_resource_handle);
    if (s->recording != nullptr) {
      if (s->recording->invalid) return bad(status::stream_capture_invalidated);
      e->recording = s->recording;
      e->deps = s->deps;
      return status::success;
    }
    e->recording.reset();
    const auto shared = r().events_[event];
    const auto number = ++shared->recorded;
    item i;
    i.nanoseconds = 10;
    i.run = [shared, number, s] {
      if (number <= shared->completed) return;
      shared->completed = number;
      shared->time = s->time;
    };
    return r().add(*s, std::move(i));
  }
  static status event_query(void* event) {
    if (const auto s = r().begin("cudaEventQuery"); s != status::success) return s;
    if (const auto s = r().unsafe_while_capturing(); s != status::success) return s;
    auto* e = r().event_of(event, "cudaEventQuery");
    if (e == nullptr) return bad(status::invalid_resource_handle);
    if (e->recording != nullptr) return bad(status::captured_event);
    if (e->completed == e->recorded) return status::success;
    if (!r().step()) r().wrong("an event is asked for that can never come");
    return bad(status::not_ready);
  }
  static status event_synchronize(void* event) {
    const auto told = r().begin("cudaEventSynchronize");
    if (r().lost_ != status::success || r().in_host_function_) return told;
    if (const auto s = r().unsafe_while_capturing(); s != status::success) return s;
    auto* e = r().event_of(event, "cudaEventSynchronize");
    if (e == nullptr) return bad(status::invalid_resource_handle);
    if (e->recording != nullptr) return bad(status::captured_event);
    while (e->completed < e->recorded)
      if (!r().step()) {
        r().wrong("an event was waited for that can never come");
        return bad(status::unknown);
      }
    return told;
  }
  static status event_elapsed(float* ms, void* start, void* end) {
    if (const auto s = r().begin("cudaEventElapsedTime"); s != status::success) return s;
    auto* a = r().event_of(start, "cudaEventElapsedTime");
    auto* b = r().event_of(end, "cudaEventElapsedTime");
    if (a == nullptr || b == nullptr || a->device != b->device || !a->timing || !b->timing || a->recorded == 0 ||
        b->recorded == 0)
      return bad(status::invalid_resource_handle);
    if (a->completed < a->recorded || b->completed < b->recorded) return bad(status::not_ready);
    *ms = static_cast<float>((static_cast<double>(b->time) - static_cast<double>(a->time)) / 1e6);
    return status::success;
  }

  static status copy(void* to, const void* from, std::size_t n, void* stream) {
    if (const auto s = r().begin("cudaMemcpyAsync"); s != status::success) return s;
    return r().copy(to, from, n, stream, false);
  }
  static status copy_peer(void* to, int, const void* from, int, std::size_t n, void* stream) {
    if (const auto s = r().begin("cudaMemcpyPeerAsync"); s != status::success) return s;
    return r().copy(to, from, n, stream, true);
  }
  static status launch_host(void* stream, void (*run)(void*), void* context) {
    if (const auto s = r().begin("cudaLaunchHostFunc"); s != status::success) return s;
    auto* s = r().stream_of(stream, "cudaLaunchHostFunc");
    if (s == nullptr) return bad(status::invalid_resource_handle);
    return r().add(*s, {[run, context] { run(context); }, {}, 5000, {}});
  }

  static status begin_capture(void* stream) {
    if (const auto s = r().begin("cudaStreamBeginCapture"); s != status::success) return s;
    auto* s = r().stream_of(stream, "cudaStreamBeginCapture");
    if (s == nullptr) return bad(status::invalid_resource_handle);
    if (r().capture_ != nullptr) return bad(status::stream_capture_unsupported);
    r().capture_ = std::make_shared<capture>();
    r().capture_->origin = s;
    r().capture_->streams.insert(s);
    s->recording = r().capture_;
    s->deps.clear();
    return status::success;
  }
  /// Whether everything that was recorded leads to the origin's end.
  static bool is_joined(const capture& c) {
    std::vector<std::size_t> todo = c.origin->deps;
    std::set<std::size_t> seen;
    while (!todo.empty()) {
      const auto n = todo.back();
      todo.pop_back();
      if (seen.insert(n).second) todo.insert(todo.end(), c.nodes[n].after.begin(), c.nodes[n].after.end());
    }
    for (const auto* s : c.streams)
      for (const auto d : s->deps)
        if (seen.count(d) == 0) return false;
    return true;
  }
  static status end_capture(void* stream, void** graph) {
    *graph = nullptr;
    auto s = r().begin("cudaStreamEndCapture");
    auto* found = r().stream_of(stream, "cudaStreamEndCapture");
    if (found == nullptr || r().capture_ == nullptr || r().capture_->origin != found)
      return bad(status::stream_capture_unmatched);
    const auto c = std::exchange(r().capture_, nullptr);
    if (s == status::success && c->invalid) s = bad(status::stream_capture_invalidated);
    if (s == status::success && !is_joined(*c)) s = bad(status::stream_capture_unjoined);
    c->ended = true;
    for (auto* t : c->streams) {
      t->recording.reset();
      t->deps.clear();
    }
    if (s != status::success) return s;
    return keep(graph, {c->nodes, false});
  }
  static status keep(void** out, fake_graph g) {
    auto made = std::make_unique<fake_graph>(std::move(g));
    *out = made.get();
    r().graphs_[*out] = std::move(made);
    return status::success;
  }
  static status instantiate(void** executable, void* graph) {
    if (const auto s = r().begin("cudaGraphInstantiate"); s != status::success) return s;
    const auto found = r().graphs_.find(graph);
    if (found == r().graphs_.end()) return bad(status::invalid_value);
    return keep(executable, {found->second->nodes, true});
  }
  static status graph_launch(void* executable, void* stream) {
    if (const auto s = r().begin("cudaGraphLaunch"); s != status::success) return s;
    const auto found = r().graphs_.find(executable);
    auto* s = r().stream_of(stream, "cudaGraphLaunch");
    if (found == r().graphs_.end() || !found->second->executable || s == nullptr) return bad(status::invalid_value);
    item i;
    i.nanoseconds = 0;
    for (const auto& n : found->second->nodes) {
      i.touched.insert(i.touched.end(), n.what.touched.begin(), n.what.touched.end());
      i.nanoseconds += n.what.nanoseconds;
    }
    i.run = [nodes = found->second->nodes] { run_in_some_order(nodes); };
    return r().add(*s, std::move(i));
  }
  /// Any order that the edges allow: with a seed a random one.
  static void run_in_some_order(const std::vector<node>& nodes) {
    std::vector<bool> done(nodes.size());
    for (std::size_t left = nodes.size(); left > 0; --left) {
      std::vector<std::size_t> able;
      for (std::size_t n = 0; n < nodes.size(); ++n)
        if (!done[n] && std::all_of(nodes[n].after.begin(), nodes[n].after.end(), [&](auto a) { return done[a]; }))
          able.push_back(n);
      const auto n = r().options_.seed == 0 ? able.front() : able[r().random_() % able.size()];
      if (nodes[n].what.run) nodes[n].what.run();
      done[n] = true;
    }
  }
  static status destroy_graph(const char* call, void* graph, bool executable) {
    const auto s = r().begin(call);
    const auto found = r().graphs_.find(graph);
    if (found == r().graphs_.end() || found->second->executable != executable) {
      r().wrong(std::string(call) + " of a graph that is not alive");
      return bad(status::invalid_value);
    }
    r().graphs_.erase(found);
    return s;
  }
  static status executable_destroy(void* g) { return destroy_graph("cudaGraphExecDestroy", g, true); }
  static status graph_destroy(void* g) { return destroy_graph("cudaGraphDestroy", g, false); }
  static status last_error() {
    ++r().calls_["cudaGetLastError"];
    const auto s = std::exchange(r().last_error_, status::success);
    return r().lost_ != status::success ? r().lost_ : s;
  }
};

const berth::cuda::runtime_table& runtime::table() const {
  using c = calls_of;
  static constexpr berth::cuda::runtime_table all{
      .driver_version = c::driver_version,
      .runtime_version = c::runtime_version,
      .device_count = c::device_count,
      .attribute = c::attribute,
      .properties = c::properties,
      .pci_bus_id = c::pci_bus_id,
      .peer = c::peer,
      .can_access_peer = c::can_access_peer,
      .enable_peer = c::enable_peer,
      .get_device = c::get_device,
      .set_device = c::set_device,
      .memory_info = c::memory_info,
      .malloc = c::malloc,
      .free = c::free,
      .host_alloc = c::host_alloc,
      .host_free = c::host_free,
      .stream_create = c::stream_create,
      .stream_destroy = c::stream_destroy,
      .stream_synchronize = c::stream_synchronize,
      .stream_wait = c::stream_wait,
      .event_create = c::event_create,
      .event_destroy = c::event_destroy,
      .event_record = c::event_record,
      .event_query = c::event_query,
      .event_synchronize = c::event_synchronize,
      .event_elapsed = c::event_elapsed,
      .copy = c::copy,
      .copy_peer = c::copy_peer,
      .launch_host = c::launch_host,
      .begin_capture = c::begin_capture,
      .end_capture = c::end_capture,
      .graph_instantiate = c::instantiate,
      .graph_launch = c::graph_launch,
      .graph_executable_destroy = c::executable_destroy,
      .graph_destroy = c::graph_destroy,
      .last_error = c::last_error,
  };
  return all;
}

}  // namespace fake_cuda
