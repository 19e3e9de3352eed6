// SPDX-License-Identifier: Apache-2.0
module;

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

module berth.runtime;

import berth.base;
import :weight_files;

namespace berth::detail {
namespace {

/// Files open at a time, two descriptors each, beyond those that are being read.
constexpr std::size_t most_open = 64;
constexpr std::size_t direct_unit = 4096;
constexpr bytes worth_announcing = 256 * KiB;

/// What tells a file from another one that was put in its place, or from itself after a change.
struct identity {
  dev_t device{};
  ino_t number{};
  off_t size = 0;
  timespec changed{};

  static identity of(const struct stat& s) { return {s.st_dev, s.st_ino, s.st_size, s.st_mtim}; }
  bool same(const identity& o) const {
    return device == o.device && number == o.number && size == o.size && changed.tv_sec == o.changed.tv_sec &&
           changed.tv_nsec == o.changed.tv_nsec;
  }
};

struct open_file {
  int cached = -1, direct = -1;
  unsigned users = 0;
  bool seen = false;
  identity first{};
};

failure unreadable(const std::string& path, int code, bytes wanted, bytes got) {
  return fail(errc::unreadable, path, text<128>("cannot be read: ").append(std::strerror(code)), wanted, got);
}

}  // namespace

struct weight_files::state {
  std::span<const std::string> paths;
  std::span<const bytes> sizes;
  bool direct = true;
  mutable std::mutex lock{};
  std::vector<open_file> files{};
  std::size_t open = 0;
  /// The kernel cannot say whether something is cached (RWF_NOWAIT): then everything goes through the cache.
  std::atomic<bool> cache_unknown = false;

  static void close(open_file& f) {
    if (f.cached >= 0) ::close(f.cached);
    if (f.direct >= 0) ::close(f.direct);
    f.cached = f.direct = -1;
  }
  /// Under the lock: closes files that nobody reads while too many are open.
  void make_room() {
    for (auto& f : files) {
      if (open < most_open) return;
      if (f.cached < 0 || f.users > 0) continue;
      close(f);
      --open;
    }
  }

  result<open_file> acquire(std::uint32_t number) {
    const std::lock_guard hold(lock);
    auto& f = files[number];
    if (f.cached < 0) {
      make_room();
      const auto& path = paths[number];
      f.cached = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
      if (f.cached < 0) {
        const int code = errno;
        if (code == ENOENT) return fail(errc::not_found, path, "is not there any more; its header was read before");
        return unreadable(path, code, 0, 0);
      }
      struct stat now{};
      if (::fstat(f.cached, &now) != 0) {
        const int code = errno;
        close(f);
        return unreadable(path, code, 0, 0);
      }
      if (auto ok = recognise(f, number, identity::of(now)); !ok) {
        close(f);
        return ok.propagate();
      }
      if (direct) f.direct = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
      ++open;
    }
    ++f.users;
    return f;
  }
  result<done> recognise(open_file& f, std::uint32_t number, const identity& now) const {
    const auto size = static_cast<bytes>(now.size);
    if (size != sizes[number])
      return fail(
          errc::corrupted, paths[number],
          "has another size than when its header was read; it is cut short or changing, get it whole and load again",
          sizes[number], size);
    if (f.seen && !f.first.same(now))
      return fail(errc::corrupted, paths[number], "was changed or replaced while it was read; load again");
    f.first = now;
    f.seen = true;
    return done{};
  }
  void release(std::uint32_t number) {
    const std::lock_guard hold(lock);
    --files[number].users;
  }
};

namespace {

/// One read while it goes on: `got` bytes of `to` are there.
struct transfer {
  const std::string& path;
  bytes offset;
  std::span<std::byte> to;
  bytes slack;
  bytes got = 0;
  read_counts counts{};

