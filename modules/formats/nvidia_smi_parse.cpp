// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

module berth.formats;

namespace berth {
namespace {

constexpr std::size_t max_text = 1 << 20;
constexpr std::size_t max_columns = 256;
constexpr std::size_t max_gpus = 64;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_blank(char c) { return c == ' ' || c == '\t'; }

/// Without terminal escapes (also those whose escape byte got lost: "[4m") and carriage returns.
std::string without_escapes(std::string_view s) {
  std::string out;
  out.reserve(s.size());
  for (std::size_t i = 0; i < s.size(); ++i) {
    const bool escape = s[i] == '\x1b' && i + 1 < s.size() && s[i + 1] == '[';
    if (escape || s[i] == '[') {
      std::size_t k = i + (escape ? 2 : 1);
      while (k < s.size() && (is_digit(s[k]) || s[k] == ';')) ++k;
      const bool sequence = k < s.size() && (escape ? s[k] >= '@' && s[k] <= '~' : s[k] == 'm');
      if (sequence) {
        i = k;
        continue;
      }
    }
    if (s[i] != '\r' && s[i] != '\x1b') out += s[i];
  }
  return out;
}

/// A word of a line with its place in bytes and in columns of a terminal (tab stops every 8).
struct word {
  std::string_view text;
  std::size_t begin = 0, column = 0, end_column = 0;
  std::size_t end() const { return begin + text.size(); }
};

std::size_t column_of(std::string_view line, std::size_t offset) {
  std::size_t column = 0;
  for (std::size_t i = 0; i < offset; ++i) column = line[i] == '\t' ? (column / 8 + 1) * 8 : column + 1;
  return column;
}

std::vector<word> words_of(std::string_view line, std::size_t from = 0) {
  std::vector<word> out;
  std::size_t i = from, column = column_of(line, from);
  while (i < line.size()) {
    if (is_blank(line[i])) {
      column = line[i] == '\t' ? (column / 8 + 1) * 8 : column + 1;
      ++i;
      continue;
    }
    const auto begin = i;
    while (i < line.size() && !is_blank(line[i])) ++i;
    out.push_back({line.substr(begin, i - begin), begin, column, column + (i - begin)});
    column += i - begin;
  }
  return out;
}

std::optional<int> number_of(std::string_view s) {
  int n = 0;
  const auto [end, status] = std::from_chars(s.data(), s.data() + s.size(), n);
  if (s.empty() || !is_digit(s.front()) || status != std::errc{} || end != s.data() + s.size()) return std::nullopt;
  return n;
}

std::optional<int> gpu_number(std::string_view s) {
  if (s.substr(0, 3) != "GPU") return std::nullopt;
  return number_of(s.substr(3));
}

std::optional<smi_link> cell_of(std::string_view s) {
  using enum smi_link::level;
  constexpr std::array<std::pair<std::string_view, smi_link::level>, 7> names{
      {{"X", self}, {"PIX", pix}, {"PXB", pxb}, {"PHB", phb}, {"NODE", node}, {"SYS", sys}, {"SOC", sys}}};
  for (const auto& [name, level] : names)
    if (name == s) return smi_link{level, 0};
  if (s.substr(0, 2) != "NV") return std::nullopt;
  const auto n = number_of(s.substr(2));
  if (!n || *n < 1 || *n > 72) return std::nullopt;
  return smi_link{nvlink, static_cast<unsigned>(*n)};
}

enum class affinity_column : std::uint8_t { cpus, numa, memory_numa };

struct header {
  std::size_t line = 0;
  std::vector<std::string_view> devices;
  struct column {
    affinity_column what;
    std::size_t start;  ///< terminal column
  };
  std::vector<column> columns;
  bool has(affinity_column c) const {
    return std::any_of(columns.begin(), columns.end(), [&](const auto& k) { return k.what == c; });
  }
};

/// A header names devices; a data row has a cell after its name. With one GPU both begin with "GPU0".
std::optional<header> header_of(std::string_view line) {
  constexpr std::array<std::pair<std::string_view, affinity_column>, 3> titles{
      {{"CPU Aff", affinity_column::cpus},
       {"NUMA Aff", affinity_column::numa},
       {"GPU NUMA", affinity_column::memory_numa}}};
  header h;
  std::size_t devices_end = line.size();
  for (const auto& [title, what] : titles) {
    const auto at = line.find(title);
    if (at == std::string_view::npos) continue;
    devices_end = std::min(devices_end, at);
    h.columns.push_back({what, column_of(line, at)});
  }
  const auto words = words_of(line.substr(0, devices_end));
  if (words.empty() || !gpu_number(words.front().text)) return std::nullopt;
  if (words.size() > 1 && (cell_of(words[1].text) || words[1].text.size() < 3)) return std::nullopt;
  for (const auto& w : words) h.devices.push_back(w.text);
  return h;
}

struct cpu_range {
  int first, last;
  int size() const { return last - first + 1; }
  friend bool operator==(const cpu_range&, const cpu_range&) = default;
};
using cpu_list = std::vector<cpu_range>;

/// "0-19,40-59" or "0,2,4": ascending ranges, or nothing.
std::optional<cpu_list> cpus_of(std::string_view s) {
  cpu_list out;
  while (!s.empty()) {
    const auto comma = s.find(',');
    const auto part = s.substr(0, comma);
    const auto dash = part.find('-');
    const auto first = number_of(part.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : number_of(part.substr(dash + 1));
    if (!first || !last || *last < *first || (!out.empty() && *first <= out.back().last)) return std::nullopt;
    out.push_back({*first, *last});
    if (comma == std::string_view::npos) return out;
    s.remove_prefix(comma + 1);
  }
  return std::nullopt;
}

/// Could this be the list of one NUMA node? Ranges of one list are hyper-thread siblings and about equally wide, plain
/// lists have an even stride, a single range holds an even number of CPUs.
bool plausible(const cpu_list& list) {
  if (list.size() == 1) return list[0].size() == 1 || list[0].size() % 2 == 0;
  const auto [low, high] =
      std::minmax_element(list.begin(), list.end(), [](auto a, auto b) { return a.size() < b.size(); });
  if (high->size() > 2 * low->size()) return false;
  if (high->size() > 1 || list.size() < 3) return true;
  const auto n = list.size();
  return list[1].first - list[0].first == list[n - 1].first - list[n - 2].first;
}

/// The affinity part of one row; fields are "" where the row has nothing.
struct affinity {
  std::string cpus, numa, memory_numa;
  std::size_t numa_at = std::string::npos;  ///< where the header's NUMA column cuts `cpus`
  std::string& field(affinity_column c) {
    return c == affinity_column::cpus ? cpus : c == affinity_column::numa ? numa : memory_numa;
  }
};

/// Tab-separated: the first field is the CPU list even when empty; empty fields after it are padding.
affinity split_tabs(std::string_view rest, const header& h) {
  affinity a;
  std::vector<std::string> fields;
  for (std::size_t at = rest.find('\t'); at != std::string_view::npos;) {
    const auto next = rest.find('\t', at + 1);
    auto f = std::string(rest.substr(at + 1, next == std::string_view::npos ? next : next - at - 1));
    while (!f.empty() && f.back() == ' ') f.pop_back();
    f.erase(0, f.find_first_not_of(' ') == std::string::npos ? f.size() : f.find_first_not_of(' '));
    fields.push_back(std::move(f));
    at = next;
  }
  std::size_t next = 0;
  for (std::size_t c = 0; c < h.columns.size(); ++c) {
    while (c > 0 && next < fields.size() && fields[next].empty()) ++next;
    if (next < fields.size()) a.field(h.columns[c].what) = fields[next++];
  }
  return a;
}

/// Spaces: all columns there, in order; else each word belongs to the header column above it.
affinity split_spaces(std::string_view line, std::size_t from, const header& h) {
  affinity a;
  auto words = words_of(line, from);
  for (std::size_t i = 0; i + 1 < words.size();) {
    if (words[i].text.back() != ',') {
      ++i;
      continue;
    }
    words[i].text = line.substr(words[i].begin, words[i + 1].end() - words[i].begin);
    words[i].end_column = words[i + 1].end_column;
    words.erase(words.begin() + static_cast<std::ptrdiff_t>(i) + 1);
  }
  const bool complete = words.size() >= h.columns.size();
  std::size_t free = 0;
  for (const auto& w : words) {
    std::size_t c = free;
    if (!complete)
      while (c + 1 < h.columns.size() && h.columns[c + 1].start <= w.column) ++c;
    if (c >= h.columns.size()) break;
    a.field(h.columns[c].what) = std::string(w.text);
    if (h.columns[c].what == affinity_column::cpus && c + 1 < h.columns.size() && h.columns[c + 1].start > w.column)
      a.numa_at = h.columns[c + 1].start - w.column;
    free = c + 1;
  }
  return a;
}

/// Splits "0-45,92-1370" into the list and the NUMA node that ran into it; by the header's column first.
std::optional<std::pair<std::string, std::string>> unfused(const affinity& a) {
  const auto& s = a.cpus;
  std::array<std::size_t, 3> cuts{a.numa_at, s.size() - 1, s.size() - 2};
  for (const auto cut : cuts) {
    if (cut == 0 || cut >= s.size() || s.size() - cut > 3) continue;
    const auto list = cpus_of(std::string_view(s).substr(0, cut));
    const auto node = number_of(std::string_view(s).substr(cut));
    const bool leading_zero = s[cut] == '0' && s.size() - cut > 1;
    if (list && node && !leading_zero && plausible(*list)) return std::pair{s.substr(0, cut), s.substr(cut)};
  }
  return std::nullopt;
}

/// True if two rows' lists overlap without being equal, which NUMA nodes never do.
bool rows_conflict(const std::vector<affinity>& rows) {
  std::vector<cpu_list> lists;
  for (const auto& r : rows)
    if (auto l = cpus_of(r.cpus)) lists.push_back(*std::move(l));
  for (std::size_t i = 0; i < lists.size(); ++i)
    for (std::size_t k = 0; k < i; ++k) {
      if (lists[i] == lists[k]) continue;
      for (const auto& x : lists[i])
        for (const auto& y : lists[k])
          if (x.first <= y.last && y.first <= x.last) return true;
    }
  return false;
}

/// Takes apart what ran together where a row has fewer fields than the header has columns.
void separate(std::vector<affinity>& rows, const header& h, std::vector<std::string>& notes) {
  if (!h.has(affinity_column::numa) || !h.has(affinity_column::cpus)) return;
  const bool conflict = rows_conflict(rows);
  bool changed = false;
  for (auto& r : rows) {
    constexpr std::string_view absent = "N/A";
    while (r.cpus.size() > absent.size() && r.cpus.substr(r.cpus.size() - 3) == absent) {
      r.cpus.resize(r.cpus.size() - 3);
      auto& field = r.memory_numa.empty() && h.has(affinity_column::memory_numa) ? r.memory_numa : r.numa;
      field = std::string(absent);
    }
    const bool missing = r.numa.empty() || (h.has(affinity_column::memory_numa) && r.memory_numa.empty());
    const auto list = cpus_of(r.cpus);
    if (!missing || r.cpus.size() < 2 || (list && plausible(*list) && !conflict)) continue;
    const auto parts = unfused(r);
    if (!parts) continue;
    if (!r.numa.empty()) r.memory_numa = r.numa;
    r.cpus = parts->first;
    r.numa = parts->second;
    changed = true;
  }
  if (changed)
    notes.emplace_back("CPU affinity and NUMA affinity had run together in some rows and were separated again.");
}

failure bad_matrix(std::string_view what, std::string_view why) { return fail(errc::malformed, what, why); }

/// Reads header, rows and affinities of one matrix.
class matrix_reader {
 public:
  matrix_reader(std::string_view text, std::string_view what) : what_(what) {
    for (std::size_t at = 0; at <= text.size();) {
      const auto end = std::min(text.find('\n', at), text.size());
      lines_.push_back(text.substr(at, end - at));
      at = end + 1;
    }
  }

  result<smi_matrix> read() {
    if (auto ok = find_header(); !ok) return ok.propagate();
    for (std::size_t i = header_.line + 1; i < lines_.size(); ++i) {
      if (auto ok = read_row(lines_[i], i + 1); !ok) return ok.propagate();
    }
    if (auto ok = check_rows(); !ok) return ok.propagate();
    read_affinities();
    read_legend();
    return std::move(out_);
  }

 private:
  result<done> find_header() {
    for (std::size_t i = 0; i < lines_.size(); ++i) {
      auto h = header_of(lines_[i]);
      if (!h) continue;
      header_ = *std::move(h);
      header_.line = i;
      return place_devices();
    }
    return bad_matrix(what_, "has no header line with GPU names; save the output of \"nvidia-smi topo -m\" as it is");
  }

  result<done> place_devices() {
    if (header_.devices.size() > max_columns) return bad_matrix(what_, "has more than 256 columns");
    for (const auto name : header_.devices) {
      if (std::count(header_.devices.begin(), header_.devices.end(), name) > 1)
        return bad_matrix(what_, text<96>("the header names ").append(name).append(" twice"));
      if (const auto n = gpu_number(name)) {
        out_.gpus.emplace_back().number = *n;
      } else {
        out_.nics.emplace_back(name);
      }
    }
    if (out_.gpus.size() > max_gpus) return bad_matrix(what_, "has more than 64 GPUs");
    seen_.resize(out_.gpus.size());
    rest_.resize(out_.gpus.size());
    return done{};
  }

  result<done> read_row(std::string_view line, std::size_t number) {
    const auto words = words_of(line);
    if (words.empty()) return done{};
    const auto gpu = gpu_number(words[0].text);
    if (!gpu) return done{};
    const auto at = static_cast<std::size_t>(
        std::find_if(out_.gpus.begin(), out_.gpus.end(), [&](const auto& g) { return g.number == *gpu; }) -
        out_.gpus.begin());
    const auto where = text<64>("line ").append(number).append(", row ").append(words[0].text);
    if (at == out_.gpus.size()) return bad_matrix(what_, text<160>(where).append(": the header has no such GPU"));
    if (seen_[at]) return bad_matrix(what_, text<160>(where).append(": occurs twice"));
    if (words.size() < header_.devices.size() + 1)
      return bad_matrix(what_, text<160>(where)
                                   .append(": ")
                                   .append(words.size() - 1)
                                   .append(" cells for ")
                                   .append(header_.devices.size())
                                   .append(" columns (was the text wrapped?)"));
    for (std::size_t k = 0; k < header_.devices.size(); ++k) {
      const auto cell = cell_of(words[k + 1].text);
      if (!cell)
        return bad_matrix(what_, text<256>(where)
                                     .append(", column ")
                                     .append(header_.devices[k])
                                     .append(": \"")
                                     .append(words[k + 1].text.substr(0, 24))
                                     .append("\" is not a link class of \"topo -m\""));
      (gpu_number(header_.devices[k]) ? out_.gpus[at].to_gpu : out_.gpus[at].to_nic).push_back(*cell);
    }
    seen_[at] = true;
    rest_[at] = {line, words[header_.devices.size()].end()};
    return done{};
  }

  result<done> check_rows() const {
    const auto name = [&](std::size_t i) { return text<24>("GPU").append(static_cast<unsigned>(out_.gpus[i].number)); };
    for (std::size_t i = 0; i < seen_.size(); ++i)
      if (!seen_[i]) return bad_matrix(what_, text<96>("the row of ").append(name(i)).append(" is missing"));
    for (std::size_t i = 0; i < seen_.size(); ++i)
      for (std::size_t k = 0; k < seen_.size(); ++k) {
        const auto &there = out_.gpus[i].to_gpu[k], &back = out_.gpus[k].to_gpu[i];
        if ((i == k) != (there.kind == smi_link::level::self))
          return bad_matrix(what_,
                            text<128>("X is not on the diagonal at ").append(name(i)).append(", ").append(name(k)));
        if (!(there == back))
          return bad_matrix(what_, text<192>("the matrix is not symmetric: ")
                                       .append(name(i))
                                       .append(" and ")
                                       .append(name(k))
                                       .append(" disagree about their link; take the output again"));
      }
    return done{};
  }

  void read_affinities() {
    std::vector<affinity> rows;
    for (const auto& [line, from] : rest_)
      rows.push_back(line.find('\t', from) != std::string_view::npos ? split_tabs(line.substr(from), header_)
                                                                     : split_spaces(line, from, header_));
    separate(rows, header_, out_.notes);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      auto& g = out_.gpus[i];
      if (cpus_of(rows[i].cpus)) g.cpus = rows[i].cpus;
      g.numa_node = number_of(rows[i].numa).value_or(-1);
      g.memory_numa_node = number_of(rows[i].memory_numa).value_or(-1);
    }
  }

  void read_legend() {
    bool legend = false, nvlink = false;
    for (std::size_t i = header_.line; i < lines_.size(); ++i) {
      const auto words = words_of(lines_[i]);
      legend = legend || (words.size() == 1 && words[0].text == "Legend:");
      nvlink = nvlink || (words.size() > 1 && words[0].text == "NV#" && words[1].text == "=");
    }
    out_.legend_without_nvlink = legend && !nvlink;
  }

  std::string_view what_;
  std::vector<std::string_view> lines_;
  header header_;
  smi_matrix out_;
  std::vector<bool> seen_;
  std::vector<std::pair<std::string_view, std::size_t>> rest_;  ///< of each GPU's row: the line, and where cells end
};

}  // namespace

result<smi_matrix> parse_nvidia_smi(std::string_view text, std::string_view what) {
  if (text.size() > max_text) return fail(errc::capacity, what, "is larger than 1 MiB, which no topology matrix is");
  const auto plain = without_escapes(text);
  return matrix_reader(plain, what).read();
}

}  // namespace berth
