// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.tool;

import berth;

namespace tool {
namespace {

std::string share_meter(double share) {
  return fmt::format("{}<span class=\"meter\"><i style=\"width:{:.1f}%\"></i></span>", shown_percent(share),
                     100 * std::clamp(share, 0.0, 1.0));
}

std::string key_of(const std::vector<std::pair<std::string_view, std::string_view>>& entries) {
  std::string out = "<ul class=\"key\">";
  for (const auto& [style, words] : entries) out += fmt::format("<li><i class=\"c-{}\"></i>{}</li>", style, words);
  return out + "</ul>\n";
}

std::string page_heading(const berth::plan& p) {
  const auto& w = p.workload;
  const auto model = escaped(model_words(p));
  auto out =
      fmt::format("<header>\n<h1><bdi>{}</bdi></h1>\n<p class=\"sub\"><span>{}{} of weights</span> on <bdi>{}</bdi>; ",
                  model, p.model_type.empty() ? "" : escaped(p.model_type.view()) + ", ",
                  shown_gib(berth::total_weights(p.model())), escaped(p.topology_name.view()));
  out += fmt::format("strategy <bdi>{}</bdi>; ", escaped(p.strategy.view()));
  out += fmt::format(
      "<span>batch {},</span> <span>context {},</span> <span>prompt {},</span> <span>{} tokens "
      "generated</span></p>\n</header>\n",
      w.batch, w.context, w.prompt, w.generate);
  return out;
}

std::string segment_words(const berth::segment& s) {
  const std::string name(s.name.view());
  return s.kind == berth::segment_kind::dram ? "host memory (" + name + ")" : name;
}

/// A number stays on one line with its unit.
std::string unbroken(std::string text) {
  for (auto at = text.find(' '); at != text.npos; at = text.find(' ', at)) text.replace(at, 1, "&nbsp;");
  return text;
}

struct ranked {
  std::string words;
  std::string_view style;
  double share;
};

/// Engines and segments by their share of the steady rounds.
std::vector<ranked> ranking(const berth::plan& p, const berth::report& r) {
  std::vector<ranked> all;
  for (const auto& d : r.devices) {
    const auto name = device_words(p.devices[d.device]);
    all.push_back({"compute of " + name, "compute", d.compute.decode});
    all.push_back({"copies into " + name, "copy", d.copy_in.decode});
    all.push_back({"copies out of " + name, "copy", d.copy_out.decode});
  }
  for (const auto& s : r.segments) {
    const auto& segment = p.segments[s.segment];
    all.push_back({segment_words(segment), "segment", s.use});
  }
  all.push_back({"messages", "message", r.messages});
  std::erase_if(all, [](const ranked& x) { return x.share < 0.001; });
  std::vector<std::size_t> order(all.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](auto a, auto b) { return all[a].share != all[b].share ? all[a].share > all[b].share : a < b; });
  std::vector<ranked> out;
  for (const auto i : order)
    if (out.size() < 8) out.push_back(all[i]);
  return out;
}

/// The report's words with devices named as elsewhere on the page, as the start of a sentence.
std::string limit_words(const berth::plan& p, const berth::bottleneck& b) {
  const auto device = b.device == berth::no_index ? std::string() : device_words(p.devices[b.device]);
  const auto over = b.segment == berth::no_index ? std::string() : " over " + segment_words(p.segments[b.segment]);
  switch (b.kind) {
    case berth::bottleneck_kind::compute:
      return "Compute of " + device;
    case berth::bottleneck_kind::copy_in:
      return "Copies into " + device + over;
    case berth::bottleneck_kind::copy_out:
      return "Copies out of " + device + over;
    case berth::bottleneck_kind::segment:
      return segment_words(p.segments[b.segment]);
    default:
      std::string words(b.words.view());
      if (!words.empty() && words[0] >= 'a' && words[0] <= 'z') words[0] = static_cast<char>(words[0] - 'a' + 'A');
      return words;
  }
}

std::string limit_section(const berth::plan& p, const berth::report& r) {
  std::string out =
      "<section class=\"limit whole\" aria-labelledby=\"limit\">\n<h2 id=\"limit\">What limits decode</h2>\n";
  if (r.steady_rounds == 0) return out + "<p class=\"answer\">No decode round was run.</p>\n</section>\n";
  out += fmt::format("<p class=\"answer\"><strong>{}</strong>: {} of the time of a round.",
                     escaped(limit_words(p, r.bottleneck)), unbroken(shown_percent(r.bottleneck.share)));
  const auto exposed = berth::seconds_from(r.exposed_copy);
  if (exposed > 0 && r.period() > 0)
    out += fmt::format(" Devices wait for copies during {} of each round ({}).", unbroken(shown_ms(exposed)),
                       unbroken(shown_percent(exposed / r.period())));
  out += "</p>\n<ol class=\"rank\">\n";
  for (const auto& x : ranking(p, r))
    out += fmt::format(
        "<li><span>{}</span> <span class=\"track\"><i class=\"c-{}\" style=\"width:{:.1f}%\"></i></span> "
        "<b>{}</b></li>\n",
        escaped(x.words), x.style, 100 * std::min(x.share, 1.0), shown_percent(x.share));
  return out +
         fmt::format(
             "</ol>\n<p class=\"hint\">Engines: share of the time that they work. Segments: share of their capacity "
             "that is used. Both in the last {} of {} decode rounds.</p>\n</section>\n",
             r.steady_rounds, r.rounds);
}

void tile(std::string& out, std::string_view what, const std::string& figure, const std::string& more) {
  out +=
      fmt::format("<div><dt>{}</dt><dd class=\"figure\">{}</dd><dd class=\"more\">{}</dd></div>\n", what, figure, more);
}

/// "predicted 12.3 ms (+1.2 %)".
std::string against(bool priced, double predicted, double simulated) {
  if (!priced || !(predicted < berth::forever)) return "not predicted";
  if (!(predicted > 0)) return "predicted " + shown_ms(predicted);
  auto off = 100 * (simulated / predicted - 1);
  if (std::abs(off) < 0.05) off = 0;
  return fmt::format("predicted {} ({:+.1f}&nbsp;%)", shown_ms(predicted), off);
}

std::string tiles(const berth::plan& p, const berth::report& r) {
  std::string out = "<dl class=\"tiles\">\n";
  const auto first = berth::seconds_from(r.first_token);
  tile(out, "time to first token", shown_ms(first), against(r.priced, r.predicted.prefill, first));
  if (r.rounds > 0) {
    tile(out, r.pipelined ? "per token, pipelined" : "per token", shown_ms(r.period()),
         against(r.priced, r.predicted_period(), r.period()));
    tile(out, "tokens/s", shown_rate(r.tokens_per_second),
         fmt::format("batch {}{}", p.workload.batch, r.periodic ? "" : "; mean, no exact period"));
    tile(out, "waiting for copies", shown_ms(berth::seconds_from(r.exposed_copy)),
         r.period() > 0 ? shown_percent(berth::seconds_from(r.exposed_copy) / r.period()) + " of each round" : "");
  }
  tile(out, "load time", shown_ms(berth::seconds_from(r.load_time)), "until the weights are in place");
  tile(out, fmt::format("prompt and {} tokens", p.workload.generate), shown_ms(berth::seconds_from(r.total)),
       r.extrapolated ? fmt::format("{} rounds run, the rest extrapolated", r.rounds) : "all rounds run");
  return out + "</dl>\n";
}

std::string timeline_section(const berth::plan& p, const berth::report& r, const berth::trace& t,
                             const berth::run_marks& marks) {
  const auto steady = marks.round_ends.empty() ? std::string() : timeline_svg(p, r, t, marks, timeline_view::steady);
  const auto whole = timeline_svg(p, r, t, marks, timeline_view::whole);
  std::string out =
      "<section aria-labelledby=\"timeline\">\n<div class=\"whole\">\n<h2 id=\"timeline\">Timeline</h2>\n";
  bool reads = false, messages = false;
  for (const auto& a : t.records()) {
    reads = reads || a.kind == berth::activity_kind::read;
    messages = messages || a.kind == berth::activity_kind::message;
  }
  std::vector<std::pair<std::string_view, std::string_view>> key{{"compute", "compute"}, {"copy", "weight copy"}};
  if (messages) key.emplace_back("message", "message between devices");
  if (reads) key.emplace_back("read", "read from storage");
  key.emplace_back("wait", "copies run, nothing computes");
  out += key_of(key);
  if (!steady.empty())
    out += "<figure>\n<figcaption>The last decode rounds</figcaption>\n<div class=\"scroll\">\n" + steady +
           "</div>\n</figure>\n";
  out += "</div>\n<figure>\n<figcaption>The whole run</figcaption>\n";
  out += "<p class=\"hint\">Load, prefill and decode have a scale of their own each.</p>\n";
  out += "<div class=\"scroll\">\n" + whole + "</div>\n</figure>\n</section>\n";
  return out;
}

std::string memory_section(const berth::plan& p, const berth::report& r, const berth::trace& t) {
  std::string out = "<section aria-labelledby=\"memory\">\n<h2 id=\"memory\">Memory</h2>\n";
  out += key_of({{"weights", "weights"},
                 {"state", "KV cache and state"},
                 {"workspace", "workspace"},
                 {"staging", "staging slots"},
                 {"free", "free"},
                 {"reserve", "reserve"}});
  out += "<figure>\n<figcaption>What the plan puts where</figcaption>\n<div class=\"scroll\">\n" + memory_bars(p) +
         "</div>\n</figure>\n";
  std::string curves;
  for (const auto& d : r.devices) {
    const auto svg = memory_curve(p, r, t, d);
    if (!svg.empty())
      curves += fmt::format("<figure>\n<figcaption>Held on {}: at most {}</figcaption>\n{}</figure>\n",
                            escaped(device_words(p.devices[d.device])), shown_gib(d.peak), svg);
  }
  if (!curves.empty()) out += "<h3>Over the run</h3>\n<div class=\"curves\">\n" + curves + "</div>\n";
  return out + "</section>\n";
}

struct column {
  std::string_view words;
  bool text;  ///< text starts at the left, numbers end at the right
};

std::string table_start(std::string_view id, std::string_view title, std::string_view caption,
                        const std::vector<column>& columns) {
  auto out = fmt::format("<section aria-labelledby=\"{0}\">\n<h2 id=\"{0}\">{1}</h2>\n", id, title);
  out += fmt::format("<div class=\"scroll\">\n<table>\n<caption>{}</caption>\n<thead><tr>", caption);
  for (const auto& c : columns)
    out += fmt::format("<th scope=\"col\"{}>{}</th>", c.text ? " class=\"t\"" : "", c.words);
  return out + "</tr></thead>\n<tbody>\n";
}

std::string_view table_end() { return "</tbody>\n</table>\n</div>\n</section>\n"; }

std::string devices_table(const berth::plan& p, const berth::report& r) {
  auto out = table_start("devices", "Devices", "Busy shares of engines in the steady decode rounds, and memory",
                         {{"device", true},
                          {"compute", false},
                          {"copies in", false},
                          {"copies out", false},
                          {"KV and state", false},
                          {"peak", false},
                          {"budget", false}});
  for (const auto& d : r.devices)
    out += fmt::format(
        "<tr><th class=\"t\" "
        "scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
        escaped(device_words(p.devices[d.device], true)), share_meter(d.compute.decode), share_meter(d.copy_in.decode),
        shown_percent(d.copy_out.decode), shown_gib(d.state), shown_gib(d.peak), shown_gib(d.budget));
  return out.append(table_end());
}

std::string kind_words(berth::segment_kind k) {
  std::string out(berth::name_of(k));
  std::replace(out.begin(), out.end(), '_', ' ');
  return out;
}

std::string segments_table(const berth::plan& p, const berth::report& r) {
  auto out =
      table_start("segments", "Links, host memory and storage", "What crossed each segment; unused ones are left out",
                  {{"segment", true},
                   {"kind", true},
                   {"capacity", false},
                   {"per round", false},
                   {"whole run", false},
                   {"use in decode", false}});
  for (const auto& s : r.segments) {
    if (s.total == 0) continue;
    const auto& segment = p.segments[s.segment];
    out += fmt::format(
        "<tr><th class=\"t\" scope=\"row\">{}</th><td class=\"t\">{}</td><td>{:.1f} "
        "GiB/s</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
        escaped(segment.name.view()), kind_words(segment.kind), segment.capacity / static_cast<double>(berth::GiB),
        shown_gib(s.per_round), shown_gib(s.total), share_meter(s.use));
  }
  return out.append(table_end());
}

/// "model.layers.{0-3, 7}.mlp": names that differ in their first number alone are one piece, in the order of their
/// first.
std::string grouped(const std::vector<std::string_view>& names) {
  struct piece {
    std::string_view before, after;
    std::vector<std::uint64_t> numbers;
  };
  std::vector<piece> pieces;
  for (const auto name : names) {
    std::size_t at = 0, end = 0;
    for (; at < name.size(); at = end + 1) {
      end = std::min(name.find('.', at), name.size());
      const auto part = name.substr(at, end - at);
      if (!part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == part.npos) break;
    }
    at = std::min(at, name.size());
    const auto digits = name.substr(at, end - std::min(at, end));
    const auto after = at == name.size() ? std::string_view() : name.substr(end);
    auto found = std::find_if(pieces.begin(), pieces.end(), [&](const piece& p) {
      return !digits.empty() && !p.numbers.empty() && p.before == name.substr(0, at) && p.after == after;
    });
    if (found == pieces.end()) found = pieces.insert(pieces.end(), {name.substr(0, at), after, {}});
    std::uint64_t n = 0;
    for (const char c : digits) n = n * 10 + static_cast<std::uint64_t>(c - '0');
    if (!digits.empty()) found->numbers.push_back(n);
  }
  std::string out;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (i == 60) return out + fmt::format(" and {} more", pieces.size() - i);
    const auto& p = pieces[i];
    out.append(i > 0 ? ", " : "").append(p.before);
    std::string ranges;
    for (std::size_t k = 0; k < p.numbers.size();) {
      auto end = k + 1;
      while (end < p.numbers.size() && p.numbers[end] == p.numbers[k] + (end - k)) ++end;
      ranges += fmt::format("{}{}", k > 0 ? ", " : "", p.numbers[k]);
      if (end - k > 1) ranges += fmt::format("-{}", p.numbers[end - 1]);
      k = end;
    }
    const bool many = ranges.find(',') != ranges.npos;
    out.append(many ? "{" : "").append(ranges).append(many ? "}" : "").append(p.after);
  }
  return out;
}

