// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.formats;

import :input_file;

namespace berth {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view safetensors_index = "model.safetensors.index.json";
constexpr std::string_view bin_index = "pytorch_model.bin.index.json";

bool is_there(const fs::path& p) {
  std::error_code e;
  return fs::exists(p, e);
}

bool is_folder(const fs::path& p) {
  std::error_code e;
  return fs::is_directory(p, e);
}

/// Names in a folder, sorted, so that every choice among them is the same on every file system.
result<std::vector<std::string>> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code e;
  for (fs::directory_iterator it(folder, e), end; !e && it != end; it.increment(e))
    names.push_back(it->path().filename().string());
  if (e) return fail(errc::unreadable, folder.string(), text<416>("the folder cannot be read: ").append(e.message()));
  std::ranges::sort(names);
  return names;
}

/// `<prefix>-00002-of-00007.safetensors` taken apart.
struct shard_name {
  std::string prefix;
  std::uint64_t count = 0;
};

std::optional<shard_name> parse_shard_name(std::string_view name) {
  constexpr std::string_view extension = ".safetensors";
  if (!name.ends_with(extension)) return std::nullopt;
  name.remove_suffix(extension.size());
  const auto digits_at_end = [&](std::string_view s) {
    const auto last = s.find_last_not_of("0123456789");
    return s.substr(last == std::string_view::npos ? 0 : last + 1);
  };
  const auto count = digits_at_end(name);
  if (count.size() < 2 || count.size() > 9) return std::nullopt;
  name.remove_suffix(count.size());
  if (!name.ends_with("-of-")) return std::nullopt;
  name.remove_suffix(4);
  const auto number = digits_at_end(name);
  if (number.empty()) return std::nullopt;
  name.remove_suffix(number.size());
  shard_name out{std::string(name), 0};
  for (const char c : count) out.count = out.count * 10 + static_cast<std::uint64_t>(c - '0');
  return out;
}

/// The snapshot folder of a hub cache's `models--org--name` folder.
result<fs::path> resolve_hub_cache(const fs::path& folder) {
  const auto snapshots = folder / "snapshots";
  if (!is_folder(snapshots)) return folder;
  const auto main = folder / "refs" / "main";
  if (is_there(main)) {
    auto revision = read_text_file(main.string(), 4096);
    if (!revision) return revision.propagate();
    while (!revision->empty() && (revision->back() == '\n' || revision->back() == '\r' || revision->back() == ' '))
      revision->pop_back();
    if (!is_plain_file_name(*revision))
      return fail(errc::unsafe_path, main.string(), "refs/main does not name a revision");
    if (is_folder(snapshots / *revision)) return snapshots / *revision;
  }
  const auto names = names_in(snapshots);
  if (!names) return names.propagate();
  if (names->size() == 1) return snapshots / names->front();
  return fail(errc::not_found, folder.string(),
              names->empty() ? "this hub cache holds no snapshot; download the model again"
                             : "this hub cache holds several snapshots and refs/main names none of them; give the "
                               "path of one of its snapshots/ folders");
}

/// Reads one checkpoint; the steps share `out_`.
class checkpoint_reader {
 public:
  checkpoint_reader(std::string path, const checkpoint_options& options) : path_(std::move(path)), options_(options) {}

  result<checkpoint> read();

 private:
  using step = std::optional<failure>;

  step read_folder(const fs::path& folder);
  step read_file(const fs::path& file);
  step read_side_files(const fs::path& folder, bool config_required);
  step read_weights(const fs::path& folder, const std::vector<std::string>& names);
  step read_loose_files(const fs::path& folder, const std::vector<std::string>& names);
  step read_indexed(const fs::path& folder, const std::string& index_name, bool pickled);
  step read_headers(const checkpoint_index* index);
  step match_index(const checkpoint_index& index);
  step refuse_duplicates() const;
  step add_file(const fs::path& folder, const std::string& name);
  void warn(std::string text) { out_.warnings.push_back(std::move(text)); }

  std::string path_;
  const checkpoint_options& options_;
  checkpoint out_;
};

