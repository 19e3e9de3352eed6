// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

module berth.formats;

import :member_reader;

namespace berth {
namespace {

constexpr std::array objective_names{std::string_view("latency"), std::string_view("throughput"),
                                     std::string_view("memory")};

std::string to_hex(std::uint64_t n) {
  std::array<char, 16> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), n, 16).ptr;
  return std::string(static_cast<std::size_t>(16 - (end - digits.data())), '0').append(digits.data(), end);
}

std::string_view mode_of(const plan& p, const atom_placement& at) {
  if (at.streamed(phase::decode)) return "streamed";
  if (at.streamed(phase::prefill)) return "streamed_for_prompt";
  return p.devices[at.home].kind == device_kind::cpu ? "computed_on_cpu" : "resident";
}

/// Stated with every plan that stores weights in int8; not read back.
void add_int8_bound(const plan& p, json::object& to) {
  const auto stored = precision_from(p.precision.view());
  if (stored && stored->int8) to.push_back({"int8_bound", int8_bound_statement});
}

json::value write_model(const plan& p) {
  json::array no_split;
  for (const auto& c : p.no_split) no_split.emplace_back(std::string_view(c));
  json::object out{{"id", p.model_id.view()},
                   {"model_type", p.model_type.view()},
                   {"naming", p.naming.view()},
                   {"precision", p.precision.view()},
                   {"fingerprint", to_hex(p.fingerprint)},
                   {"no_split_modules", std::move(no_split)},
                   {"weights", total_weights(p.model())}};
  add_int8_bound(p, out);
  return out;
}

json::value write_atoms(const plan& p) {
  json::array out;
  for (std::size_t i = 0; i < p.atoms.size(); ++i) {
    const auto& a = p.atoms[i];
    const auto& at = p.placements[i];
    json::object o{{"name", a.name},
                   {"kind", name_of(a.kind)},
                   {"weights", a.weights},
                   {"padding", a.padding},
                   {"home", p.devices[at.home].id.view()},
                   {"execution", p.devices[at.execution].id.view()},
                   {"mode", mode_of(p, at)}};
    if (at.prompt != no_index) o.push_back({"prompt", p.devices[at.prompt].id.view()});
    if (a.parts > 1) o.push_back({"slice", json::array{std::uint64_t{a.part}, std::uint64_t{a.parts}}});
    if (a.state > 0) o.push_back({"state", a.state});
    if (a.workspace > 0) o.push_back({"workspace", a.workspace});
    o.push_back({"compute", info_of(a.compute).safetensors});
    for (const auto ph : all_phases) {
      const auto& w = a.in(ph);
      o.push_back({std::string(name_of(ph)), json::object{{"flops", w.flops}, {"bytes", w.touched}, {"out", w.out}}});
    }
    out.push_back(std::move(o));
  }
  return out;
}

/// Times that cannot be reached are null: JSON has no infinity.
json::value time_value(double seconds) { return seconds < forever ? json::value(seconds) : json::value(nullptr); }

json::value write_times(const plan& p) {
  if (!p.priced) return nullptr;
  return json::object{{"prefill", time_value(p.times.prefill)},
                      {"decode", time_value(p.times.decode)},
                      {"period", time_value(p.times.period)},
                      {"value", time_value(p.times.value)}};
}

json::value write_certificate(const certificate& c) {
  if (!c.present()) return nullptr;
  json::object o{{"value", time_value(c.value)},
                 {"class", name_of(c.of)},
                 {"lower_bound", time_value(c.bound)},
                 {"bound", c.bound_name.view()},
                 {"gap", c.gap()}};
  if (c.interval_value != 0) o.push_back({"interval_value", time_value(c.interval_value)});
  return o;
}

/// [device id, first atom, last atom] for each run of consecutive atoms on one device, in chain order.
json::value write_assignment(const plan& p) {
  json::array out;
  for (std::size_t i = 0; i < p.placements.size();) {
    std::size_t end = i + 1;
    while (end < p.placements.size() && p.placements[end] == p.placements[i]) ++end;
    out.push_back(
        json::array{p.devices[p.placements[i].execution].id.view(), std::uint64_t{i}, std::uint64_t{end - 1}});
    i = end;
  }
  return out;
}

json::value write_uses(const plan& p) {
  json::array out;
  for (const auto& u : p.uses)
    out.push_back(json::object{{"id", p.devices[u.device].id.view()},
                               {"budget", u.budget},
                               {"reserve", u.reserve},
                               {"weights", u.weights},
                               {"padding", u.padding},
                               {"staging", u.staging},
                               {"state", u.state},
                               {"workspace", u.workspace},
                               {"free", u.used() > u.available() ? bytes{0} : u.free()}});
  return out;
}

}  // namespace

