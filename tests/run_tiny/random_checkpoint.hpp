// SPDX-License-Identifier: Apache-2.0
// Small checkpoints with random weights, written as transformers writes them.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace tiny_test {

inline constexpr std::array<std::string_view, 4> families{"llama", "qwen2", "mixtral", "gpt2"};

/// Writes config.json, two safetensors files and their index into `folder`, which is made. llama: bf16, grouped heads,
/// tied head. qwen2: f16, biases. mixtral: bf16, 4 experts of which 2 are used. gpt2: f32. The same seed gives the same
/// bytes. False with a message in `error` if that fails.
bool write_random_checkpoint(const std::string& folder, std::string_view family, std::uint64_t seed,
                             std::string& error);

}  // namespace tiny_test
