// SPDX-License-Identifier: Apache-2.0
module;

#include <string>
#include <string_view>
#include <vector>

export module berth.topology:presets;

import berth.base;
import :owners;

export namespace berth {

/// A machine by name: one of `preset_names()`, or `NxMODEL` for any GPU of the table by short name ("3x4080"),
/// several joined by '+' ("1x5090+2x3090", numbered in that order), with "-nvlink" for two GPUs on a bridge
/// ("2x3090-nvlink"). The host is one that such machines usually have; every rate is a prior.
/// Error: `unknown_device` with the nearest names.
result<topology> preset(std::string_view name);

/// The names of the ready-made machines, sorted as printed by `berth topology --help`.
std::vector<std::string> preset_names();

}  // namespace berth
