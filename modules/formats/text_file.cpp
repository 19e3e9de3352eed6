// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

module berth.formats;

import :input_file;

namespace berth {

result<std::string> read_text_file(const std::string& path, bytes limit) {
  const auto in = input_file::open(path);
  if (!in) return in.propagate();
  if (in->size() > limit)
    return fail(errc::capacity, path, "the file is larger than a text of this kind can be", in->size(), limit);
  std::string out(static_cast<std::size_t>(in->size()), '\0');
  if (in->read_at(out.data(), out.size(), 0) != out.size())
    return fail(errc::unreadable, path, "the file could not be read to its end");
  return out;
}

result<done> check_not_a_placeholder(std::string_view start, bytes size, std::string_view what) {
  constexpr std::string_view lfs = "version https://git-lfs";
  if (size == 0) return fail(errc::malformed, what, "the file is empty (0 bytes): an interrupted download or copy");
  if (start.substr(0, lfs.size()) == lfs)
    return fail(errc::malformed, what, "this is a git-LFS pointer, not the file itself; run \"git lfs pull\"");
  const auto line = start.substr(0, start.find_first_of("\r\n"));
  const bool one_line = start.find_first_not_of(" \r\n", line.size()) == std::string_view::npos;
  if (size < 1024 && one_line && line.substr(0, 3) == "../" && line.find("blobs/") != std::string_view::npos)
    return fail(errc::malformed, what,
                "this is a hub-cache symbolic link stored as text (its content is the link's target), not the file "
                "itself; download the file");
  return done{};
}

result<json::value> read_json_file(const std::string& path, json::parse_options options) {
  auto content = read_text_file(path);
  if (!content) return content.propagate();
  if (auto real = check_not_a_placeholder(*content, content->size(), path); !real) return real.propagate();
  return json::parse(*content, path, options);
}

}  // namespace berth