json::value write_plan(const plan& p) {
  json::array ties, warnings;
  for (const auto& t : p.ties)
    ties.push_back(
        json::object{{"storage", std::uint64_t{t.storage}}, {"atom", std::uint64_t{t.atom}}, {"size", t.size}});
  for (const auto& w : p.warnings) warnings.emplace_back(w.view());
  const auto& w = p.workload;
  return json::object{{"format", "berth.plan/1"},
                      {"strategy", p.strategy.view()},
                      {"model", write_model(p)},
                      {"workload", json::object{{"context", w.context},
                                                {"batch", w.batch},
                                                {"prompt", w.prompt},
                                                {"generate", w.generate},
                                                {"objective", objective_names[static_cast<std::size_t>(w.objective)]}}},
                      {"objective_value", p.priced ? time_value(p.times.value) : json::value(nullptr)},
                      {"times", write_times(p)},
                      {"certificate", write_certificate(p.certificate)},
                      {"assignment", write_assignment(p)},
                      {"staging_slots", std::uint64_t{p.staging_slots}},
                      {"padded", p.padded},
                      {"devices", write_uses(p)},
                      {"device_map", write_device_map(device_map_of(p))},
                      {"warnings", std::move(warnings)},
                      {"atoms", write_atoms(p)},
                      {"ties", std::move(ties)},
                      {"topology", write_topology_json(p.topology())}};
}

namespace {

constexpr std::array<std::string_view, 16> known_members{
    "format",   "strategy", "model", "workload", "staging_slots", "padded",      "devices",    "device_map",
    "warnings", "atoms",    "ties",  "topology", "times",         "certificate", "assignment", "objective_value"};

/// Reads the members of one plan document.
class plan_reader : member_reader {
 public:
  plan_reader(const json::value& document, std::string_view what) : member_reader(document, what) {}

  result<plan_document> run() {
    if (auto f = check_format("berth.plan/1", "a plan")) return *f;
    const auto* topology = document_.find("topology");
    if (topology == nullptr) return fail(errc::malformed, what_, "\"topology\" is missing");
    auto read = read_topology_json(*topology, what_);
    if (!read) return read.propagate();
    take_topology(read->machine);
    for (auto& n : read->notes) out_.notes.push_back(n);
    header();
    atoms();
    ties();
    uses();
    times();
    if (problem_) return *problem_;
    note_unknown(document_, known_members, {}, out_.notes);
    compare_derived();
    return std::move(out_);
  }

 private:
  void take_topology(const berth::topology& t) {
    auto& p = out_.plan;
    p.topology_name = t.name;
    p.devices.assign(t.devices.begin(), t.devices.end());
    p.segments.assign(t.segments.begin(), t.segments.end());
    p.routes.assign(t.routes.begin(), t.routes.end());
    p.hops.assign(t.hops.begin(), t.hops.end());
    for (std::size_t i = 0; i < p.devices.size(); ++i)
      index_.emplace(std::string(p.devices[i].id.view()), static_cast<device_index>(i));
  }

  void header() {
    auto& p = out_.plan;
    p.strategy = string(document_, "strategy", "plan");
    p.staging_slots = small(document_, "staging_slots", "plan");
    const auto* padded = document_.find("padded");
    if (padded == nullptr || padded->if_bool() == nullptr)
      refuse("padded", "is missing or not true or false");
    else
      p.padded = *padded->if_bool();
    if (const auto* m = document_.find("model")) {
      p.model_id = string(*m, "id", "model");
      p.model_type = string(*m, "model_type", "model");
      p.naming = string(*m, "naming", "model");
      if (m->find("precision") != nullptr) p.precision = string(*m, "precision", "model");
      const auto hex = string(*m, "fingerprint", "model");
      const auto [end, status] = std::from_chars(hex.data(), hex.data() + hex.size(), p.fingerprint, 16);
      if (status != std::errc{} || end != hex.data() + hex.size())
        refuse("model.fingerprint", "is not a hexadecimal number");
      if (const auto* classes = m->find("no_split_modules"); classes != nullptr && classes->if_array() != nullptr)
        for (const auto& c : *classes->if_array())
          if (c.if_string() != nullptr) p.no_split.emplace_back(*c.if_string());
    } else {
      refuse("model", "is missing");
    }
    for (const auto& w : list("warnings"))
      if (w.if_string() != nullptr) p.warnings.emplace_back(std::string_view(*w.if_string()));
    workload();
  }

