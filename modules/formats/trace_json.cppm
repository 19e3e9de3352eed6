// SPDX-License-Identifier: Apache-2.0
module;

#include <string>

export module berth.formats:trace_json;

import berth.exec;
import berth.plan;

export namespace berth {

/// Writes a trace as JSON for Perfetto and chrome://tracing (`berth.trace/1`, docs/formats.md): one process per device,
/// one thread per engine, counters for memory and for the use of segments, instants for faults. Times are microseconds
/// with six decimals, so that picoseconds survive. Precondition: the trace is of this plan's topology. The same trace
/// gives the same bytes. O(records x log records); 200,000 records take less than a second.
std::string write_trace(const plan& p, const trace& t, const run_marks& marks);

}  // namespace berth