std::string mode_cell(const berth::plan& p, const berth::atom_placement& at) {
  using berth::phase;
  const auto name = [&](berth::device_index d) { return escaped(device_words(p.devices[d])); };
  if (at.streamed(phase::decode)) return "streamed to " + name(at.execution);
  if (at.streamed(phase::prefill))
    return "computed here, streamed to " + name(at.runs(phase::prefill)) + " for the prompt";
  return p.devices[at.home].kind == berth::device_kind::cpu ? "computed here" : "resident";
}

std::string placement_table(const berth::plan& p) {
  auto out = table_start("plan", "Plan", "Where the weights live and how they are used",
                         {{"home", true}, {"parts", true}, {"weights", false}, {"mode", true}});
  for (const auto& u : p.uses) {
    struct group {
      berth::atom_placement at;
      std::vector<std::string_view> names;
      berth::bytes weights;
    };
    std::vector<group> groups;
    for (std::size_t i = 0; i < p.atoms.size(); ++i) {
      if (p.placements[i].home != u.device) continue;
      auto g = std::find_if(groups.begin(), groups.end(), [&](const group& x) { return x.at == p.placements[i]; });
      if (g == groups.end()) g = groups.insert(groups.end(), {p.placements[i], {}, 0});
      g->names.push_back(p.atoms[i].name);
      g->weights += p.atoms[i].weights;
    }
    for (const auto& g : groups)
      out += fmt::format(
          "<tr><th class=\"t\" scope=\"row\">{}</th><td class=\"t names\"><bdi>{}</bdi></td><td>{}</td><td "
          "class=\"t\">{}</td></tr>\n",
          escaped(device_words(p.devices[u.device])), escaped(grouped(g.names)), shown_gib(g.weights),
          mode_cell(p, g.at));
  }
  return out.append(table_end());
}