  bytes left() const { return to.size() - got; }
};

/// Takes what the page cache has. False: the kernel cannot tell.
bool take_cached(transfer& t, int file) {
  while (t.left() > 0) {
    iovec part{t.to.data() + t.got, static_cast<std::size_t>(t.left())};
    const auto n = ::preadv2(file, &part, 1, static_cast<off_t>(t.offset + t.got), RWF_NOWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno == EAGAIN;
    if (n == 0) return true;
    t.got += static_cast<bytes>(n);
    t.counts.cached += static_cast<bytes>(n);
  }
  return true;
}

/// Reads whole units past the cache, from the one that holds the next byte on. Stops where direct reading does not go.
void take_direct(transfer& t, int file) {
  while (t.left() > 0) {
    const auto at = t.offset + t.got;
    const auto early = at % direct_unit;
    auto* into = t.to.data() + t.got - early;
    // What arrived already is read again, never anything of the caller's.
    if (reinterpret_cast<std::uintptr_t>(into) % direct_unit != 0 || early > t.slack + t.got) return;
    auto want = round_up(early + t.left(), direct_unit);
    if (want - early > t.left() + t.slack) want -= direct_unit;
    if (want <= early) return;
    const auto n = ::pread(file, into, static_cast<std::size_t>(want), static_cast<off_t>(at - early));
    if (n < 0 && errno == EINTR) continue;
    if (n <= static_cast<ssize_t>(early)) return;
    const auto fresh = std::min(static_cast<bytes>(n) - early, t.left());
    t.got += fresh;
    t.counts.direct += fresh;
  }
}

result<done> take_rest(transfer& t, int file) {
  while (t.left() > 0) {
    const auto n =
        ::pread(file, t.to.data() + t.got, static_cast<std::size_t>(t.left()), static_cast<off_t>(t.offset + t.got));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return unreadable(t.path, errno, t.to.size(), t.got);
    if (n == 0)
      return fail(errc::unreadable, t.path, "ends before its tensors do; it was cut short, get it whole and load again",
                  t.to.size(), t.got);
    t.got += static_cast<bytes>(n);
    t.counts.cached += static_cast<bytes>(n);
  }
  return done{};
}

}  // namespace

weight_files::weight_files(std::span<const std::string> paths, std::span<const bytes> sizes, bool direct)
    : state_(new state{paths, sizes, direct}) {
  state_->files.resize(paths.size());
}

weight_files::~weight_files() {
  for (auto& f : state_->files) state::close(f);
}

result<read_counts> weight_files::read(std::uint32_t file, bytes offset, std::span<std::byte> to, bytes slack) {
  const auto f = state_->acquire(file);
  if (!f) return f.propagate();
  transfer t{state_->paths[file], offset, to, slack};
  if (!state_->cache_unknown.load(std::memory_order_relaxed)) {
    if (!take_cached(t, f->cached))
      state_->cache_unknown.store(true, std::memory_order_relaxed);
    else if (f->direct >= 0 && t.left() >= direct_unit)
      take_direct(t, f->direct);
    // The kernel reads ahead in small steps unless it is told how much will be wanted.
    if (t.left() > worth_announcing)
      (void)::posix_fadvise(f->cached, static_cast<off_t>(offset + t.got), static_cast<off_t>(t.left()),
                            POSIX_FADV_WILLNEED);
  }
  const auto ok = take_rest(t, f->cached);
  state_->release(file);
  if (!ok) return ok.propagate();
  return t.counts;
}

result<done> weight_files::unchanged() const {
  const std::lock_guard hold(state_->lock);
  for (std::size_t i = 0; i < state_->files.size(); ++i) {
    const auto& f = state_->files[i];
    if (!f.seen) continue;
    struct stat now{};
    if (::stat(state_->paths[i].c_str(), &now) != 0 || !f.first.same(identity::of(now)))
      return fail(errc::corrupted, state_->paths[i], "was changed, replaced or removed while it was read; load again");
  }
  return done{};
}

}  // namespace berth::detail
