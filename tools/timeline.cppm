// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <string>

export module berth.tool:timeline;

import berth;

export namespace tool {

/// Which part of a run a timeline shows.
enum class timeline_view {
  whole,   ///< load, prefill and decode side by side, each with its own scale
  steady,  ///< the last decode rounds
};

/// A timeline as inline SVG: one row per engine that did something, and a row for the time in which copies run and
/// nothing computes. Above `most` rectangles neighbours of one kind are drawn as one. Empty without anything to show.
std::string timeline_svg(const berth::plan& p, const berth::report& r, const berth::trace& t,
                         const berth::run_marks& marks, timeline_view view, std::size_t most = 3000);

}  // namespace tool
