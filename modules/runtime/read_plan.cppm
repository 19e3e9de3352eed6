// SPDX-License-Identifier: Apache-2.0
// Exports nothing: which parts of which files a load reads, in which order, and what becomes of every byte.
module;

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

export module berth.runtime:read_plan;

import berth.base;
import berth.topology;
import berth.plan;
import berth.exec;
import :image;

namespace berth::detail {

/// Direct reads begin and end at multiples of this, in the file and in memory.
inline constexpr bytes direct_step = 4096;
/// Stored bytes between two tensors that are read rather than skipped.
inline constexpr bytes gap_limit = 64 * KiB;
/// Parts of one read at most, so that everything about a slot has a fixed size.
inline constexpr std::uint32_t most_parts = 64;

/// A piece of an image, or a part of one, within one read.
struct read_part {
  std::uint32_t atom = 0;
  bytes at = 0;           ///< where its stored bytes begin in the read
  image_piece piece;      ///< with the stored bytes and the transform of this part alone
  bytes target = 0;       ///< in the buffer of the lane: of the first element, or of the plain bytes
  bytes scales = 0;       ///< of quantize, in the buffer as well
  std::uint64_t row = 0;  ///< of quantize: number of its first row in the tensor
};

/// One read: a range of a file, with the parts that lie in it.
struct read_step {
  std::uint32_t file = 0;
  bytes offset = 0, length = 0;
  bytes stored = 0;                    ///< of the parts: what counts as read
  std::uint32_t first = 0, count = 0;  ///< parts
  std::uint32_t lane = 0;
  std::uint32_t transforms = 0;  ///< parts that are not plain
  bool in_place = false;         ///< straight into the home's memory; else into a slot
  /// A range that is too long for a slot, of which only some columns are wanted: `columns` ranges of `width` bytes,
  /// `stride` apart, packed one behind the other. 0 columns: the whole range.
  std::uint64_t columns = 0;
  bytes width = 0, stride = 0;

  bytes slot_bytes() const { return columns > 0 ? columns * width : length; }
};

/// What one home gets: its reads in the order of the files, consecutive in `read_plan::steps`.
struct read_lane {
  device_index device = no_index;
  std::uint32_t buffer = no_handle;  ///< of the program's frame
  std::uint32_t stream = no_handle;  ///< of the program's frame: the load stream
  bool host = false;                 ///< a CPU's memory: plain parts are read in place
  std::uint32_t first = 0, count = 0;
  std::uint32_t staged = 0;  ///< reads that need a slot
  std::uint32_t transformed = 0;
  bytes largest = 0;  ///< bytes of the largest read into a slot
  bytes scratch = 0;  ///< bytes of the largest read that has transforms
  bytes stored = 0;   ///< bytes of its parts in the files
};

/// Bytes that no file holds.
struct zero_range {
  std::uint32_t lane = 0;
  std::uint32_t atom = 0, tensor = 0;
  bytes target = 0, size = 0;
};

struct read_plan {
  std::vector<read_lane> lanes;
  std::vector<read_step> steps;
  std::vector<read_part> parts;
  std::vector<zero_range> zeros;
  bytes stored = 0;  ///< bytes of all parts in the files
};

/// Plans the reads of a load program: everything that an atom's own region on a device is to hold, in reads of at most
/// `limit` stored bytes. Errors: `capacity` for a row of a tensor that is longer than `limit`; `unsupported` for
/// transforms that the CPU, which `cpu` homes need, does not know. O(pieces x log pieces + reads).
result<read_plan> plan_reads(const plan& p, const program& load, const weight_images& images, bytes limit);

}  // namespace berth::detail
