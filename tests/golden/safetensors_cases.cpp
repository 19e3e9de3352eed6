// SPDX-License-Identifier: Apache-2.0
// Byte vectors of whole safetensors files with the name of the rule that each breaks, or "ok".
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hex.hpp"
#include "kinds.hpp"
#include "report.hpp"

namespace golden {

namespace {

constexpr std::string_view kind = "safetensors";

const std::string* text_of(const berth::json::value& v, std::string_view key) {
  const auto* m = v.find(key);
  return m == nullptr ? nullptr : m->if_string();
}

/// "ok", or the name of the broken rule.
std::string outcome(std::span<const std::byte> file, std::string_view what) {
  const auto header = berth::read_safetensors(file, file.size(), what);
  if (header) return "ok";
  const auto fault = berth::fault_of(header.error());
  return fault ? std::string(berth::name_of(*fault)) : std::string(header.error().detail.view());
}

void run_vector(const std::string& path, std::size_t number, const berth::json::value& v, report& r) {
  const auto* test = text_of(v, "test");
  const auto* expect = text_of(v, "expect");
  const auto* hex = text_of(v, "hex");
  const auto* sub = v.find("case");
  auto name = path + "#" + (test != nullptr ? *test : std::to_string(number));
  if (sub != nullptr && sub->to_int64()) name += "/" + std::to_string(*sub->to_int64());
  if (!r.wants(kind, name)) return;
  const auto file = hex != nullptr ? from_hex(*hex) : std::nullopt;
  if (!file || expect == nullptr) {
    r.failed(kind, name, "hex", "bytes in hexadecimal and \"expect\"", "an unreadable vector");
    return;
  }
  const auto* length = v.find("length");
  if (length != nullptr && length->to_uint64() != file->size()) {
    r.failed(kind, name, "length", berth::json::write(*length), std::to_string(file->size()));
    return;
  }
  // "README: disallowed (...)": the format forbids duplicate keys, the official reader keeps the last.
  const std::string want = expect->starts_with("README: disallowed") ? "DuplicateKey" : *expect;
  const auto got = outcome(*file, name);
  if (got == want)
    r.passed(kind);
  else
    r.failed(kind, name, "expect", want, got);
}

}  // namespace

void run_safetensors_vectors(const std::filesystem::path& file, const berth::json::value& document, report& r) {
  const auto path = file.filename().string();
  const auto* vectors = document.find("vectors");
  if (vectors == nullptr || vectors->if_array() == nullptr) {
    r.failed(kind, path, "vectors", "a list", "none");
    return;
  }
  for (std::size_t i = 0; i < vectors->if_array()->size(); ++i) run_vector(path, i, (*vectors->if_array())[i], r);
}

}  // namespace golden