result<checkpoint> checkpoint_reader::read() {
  std::error_code e;
  const auto status = fs::status(path_, e);
  const bool gone = status.type() == fs::file_type::not_found;
  if (gone || status.type() == fs::file_type::none) {
    // Opening gives the precise reason: a dangling link, a permission.
    const auto in = input_file::open(path_);
    if (!in) return in.propagate();
  }
  const auto problem = fs::is_directory(status) ? read_folder(path_) : read_file(path_);
  if (problem) return *problem;
  return std::move(out_);
}

checkpoint_reader::step checkpoint_reader::read_folder(const fs::path& given) {
  const auto folder = resolve_hub_cache(given);
  if (!folder) return folder.propagate();
  out_.location = folder->string();
  const auto names = names_in(*folder);
  if (!names) return names.propagate();
  if (names->empty()) return fail(errc::not_found, out_.location, "the folder is empty");
  if (auto problem = read_side_files(*folder, false)) return problem;
  return read_weights(*folder, *names);
}

checkpoint_reader::step checkpoint_reader::read_side_files(const fs::path& folder, bool config_required) {
  // Not exists(): a dangling link to config.json must be reported, not skipped.
  std::error_code e;
  const auto there = [&](const fs::path& p) { return fs::symlink_status(p, e).type() != fs::file_type::not_found; };
  if (const auto config = folder / "config.json"; config_required || there(config)) {
    auto document = read_json_file(config.string(), {.allow_nonfinite = true});
    if (!document) return document.propagate();
    if (document->if_object() == nullptr) return fail(errc::malformed, config.string(), "a config is a JSON object");
    out_.config = *std::move(document);
  }
  if (const auto quantization = folder / "hf_quant_config.json"; there(quantization)) {
    auto document = read_json_file(quantization.string(), {.allow_nonfinite = true});
    if (!document) return document.propagate();
    out_.quantization_document = *std::move(document);
  }
  return std::nullopt;
}

checkpoint_reader::step checkpoint_reader::read_weights(const fs::path& folder, const std::vector<std::string>& names) {
  const auto has = [&](std::string_view name) { return std::ranges::binary_search(names, name); };
  const auto ending = [&](std::string_view end) {
    return std::ranges::find_if(names, [&](const std::string& n) { return n.ends_with(end); });
  };
  const bool pickled_too = has(bin_index) || has("pytorch_model.bin");
  const bool safe = ending(".safetensors") != names.end() || ending(".safetensors.index.json") != names.end();
  if (safe && pickled_too) warn("safetensors and pickled weights lie side by side; the safetensors ones are used");

  if (has("model.safetensors")) {
    if (has(safetensors_index)) warn("model.safetensors and an index lie side by side; the single file is used");
    if (auto problem = add_file(folder, "model.safetensors")) return problem;
    return read_headers(nullptr);
  }
  if (has(safetensors_index)) return read_indexed(folder, std::string(safetensors_index), false);
  if (const auto other = ending(".safetensors.index.json"); other != names.end())
    return read_indexed(folder, *other, false);
  if (ending(".safetensors") != names.end()) return read_loose_files(folder, names);
  if (has(bin_index)) return read_indexed(folder, std::string(bin_index), true);
  if (const auto other = ending(".bin.index.json"); other != names.end()) return read_indexed(folder, *other, true);

  if (out_.config) {
    if (has("pytorch_model.bin")) warn("pytorch_model.bin is pickled and is never opened; sizes come from config.json");
    return std::nullopt;
  }
  if (ending(".gguf") != names.end())
    return fail(errc::unsupported, out_.location, "GGUF files are not read yet; give a safetensors checkpoint");
  if (has("pytorch_model.bin") || ending(".bin") != names.end() || ending(".pth") != names.end())
    return fail(errc::unsupported, out_.location,
                "pickled weights are never opened; add config.json or convert the checkpoint to safetensors");
  return fail(errc::not_found, out_.location,
              "no config.json, *.safetensors or *.index.json in this folder; not a checkpoint?");
}

