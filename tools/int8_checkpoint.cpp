// SPDX-License-Identifier: Apache-2.0
module;

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

module berth.tool;

import berth;
import berth.formats;
import berth.int8;

namespace tool {
namespace {

namespace fs = std::filesystem;
using berth::bytes;
using berth::done;
using berth::errc;
using berth::result;

constexpr bytes piece = 16 * berth::MiB;

berth::failure cannot_write(const fs::path& path, std::string_view why) {
  return berth::fail(errc::unwritable, path.string(), berth::text<416>("cannot be written: ").append(why));
}

/// The folder under a temporary name beside its place; gone unless it was kept.
class folder_in_the_making {
 public:
  static result<std::unique_ptr<folder_in_the_making>> create(const std::string& target) {
    std::error_code e;
    auto path = fs::path(target);
    if (path.filename().empty()) path = path.parent_path();  // "folder/"
    if (fs::exists(path, e) && !(fs::is_directory(path, e) && fs::is_empty(path, e)))
      return berth::fail(errc::unwritable, target, "exists already and is no empty folder; give another name");
    auto made = std::make_unique<folder_in_the_making>();
    made->target_ = path;
    made->path_ = path.string() + ".new-" + std::to_string(getpid());
    if (!fs::create_directory(made->path_, e) || e) {
      made->path_.clear();
      return cannot_write(target, e ? e.message() : "a folder of its temporary name exists");
    }
    return made;
  }
  folder_in_the_making() = default;
  folder_in_the_making(const folder_in_the_making&) = delete;
  folder_in_the_making& operator=(const folder_in_the_making&) = delete;
  ~folder_in_the_making() {
    std::error_code e;
    if (!path_.empty()) fs::remove_all(path_, e);
  }
  const fs::path& path() const { return path_; }

  result<done> keep() {
    std::error_code e;
    fs::rename(path_, target_, e);
    if (e) return cannot_write(target_, e.message());
    path_.clear();
    return done{};
  }

 private:
  fs::path path_, target_;
};

struct closer {
  void operator()(std::FILE* f) const { std::fclose(f); }
};

/// Reads stored bytes; keeps the last file open, since tensors come file by file.
class stored_bytes {
 public:
  explicit stored_bytes(const berth::checkpoint& c) : checkpoint_(c) {}

  result<done> read(const berth::stored_tensor& t, bytes offset, std::span<std::byte> to) {
    const auto& path = checkpoint_.files[t.file].path;
    if (!file_ || open_ != t.file) {
      file_.reset(std::fopen(path.c_str(), "rb"));
      open_ = t.file;
    }
    if (!file_) return berth::fail(errc::unreadable, path, std::strerror(errno));
    if (fseeko(file_.get(), static_cast<off_t>(t.offset + offset), SEEK_SET) != 0 ||
        std::fread(to.data(), 1, to.size(), file_.get()) != to.size())
      return berth::fail(
          errc::unreadable, t.name,
          berth::text<416>("could not be read to its end from ").append(path).append(": the file changed"));
    return done{};
  }

 private:
  const berth::checkpoint& checkpoint_;
  std::unique_ptr<std::FILE, closer> file_;
  std::uint32_t open_ = 0;
};

/// Writes the tensors of one plan into its files.
class weight_writer {
 public:
  weight_writer(const berth::loaded_model& model, const berth::int8_checkpoint& plan)
      : model_(model), plan_(plan), stored_(*model.checkpoint) {}

  result<std::vector<written_file>> run(const fs::path& folder) {
    std::vector<written_file> out;
    const std::array metadata{std::pair<std::string, std::string>("format", "pt")};
    progress_bar progress;
    std::size_t next = 0;
    for (std::size_t s = 0; s < plan_.shards.size(); ++s) {
      const auto name = berth::shard_name(s, plan_.shards.size());
      auto file = berth::safetensors_writer::create((folder / name).string(), plan_.shards[s], metadata);
      if (!file) return file.propagate();
      for (; next < plan_.parts.size() && plan_.parts[next].shard == s; ++next) {
        const auto& part = plan_.parts[next];
        progress.show(next, plan_.parts.size(), model_.checkpoint->tensors[part.stored].name);
        if (const auto written = write(part, *file); !written) return written.propagate();
      }
      if (const auto finished = file->finish(); !finished) return finished.propagate();
      out.push_back({name, file->file_size()});
    }
    return out;
  }

 private:
  result<done> write(const berth::int8_part& part, berth::safetensors_writer& to) {
    const auto& t = model_.checkpoint->tensors[part.stored];
    if (!part.quantized) return copy(t, part, to);
    const auto written = part.by_column ? quantize(t, part, part.rows, to) : quantize_by_rows(t, part, to);
    if (!written) return written.propagate();
    const std::array row_by_row{std::byte{0}};
    return to.write(part.first + 2, 0, row_by_row);
  }

  result<done> copy(const berth::stored_tensor& t, const berth::int8_part& part, berth::safetensors_writer& to) {
    for (bytes at = 0; at < t.length; at += piece) {
      const auto n = std::min(piece, t.length - at);
      source_.resize(n);
      if (const auto r = stored_.read(t, at, source_); !r) return r.propagate();
      if (const auto w = to.write(part.first, at, source_); !w) return w.propagate();
    }
    return done{};
  }

