// SPDX-License-Identifier: Apache-2.0
// Runs the library's public code against stored cases: walks a folder, recognises cases by content, compares.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "kinds.hpp"
#include "report.hpp"

import berth.formats;

namespace fs = std::filesystem;

namespace golden {
namespace {

/// Formats that are not cases by themselves.
constexpr std::array<std::string_view, 6> plain_documents{"berth.module_tree/1", "berth.topology/1", "berth.plan/1",
                                                          "berth.program/1",     "berth.trace/1",    "berth.chain/1"};

template <class List>
bool among(const List& list, std::string_view s) {
  return std::find(list.begin(), list.end(), s) != list.end();
}

std::optional<std::string> read_text(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) return std::nullopt;
  return std::move(text).str();
}

std::string_view string_member(const json::value& v, std::string_view key) {
  const auto* m = v.find(key);
  return m != nullptr && m->if_string() ? std::string_view(*m->if_string()) : std::string_view();
}

void unreadable(const std::string& name, std::string_view expected, std::string_view got, report& out) {
  if (out.wants("input", name)) out.failed("input", name, "content", expected, got);
}

/// Everything that is known about the folder while it is walked.
class walk {
 public:
  walk(const fs::path& folder, report& out) : folder_(folder), out_(out) {}

  void print_spreads() {
    spread_.print();
    exact_flows_.print("berth.flows/1");
    exact_machines_.print("berth.machine/1");
    tiny_models_.print();
  }

  void visit(const fs::path& file) {
    const auto relative = file.lexically_relative(folder_);
    if (std::find(relative.begin(), relative.end(), "malformed") != relative.end())
      return run_malformed_file(file, out_);
    const auto extension = file.extension();
    if (extension == ".jsonl") return lines(file);
    if (extension == ".csv") return table(file);
    if (extension != ".json") return;
    const auto folder = file.parent_path();
    if (file.filename() == "expected.json" && fs::exists(folder / "config.json"))
      return tiny_model(file, shown(folder));
    const auto tree = folder.parent_path() / "trees" / file.filename();
    if (folder.filename() == "configs" && fs::exists(tree)) return run_architecture_case(file, tree, out_);
    document(file);
  }

 private:
  void lines(const fs::path& file) {
    std::ifstream in(file, std::ios::binary);
    std::string text;
    for (std::size_t number = 1; std::getline(in, text); ++number) {
      if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
      const auto name = shown(file, "line " + std::to_string(number));
      const auto line = json::parse(text, name);
      if (line)
        this->line(file, name, *line);
      else
        unreadable(name, "JSON", line.error().detail.view(), out_);
    }
    if (in.bad() || !fs::is_regular_file(file)) unreadable(shown(file), "a readable file", "an error", out_);
  }

  void line(const fs::path& file, const std::string& name, const json::value& line) {
    const auto id = string_member(line, "id");
    if (line.find("peer") && line.find("function")) return compat_.run(file, shown(file, id), line, out_);
    if (const auto* instance = line.find("instance")) {
      const auto format = string_member(*instance, "format");
      if (format == "berth.stream/1") return run_stream_case(shown(file, id), line, out_);
      if (format == "berth.chain/1") return run_chain_case(shown(file, id), line, spread_, out_);
      if (format == "berth.balance/1") return run_balance_case(shown(file, id), line, out_);
      if (format == "berth.residency/1") return run_residency_case(shown(file, id), line, out_);
      if (format == "berth.engine/1") return run_engine_case(shown(file, id), line, out_);
      if (format == "berth.flows/1") return run_flows_case(shown(file, id), line, exact_flows_, out_);
      if (format == "berth.machine/1") return run_machine_case(shown(file, id), line, exact_machines_, out_);
      return unreadable(name, "a known instance format", format, out_);
    }
    if (line.find("baselines")) return baseline(file, name, line);
    if (string_member(line, "format") == "berth.module_tree/1") return;
    unreadable(name, "a case or a module tree", "something else", out_);
  }

  /// Rules of other tools refer to instances of another file of the same folder.
  void baseline(const fs::path& file, const std::string& name, const json::value& line) {
    const auto id = string_member(line, "id");
    const auto source = file.parent_path() / fs::path(string_member(line, "instances")).filename();
    auto& known = instances_[source.string()];
    if (known.empty()) {
      std::ifstream in(source, std::ios::binary);
      for (std::string text; std::getline(in, text);)
        if (const auto parsed = json::parse(text, source.string()); parsed && parsed->find("instance"))
          known.emplace(std::string(string_member(*parsed, "id")), *parsed->find("instance"));
    }
    const auto it = known.find(std::string(id));
    if (it == known.end()) return unreadable(name, "an instance of " + source.filename().string(), id, out_);
    run_baseline_case(shown(file, id), line, it->second, out_);
  }