  void workload() {
    const auto* w = document_.find("workload");
    if (w == nullptr) return refuse("workload", "is missing");
    auto& out = out_.plan.workload;
    out.context = size(*w, "context", "workload");
    out.batch = size(*w, "batch", "workload");
    out.prompt = size(*w, "prompt", "workload");
    out.generate = size(*w, "generate", "workload");
    const auto name = string(*w, "objective", "workload");
    for (std::size_t i = 0; i < objective_names.size(); ++i)
      if (objective_names[i] == name) {
        out.objective = static_cast<objective>(i);
        return;
      }
    refuse("workload.objective", "is not latency, throughput or memory");
  }

  device_index device(const json::value& object, std::string_view key, const std::string& path) {
    const auto id = string(object, key, path);
    const auto it = index_.find(std::string(id));
    if (it != index_.end()) return it->second;
    refuse(path + "." + std::string(key),
           std::string("names the device \"").append(id).append("\", which the plan's topology does not have"));
    return no_index;
  }

  void atoms() {
    auto& p = out_.plan;
    const auto& items = list("atoms");
    std::size_t characters = 0;
    for (const auto& a : items)
      if (const auto* n = a.find("name"); n != nullptr && n->if_string() != nullptr)
        characters += n->if_string()->size();
    p.reserve_names(characters);
    for (std::size_t i = 0; i < items.size(); ++i) {
      const auto path = "atoms[" + std::to_string(i) + "]";
      const auto& a = items[i];
      atom out;
      out.name = p.keep_name(string(a, "name", path));
      out.kind = kind(string(a, "kind", path), path);
      out.weights = size(a, "weights", path);
      out.padding = size(a, "padding", path);
      if (!checked_add(out.weights, out.padding)) refuse(path, "is larger than 2^63 bytes");
      cost(a, path, out);
      p.atoms.push_back(out);
      p.loads.push_back(p.padded ? out.weights + out.padding : out.weights);
      p.placements.push_back({device(a, "home", path), device(a, "execution", path),
                              a.find("prompt") == nullptr ? no_index : device(a, "prompt", path)});
    }
  }
  /// What an atom costs; plans of models that were not costed leave it out.
  void cost(const json::value& a, const std::string& path, atom& out) {
    if (a.find("state") != nullptr) out.state = size(a, "state", path);
    if (a.find("workspace") != nullptr) out.workspace = size(a, "workspace", path);
    if (const auto* slice = a.find("slice")) {
      const auto* list = slice->if_array();
      const auto part = list != nullptr && list->size() == 2 ? (*list)[0].to_uint64() : std::nullopt;
      const auto parts = part ? (*list)[1].to_uint64() : std::nullopt;
      if (!parts || *part >= *parts || *parts > 0xffffffffu)
        return refuse(path + ".slice", "is not [part, parts] with part < parts");
      out.part = static_cast<std::uint32_t>(*part);
      out.parts = static_cast<std::uint32_t>(*parts);
    }
    if (a.find("compute") != nullptr) {
      const auto type = dtype_from_safetensors(string(a, "compute", path));
      if (!type) return refuse(path + ".compute", "is not a dtype");
      out.compute = *type;
    }
    for (const auto ph : all_phases)
      if (const auto* w = a.find(name_of(ph))) {
        const auto inner = path + "." + std::string(name_of(ph));
        out.work[static_cast<std::size_t>(ph)] = {number(*w, "flops", inner), number(*w, "bytes", inner),
                                                  number(*w, "out", inner)};
      }
  }
  /// null stands for what cannot be reached.
  double time(const json::value& object, std::string_view key, const std::string& path) {
    const auto* v = object.find(key);
    if (v != nullptr && v->is_null()) return forever;
    const auto d = v == nullptr ? std::nullopt : v->to_double();
    if (d) return *d;
    refuse(path + "." + std::string(key), "is missing or not a number");
    return 0;
  }
  void times() {
    auto& p = out_.plan;
    if (const auto* t = document_.find("times"); t != nullptr && !t->is_null()) {
      p.priced = true;
      p.times = {time(*t, "prefill", "times"), time(*t, "decode", "times"), time(*t, "period", "times"),
                 time(*t, "value", "times")};
    }
    const auto* c = document_.find("certificate");
    if (c == nullptr || c->is_null()) return;
    p.certificate.value = time(*c, "value", "certificate");
    p.certificate.bound = time(*c, "lower_bound", "certificate");
    p.certificate.bound_name = string(*c, "bound", "certificate");
    const auto of = string(*c, "class", "certificate");
    if (of != name_of(plan_class::interval) && of != name_of(plan_class::any))
      refuse("certificate.class", "is not interval or any");
    p.certificate.of = of == name_of(plan_class::interval) ? plan_class::interval : plan_class::any;
    if (c->find("interval_value") != nullptr) p.certificate.interval_value = time(*c, "interval_value", "certificate");
  }
  atom_kind kind(std::string_view name, const std::string& path) {
    for (std::uint8_t k = 0; k <= static_cast<std::uint8_t>(atom_kind::other); ++k)
      if (name_of(static_cast<atom_kind>(k)) == name) return static_cast<atom_kind>(k);
    refuse(path + ".kind", "is not a kind of atom");
    return atom_kind::other;
  }