  result<done> quantize_by_rows(const berth::stored_tensor& t, const berth::int8_part& part,
                                berth::safetensors_writer& to) {
    const auto row = std::max<bytes>(1, part.columns * berth::bits_of(t.type) / 8);
    return quantize(t, part, std::max<bytes>(1, piece / row), to);
  }

  /// `step` rows at a time; all of them where rows are columns of what is stored.
  result<done> quantize(const berth::stored_tensor& t, const berth::int8_part& part, std::uint64_t step,
                        berth::safetensors_writer& to) {
    const auto row = part.columns * berth::bits_of(t.type) / 8;
    for (std::uint64_t begin = 0; begin < part.rows; begin += step) {
      const auto rows = std::min(step, part.rows - begin);
      source_.resize(rows * row);
      codes_.resize(rows * part.columns);
      scales_.resize(rows);
      if (const auto r = stored_.read(t, begin * row, source_); !r) return r.propagate();
      const berth::int8::float_matrix m{t.type,
                                        source_.data(),
                                        rows,
                                        part.columns,
                                        part.by_column ? 1 : part.columns,
                                        part.by_column ? part.rows : 1};
      if (auto bad = berth::int8::quantize_rows(m, codes_.data(), scales_.data())) {
        bad->row += begin;
        return berth::int8::failure_of(*bad, t.name);
      }
      const auto codes = to.write(part.first, begin * part.columns, std::as_bytes(std::span(codes_)));
      if (!codes) return codes.propagate();
      const auto scales = to.write(part.first + 1, begin * sizeof(float), std::as_bytes(std::span(scales_)));
      if (!scales) return scales.propagate();
    }
    return done{};
  }

  const berth::loaded_model& model_;
  const berth::int8_checkpoint& plan_;
  stored_bytes stored_;
  std::vector<std::byte> source_;
  std::vector<std::int8_t> codes_;
  std::vector<float> scales_;
};

result<written_file> write_text(const fs::path& folder, const std::string& name, std::string_view text) {
  std::ofstream out(folder / name, std::ios::binary);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  out.close();
  if (!out) return cannot_write(folder / name, std::strerror(errno));
  return written_file{name, text.size()};
}

/// What belongs to a model besides its weights: texts of no great size. Config and index are written anew.
bool belongs_to_the_model(const std::string& name) {
  if (name == "config.json" || name == "hf_quant_config.json" || name.ends_with(".index.json")) return false;
  constexpr std::array<std::string_view, 7> ends{".json", ".txt", ".model", ".jinja", ".tiktoken", ".py", ".md"};
  constexpr std::array<std::string_view, 3> starts{"LICENSE", "LICENCE", "NOTICE"};
  return std::ranges::any_of(ends, [&](auto e) { return name.ends_with(e); }) ||
         std::ranges::any_of(starts, [&](auto s) { return name.starts_with(s); });
}

result<done> copy_companions(const fs::path& from, const fs::path& to, std::vector<written_file>& files) {
  constexpr bytes limit = 64 * berth::MiB;
  std::error_code e;
  std::vector<std::string> names;
  for (fs::directory_iterator it(from, e), end; !e && it != end; it.increment(e)) {
    std::error_code ignored;
    const auto name = it->path().filename().string();
    if (it->is_regular_file(ignored) && belongs_to_the_model(name) && it->file_size(ignored) <= limit)
      names.push_back(name);
  }
  std::ranges::sort(names);
  for (const auto& name : names) {
    // Links into a hub cache become files.
    const auto size = fs::file_size(from / name, e);
    if (!e) fs::copy_file(from / name, to / name, e);
    if (e) return cannot_write(to / name, e.message());
    files.push_back({name, size});
  }
  return done{};
}

}  // namespace

result<std::vector<written_file>> write_int8_checkpoint(const berth::loaded_model& model,
                                                        const berth::int8_checkpoint& plan, const std::string& folder) {
  const auto made = folder_in_the_making::create(folder);
  if (!made) return made.propagate();
  const auto& path = (*made)->path();
  auto files = weight_writer(model, plan).run(path);
  if (!files) return files.propagate();
  if (plan.shards.size() > 1) {
    std::vector<std::pair<std::string, std::string>> shard_of;
    for (std::size_t s = 0; s < plan.shards.size(); ++s)
      for (const auto& t : plan.shards[s]) shard_of.emplace_back(t.name, (*files)[s].name);
    const auto index =
        write_text(path, "model.safetensors.index.json", berth::write_index(std::move(shard_of), plan.bytes_after));
    if (!index) return index.propagate();
    files->push_back(*index);
  }
  const auto config = write_text(path, "config.json", berth::json::write(plan.config, 2) + "\n");
  if (!config) return config.propagate();
  files->push_back(*config);
  const fs::path source = model.checkpoint->location;
  std::error_code e;
  if (const auto copied = copy_companions(fs::is_directory(source, e) ? source : source.parent_path(), path, *files);
      !copied)
    return copied.propagate();
  if (const auto kept = (*made)->keep(); !kept) return kept.propagate();
  return files;
}

}  // namespace tool