  void table(const fs::path& file) {
    std::ifstream in(file);
    std::string header;
    std::getline(in, header);
    if (header.starts_with("config,parameters_from_config,")) return run_param_counts(file, out_);
    if (header.starts_with("file,k,optimum")) return run_msr_fiddle(file, out_);
  }

  void tiny_model(const fs::path& file, const std::string& name) {
    const auto text = read_text(file);
    const auto parsed = text ? json::parse(*text, name) : json::parse("", name);
    if (!parsed) return unreadable(name, "JSON", parsed.error().detail.view(), out_);
    tiny_models_.run(file.parent_path(), name, *parsed, out_);
  }

  void document(const fs::path& file) {
    const auto text = read_text(file);
    if (!text) return unreadable(shown(file), "a readable file", "an error", out_);
    // Most JSON files of a data folder are configurations and indexes, which are no cases: do not parse them.
    const bool ours = text->find("\"berth.") != std::string::npos;
    const bool vectors = text->find("\"vectors\"") != std::string::npos && text->find("\"hex\"") != std::string::npos;
    if (!ours && !vectors) return;
    const auto parsed = json::parse(*text, shown(file));
    if (!parsed) return unreadable(shown(file), "JSON", parsed.error().detail.view(), out_);
    const auto format = string_member(*parsed, "format");
    if (format == "berth.conversion/1") return run_conversion_case(shown(file), *parsed, out_);
    if (format == "berth.int8_vectors/1") {
      const auto* list = parsed->find("vectors");
      if (list == nullptr || !list->if_array()) return unreadable(shown(file), "\"vectors\"", "none", out_);
      for (const auto& v : *list->if_array()) run_int8_vector(shown(file, string_member(v, "name")), v, out_);
      return;
    }
    if (vectors && format.empty()) return run_safetensors_vectors(file, *parsed, out_);
    if (ours && !format.empty() && !among(plain_documents, format))
      unreadable(shown(file), "a known format", format, out_);
  }

  /// "file" or "file#id", relative to the folder.
  std::string shown(const fs::path& file) const { return file.lexically_relative(folder_).generic_string(); }
  std::string shown(const fs::path& file, std::string_view id) const { return shown(file).append("#").append(id); }

  const fs::path& folder_;
  report& out_;
  compat_cases compat_;
  gaps spread_;
  exact_counts exact_flows_, exact_machines_;
  tiny_model_cases tiny_models_;
  std::map<std::string, std::map<std::string, json::value>> instances_;
};

struct options {
  std::optional<fs::path> folder;
  std::string filter;
  bool list = false;
  bool wrong = false;
};

options read_arguments(const std::vector<std::string>& args) {
  options o;
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (args[i] == "--list")
      o.list = true;
    else if (args[i] == "--filter" && i + 1 < args.size())
      o.filter = args[++i];
    else if (!args[i].starts_with("-") && !o.folder)
      o.folder = args[i];
    else
      o.wrong = true;
  }
  return o;
}

/// The folder to walk: the argument, else BERTH_DATA, else data shared beside the checkout.
std::optional<fs::path> folder_of(const options& o) {
  if (o.folder) return o.folder;
  if (const char* data = std::getenv("BERTH_DATA"); data != nullptr && *data != '\0') return fs::path(data);
  std::error_code ec;
  if (fs::is_directory("../shared/data", ec)) return fs::path("../shared/data");
  return std::nullopt;
}

int run(const std::vector<std::string>& args) {
  const auto o = read_arguments(args);
  if (o.wrong) {
    std::fputs("usage: berth_golden [DIR] [--filter TEXT] [--list]\n", stderr);
    return 2;
  }
  const auto folder = folder_of(o);
  if (!folder) {
    std::puts("golden: skipped, no data");
    return std::getenv("BERTH_REQUIRE_DATA") != nullptr ? 2 : 0;
  }
  std::error_code ec;
  std::vector<fs::path> files;
  for (fs::recursive_directory_iterator it(*folder, ec), end; !ec && it != end; it.increment(ec))
    if (it->is_regular_file(ec)) files.push_back(it->path());
  if (ec) {
    std::fprintf(stderr, "golden: cannot read %s: %s\n", folder->c_str(), ec.message().c_str());
    return 2;
  }
  std::sort(files.begin(), files.end());
  report out(o.list, o.filter);
  walk w(*folder, out);
  for (const auto& file : files) w.visit(file);
  w.print_spreads();
  return out.finish();
}

}  // namespace

}  // namespace golden

int main(int argc, char** argv) { return golden::run({argv + 1, argv + argc}); }
