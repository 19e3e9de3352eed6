// SPDX-License-Identifier: Apache-2.0
module;

#include <string>
#include <string_view>
#include <vector>

export module berth.formats:program_json;

import berth.exec;
import :json;

export namespace berth {

/// Writes a program as `berth.program/1` (field table: docs/formats.md). Members that have their default are left out.
/// The same program gives the same bytes.
json::value write_program(const program& p);

/// A program read from a file, with the members that this version does not know.
struct program_document {
  berth::program program;
  std::vector<std::string> notes;
};

/// Reads a `berth.program/1` document: what `write_program` wrote reads back equal. Numbers of streams, buffers, rings
/// and events lie within the frame; whether the program carries a plan out is for `verify`. Errors: `unknown_format`
/// for another format or a newer major version, `malformed` with the path of the offending member.
result<program_document> read_program(const json::value& document, std::string_view what);

}  // namespace berth
