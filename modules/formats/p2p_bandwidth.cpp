// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <charconv>
#include <cmath>
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

constexpr std::size_t max_text = 4 << 20;
constexpr std::size_t max_gpus = 64;

std::vector<std::string_view> words_in(std::string_view line) {
  std::vector<std::string_view> out;
  for (std::size_t i = 0; i < line.size();) {
    const auto begin = line.find_first_not_of(" \t\r", i);
    if (begin == std::string_view::npos) break;
    const auto end = std::min(line.find_first_of(" \t\r", begin), line.size());
    out.push_back(line.substr(begin, end - begin));
    i = end;
  }
  return out;
}

template <class T>
std::optional<T> parsed(std::string_view s) {
  T v{};
  const auto [end, status] = std::from_chars(s.data(), s.data() + s.size(), v);
  if (s.empty() || status != std::errc{} || end != s.data() + s.size()) return std::nullopt;
  return v;
}

bool contains(std::string_view s, std::string_view part) { return s.find(part) != std::string_view::npos; }

bool is_word_char(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

bool contains_word(std::string_view s, std::string_view word) {
  for (auto at = s.find(word); at != std::string_view::npos; at = s.find(word, at + 1)) {
    const bool left = at == 0 || !is_word_char(s[at - 1]);
    const bool right = at + word.size() == s.size() || !is_word_char(s[at + word.size()]);
    if (left && right) return true;
  }
  return false;
}

/// The GPU of the table with the longest name that occurs in the line.
const gpu_spec* gpu_named_in(std::string_view line) {
  const gpu_spec* best = nullptr;
  std::size_t length = 0;
  for (const auto& g : gpu_specs)
    for (const auto name : {g.product, g.name})
      if (name.size() > length && contains_word(line, name)) {
        best = &g;
        length = name.size();
      }
  return best;
}

class p2p_reader {
 public:
  p2p_reader(std::string_view text, std::string_view what) : what_(what) {
    for (std::size_t at = 0; at < text.size();) {
      const auto end = std::min(text.find('\n', at), text.size());
      lines_.push_back(text.substr(at, end - at));
      at = end + 1;
    }
  }

  result<p2p_matrices> read() {
    for (std::size_t i = 0; i < lines_.size(); ++i) {
      const auto line = lines_[i];
      auto* target = matrix_of(line);
      if (target == nullptr) {
        if (out_.gpus == 0 && out_.model.empty())
          if (const auto* gpu = gpu_named_in(line)) out_.model = gpu->name;
        continue;
      }
      if (!target->empty()) {
        out_.notes.emplace_back("The file holds the results of more than one machine; only the first is read.");
        break;
      }
      auto ok = read_matrix(i + 1, *target);
      if (!ok) return ok.propagate();
      if (!*ok) {
        out_.notes.emplace_back("The file holds the results of more than one machine; only the first is read.");
        break;
      }
    }
    if (out_.gpus == 0) return fail(errc::malformed, what_, "has no bandwidth matrix of p2pBandwidthLatencyTest");
    return std::move(out_);
  }

 private:
  /// The matrix that a title line announces, or null.
  std::vector<double>* matrix_of(std::string_view line) {
    if (!contains(line, "Matrix") || !contains(line, "P2P=")) return nullptr;
    const bool enabled = contains(line, "P2P=Enabled");
    if (contains(line, "Latency")) return enabled ? &out_.latency_p2p_us : &out_.latency_us;
    if (!contains(line, "Bandwidth")) return nullptr;
    if (contains(line, "Unidirectional")) return enabled ? &out_.one_way_p2p : &out_.one_way;
    if (contains(line, "Bidirectional")) return enabled ? &out_.both_ways_p2p : &out_.both_ways;
    return nullptr;
  }

  failure bad(std::size_t line, std::string_view why) const {
    return fail(errc::malformed, what_, text<160>("line ").append(line + 1).append(": ").append(why));
  }

  /// False: the matrix is of another size, so it belongs to another machine.
  result<bool> read_matrix(std::size_t at, std::vector<double>& target) {
    if (at >= lines_.size()) return bad(at, "the matrix is missing");
    const auto titles = words_in(lines_[at]);
    if (titles.size() < 2 || (titles[0] != "D\\D" && titles[0] != "GPU"))
      return bad(at, "expected \"D\\D\" and GPU numbers");
    const auto n = titles.size() - 1;
    if (n > max_gpus) return bad(at, "more than 64 GPUs");
    std::vector<int> numbers;
    for (std::size_t k = 1; k <= n; ++k) {
      const auto number = parsed<int>(titles[k]);
      if (!number || *number < 0 || std::find(numbers.begin(), numbers.end(), *number) != numbers.end())
        return bad(at, "expected distinct GPU numbers");
      numbers.push_back(*number);
    }
    if (out_.gpus != 0 && numbers != out_.numbers) return false;
    std::vector<double> values;
    for (std::size_t r = 0; r < n; ++r) {
      const auto line = at + 1 + r;
      const auto cells = line < lines_.size() ? words_in(lines_[line]) : std::vector<std::string_view>{};
      if (cells.size() != n + 1 || parsed<int>(cells[0]) != numbers[r])
        return bad(line, text<96>("expected the row of GPU ")
                             .append(static_cast<unsigned>(numbers[r]))
                             .append(" with ")
                             .append(n)
                             .append(" values"));
      for (std::size_t k = 1; k <= n; ++k) {
        const auto v = parsed<double>(cells[k]);
        if (!v || !(*v > 0) || !(*v < 1e9))
          return bad(line, text<96>("not a positive number: ").append(cells[k].substr(0, 24)));
        values.push_back(*v);
      }
    }
    out_.gpus = n;
    out_.numbers = std::move(numbers);
    target = std::move(values);
    return true;
  }

  std::string_view what_;
  std::vector<std::string_view> lines_;
  p2p_matrices out_;
};

/// The matrix that says best what one copy reaches, and by what to multiply it.
struct best_rates {
  const std::vector<double>* matrix = nullptr;
  double factor = 1;
  std::string_view name;
};

best_rates rates_of(const p2p_matrices& m) {
  if (!m.one_way_p2p.empty()) return {&m.one_way_p2p, 1, "one-way rates with peer access"};
  if (!m.both_ways_p2p.empty()) return {&m.both_ways_p2p, 0.5, "half of the two-way rates with peer access"};
  if (!m.one_way.empty()) return {&m.one_way, 1, "one-way rates without peer access"};
  if (!m.both_ways.empty()) return {&m.both_ways, 0.5, "half of the two-way rates without peer access"};
  return {};
}

machine_layout layout_of(const p2p_matrices& m, const best_rates& best, const gpu_spec& spec) {
  machine_layout l;
  const auto n = m.gpus;
  l.name = std::to_string(n) + "x " + std::string(spec.name);
  l.host = usual_host(std::vector<gpu_spec>(n, spec));
  const bool bridged = l.host.bridge > 0;
  if (bridged) l.links.push_back({"host bridge", segment_kind::host_bridge, l.host.bridge});
  const auto rate = [&](std::size_t a, std::size_t b) { return (*best.matrix)[a * n + b] * best.factor * 1e9; };
  const auto& latency = !m.latency_p2p_us.empty() ? m.latency_p2p_us : m.latency_us;
  for (std::size_t i = 0; i < n; ++i) {
    machine_layout::gpu g;
    g.id = m.numbers[i];
    g.spec = spec;
    g.uplinks.push_back(l.links.size());
    if (bridged) g.bridge = 0;
    const bool c2c = spec.host == host_link::c2c;
    l.links.push_back({(c2c ? "c2c " : "pcie ") + std::to_string(m.numbers[i]),
                       c2c ? segment_kind::c2c : segment_kind::pcie,
                       c2c ? c2c_rate : pcie_rate(spec.pcie_generation, 16)});
    g.port_kind = segment_kind::fabric;
    for (std::size_t k = 0; k < n; ++k) {
      if (k == i) continue;
      g.port_rate = std::max({g.port_rate, rate(i, k), rate(k, i)});
      const double setup = latency.empty() ? peer_setup : latency[i * n + k] / 1e6;
      l.peers.push_back({i, k, segment_kind::fabric, rate(i, k), true, setup});
    }
    l.gpus.push_back(std::move(g));
  }
  return l;
}

}  // namespace

