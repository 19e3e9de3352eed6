// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

module berth.formats;

import :input_file;

namespace berth {
namespace {

failure breaks(safetensors_fault f, std::string_view what, std::string_view why, std::string_view tensor = {}) {
  text<416> detail(name_of(f));
  detail.append(": ");
  if (!tensor.empty()) detail.append("tensor \"").append(tensor.substr(0, 160)).append("\" ");
  return fail(errc::malformed, what, detail.append(why));
}

bool is_utf8(std::string_view s) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  for (std::size_t i = 0; i < s.size();) {
    const unsigned char c = byte(i);
    if (c < 0x80) {
      ++i;
      continue;
    }
    const std::size_t n = c >= 0xC2 && c <= 0xDF ? 1 : c >= 0xE0 && c <= 0xEF ? 2 : c >= 0xF0 && c <= 0xF4 ? 3 : 0;
    if (n == 0 || s.size() - i <= n) return false;
    const unsigned char first = byte(i + 1);
    // Overlong forms, surrogates and code points above U+10FFFF.
    if ((c == 0xE0 && first < 0xA0) || (c == 0xED && first > 0x9F) || (c == 0xF0 && first < 0x90) ||
        (c == 0xF4 && first > 0x8F))
      return false;
    for (std::size_t k = 1; k <= n; ++k)
      if ((byte(i + k) & 0xC0) != 0x80) return false;
    i += n + 1;
  }
  return true;
}

std::uint64_t little_endian_u64(std::span<const std::byte> b) {
  std::uint64_t n = 0;
  for (std::size_t i = 0; i < 8; ++i) n |= std::to_integer<std::uint64_t>(b[i]) << (8 * i);
  return n;
}

/// 64-bit product as the official reader computes it: a later zero does not undo an overflow.
std::optional<std::uint64_t> product(std::uint64_t a, std::uint64_t b) {
  if (a != 0 && b > std::numeric_limits<std::uint64_t>::max() / a) return std::nullopt;
  return a * b;
}

/// Length of the header from the first 8 bytes.
result<bytes> header_length(std::span<const std::byte> start, bytes file_size, std::string_view what) {
  if (file_size == 0)
    return breaks(safetensors_fault::header_too_small, what, "the file is empty (0 bytes): an interrupted download");
  if (file_size < 8 || start.size() < 8)
    return breaks(safetensors_fault::header_too_small, what, "the file is shorter than the 8 bytes of a length");
  const std::string_view opening(reinterpret_cast<const char*>(start.data()), std::min<std::size_t>(start.size(), 256));
  const auto n = little_endian_u64(start.first(8));
  if (n > max_safetensors_header) {
    const auto real = check_not_a_placeholder(opening, file_size, what);
    return breaks(safetensors_fault::header_too_large, what,
                  real ? text<416>("the header would have ")
                             .append(n)
                             .append(" bytes, more than 100,000,000; not a safetensors file?")
                       : real.error().detail);
  }
  if (n + 8 > file_size)
    return breaks(safetensors_fault::invalid_header_length, what,
                  text<416>("the header should have ")
                      .append(n)
                      .append(" bytes, the file has ")
                      .append(file_size)
                      .append(" in all; an interrupted download?"));
  return n;
}

/// One member of the header's object that describes a tensor.
class tensor_reader {
 public:
  tensor_reader(std::string_view what, std::uint32_t file, safetensors_header& out)
      : what_(what), file_(file), out_(out) {}

  std::optional<failure> read(const json::member& m) {
    if (m.key == "__metadata__") return read_metadata(m.value);
    if (m.value.if_object() == nullptr) return wrong(m.key, "is not described by an object");
    stored_tensor t;
    t.name = m.key;
    t.file = file_;
    bool has_type = false, has_shape = false, has_offsets = false;
    for (const auto& field : *m.value.if_object()) {
      if (field.key == "dtype") {
        const auto* name = field.value.if_string();
        const auto type = name != nullptr ? dtype_from_safetensors(*name) : std::nullopt;
        if (!type) return wrong(m.key, "has an unknown dtype");
        t.type = *type;
        has_type = true;
      } else if (field.key == "shape") {
        if (!read_sizes(field.value, t.shape)) return wrong(m.key, "has a shape that is not a list of sizes");
        has_shape = true;
      } else if (field.key == "data_offsets") {
        std::vector<std::uint64_t> ends;
        if (!read_sizes(field.value, ends) || ends.size() != 2)
          return wrong(m.key, "has data_offsets that are not [begin, end]");
        t.offset = ends[0];
        t.length = ends[1];  // the end until the offsets are checked
        has_offsets = true;
      } else {
        out_.warnings.push_back(std::string(what_) + ": tensor \"" + m.key + "\" has the unknown member \"" +
                                field.key + "\"");
      }
    }
    if (!has_type || !has_shape || !has_offsets) return wrong(m.key, "lacks \"dtype\", \"shape\" or \"data_offsets\"");
    out_.tensors.push_back(std::move(t));
    return std::nullopt;
  }

 private:
  failure wrong(std::string_view tensor, std::string_view why) const {
    return breaks(safetensors_fault::invalid_header_deserialization, what_, why, tensor);
  }

  static bool read_sizes(const json::value& v, std::vector<std::uint64_t>& out) {
    if (v.if_array() == nullptr) return false;
    out.reserve(v.if_array()->size());
    for (const auto& e : *v.if_array()) {
      const auto n = e.to_uint64();
      if (!n) return false;
      out.push_back(*n);
    }
    return true;
  }

