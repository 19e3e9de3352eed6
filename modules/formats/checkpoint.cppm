// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

export module berth.formats:checkpoint;

import berth.model;
import :json;

export namespace berth {

/// Where the tensors of a checkpoint are known from, the surest first.
enum class checkpoint_source : std::uint8_t {
  safetensors_headers,  ///< names, shapes, dtypes and places of every tensor
  safetensors_index,    ///< names only: the shards are not there
  bin_index,            ///< names only: pickled shards are never opened
  config_only,          ///< nothing but config.json
};

/// "safetensors headers", "safetensors index (no shards here)" ...
std::string_view describe(checkpoint_source s);

/// One shard. `name` is the logical name in the folder, also where it is a link into a hub cache's blobs.
struct checkpoint_file {
  std::string name;
  std::string path;
  bytes size = 0;        ///< 0 if the file is not there
  bool present = false;  ///< the file is there (pickled shards are not opened even so)
};

/// A checkpoint folder or file as found on disk.
struct checkpoint {
  std::string location;  ///< the folder (a hub cache: the snapshot's folder), or the single file
  checkpoint_source source = checkpoint_source::config_only;
  std::optional<json::value> config;                 ///< config.json
  std::optional<json::value> quantization_document;  ///< hf_quant_config.json beside it
  std::vector<checkpoint_file> files;
  /// From headers: every tensor, in file order. Empty for the other sources.
  std::vector<stored_tensor> tensors;
  /// From an index without shards: names and their index into `files`. Empty with headers.
  std::vector<std::pair<std::string, std::uint32_t>> names;
  std::optional<bytes> index_total_size;
  std::vector<std::string> warnings;

  bool has_headers() const { return source == checkpoint_source::safetensors_headers; }
  /// Bytes of all tensors by their headers; 0 without headers.
  bytes stored_bytes() const;
};

struct checkpoint_options {
  /// Called after each shard's header: shards done, shards in all, name of the one just read.
  std::function<void(std::size_t, std::size_t, std::string_view)> progress;
};

/// Reads what a path holds: a checkpoint folder (safetensors with or without index, a pickled checkpoint's index,
/// config.json alone), a hub-cache folder (models--org--name or one of its snapshots), one `.safetensors` file, an
/// index file or a bare config.json. Headers only, never data. With safetensors and pickled files side by side the
/// safetensors ones are read and the others ignored. Errors: `not_found` for paths and missing shards, `malformed`
/// with the rule a file breaks, `inconsistent_model` where index and headers contradict each other, `unsafe_path`,
/// `unsupported` for pickled weights and GGUF. Linear in the number of tensors.
result<checkpoint> read_checkpoint(const std::string& path, const checkpoint_options& options = {});

}  // namespace berth
