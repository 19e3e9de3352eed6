// SPDX-License-Identifier: Apache-2.0
// Internal to the fake runtime.
#pragma once

#include "fake_cuda.hpp"

namespace fake_cuda {

/// The runtime that the table's functions speak to.
extern runtime* current_runtime;

}  // namespace fake_cuda
