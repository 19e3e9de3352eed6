// SPDX-License-Identifier: Apache-2.0
module;

#include <atomic>
#include <cstdint>
#include <string>

export module berth.runtime:materialise_options;

import berth.base;
import berth.exec;
import :image_storage;
import :cpu_transforms;
import :load_report;

export namespace berth {

/// What a load may use, and whom it tells.
struct materialise_options {
  /// Threads that read files; they live inside the call. 0: the caller's thread reads.
  int readers = 4;
  bytes staging =
      64 * MiB;  ///< of host memory per device that weights are copied to, in `slots` parts of 64 KiB at least
  std::uint32_t slots = 4;    ///< 2 at least
  bool direct = true;         ///< read past the page cache what is not in it, where the file system can
  bool verify = false;        ///< compare what arrived with `machine.checksum` of what is stored
  std::uint32_t retries = 2;  ///< of a copy that fails
  /// Carries transforms out on GPUs, and on CPUs. Where GPUs are rehearsed in host memory: `cpu_transforms()` too.
  transform_engine gpu{};
  transform_engine cpu = cpu_transforms();
  /// What the machine reads stored weights from. Weights that live on the disk and are not stored as they are wanted go
  /// into `offload_folder`, and the storage takes them from there afterwards.
  image_storage* storage = nullptr;
  std::string offload_folder{};
  /// Called on the caller's thread after every read, with how far the load is. Must not call the machine.
  void* progress_context = nullptr;
  void (*progress)(void* context, const load_progress& p) = nullptr;
  const std::atomic<bool>* cancel = nullptr;  ///< becomes true: stop
};

}  // namespace berth