  void ties() {
    const auto& items = list("ties");
    for (std::size_t i = 0; i < items.size(); ++i) {
      const auto path = "ties[" + std::to_string(i) + "]";
      out_.plan.ties.push_back(
          {small(items[i], "storage", path), small(items[i], "atom", path), size(items[i], "size", path)});
    }
  }

  void uses() {
    const auto& items = list("devices");
    for (std::size_t i = 0; i < items.size(); ++i) {
      const auto path = "devices[" + std::to_string(i) + "]";
      device_use u;
      u.device = device(items[i], "id", path);
      u.budget = size(items[i], "budget", path);
      u.reserve = size(items[i], "reserve", path);
      u.weights = size(items[i], "weights", path);
      u.padding = size(items[i], "padding", path);
      u.staging = size(items[i], "staging", path);
      u.state = size(items[i], "state", path);
      u.workspace = size(items[i], "workspace", path);
      bytes sum = u.weights;
      for (const auto part : {u.padding, u.staging, u.state, u.workspace}) {
        const auto more = checked_add(sum, part);
        if (!more) refuse(path, "adds up to more than 2^63 bytes");
        sum = more.value_or(0);
      }
      out_.plan.uses.push_back(u);
    }
  }

  void contradict(std::string text) { out_.contradictions.push_back(std::move(text)); }

  /// What people load with must be what was proved: the members derived from the placements are computed again.
  void compare_derived() {
    const auto& p = out_.plan;
    if (const auto* map = document_.find("device_map"); map == nullptr || map->if_object() == nullptr) {
      contradict("device_map is missing or not an object");
    } else {
      const auto expected = write_device_map(device_map_of(p));
      std::unordered_map<std::string_view, const json::value*> stated;
      for (const auto& m : *map->if_object()) stated.emplace(m.key, &m.value);
      for (const auto& m : *expected.if_object()) {
        const auto it = stated.find(m.key);
        if (it == stated.end() || !(*it->second == m.value))
          contradict("device_map: \"" + m.key + "\" should be " + json::write(m.value) + ", the home of that atom");
        if (it != stated.end()) stated.erase(it);
      }
      for (const auto& m : *map->if_object())
        if (stated.contains(m.key)) contradict("device_map: \"" + m.key + "\" is not an atom of this plan");
    }
    const auto& atoms = list("atoms");
    for (std::size_t i = 0; i < p.atoms.size(); ++i) {
      const auto* mode = atoms[i].find("mode");
      const auto expected = mode_of(p, p.placements[i]);
      if (mode == nullptr || mode->if_string() == nullptr || *mode->if_string() != expected)
        contradict(std::string(p.atoms[i].name).append(": its mode should be ").append(expected));
    }
    if (const auto* stated = document_.find("objective_value");
        stated != nullptr && !(*stated == (p.priced ? time_value(p.times.value) : json::value(nullptr))))
      contradict("objective_value should be times.value");
    if (const auto* stated = document_.find("assignment"); stated != nullptr && !(*stated == write_assignment(p)))
      contradict("assignment should list the runs of atoms that run on one device");
    const auto uses = write_uses(p);
    for (std::size_t i = 0; i < p.uses.size(); ++i) {
      const auto* stated = list("devices")[i].find("free");
      const auto* expected = (*uses.if_array())[i].find("free");
      if (stated == nullptr || !(*stated == *expected))
        contradict(std::string(p.devices[p.uses[i].device].id.view())
                       .append(": free should be ")
                       .append(json::write(*expected)));
    }
    const auto* stated = document_.find("model")->find("weights");
    if (stated == nullptr || stated->to_uint64() != total_weights(p.model()))
      contradict("model.weights should be " + std::to_string(total_weights(p.model())));
  }

  plan_document out_;
  std::unordered_map<std::string, device_index> index_;
};

}  // namespace

result<plan_document> read_plan(const json::value& document, std::string_view what) {
  return plan_reader(document, what).run();
}

}  // namespace berth
