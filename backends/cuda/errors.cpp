// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <string_view>

module berth.cuda;

import berth.base;

namespace berth::cuda {
namespace {

using row = status_row;
using kind = status_kind;

constexpr std::array rows{
    row{0, "cudaSuccess", kind::none},
    row{1, "cudaErrorInvalidValue", kind::call},
    row{2, "cudaErrorMemoryAllocation", kind::memory},
    row{3, "cudaErrorInitializationError", kind::driver},
    row{4, "cudaErrorCudartUnloading", kind::lost},
    row{5, "cudaErrorProfilerDisabled", kind::call},
    row{6, "cudaErrorProfilerNotInitialized", kind::call},
    row{7, "cudaErrorProfilerAlreadyStarted", kind::call},
    row{8, "cudaErrorProfilerAlreadyStopped", kind::call},
    row{9, "cudaErrorInvalidConfiguration", kind::program},
    row{12, "cudaErrorInvalidPitchValue", kind::call},
    row{13, "cudaErrorInvalidSymbol", kind::program},
    row{16, "cudaErrorInvalidHostPointer", kind::call},
    row{17, "cudaErrorInvalidDevicePointer", kind::call},
    row{18, "cudaErrorInvalidTexture", kind::call},
    row{19, "cudaErrorInvalidTextureBinding", kind::call},
    row{20, "cudaErrorInvalidChannelDescriptor", kind::call},
    row{21, "cudaErrorInvalidMemcpyDirection", kind::call},
    row{22, "cudaErrorAddressOfConstant", kind::call},
    row{23, "cudaErrorTextureFetchFailed", kind::call},
    row{24, "cudaErrorTextureNotBound", kind::call},
    row{25, "cudaErrorSynchronizationError", kind::call},
    row{26, "cudaErrorInvalidFilterSetting", kind::call},
    row{27, "cudaErrorInvalidNormSetting", kind::call},
    row{28, "cudaErrorMixedDeviceExecution", kind::call},
    row{31, "cudaErrorNotYetImplemented", kind::call},
    row{32, "cudaErrorMemoryValueTooLarge", kind::call},
    row{34, "cudaErrorStubLibrary", kind::driver},
    row{35, "cudaErrorInsufficientDriver", kind::driver},
    row{36, "cudaErrorCallRequiresNewerDriver", kind::driver},
    row{37, "cudaErrorInvalidSurface", kind::call},
    row{43, "cudaErrorDuplicateVariableName", kind::call},
    row{44, "cudaErrorDuplicateTextureName", kind::call},
    row{45, "cudaErrorDuplicateSurfaceName", kind::call},
    row{46, "cudaErrorDevicesUnavailable", kind::driver},
    row{49, "cudaErrorIncompatibleDriverContext", kind::driver},
    row{52, "cudaErrorMissingConfiguration", kind::program},
    row{53, "cudaErrorPriorLaunchFailure", kind::lost},
    row{65, "cudaErrorLaunchMaxDepthExceeded", kind::program},
    row{66, "cudaErrorLaunchFileScopedTex", kind::program},
    row{67, "cudaErrorLaunchFileScopedSurf", kind::program},
    row{68, "cudaErrorSyncDepthExceeded", kind::program},
    row{69, "cudaErrorLaunchPendingCountExceeded", kind::program},
    row{98, "cudaErrorInvalidDeviceFunction", kind::program},
    row{100, "cudaErrorNoDevice", kind::driver},
    row{101, "cudaErrorInvalidDevice", kind::device},
    row{102, "cudaErrorDeviceNotLicensed", kind::driver},
    row{103, "cudaErrorSoftwareValidityNotEstablished", kind::driver},
    row{127, "cudaErrorStartupFailure", kind::driver},
    row{200, "cudaErrorInvalidKernelImage", kind::program},
    row{201, "cudaErrorDeviceUninitialized", kind::lost},
    row{205, "cudaErrorMapBufferObjectFailed", kind::call},
    row{206, "cudaErrorUnmapBufferObjectFailed", kind::call},
    row{207, "cudaErrorArrayIsMapped", kind::call},
    row{208, "cudaErrorAlreadyMapped", kind::call},
    row{209, "cudaErrorNoKernelImageForDevice", kind::program},
    row{210, "cudaErrorAlreadyAcquired", kind::call},
    row{211, "cudaErrorNotMapped", kind::call},
    row{212, "cudaErrorNotMappedAsArray", kind::call},
    row{213, "cudaErrorNotMappedAsPointer", kind::call},
    row{214, "cudaErrorECCUncorrectable", kind::lost},
    row{215, "cudaErrorUnsupportedLimit", kind::call},
    row{216, "cudaErrorDeviceAlreadyInUse", kind::driver},
    row{217, "cudaErrorPeerAccessUnsupported", kind::call},
    row{218, "cudaErrorInvalidPtx", kind::program},
    row{219, "cudaErrorInvalidGraphicsContext", kind::program},
    row{220, "cudaErrorNvlinkUncorrectable", kind::lost},
    row{221, "cudaErrorJitCompilerNotFound", kind::program},
    row{222, "cudaErrorUnsupportedPtxVersion", kind::program},
    row{223, "cudaErrorJitCompilationDisabled", kind::program},
    row{224, "cudaErrorUnsupportedExecAffinity", kind::program},
    row{225, "cudaErrorUnsupportedDevSideSync", kind::program},
    row{226, "cudaErrorContained", kind::lost},
    row{300, "cudaErrorInvalidSource", kind::program},
    row{301, "cudaErrorFileNotFound", kind::call},
    row{302, "cudaErrorSharedObjectSymbolNotFound", kind::driver},
    row{303, "cudaErrorSharedObjectInitFailed", kind::driver},
    row{304, "cudaErrorOperatingSystem", kind::call},
    row{400, "cudaErrorInvalidResourceHandle", kind::call},
    row{401, "cudaErrorIllegalState", kind::call},
    row{402, "cudaErrorLossyQuery", kind::call},
    row{500, "cudaErrorSymbolNotFound", kind::call},
    row{600, "cudaErrorNotReady", kind::none},
    row{700, "cudaErrorIllegalAddress", kind::lost},
    row{701, "cudaErrorLaunchOutOfResources", kind::program},
    row{702, "cudaErrorLaunchTimeout", kind::lost},
    row{703, "cudaErrorLaunchIncompatibleTexturing", kind::program},
    row{704, "cudaErrorPeerAccessAlreadyEnabled", kind::none},
    row{705, "cudaErrorPeerAccessNotEnabled", kind::call},
    row{708, "cudaErrorSetOnActiveProcess", kind::call},
    row{709, "cudaErrorContextIsDestroyed", kind::lost},
    row{710, "cudaErrorAssert", kind::lost},
    row{711, "cudaErrorTooManyPeers", kind::call},
    row{712, "cudaErrorHostMemoryAlreadyRegistered", kind::call},
    row{713, "cudaErrorHostMemoryNotRegistered", kind::call},
    row{714, "cudaErrorHardwareStackError", kind::lost},
    row{715, "cudaErrorIllegalInstruction", kind::lost},
    row{716, "cudaErrorMisalignedAddress", kind::lost},
    row{717, "cudaErrorInvalidAddressSpace", kind::lost},
    row{718, "cudaErrorInvalidPc", kind::lost},
    row{719, "cudaErrorLaunchFailure", kind::lost},
    row{720, "cudaErrorCooperativeLaunchTooLarge", kind::program},
    row{721, "cudaErrorTensorMemoryLeak", kind::lost},
    row{800, "cudaErrorNotPermitted", kind::call},
    row{801, "cudaErrorNotSupported", kind::call},
    row{802, "cudaErrorSystemNotReady", kind::driver},
    row{803, "cudaErrorSystemDriverMismatch", kind::driver},
    row{804, "cudaErrorCompatNotSupportedOnDevice", kind::driver},
    row{805, "cudaErrorMpsConnectionFailed", kind::driver},
    row{806, "cudaErrorMpsRpcFailure", kind::driver},
    row{807, "cudaErrorMpsServerNotReady", kind::driver},
    row{808, "cudaErrorMpsMaxClientsReached", kind::driver},
    row{809, "cudaErrorMpsMaxConnectionsReached", kind::driver},
    row{810, "cudaErrorMpsClientTerminated", kind::lost},
    row{811, "cudaErrorCdpNotSupported", kind::program},
    row{812, "cudaErrorCdpVersionMismatch", kind::program},
    row{900, "cudaErrorStreamCaptureUnsupported", kind::program},
    row{901, "cudaErrorStreamCaptureInvalidated", kind::program},
    row{902, "cudaErrorStreamCaptureMerge", kind::program},
    row{903, "cudaErrorStreamCaptureUnmatched", kind::program},
    row{904, "cudaErrorStreamCaptureUnjoined", kind::program},
    row{905, "cudaErrorStreamCaptureIsolation", kind::program},
    row{906, "cudaErrorStreamCaptureImplicit", kind::program},
    row{907, "cudaErrorCapturedEvent", kind::program},
    row{908, "cudaErrorStreamCaptureWrongThread", kind::program},
    row{909, "cudaErrorTimeout", kind::call},
    row{910, "cudaErrorGraphExecUpdateFailure", kind::program},
    row{911, "cudaErrorExternalDevice", kind::lost},
    row{912, "cudaErrorInvalidClusterSize", kind::program},
    row{913, "cudaErrorFunctionNotLoaded", kind::program},
    row{914, "cudaErrorInvalidResourceType", kind::program},
    row{915, "cudaErrorInvalidResourceConfiguration", kind::program},
    row{999, "cudaErrorUnknown", kind::lost},
};

const row* find(status s) {
  const auto value = static_cast<int>(s);
  const auto* at = std::lower_bound(rows.begin(), rows.end(), value, [](const row& r, int v) { return r.value < v; });
  return at != rows.end() && at->value == value ? at : nullptr;
}

errc code_of(kind k, bool transfer) {
  switch (k) {
    case kind::memory:
      return errc::out_of_memory;
    case kind::driver:
      return errc::unavailable;
    case kind::lost:
      return errc::device_lost;
    case kind::device:
      return errc::unknown_device;
    case kind::program:
      return errc::invalid_program;
    case kind::call:
    case kind::none:
      break;
  }
  return transfer ? errc::copy_failed : errc::invalid_argument;
}

/// What to do about it; the causes that have a cure of their own come first.
std::string_view mending(status s, kind k) {
  switch (s) {
    case status::insufficient_driver:
    case status::system_driver_mismatch:
      return "the driver is older than this build's CUDA runtime, or its parts differ: update the NVIDIA driver";
    case status::no_device:
      return "no CUDA device is visible; look at nvidia-smi and CUDA_VISIBLE_DEVICES";
    case status::uncorrectable_ecc:
      return "the GPU's memory has an error that ECC cannot mend: restart the process; if it comes back, reset or "
             "replace the GPU";
    case status::illegal_address:
    case status::launch_failure:
      return "a kernel of this process failed, perhaps one launched earlier: restart the process and look for it with "
             "compute-sanitizer";
    case status::launch_timeout:
      return "a kernel ran longer than the display's watchdog allows: use a GPU without a display";
    default:
      break;
  }
  switch (k) {
    case kind::memory:
      return "free memory on the device or lower the plan's budget for it";
    case kind::driver:
      return "look at the NVIDIA driver and at what else uses the device (nvidia-smi)";
    case kind::lost:
      return "the context is lost: make a new process";
    case kind::device:
      return "there is no CUDA device with this number; CUDA_VISIBLE_DEVICES renumbers them";
    case kind::program:
      return "a launch or capture that this device or driver cannot do";
    case kind::call:
    case kind::none:
      break;
  }
  return "the call or its arguments were refused";
}

}  // namespace

std::span<const status_row> all_statuses() { return rows; }

std::string_view name_of(status s) {
  const auto* r = find(s);
  return r == nullptr ? "unknown status" : r->name;
}

status_kind kind_of(status s) {
  const auto* r = find(s);
  return r == nullptr ? kind::call : r->kind;
}

failure error_of(status s, const failed_call& where) {
  const auto k = kind_of(s);
  text<416> detail(where.call);
  if (where.size > 0) detail.append(" of ").append(format_size(where.size));
  detail.append(": ").append(name_of(s)).append(" (").append(static_cast<std::uint64_t>(s)).append("): ");
  const bool memory = k == kind::memory;
  return fail(code_of(k, where.transfer), where.subject, detail.append(mending(s, k)).view(), memory ? where.size : 0);
}

}  // namespace berth::cuda
