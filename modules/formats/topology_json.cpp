// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

module berth.formats;

namespace berth {
namespace {

constexpr std::size_t max_devices = 128, max_segments = 8192, max_hops = 64, max_notes = 32;
constexpr std::array<std::string_view, rate_class_count> rate_names{"f32", "half", "fp8", "int8"};

/// Reads the members of one object; the first problem is kept, and members nobody asked for are counted.
class object_reader {
 public:
  object_reader(const json::value& v, std::string path, std::string_view what)
      : value_(v), path_(std::move(path)), what_(what) {
    if (!v.if_object()) refuse("", "is not an object");
  }

  const std::optional<failure>& problem() const { return problem_; }
  void refuse(std::string_view name, std::string_view why) {
    if (problem_) return;
    problem_ = fail(errc::malformed, what_,
                    path_ + (name.empty() || path_.empty() ? "" : ".") + std::string(name) + " " + std::string(why));
  }

  /// The member, or null; it counts as known from now on.
  const json::value* get(std::string_view name) {
    known_.push_back(name);
    return value_.find(name);
  }

  template <std::size_t N>
  void read(std::string_view name, text<N>& out) {
    const auto* v = get(name);
    if (v == nullptr) return;
    if (!v->if_string()) return refuse(name, "is not a string");
    if (v->if_string()->size() > N) return refuse(name, "is too long");
    out = text<N>(*v->if_string());
  }
  void read_size(std::string_view name, bytes& out) {
    const auto* v = get(name);
    if (v == nullptr) return;
    const auto n = v->to_uint64();
    if (!n || *n > max_bytes) return refuse(name, "is not a whole number of bytes below 2^63");
    out = *n;
  }
  void read(std::string_view name, double& out) {
    const auto* v = get(name);
    if (v == nullptr) return;
    const auto d = v->to_double();
    if (!d) return refuse(name, "is not a number");
    out = *d;
  }
  void read(std::string_view name, int& out) {
    const auto* v = get(name);
    if (v == nullptr) return;
    const auto n = v->to_int64();
    if (!n || *n < -1 || *n > 1'000'000) return refuse(name, "is not a whole number in range");
    out = static_cast<int>(*n);
  }
  /// A device id: text, or a number for a GPU.
  std::optional<device_id> read_id(std::string_view name) {
    const auto* v = get(name);
    if (v == nullptr) return std::nullopt;
    if (const auto n = v->to_int64(); n && *n >= 0 && *n < 1'000'000'000) return device_id(static_cast<int>(*n));
    if (v->if_string() && device_id::fits(*v->if_string())) return device_id(*v->if_string());
    refuse(name, "is not a device id (a GPU number, \"cpu\", \"disk\" or a name of at most 24 bytes)");
    return std::nullopt;
  }
  const json::array* read_array(std::string_view name, std::size_t most) {
    const auto* v = get(name);
    if (v == nullptr) return nullptr;
    if (!v->if_array()) {
      refuse(name, "is not an array");
      return nullptr;
    }
    if (v->if_array()->size() > most) {
      refuse(name, "has more than " + std::to_string(most) + " entries");
      return nullptr;
    }
    return v->if_array();
  }

  void note_unknown(std::vector<std::string>& notes) const {
    if (!value_.if_object()) return;
    for (const auto& m : *value_.if_object()) {
      if (std::find(known_.begin(), known_.end(), m.key) != known_.end()) continue;
      if (notes.size() == max_notes) return;
      notes.push_back("The member \"" + path_ + (path_.empty() ? "" : ".") + m.key + "\" is unknown and was ignored.");
    }
  }

 private:
  const json::value& value_;
  std::string path_;
  std::string_view what_;
  std::vector<std::string_view> known_;
  std::optional<failure> problem_;
};

class topology_reader {
 public:
  topology_reader(const json::value& document, std::string_view what) : document_(document), what_(what) {}

  result<topology_document> read() {
    object_reader top(document_, "", what_);
    top.get("format");
    top.read("name", machine().name);
    const auto* devices = top.read_array("devices", max_devices);
    const auto* segments = top.read_array("segments", max_segments);
    const auto* routes = top.read_array("routes", max_devices * max_devices);
    if (devices == nullptr) top.refuse("devices", "is missing");
    if (top.problem()) return *top.problem();
    top.note_unknown(out_.notes);
    if (auto bad = read_all(segments, "segments", &topology_reader::read_segment)) return *bad;
    if (auto bad = read_all(devices, "devices", &topology_reader::read_device)) return *bad;
    if (auto bad = share_memory()) return *bad;
    if (auto bad = read_all(routes, "routes", &topology_reader::read_route)) return *bad;
    machine().sort_routes();
    if (auto ok = validate(machine()); !ok) return ok.propagate();
    out_.format = "berth.topology/1";
    return std::move(out_);
  }

 private:
  using part = void (topology_reader::*)(object_reader&);

  topology& machine() { return out_.machine; }

