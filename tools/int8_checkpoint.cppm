// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <string>
#include <vector>

export module berth.tool:int8_checkpoint;

import berth;
import berth.formats;

export namespace tool {

/// One file of a checkpoint that was written.
struct written_file {
  std::string name;
  berth::bytes size = 0;
};

/// Carries out a plan for an int8 checkpoint: reads the tensors of `model` one after the other, writes `folder` with
/// weights, index, config and what lies beside them (tokenizer, generation settings, licence). The folder appears whole
/// or not at all; it must not exist, or be empty. Memory: a few pieces of 16 MiB, and one whole weight where columns
/// share a scale (Conv1D). Errors: `unwritable`, `unreadable`, `unsupported` for weights that int8 cannot stand for,
/// naming tensor and row.
berth::result<std::vector<written_file>> write_int8_checkpoint(const berth::loaded_model& model,
                                                               const berth::int8_checkpoint& plan,
                                                               const std::string& folder);

}  // namespace tool