/// Safetensors files without an index: one file, or a complete set of shards.
checkpoint_reader::step checkpoint_reader::read_loose_files(const fs::path& folder,
                                                            const std::vector<std::string>& names) {
  std::vector<std::string> files;
  for (const auto& n : names)
    if (n.ends_with(".safetensors") && !n.starts_with("adapter_")) files.push_back(n);
  if (files.empty())
    for (const auto& n : names)
      if (n.ends_with(".safetensors")) files.push_back(n);
  if (files.size() > 1) {
    const auto first = parse_shard_name(files.front());
    const bool one_set = first && std::ranges::all_of(files, [&](const std::string& n) {
                           const auto s = parse_shard_name(n);
                           return s && s->prefix == first->prefix && s->count == first->count;
                         });
    if (!one_set)
      return fail(errc::inconsistent_model, out_.location,
                  "several .safetensors files and no index that says which belong together; name one of them");
    if (first->count != files.size())
      return fail(errc::not_found, out_.location,
                  text<416>("only ")
                      .append(std::uint64_t{files.size()})
                      .append(" of ")
                      .append(first->count)
                      .append(" shards are there and no index; download the rest"));
    warn("no index: the shards were found by their names");
  }
  for (const auto& n : files)
    if (auto problem = add_file(folder, n)) return problem;
  return read_headers(nullptr);
}

checkpoint_reader::step checkpoint_reader::add_file(const fs::path& folder, const std::string& name) {
  checkpoint_file f{name, (folder / name).string()};
  std::error_code e;
  const auto size = fs::file_size(f.path, e);
  if (!e) {
    f.size = static_cast<bytes>(size);
    f.present = true;
  } else if (fs::symlink_status(f.path, e).type() == fs::file_type::symlink) {
    return fail(errc::not_found, f.path,
                "a symbolic link whose target does not exist (an incomplete hub cache?); download the file again");
  }
  out_.files.push_back(std::move(f));
  return std::nullopt;
}

checkpoint_reader::step checkpoint_reader::read_indexed(const fs::path& folder, const std::string& index_name,
                                                        bool pickled) {
  auto index = read_index_file((folder / index_name).string());
  if (!index) return index.propagate();
  out_.index_total_size = index->total_size;
  for (auto& w : index->warnings) warn(std::move(w));
  for (const auto& s : index->shards)
    if (auto problem = add_file(folder, s)) return problem;

  const auto present = static_cast<std::size_t>(std::ranges::count_if(out_.files, &checkpoint_file::present));
  if (present == 0 || pickled) {
    out_.source = pickled ? checkpoint_source::bin_index : checkpoint_source::safetensors_index;
    out_.names = std::move(index->entries);
    return std::nullopt;
  }
  if (present < out_.files.size()) {
    const auto missing = std::ranges::find(out_.files, false, &checkpoint_file::present);
    return fail(errc::not_found, missing->path,
                text<416>("")
                    .append(std::uint64_t{out_.files.size() - present})
                    .append(" of ")
                    .append(std::uint64_t{out_.files.size()})
                    .append(" shards that the index names are missing, this one first; download the rest"));
  }
  return read_headers(&*index);
}

checkpoint_reader::step checkpoint_reader::read_headers(const checkpoint_index* index) {
  out_.source = checkpoint_source::safetensors_headers;
  for (std::size_t i = 0; i < out_.files.size(); ++i) {
    auto header = read_safetensors_file(out_.files[i].path, static_cast<std::uint32_t>(i));
    if (!header) return header.propagate();
    out_.files[i].size = header->file_size;
    out_.files[i].present = true;
    std::ranges::move(header->tensors, std::back_inserter(out_.tensors));
    for (auto& w : header->warnings) warn(std::move(w));
    if (options_.progress) options_.progress(i + 1, out_.files.size(), out_.files[i].name);
  }
  return index != nullptr ? match_index(*index) : refuse_duplicates();
}

checkpoint_reader::step checkpoint_reader::refuse_duplicates() const {
  std::unordered_map<std::string_view, std::uint32_t> file_of;
  for (const auto& t : out_.tensors)
    if (const auto [it, fresh] = file_of.try_emplace(t.name, t.file); !fresh)
      return fail(errc::inconsistent_model, t.name,
                  text<416>("lies in both ")
                      .append(out_.files[it->second].name)
                      .append(" and ")
                      .append(out_.files[t.file].name)
                      .append(", and no index says which one counts"));
  return std::nullopt;
}

