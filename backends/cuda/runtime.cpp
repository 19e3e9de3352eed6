// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <string_view>

module berth.cuda;

import berth.base;

#ifdef BERTH_CUDA_RUNTIME
namespace berth::cuda {

const runtime_table& cudart_table();  // cudart_table.cpp

namespace {

std::string_view mending(status s, int driver) {
  if (s == status::no_device) return "no CUDA device is visible; look at nvidia-smi and CUDA_VISIBLE_DEVICES";
  if (driver == 0) return "no NVIDIA driver was found; install one (libcuda.so.1 comes with it)";
  return "install an NVIDIA driver that is as new as the CUDA runtime of this build";
}

void append_version(text<416>& to, int version) {
  to.append(static_cast<std::uint64_t>(version / 1000)).append(".");
  to.append(static_cast<std::uint64_t>(version % 1000 / 10));
}

failure unusable(const runtime_table& t, status s) {
  int driver = 0, built = 0;
  if (t.driver_version(&driver) != status::success) driver = 0;
  if (t.runtime_version(&built) != status::success) built = 0;
  text<416> detail("cudaGetDeviceCount: ");
  detail.append(name_of(s)).append(" (").append(static_cast<std::uint64_t>(s)).append("); CUDA runtime ");
  append_version(detail, built);
  detail.append(", driver ");
  if (driver == 0)
    detail.append("none");
  else
    append_version(detail, driver);
  return fail(errc::unavailable, "CUDA", detail.append(": ").append(mending(s, driver)).view());
}

}  // namespace

result<const runtime_table*> runtime() {
  const auto& t = cudart_table();
  int devices = 0;
  auto s = t.device_count(&devices);
  if (s == status::success && devices == 0) s = status::no_device;
  if (s == status::success) return &t;
  (void)t.last_error();
  return unusable(t, s);
}

}  // namespace berth::cuda
#else
namespace berth::cuda {

result<const runtime_table*> runtime() {
  return fail(errc::unavailable, "CUDA",
              "this build has no CUDA runtime; install the CUDA toolkit (nvcc, cudart) and configure with "
              "-DBERTH_CUDA=ON");
}

}  // namespace berth::cuda
#endif
