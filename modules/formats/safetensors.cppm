// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

export module berth.formats:safetensors;

import berth.model;

export namespace berth {

/// The rule of the safetensors format that a file breaks, named as the official reader names them and listed in
/// the order in which they are checked. `duplicate_key` is ours: the format forbids it, the official reader keeps
/// the last.
enum class safetensors_fault : std::uint8_t {
  header_too_small,
  header_too_large,
  invalid_header_length,
  invalid_header,
  invalid_header_deserialization,
  duplicate_key,
  invalid_offset,
  validation_overflow,
  misaligned_slice,
  tensor_invalid_info,
  metadata_incomplete_buffer,
};

/// "HeaderTooSmall", "InvalidOffset" ...: the word before the colon in the error's detail.
constexpr std::string_view name_of(safetensors_fault f) {
  constexpr std::string_view names[] = {"HeaderTooSmall",
                                        "HeaderTooLarge",
                                        "InvalidHeaderLength",
                                        "InvalidHeader",
                                        "InvalidHeaderDeserialization",
                                        "DuplicateKey",
                                        "InvalidOffset",
                                        "ValidationOverflow",
                                        "MisalignedSlice",
                                        "TensorInvalidInfo",
                                        "MetadataIncompleteBuffer"};
  return names[static_cast<std::size_t>(f)];
}

/// The rule behind an error of the readers below, or nothing for errors of another kind (a missing file).
std::optional<safetensors_fault> fault_of(const error& e);

/// What the header of a `.safetensors` file says.
struct safetensors_header {
  std::vector<stored_tensor> tensors;  ///< in the order of their data
  std::vector<std::pair<std::string, std::string>> metadata;
  bytes file_size = 0;
  std::vector<std::string> warnings;  ///< unknown members
};

/// Longest header accepted, as in the official reader.
inline constexpr bytes max_safetensors_header = 100'000'000;

/// Reads the header of a file held in memory (or of its first bytes, when `file_size` says how long it is).
/// `file` is stored in every tensor. Checks every rule of the format. Linear in the header, plus one sort.
result<safetensors_header> read_safetensors(std::span<const std::byte> start, bytes file_size, std::string_view what,
                                            std::uint32_t file = 0);

/// The same from a file; reads 8 bytes and the header, never the data.
result<safetensors_header> read_safetensors_file(const std::string& path, std::uint32_t file = 0);

}  // namespace berth
