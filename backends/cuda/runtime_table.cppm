// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>

export module berth.cuda:runtime_table;

import berth.base;

export namespace berth::cuda {

/// What a call of the CUDA runtime returned: the values of `cudaError_t`. Named here are those that the backend treats
/// in a way of their own; every value has a class in `errors.cpp`.
enum class status : int {
  success = 0,
  invalid_value = 1,
  memory_allocation = 2,
  initialization_error = 3,
  insufficient_driver = 35,
  no_device = 100,
  invalid_device = 101,
  uncorrectable_ecc = 214,
  invalid_resource_handle = 400,
  not_ready = 600,
  illegal_address = 700,
  launch_timeout = 702,
  peer_access_already_enabled = 704,
  launch_failure = 719,
  not_supported = 801,
  system_driver_mismatch = 803,
  stream_capture_unsupported = 900,
  stream_capture_invalidated = 901,
  stream_capture_merge = 902,
  stream_capture_unmatched = 903,
  stream_capture_unjoined = 904,
  stream_capture_isolation = 905,
  stream_capture_implicit = 906,
  captured_event = 907,
  stream_capture_wrong_thread = 908,
  unknown = 999,
};

/// The values of `cudaDeviceAttr` that are asked for. Clocks are in kHz, the bus width in bits.
enum class device_attribute : int {
  clock_rate = 13,
  multiprocessor_count = 16,
  integrated = 18,
  memory_clock_rate = 36,
  memory_bus_width = 37,
  compute_major = 75,
  compute_minor = 76,
};

/// The values of `cudaDeviceP2PAttr` that are asked for.
enum class peer_attribute : int { performance_rank = 1, access_supported = 2 };

/// What a device says about itself without a context.
struct device_properties {
  std::array<char, 256> name{};
  std::array<unsigned char, 16> uuid{};
  bytes memory = 0;
};

/// Every call of the CUDA runtime that the backend makes, over plain C types: handles are `cudaStream_t`,
/// `cudaEvent_t`, `cudaGraph_t` and `cudaGraphExec_t` as `void*`. `runtime()` fills it from the CUDA runtime; tests
/// fill it with a fake. No member is null.
struct runtime_table {
  status (*driver_version)(int* version);
  status (*runtime_version)(int* version);
  status (*device_count)(int* count);
  status (*attribute)(int* value, device_attribute which, int device);
  status (*properties)(device_properties* out, int device);
  status (*pci_bus_id)(char* text, int size, int device);  ///< cudaDeviceGetPCIBusId: "0000:65:00.0"
  status (*peer)(int* value, peer_attribute which, int from, int to);
  status (*can_access_peer)(int* can, int device, int peer);
  status (*enable_peer)(int peer);  ///< from the current device
  status (*get_device)(int* device);
  status (*set_device)(int device);
  status (*memory_info)(std::size_t* free, std::size_t* total);  ///< of the current device; makes its context

  status (*malloc)(void** out, std::size_t size);  ///< on the current device
  status (*free)(void* memory);
  status (*host_alloc)(void** out, std::size_t size);  ///< pinned and portable
  status (*host_free)(void* memory);

  status (*stream_create)(void** out);  ///< non-blocking, on the current device
  status (*stream_destroy)(void* stream);
  status (*stream_synchronize)(void* stream);
  status (*stream_wait)(void* stream, void* event);

  status (*event_create)(void** out, bool timing);  ///< on the current device
  status (*event_destroy)(void* event);
  status (*event_record)(void* event, void* stream);
  status (*event_query)(void* event);
  status (*event_synchronize)(void* event);
  status (*event_elapsed)(float* milliseconds, void* start, void* end);

  status (*copy)(void* to, const void* from, std::size_t size, void* stream);  ///< direction by the addresses
  status (*copy_peer)(void* to, int to_device, const void* from, int from_device, std::size_t size, void* stream);
  status (*launch_host)(void* stream, void (*run)(void*), void* context);

  status (*begin_capture)(void* stream);  ///< thread-local mode
  status (*end_capture)(void* stream, void** graph);
  status (*graph_instantiate)(void** executable, void* graph);
  status (*graph_launch)(void* executable, void* stream);
  status (*graph_executable_destroy)(void* executable);
  status (*graph_destroy)(void* graph);

  status (*last_error)();  ///< returns and clears it
};

/// The table over the CUDA runtime that this library is linked with. Asks for the device count, which makes no context.
/// Errors, all `unavailable`: built without CUDA (names the option), no driver, one that is too old, no device.
result<const runtime_table*> runtime();

}  // namespace berth::cuda