std::string warnings_section(const berth::plan& p, const berth::report& r, const berth::trace& t,
                             const std::vector<std::string>& notes) {
  std::string items;
  const auto item = [&](std::string_view text) { items += "<li>" + escaped(text) + "</li>\n"; };
  for (const auto& w : p.warnings) item(w.view());
  for (const auto& n : notes) item(n);
  if (r.lost > 0)
    item(fmt::format("the trace had no room for {} activities: shares, bytes and charts are too small", r.lost));
  std::size_t shown = 0;
  for (const auto& a : t.records()) {
    if (a.kind != berth::activity_kind::fault || ++shown > 50) continue;
    const auto where = a.device < p.devices.size() ? " on " + device_words(p.devices[a.device]) : std::string();
    item(fmt::format("fault{} at {}", where, shown_ms(berth::seconds_from(a.end))));
  }
  if (shown > 50) item(fmt::format("and {} more faults", shown - 50));
  if (items.empty()) return {};
  return "<section class=\"warnings\" aria-labelledby=\"warnings\">\n<h2 id=\"warnings\">Warnings and "
         "faults</h2>\n<ul>\n" +
         items + "</ul>\n</section>\n";
}

}  // namespace

std::string report_page(const berth::plan& p, const berth::report& r, const berth::trace& t,
                        const berth::run_marks& marks, const std::vector<std::string>& notes) {
  const auto title = escaped(model_words(p));
  auto out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en-GB\">\n<head>\n<meta charset=\"utf-8\">\n<meta "
      "http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<meta "
      "name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\">\n<title>{} on {}</title>\n<style>{}</style>\n</head>\n<body>\n",
      title, escaped(p.topology_name.view()), report_style());
  out += page_heading(p) + "<main>\n" + limit_section(p, r) + tiles(p, r);
  out += warnings_section(p, r, t, notes);
  out += timeline_section(p, r, t, marks);
  out += memory_section(p, r, t) + devices_table(p, r) + segments_table(p, r) + placement_table(p);
  return out +
         "</main>\n<footer>\n<p>Written by berth from a simulated or measured run. Sizes in GiB (2<sup>30</sup> "
         "bytes), times in ms.</p>\n</footer>\n</body>\n</html>\n";
}

}  // namespace tool
