// SPDX-License-Identifier: Apache-2.0
module;

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

module berth.host;

namespace berth::host {
namespace {

constexpr bytes chunk = 4 * MiB, small = 4 * KiB;

struct releaser {
  void operator()(void* p) const { std::free(p); }
};

/// A file without a name in `folder` and an aligned buffer of one chunk.
class scratch_file {
 public:
  scratch_file() = default;
  scratch_file(const scratch_file&) = delete;
  scratch_file& operator=(const scratch_file&) = delete;
  ~scratch_file() {
    if (file_ >= 0) ::close(file_);
  }

  result<done> open(const std::string& folder) {
    buffer_.reset(static_cast<std::uint64_t*>(std::aligned_alloc(small, chunk)));
    if (!buffer_) return fail(errc::capacity, "memory", "too little for a buffer", chunk);
    auto name = folder + "/.berth-calibrate-XXXXXX";
    file_ = ::mkostemp(name.data(), O_CLOEXEC);
    if (file_ < 0)
      return fail(errc::invalid_argument, folder, text<416>("no file can be made here: ").append(std::strerror(errno)));
    // From here on the file lives as long as this process holds it.
    if (::unlink(name.c_str()) != 0) return broken("removing");
    direct_ = set_direct(true);
    // No file system shrinks this.
    std::uint64_t x = 0x9e3779b97f4a7c15u;
    for (std::size_t i = 0; i < chunk / sizeof x; ++i) {
      x ^= x << 13;
      x ^= x >> 7;
      x ^= x << 17;
      buffer_.get()[i] = x;
    }
    probe_ = buffer_.get()[1];
    return done{};
  }

  /// Writes chunk `n`, down to the storage.
  result<done> write(bytes n) {
    bytes have = 0;
    while (have < chunk) {
      const auto r = ::pwrite(file_, at(have), chunk - have, static_cast<off_t>(n * chunk + have));
      if (r > 0) {
        have += static_cast<bytes>(r);
      } else if (direct_ && errno == EINVAL) {
        direct_ = set_direct(false);  // some file systems accept the flag and then no write
      } else if (r == 0 || errno == ENOSPC || errno == EDQUOT || errno == EFBIG) {
        return fail(errc::capacity, folder_text(), "no space for a temporary file", (n + 1) * chunk, n * chunk + have);
      } else if (errno != EINTR) {
        return broken("writing");
      }
    }
    if (!direct_ && ::fdatasync(file_) != 0) return broken("writing");
    return done{};
  }

  result<done> read(bytes offset, bytes size) {
    buffer_.get()[1] = 0;
    for (bytes have = 0; have < size;) {
      const auto r = ::pread(file_, at(have), size - have, static_cast<off_t>(offset + have));
      if (r > 0)
        have += static_cast<bytes>(r);
      else if (r == 0)
        return fail(errc::corrupted, folder_text(), "is shorter than what was written");
      else if (errno != EINTR)
        return broken("reading");
    }
    if (offset % chunk == 0 && buffer_.get()[1] != probe_)
      return fail(errc::corrupted, folder_text(), "bytes that were written do not read back");
    return done{};
  }

  /// Has the next read come from the storage, if the file system lets us; `scattered`: no reading ahead either.
  void forget(bool scattered) {
    if (direct_) return;
    ::posix_fadvise(file_, 0, 0, scattered ? POSIX_FADV_RANDOM : POSIX_FADV_SEQUENTIAL);
    ::posix_fadvise(file_, 0, 0, POSIX_FADV_DONTNEED);
  }
  result<done> finish() {
    if (::fdatasync(file_) != 0) return broken("writing");
    return done{};
  }
  bool direct() const { return direct_; }

 private:
  bool set_direct(bool on) {
#ifdef O_DIRECT
    const int flags = ::fcntl(file_, F_GETFL);
    const int wanted = on ? flags | O_DIRECT : flags & ~O_DIRECT;
    return flags >= 0 && ::fcntl(file_, F_SETFL, wanted) == 0 && on;
#else
    return false;
#endif
  }
  char* at(bytes offset) { return reinterpret_cast<char*>(buffer_.get()) + offset; }
  static std::string_view folder_text() { return "temporary file"; }
  failure broken(std::string_view what) const {
    return fail(errc::unreadable, folder_text(), text<416>(what).append(" failed: ").append(std::strerror(errno)));
  }

  std::unique_ptr<std::uint64_t, releaser> buffer_;
  std::uint64_t probe_ = 0;
  int file_ = -1;
  bool direct_ = false;
};

/// Whole chunks that the file may have.
result<bytes> chunks_allowed(const std::string& folder, bytes most) {
  struct ::statvfs space{};
  if (::statvfs(folder.c_str(), &space) != 0) return fail(errc::invalid_argument, folder, std::strerror(errno));
  const auto room = checked_mul(space.f_bavail, space.f_frsize).value_or(max_bytes);
  struct ::rlimit limit{};
  const bytes longest = ::getrlimit(RLIMIT_FSIZE, &limit) == 0 ? limit.rlim_cur : max_bytes;
  const auto allowed = std::min({most, room / 4, longest}) / chunk;
  if (allowed == 0)
    return fail(errc::capacity, folder,
                text<416>("no space for a temporary file of ")
                    .append(format_size(chunk))
                    .append(longest < chunk ? ": the limit on file sizes (ulimit -f) is lower"
                                            : ": at most a quarter of what is free is used"),
                chunk, std::min(room / 4, longest));
  return allowed;
}

}  // namespace

result<disk_figures> measure_disk(const measure_options& o, const std::string& folder, bytes most) {
  const auto allowed = chunks_allowed(folder, most);
  if (!allowed) return allowed.propagate();
  scratch_file file;
  if (auto ok = file.open(folder); !ok) return ok.propagate();
  bytes chunks = 0;
  for (const auto begin = o.now(); chunks < *allowed && (chunks == 0 || o.now() - begin < o.budget / 3); ++chunks)
    if (auto ok = file.write(chunks); !ok) return ok.propagate();
  if (auto ok = file.finish(); !ok) return ok.propagate();

  auto reading = o;
  reading.budget = o.budget / 2;
  // A pass ends early on slow storage, so that there are several.
  const auto pass = reading.budget / 4;
  const auto read = repeat("disk read", reading, 1000, [&]() -> result<double> {
    file.forget(false);
    const auto begin = o.now();
    picoseconds elapsed = 0;
    bytes n = 0;
    while (n < chunks && (n == 0 || elapsed < pass)) {
      if (auto ok = file.read(n++ * chunk, chunk); !ok) return ok.propagate();
      elapsed = o.now() - begin;
    }
    return static_cast<double>(n * chunk) / seconds_from(elapsed);
  });
  if (!read) return read.propagate();

  reading.budget = o.budget / 6;
  file.forget(true);
  bytes place = 0;
  const auto latency = repeat("small disk read", reading, 1000, [&]() -> result<double> {
    if (!file.direct()) file.forget(true);
    place = (place * 6364136223846793005u + 1442695040888963407u);
    const auto block = (place >> 33) % (chunks * (chunk / small));
    const auto begin = o.now();
    if (auto ok = file.read(block * small, small); !ok) return ok.propagate();
    return seconds_from(o.now() - begin);
  });
  if (!latency) return latency.propagate();
  return disk_figures{*read, *latency, chunks * chunk, file.direct()};
}

}  // namespace berth::host