result<p2p_matrices> parse_p2p_bandwidth(std::string_view text, std::string_view what) {
  if (text.size() > max_text) return fail(errc::capacity, what, "is larger than 4 MiB, which no bandwidth test prints");
  return p2p_reader(text, what).read();
}

result<topology_document> read_p2p_bandwidth(std::string_view text, std::string_view what,
                                             const topology_options& options) {
  auto m = parse_p2p_bandwidth(text, what);
  if (!m) return m.propagate();
  const auto best = rates_of(*m);
  if (best.matrix == nullptr) return fail(errc::malformed, what, "has latencies but no bandwidth matrix");
  topology_document out;
  out.format = "p2pBandwidthLatencyTest";
  out.notes = m->notes;
  auto named = options;
  if (named.gpu.empty()) named.gpu = m->model;
  const auto spec = importer_gpu(named, default_gpu, what, out.notes);
  if (!spec) return spec.propagate();
  if ((*spec)->host == host_link::unified)
    return fail(errc::unsupported, named.gpu, "shares its memory with the CPU; such machines have no peer links");
  const auto layout = layout_of(*m, best, **spec);
  auto machine = build(layout);
  if (!machine) return fail(errc::malformed, what, machine.error().detail);
  out.machine = *std::move(machine);
  for (std::size_t i = 0; i < m->gpus; ++i) {
    auto& d = out.machine.devices[i];
    const double measured = (*best.matrix)[i * m->gpus + i] * 1e9;
    d.bandwidth_efficiency = std::min(1.0, measured / d.peak_bandwidth);
  }
  if (m->gpus > 1)
    out.notes.push_back(
        std::string("Rates between GPUs are measured (").append(best.name).append("); how they share links is not."));
  out.notes.emplace_back("GPU memory rates are measured; links to the host are priors.");
  out.notes.push_back(host_note(layout.host));
  return out;
}

}  // namespace berth
