// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Not exported: files that appear all at once or not at all.
export module berth.runtime:new_files;

import berth.base;

namespace berth {

/// Files on their way into a folder. Each has a temporary name until `commit`; without that they go away again.
class new_files {
 public:
  explicit new_files(std::string folder) : folder_(std::move(folder)) {}
  new_files(const new_files&) = delete;
  new_files& operator=(const new_files&) = delete;
  ~new_files();

  /// Starts a file that will have `size` bytes; the one before must be finished. Errors: `unwritable`.
  result<done> begin(const std::string& name, bytes size);
  result<done> write(std::span<const std::byte> part);
  /// The file is on the disk, under its temporary name.
  result<done> finish();
  /// Gives all files their names, over older ones.
  result<done> commit();

 private:
  struct file {
    std::string name, temporary;
  };
  failure cannot(std::string_view name, int error) const;

  std::string folder_;
  std::vector<file> files_;
  int descriptor_ = -1;
  bytes size_ = 0, written_ = 0;
};

/// Bytes that a folder's disk has left; `unwritable` if the folder cannot be made.
result<bytes> make_folder(const std::string& folder);

}  // namespace berth
