// SPDX-License-Identifier: Apache-2.0
// Exports nothing: whom a load tells how far it is, and who may stop it.
module;

#include <atomic>
#include <string_view>

export module berth.runtime:load_watch;

import berth.base;
import :materialise_options;
import :load_report;

namespace berth::detail {

class load_watch {
 public:
  explicit load_watch(const materialise_options& o) : options_(o) {}

  void tell(bytes now, bytes all, std::string_view file, bool verifying, double seconds) const {
    if (options_.progress == nullptr) return;
    options_.progress(options_.progress_context,
                      {now, all, seconds > 0 ? static_cast<double>(now) / seconds : 0, file, verifying});
  }
  /// Error `cancelled` once the caller's flag is set.
  result<done> stopped() const {
    if (options_.cancel == nullptr || !options_.cancel->load()) return done{};
    return fail(errc::cancelled, "load", "stopped as asked; nothing stays allocated");
  }

 private:
  const materialise_options& options_;
};

}  // namespace berth::detail