  std::optional<failure> read_all(const json::array* list, std::string_view name, part one) {
    if (list == nullptr) return std::nullopt;
    for (std::size_t i = 0; i < list->size(); ++i) {
      object_reader r((*list)[i], std::string(name) + "[" + std::to_string(i) + "]", what_);
      if (!r.problem()) (this->*one)(r);
      if (r.problem()) return r.problem();
      r.note_unknown(out_.notes);
    }
    return std::nullopt;
  }

  template <class T>
  static std::optional<T> enumerator(object_reader& r, std::string_view name,
                                     std::optional<T> (*from)(std::string_view)) {
    const auto* v = r.get(name);
    if (v == nullptr) return std::nullopt;
    const auto e = v->if_string() ? from(*v->if_string()) : std::nullopt;
    if (!e) r.refuse(name, "is not one of the words of its table in docs/topology.md");
    return e;
  }

  void read_segment(object_reader& r) {
    segment s;
    r.read("name", s.name);
    s.kind = enumerator(r, "kind", &segment_kind_from).value_or(segment_kind::fabric);
    r.read("capacity", s.capacity);
    if (!segments_.try_emplace(std::string(s.name.view()), static_cast<segment_index>(machine().segments.size()))
             .second)
      return r.refuse("name", "occurs twice");
    machine().add(s);
  }

  std::optional<segment_index> segment_named(const json::value& v) const {
    if (!v.if_string()) return std::nullopt;
    const auto at = segments_.find(*v.if_string());
    return at == segments_.end() ? std::nullopt : std::optional(at->second);
  }

  void read_device(object_reader& r) {
    const auto id = r.read_id("id");
    const auto kind = enumerator(r, "kind", &device_kind_from);
    text<64> model;
    r.read("model", model);
    if (!id) r.refuse("id", "is missing");
    if (!kind) r.refuse("kind", "is missing");
    if (r.problem()) return;
    const auto* spec = *kind == device_kind::gpu ? find_gpu(model) : nullptr;
    auto d = spec != nullptr ? device_of(*spec, *id) : device{};
    d.id = *id;
    d.kind = *kind;
    d.model = model;
    read_memory(r, d, spec != nullptr);
    read_rates(r, d);
    r.read("numa_node", d.numa_node);
    r.read("cores", d.cores);
    if (const auto shared = r.read_id("shares_memory_of")) shares_.emplace_back(machine().devices.size(), *shared);
    if (const auto* v = r.get("memory_segment")) {
      const auto s = segment_named(*v);
      if (!s) r.refuse("memory_segment", "names no segment");
      d.memory_segment = s.value_or(no_index);
    }
    machine().add(d);
  }

  static void read_memory(object_reader& r, device& d, bool from_table) {
    d.api = enumerator(r, "api", &accelerator_api_from).value_or(d.api);
    const bool arenas = d.api == accelerator_api::cuda || d.api == accelerator_api::hip;
    if (!from_table && arenas) d.granularity = 2 * MiB;
    if (!from_table && r.get("memory") == nullptr) r.refuse("memory", "is missing");
    r.read_size("memory", d.memory);
    r.read_size("context", d.context);
    d.free = d.memory > d.context ? d.memory - d.context : 0;
    r.read_size("free", d.free);
    r.read_size("granularity", d.granularity);
  }

  static void read_rates(object_reader& r, device& d) {
    if (const auto* flops = r.get("flops")) {
      const auto one = flops->to_double();
      if (one) {
        d.peak_flops = {};
        d.peak_flops[static_cast<std::size_t>(rate_class::half)] = *one;
      } else if (flops->if_object()) {
        for (const auto& m : *flops->if_object()) {
          const auto at = std::find(rate_names.begin(), rate_names.end(), m.key);
          const auto rate = m.value.to_double();
          if (at == rate_names.end() || !rate)
            return r.refuse("flops", "has members other than f32, half, fp8 and int8 rates");
          d.peak_flops[static_cast<std::size_t>(at - rate_names.begin())] = *rate;
        }
      } else {
        r.refuse("flops", "is neither a number nor an object of rates");
      }
    }
    r.read("compute_efficiency", d.compute_efficiency);
    r.read("bandwidth", d.peak_bandwidth);
    r.read("bandwidth_efficiency", d.bandwidth_efficiency);
    r.read("overhead", d.overhead);
  }

  std::optional<failure> share_memory() {
    for (const auto& [at, owner] : shares_) {
      const auto found = machine().view().find(owner);
      if (!found) return fail(errc::malformed, what_, text<160>("shares_memory_of names no device: ").append(owner));
      machine().devices[at].shares_memory_of = *found;
    }
    return std::nullopt;
  }