/// Keeps the tensors that the index maps to the shard they lie in; the index decides between copies.
checkpoint_reader::step checkpoint_reader::match_index(const checkpoint_index& index) {
  std::unordered_map<std::string_view, std::uint32_t> shard_of;
  shard_of.reserve(index.entries.size());
  for (const auto& [name, shard] : index.entries) shard_of.emplace(name, shard);

  std::vector<stored_tensor> kept;
  kept.reserve(out_.tensors.size());
  std::unordered_set<std::string> found;
  std::size_t extra = 0, copies = 0;
  std::string first_extra;
  for (auto& t : out_.tensors) {
    const auto it = shard_of.find(t.name);
    if (it != shard_of.end() && it->second == t.file) {
      found.insert(t.name);
      kept.push_back(std::move(t));
      continue;
    }
    if (it != shard_of.end()) ++copies;
    if (extra++ == 0) first_extra = out_.files[t.file].name + ": " + t.name;
  }
  for (const auto& [name, shard] : index.entries)
    if (!found.contains(name))
      return fail(errc::inconsistent_model, out_.files[shard].path,
                  text<416>("the index says that this shard holds \"")
                      .append(std::string_view(name).substr(0, 200))
                      .append("\", its header does not; index and shards are of different downloads"));
  if (extra > 0)
    warn(std::to_string(extra) + " tensors of the shards are not where the index says (" + std::to_string(copies) +
         " of them second copies) and are left out, the first " + first_extra);
  out_.tensors = std::move(kept);
  return std::nullopt;
}

checkpoint_reader::step checkpoint_reader::read_file(const fs::path& file) {
  const auto name = file.filename().string();
  const auto folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  if (name.ends_with(".gguf") || name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth")) {
    const auto in = input_file::open(file.string());
    if (!in) return in.propagate();
    std::string start(256, '\0');
    start.resize(in->read_at(start.data(), start.size(), 0));
    if (auto real = check_not_a_placeholder(start, in->size(), file.string()); !real) return real.propagate();
    return fail(errc::unsupported, file.string(),
                name.ends_with(".gguf")
                    ? "GGUF files are not read yet; give a safetensors checkpoint"
                    : "pickled weights are never opened; give the folder with its index, or safetensors");
  }
  if (name.ends_with(".safetensors")) {
    out_.location = file.string();
    // A shard alone is a part of a model; the config beside it describes the whole.
    if (!parse_shard_name(name))
      if (auto problem = read_side_files(folder, false)) return problem;
    out_.files.push_back({name, file.string()});
    return read_headers(nullptr);
  }
  out_.location = folder.string();
  if (name.ends_with(".index.json")) {
    if (auto problem = read_side_files(folder, false)) return problem;
    return read_indexed(folder, name, name.find(".safetensors.") == std::string::npos);
  }
  auto document = read_json_file(file.string(), {.allow_nonfinite = true});
  if (!document) return document.propagate();
  if (document->if_object() == nullptr) return fail(errc::malformed, file.string(), "a config is a JSON object");
  if (document->find("weight_map") != nullptr) return read_indexed(folder, name, false);
  out_.location = file.string();
  out_.config = *std::move(document);
  return std::nullopt;
}

}  // namespace

std::string_view describe(checkpoint_source s) {
  switch (s) {
    case checkpoint_source::safetensors_headers:
      return "safetensors headers";
    case checkpoint_source::safetensors_index:
      return "safetensors index (no shards here)";
    case checkpoint_source::bin_index:
      return "index of a pickled checkpoint";
    case checkpoint_source::config_only:
      return "config.json only";
  }
  return "unknown";
}

bytes checkpoint::stored_bytes() const {
  bytes total = 0;
  for (const auto& t : tensors) total += t.length;
  return total;
}

result<checkpoint> read_checkpoint(const std::string& path, const checkpoint_options& options) {
  return checkpoint_reader(path, options).read();
}

}  // namespace berth