  std::optional<failure> read_metadata(const json::value& v) {
    if (v.is_null()) return std::nullopt;
    if (v.if_object() == nullptr) return wrong("__metadata__", "is not an object");
    for (const auto& m : *v.if_object()) {
      if (m.value.if_string() == nullptr) return wrong("__metadata__", "has a value that is not a string");
      out_.metadata.emplace_back(m.key, *m.value.if_string());
    }
    return std::nullopt;
  }

  std::string_view what_;
  std::uint32_t file_;
  safetensors_header& out_;
};

/// Checks one tensor whose data ends at `t.length` and must begin at `begin`; makes offset and length absolute.
std::optional<failure> place_tensor(stored_tensor& t, std::uint64_t begin, bytes data_begin, std::string_view what) {
  const auto end = t.length;
  if (t.offset != begin || end < t.offset)
    return breaks(safetensors_fault::invalid_offset, what,
                  text<416>("begins at ")
                      .append(t.offset)
                      .append(" of the data, expected ")
                      .append(begin)
                      .append(" (holes and overlaps are not allowed)"),
                  t.name);
  std::uint64_t elements = 1;
  for (const auto d : t.shape) {
    const auto next = product(elements, d);
    if (!next) return breaks(safetensors_fault::validation_overflow, what, "has too many elements to count", t.name);
    elements = *next;
  }
  const auto bits = product(elements, bits_of(t.type));
  if (!bits) return breaks(safetensors_fault::validation_overflow, what, "has too many bits to count", t.name);
  if (*bits % 8 != 0) return breaks(safetensors_fault::misaligned_slice, what, "does not fill whole bytes", t.name);
  if (end - t.offset != *bits / 8)
    return breaks(
        safetensors_fault::tensor_invalid_info, what,
        text<416>("has ").append(end - t.offset).append(" bytes, its shape and dtype need ").append(*bits / 8), t.name);
  t.length = end - t.offset;
  t.offset += data_begin;
  return std::nullopt;
}

result<safetensors_header> read_header(std::string_view json_text, bytes file_size, std::string_view what,
                                       std::uint32_t file) {
  if (!is_utf8(json_text)) return breaks(safetensors_fault::invalid_header, what, "the header is not UTF-8");
  const auto document = json::parse(json_text, what, {.max_depth = 3});
  if (!document) {
    const auto why = document.error().detail.view();
    const bool twice = why.find("occurs twice") != std::string_view::npos;
    return breaks(twice ? safetensors_fault::duplicate_key : safetensors_fault::invalid_header_deserialization, what,
                  why);
  }
  if (document->if_object() == nullptr)
    return breaks(safetensors_fault::invalid_header_deserialization, what, "the header is not a JSON object");

  safetensors_header out;
  out.file_size = file_size;
  out.tensors.reserve(document->if_object()->size());
  tensor_reader reader(what, file, out);
  for (const auto& m : *document->if_object())
    if (auto problem = reader.read(m)) return *problem;
  // `length` holds the end of the data here, so this is the order by (begin, end).
  std::ranges::sort(out.tensors, {},
                    [](const stored_tensor& t) { return std::tuple(t.offset, t.length, std::string_view(t.name)); });
  std::uint64_t end = 0;
  for (auto& t : out.tensors) {
    const auto next = t.length;
    if (auto problem = place_tensor(t, end, 8 + json_text.size(), what)) return *problem;
    end = next;
  }
  if (end != file_size - 8 - json_text.size())
    return breaks(safetensors_fault::metadata_incomplete_buffer, what,
                  text<416>("the header describes ")
                      .append(end)
                      .append(" bytes of data, the file holds ")
                      .append(file_size - 8 - json_text.size())
                      .append("; an interrupted download?"));
  return out;
}

}  // namespace

std::optional<safetensors_fault> fault_of(const error& e) {
  const auto word = e.detail.view().substr(0, e.detail.view().find(':'));
  for (auto i = 0u; i <= static_cast<unsigned>(safetensors_fault::metadata_incomplete_buffer); ++i)
    if (name_of(static_cast<safetensors_fault>(i)) == word) return static_cast<safetensors_fault>(i);
  return std::nullopt;
}

result<safetensors_header> read_safetensors(std::span<const std::byte> start, bytes file_size, std::string_view what,
                                            std::uint32_t file) {
  const auto n = header_length(start, file_size, what);
  if (!n) return n.propagate();
  if (start.size() - 8 < *n)
    return fail(errc::invalid_argument, what, "fewer bytes were given than the header has", *n + 8, start.size());
  return read_header({reinterpret_cast<const char*>(start.data()) + 8, static_cast<std::size_t>(*n)}, file_size, what,
                     file);
}

result<safetensors_header> read_safetensors_file(const std::string& path, std::uint32_t file) {
  const auto in = input_file::open(path);
  if (!in) return in.propagate();
  const auto size = in->size();
  // Most headers of a shard fit: one read instead of two.
  std::string buffer(static_cast<std::size_t>(std::min<bytes>(size, 64 * KiB)), '\0');
  buffer.resize(in->read_at(buffer.data(), buffer.size(), 0));
  const auto n = header_length(std::as_bytes(std::span(buffer)), size, path);
  if (!n) return n.propagate();
  const auto needed = static_cast<std::size_t>(*n) + 8;
  if (buffer.size() < needed) {
    const auto have = buffer.size();
    buffer.resize(needed);
    if (in->read_at(buffer.data() + have, needed - have, have) != needed - have)
      return fail(errc::unreadable, path, "the header could not be read to its end");
  }
  return read_header(std::string_view(buffer).substr(8, static_cast<std::size_t>(*n)), size, path, file);
}

}  // namespace berth