  void read_route(object_reader& r) {
    route out;
    const auto from = r.read_id("from"), to = r.read_id("to");
    const auto a = from ? machine().view().find(*from) : std::nullopt;
    const auto b = to ? machine().view().find(*to) : std::nullopt;
    if (!a) r.refuse("from", "names no device");
    if (!b) r.refuse("to", "names no device");
    r.read("latency", out.latency);
    r.read("setup", out.setup);
    r.read("bandwidth", out.bandwidth);
    const bool own = r.get("over") == nullptr;
    const auto* list = own ? nullptr : r.read_array("over", max_hops);
    if (r.problem()) return;
    out.from = *a;
    out.to = *b;
    std::vector<segment_index> over;
    if (own) {
      over.push_back(own_segment(r, *from, *to, out.bandwidth));
    } else {
      for (const auto& name : *list) {
        const auto s = segment_named(name);
        if (!s) return r.refuse("over", "names a segment that does not exist");
        over.push_back(*s);
      }
    }
    if (r.get("bandwidth") == nullptr) {
      if (over.empty()) return r.refuse("over", "is empty");
      out.bandwidth = machine().segments[over.front()].capacity;
      for (const auto s : over) out.bandwidth = std::min(out.bandwidth, machine().segments[s].capacity);
    }
    if (!r.problem()) machine().connect(out, over);
  }

  /// A link of two devices alone, as wide as the route.
  segment_index own_segment(object_reader& r, const device_id& from, const device_id& to, double rate) {
    const auto name = std::string(from.view()) + " to " + std::string(to.view());
    if (!(rate > 0)) r.refuse("bandwidth", "is missing, and there are no segments to take it from");
    if (machine().segments.size() >= max_segments) r.refuse("over", "is missing for too many routes");
    if (!segments_.try_emplace(name, static_cast<segment_index>(machine().segments.size())).second)
      r.refuse("over", "is missing, and its own segment's name is taken: " + name);
    return machine().add(segment{text<48>(name), segment_kind::fabric, rate});
  }

  const json::value& document_;
  std::string_view what_;
  topology_document out_;
  std::map<std::string, segment_index, std::less<>> segments_;
  std::vector<std::pair<std::size_t, device_id>> shares_;
};

/// "berth.topology/1" is ours; a larger number is a newer format, anything else another one.
std::optional<failure> check_format(const json::value& document, std::string_view what) {
  const auto* format = document.find("format");
  const std::string* name = format == nullptr ? nullptr : format->if_string();
  if (name == nullptr)
    return fail(errc::unknown_format, what, "the JSON has no \"format\"; a topology says \"berth.topology/1\"");
  constexpr std::string_view prefix = "berth.topology/";
  if (name->substr(0, prefix.size()) != prefix)
    return fail(
        errc::unknown_format, what,
        text<160>("is a ").append(std::string_view(*name).substr(0, 64)).append(" document, not a berth.topology/1"));
  unsigned version = 0;
  const auto* end = name->data() + name->size();
  const auto [stop, status] = std::from_chars(name->data() + prefix.size(), end, version);
  if (status != std::errc{} || stop != end || version == 0)
    return fail(errc::unknown_format, what, "\"format\" has no version number; write \"berth.topology/1\"");
  if (version > 1)
    return fail(errc::unknown_format, what,
                text<160>("was written by a newer berth (format version ")
                    .append(version)
                    .append("); this one reads version 1"));
  return std::nullopt;
}

}  // namespace

result<topology_document> read_topology_json(const json::value& document, std::string_view what) {
  if (auto bad = check_format(document, what)) return *bad;
  return topology_reader(document, what).read();
}

namespace {

json::value write_device(const topology_view& t, const device& d) {
  json::object flops;
  for (std::size_t i = 0; i < rate_class_count; ++i) flops.push_back({std::string(rate_names[i]), d.peak_flops[i]});
  json::object out{{"id", d.id.view()},
                   {"kind", name_of(d.kind)},
                   {"api", name_of(d.api)},
                   {"model", d.model.view()},
                   {"memory", d.memory},
                   {"context", d.context},
                   {"free", d.free},
                   {"granularity", d.granularity},
                   {"flops", std::move(flops)},
                   {"compute_efficiency", d.compute_efficiency},
                   {"bandwidth", d.peak_bandwidth},
                   {"bandwidth_efficiency", d.bandwidth_efficiency},
                   {"overhead", d.overhead},
                   {"numa_node", d.numa_node},
                   {"cores", d.cores}};
  if (d.shares_memory_of != no_index) out.push_back({"shares_memory_of", t.devices[d.shares_memory_of].id.view()});
  if (d.memory_segment != no_index) out.push_back({"memory_segment", t.segments[d.memory_segment].name.view()});
  return out;
}

}  // namespace

json::value write_topology_json(const topology_view& t) {
  json::array devices, segments, routes;
  for (const auto& d : t.devices) devices.push_back(write_device(t, d));
  for (const auto& s : t.segments)
    segments.push_back(json::object{{"name", s.name.view()}, {"kind", name_of(s.kind)}, {"capacity", s.capacity}});
  for (const auto& r : t.routes) {
    json::array over;
    for (const auto s : t.hops_of(r)) over.emplace_back(t.segments[s].name.view());
    routes.push_back(json::object{{"from", t.devices[r.from].id.view()},
                                  {"to", t.devices[r.to].id.view()},
                                  {"latency", r.latency},
                                  {"setup", r.setup},
                                  {"bandwidth", r.bandwidth},
                                  {"over", std::move(over)}});
  }
  return json::object{{"format", "berth.topology/1"},
                      {"name", t.name},
                      {"devices", std::move(devices)},
                      {"segments", std::move(segments)},
                      {"routes", std::move(routes)}};
}

}  // namespace berth
