// SPDX-License-Identifier: Apache-2.0
// JSON of compat cases to the library's types and back.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

// Include this file last: what follows an import may not be included.
import berth.compat;
import berth.formats;

namespace golden {

namespace hf = berth::hf;
namespace json = berth::json;

/// A member's value, or null.
const json::value& member(const json::value& object, std::string_view key);
bool flag(const json::value& object, std::string_view key, bool otherwise = false);
std::string text_of(const json::value& v);
std::vector<std::string> texts_of(const json::value& list);

std::optional<hf::number> to_number(const json::value& v);
json::value from_number(const hf::number& n);
/// Sizes as the digest of size tables writes them: whole numbers without a point, others with ten digits.
std::string digest_text(const hf::number& n);

/// An int is an accelerator, a string a word.
hf::device_key to_device(const json::value& v);
json::value from_device(const hf::device_key& d);
hf::device_map to_map(const json::value& object);
json::value from_map(const hf::device_map& map);

/// `max_memory` (null for none) and `machine` of a case's arguments.
hf::memory_request to_memory(const json::value& args);
/// Device to bytes, keys as strings.
json::value from_budgets(const hf::budgets& b);
/// List of pairs, accelerators as integers.
json::value pairs_of(const hf::budgets& b);

/// The kinds of warning that occurred, sorted, each once.
json::value from_warnings(const std::vector<hf::warning>& warnings);

/// Equality as the golden data means it: object members in any order, numbers by exact value (29 is 29.0, true is 1),
/// everything else as written.
bool equal(const json::value& a, const json::value& b);

}  // namespace golden
