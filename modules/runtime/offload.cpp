// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.runtime;

import berth.base;
import berth.model;
import berth.exec;
import :new_files;
import :offload_items;

namespace berth {
namespace {

constexpr bytes chunk = bytes{4} << 20;

struct planned_item {
  std::uint32_t atom = 0;
  offload_item what;
  bool link = false;
};

/// What belongs into the folder, each name once.
std::vector<planned_item> items_of(const weight_images& images, std::span<const std::uint32_t> atoms,
                                   const offload_options& options) {
  std::vector<planned_item> out;
  std::unordered_set<std::string> names;
  for (const auto atom : atoms)
    for (std::uint32_t t = 0; t < images.of(atom).size(); ++t) {
      if (!options.complete && is_plain(images, atom, t)) continue;
      for (auto& item : offload_items(images, atom, t)) {
        if (!names.insert(item.name).second) continue;
        const bool link = item.linked != nullptr && !options.copy;
        out.push_back({atom, std::move(item), link});
      }
    }
  return out;
}

/// Adds an item to what the folder gives.
void note(const planned_item& item, std::string path, bytes file_size, weight_sources& out) {
  const auto& i = item.what;
  stored_tensor s;
  s.name = item.link ? i.linked->name : i.name;
  s.type = i.type;
  s.shape = item.link ? i.linked->shape : i.shape;
  s.length = i.size;
  s.offset = item.link ? i.linked->offset : 0;
  const auto file = item.link ? std::find(out.files.begin(), out.files.end(), path) : out.files.end();
  s.file = static_cast<std::uint32_t>(file - out.files.begin());
  if (file == out.files.end()) {
    out.files.push_back(std::move(path));
    out.file_sizes.push_back(file_size);
  }
  if (i.companion) {
    out.companions.emplace_back(s.name, i.tensor);
  } else {
    std::vector<slice> range;
    for (const auto n : i.shape) range.push_back({0, n, 1});
    out.conversions.push_back({s.name, i.tensor, std::move(range), false});
  }
  out.tensors.push_back(std::move(s));
}

result<done> write_item(const image_storage& from, const planned_item& item, std::vector<std::byte>& buffer,
                        new_files& files) {
  const auto& i = item.what;
  if (auto ok = files.begin(i.name + ".dat", i.size); !ok) return ok;
  for (bytes at = 0; at < i.size;) {
    buffer.resize(static_cast<std::size_t>(std::min(chunk, i.size - at)));
    if (auto ok = from.read(item.atom, i.offset + at, buffer); !ok) return ok;
    if (auto ok = files.write(buffer); !ok) return ok;
    at += buffer.size();
  }
  return files.finish();
}

}  // namespace

result<weight_sources> offload_tensors(const image_storage& from, std::span<const std::uint32_t> atoms,
                                       const offload_options& options) {
  const auto& images = from.images();
  for (const auto atom : atoms)
    if (atom >= images.atoms())
      return fail(errc::invalid_argument, "offload", text<64>("there is no atom ").append(std::uint64_t{atom}));
  const auto items = items_of(images, atoms, options);
  const auto left = make_folder(options.folder);
  if (!left) return left.propagate();
  bytes needed = 0;
  for (const auto& i : items)
    if (!i.link) needed += i.what.size;
  if (needed > *left)
    return fail(errc::unwritable, options.folder,
                "its disk has no room for the tensors that are stored in another form; choose another folder", needed,
                *left);
  weight_sources out;
  new_files files(options.folder);
  std::vector<std::byte> buffer;
  for (const auto& i : items) {
    if (i.link) {
      note(i, images.files()[i.what.linked->file], images.file_sizes()[i.what.linked->file], out);
      continue;
    }
    if (auto ok = write_item(from, i, buffer, files); !ok) return ok.propagate();
    note(i, options.folder + "/" + i.what.name + ".dat", i.what.size, out);
  }
  if (auto ok = files.commit(); !ok) return ok.propagate();
  return out;
}

result<done> replace_file(const std::string& path, std::string_view text) {
  const auto slash = path.rfind('/');
  const auto folder = slash == std::string::npos ? std::string(".") : path.substr(0, std::max<std::size_t>(slash, 1));
  new_files files(folder);
  if (auto ok = files.begin(slash == std::string::npos ? path : path.substr(slash + 1), text.size()); !ok) return ok;
  if (auto ok = files.write(std::as_bytes(std::span(text))); !ok) return ok;
  if (auto ok = files.finish(); !ok) return ok;
  return files.commit();
}

}  // namespace berth
