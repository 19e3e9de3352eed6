// SPDX-License-Identifier: Apache-2.0
// The runtime table over the CUDA runtime: the only file that sees its header.
module;

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

module berth.cuda;

import berth.base;

namespace berth::cuda {
namespace {

constexpr status as(cudaError_t e) { return static_cast<status>(e); }

status properties_of(device_properties* out, int device) {
  cudaDeviceProp p{};
  const auto s = as(cudaGetDeviceProperties(&p, device));
  if (s != status::success) return s;
  std::copy_n(p.name, std::min(sizeof p.name, out->name.size() - 1), out->name.begin());
  static_assert(sizeof p.uuid.bytes == sizeof out->uuid);
  std::memcpy(out->uuid.data(), p.uuid.bytes, out->uuid.size());
  out->memory = p.totalGlobalMem;
  return s;
}

constexpr auto stream_of(void* s) { return static_cast<cudaStream_t>(s); }
constexpr auto event_of(void* e) { return static_cast<cudaEvent_t>(e); }

status create_stream(void** out) {
  return as(cudaStreamCreateWithFlags(reinterpret_cast<cudaStream_t*>(out), cudaStreamNonBlocking));
}
status create_event(void** out, bool timing) {
  return as(cudaEventCreateWithFlags(reinterpret_cast<cudaEvent_t*>(out),
                                     timing ? cudaEventDefault : cudaEventDisableTiming));
}
status stop_capture(void* stream, void** graph) {
  return as(cudaStreamEndCapture(stream_of(stream), reinterpret_cast<cudaGraph_t*>(graph)));
}
status instantiate(void** executable, void* graph) {
  return as(cudaGraphInstantiate(reinterpret_cast<cudaGraphExec_t*>(executable), static_cast<cudaGraph_t>(graph), 0));
}

constexpr runtime_table table{
    .driver_version = [](int* v) { return as(cudaDriverGetVersion(v)); },
    .runtime_version = [](int* v) { return as(cudaRuntimeGetVersion(v)); },
    .device_count = [](int* n) { return as(cudaGetDeviceCount(n)); },
    .attribute = [](int* v, device_attribute a,
                    int d) { return as(cudaDeviceGetAttribute(v, static_cast<cudaDeviceAttr>(a), d)); },
    .properties = properties_of,
    .pci_bus_id = [](char* text, int size, int d) { return as(cudaDeviceGetPCIBusId(text, size, d)); },
    .peer = [](int* v, peer_attribute a, int from,
               int to) { return as(cudaDeviceGetP2PAttribute(v, static_cast<cudaDeviceP2PAttr>(a), from, to)); },
    .can_access_peer = [](int* can, int d, int peer) { return as(cudaDeviceCanAccessPeer(can, d, peer)); },
    .enable_peer = [](int peer) { return as(cudaDeviceEnablePeerAccess(peer, 0)); },
    .get_device = [](int* d) { return as(cudaGetDevice(d)); },
    .set_device = [](int d) { return as(cudaSetDevice(d)); },
    .memory_info = [](std::size_t* free, std::size_t* total) { return as(cudaMemGetInfo(free, total)); },
    .malloc = [](void** out, std::size_t n) { return as(cudaMalloc(out, n)); },
    .free = [](void* p) { return as(cudaFree(p)); },
    .host_alloc = [](void** out, std::size_t n) { return as(cudaHostAlloc(out, n, cudaHostAllocPortable)); },
    .host_free = [](void* p) { return as(cudaFreeHost(p)); },
    .stream_create = create_stream,
    .stream_destroy = [](void* s) { return as(cudaStreamDestroy(stream_of(s))); },
    .stream_synchronize = [](void* s) { return as(cudaStreamSynchronize(stream_of(s))); },
    .stream_wait = [](void* s, void* e) { return as(cudaStreamWaitEvent(stream_of(s), event_of(e), 0)); },
    .event_create = create_event,
    .event_destroy = [](void* e) { return as(cudaEventDestroy(event_of(e))); },
    .event_record = [](void* e, void* s) { return as(cudaEventRecord(event_of(e), stream_of(s))); },
    .event_query = [](void* e) { return as(cudaEventQuery(event_of(e))); },
    .event_synchronize = [](void* e) { return as(cudaEventSynchronize(event_of(e))); },
    .event_elapsed = [](float* ms, void* a, void* b) { return as(cudaEventElapsedTime(ms, event_of(a), event_of(b))); },
    .copy = [](void* to, const void* from, std::size_t n,
               void* s) { return as(cudaMemcpyAsync(to, from, n, cudaMemcpyDefault, stream_of(s))); },
    .copy_peer = [](void* to, int to_device, const void* from, int from_device, std::size_t n,
                    void* s) { return as(cudaMemcpyPeerAsync(to, to_device, from, from_device, n, stream_of(s))); },
    .launch_host = [](void* s, void (*run)(void*),
                      void* context) { return as(cudaLaunchHostFunc(stream_of(s), run, context)); },
    .begin_capture = [](void* s) { return as(cudaStreamBeginCapture(stream_of(s), cudaStreamCaptureModeThreadLocal)); },
    .end_capture = stop_capture,
    .graph_instantiate = instantiate,
    .graph_launch = [](void* g, void* s) { return as(cudaGraphLaunch(static_cast<cudaGraphExec_t>(g), stream_of(s))); },
    .graph_executable_destroy = [](void* g) { return as(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(g))); },
    .graph_destroy = [](void* g) { return as(cudaGraphDestroy(static_cast<cudaGraph_t>(g))); },
    .last_error = [] { return as(cudaGetLastError()); },
};

}  // namespace

const runtime_table& cudart_table() { return table; }

}  // namespace berth::cuda
