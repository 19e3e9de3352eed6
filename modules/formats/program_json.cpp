// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.formats;

import :member_reader;

namespace berth {

constexpr std::string_view name_of(memory_kind k) { return k == memory_kind::pinned ? "pinned" : "plain"; }
constexpr std::string_view name_of(transfer_kind k) { return k == transfer_kind::message ? "message" : "copy"; }

namespace {

constexpr std::size_t max_program_parts = 65'536;  ///< streams, buffers, rings
constexpr std::size_t max_program_operations = 10'000'000;

/// The position of a name among those of an enumeration from 0 to `last`.
template <class E>
std::optional<E> named(std::string_view name, E last) {
  for (std::uint8_t i = 0; i <= static_cast<std::uint8_t>(last); ++i)
    if (name_of(static_cast<E>(i)) == name) return static_cast<E>(i);
  return std::nullopt;
}

void put(json::object& o, std::string_view key, std::uint64_t value, std::uint64_t absent) {
  if (value != absent) o.push_back({std::string(key), value});
}

json::value write_range(const program_range& r) {
  json::object o;
  put(o, "buffer", r.buffer, no_handle);
  put(o, "offset", r.offset, 0);
  put(o, "size", r.size, 0);
  put(o, "ring", r.ring, no_handle);
  put(o, "step", r.step, 0);
  return o;
}

json::value write_operation(const operation& x) {
  json::object o{{"kind", name_of(x.kind)}};
  put(o, "stream", x.stream, no_handle);
  put(o, "buffer", x.buffer, no_handle);
  put(o, "atom", x.atom, no_index);
  if (!(x.from == program_range{})) o.push_back({"from", write_range(x.from)});
  if (!(x.to == program_range{})) o.push_back({"to", write_range(x.to)});
  if (!(x.stored == storage_range{})) {
    json::object stored;
    put(stored, "file", x.stored.file, 0);
    put(stored, "offset", x.stored.offset, 0);
    put(stored, "size", x.stored.size, 0);
    o.push_back({"stored", std::move(stored)});
  }
  if (x.transfer != transfer_kind::copy) o.push_back({"transfer", name_of(x.transfer)});
  put(o, "event", x.event, no_handle);
  put(o, "event_ring", x.event_ring, no_handle);
  put(o, "event_step", x.event_step, 0);
  if (x.flops != 0) o.push_back({"flops", x.flops});
  if (x.touched != 0) o.push_back({"touched", x.touched});
  const auto& m = x.memory;
  for (const auto& [key, range] :
       {std::pair{"weights", &m.weights}, std::pair{"state", &m.state}, std::pair{"workspace", &m.workspace},
        std::pair{"in", &m.in}, std::pair{"out", &m.out}})
    if (!(*range == program_range{})) o.push_back({key, write_range(*range)});
  if (x.kind == op_kind::launch || x.compute != dtype::bf16) o.push_back({"compute", info_of(x.compute).safetensors});
  return o;
}

json::value write_frame_streams(const program_frame& f) {
  json::array out;
  for (const auto& s : f.streams) {
    json::object o{{"device", std::uint64_t{s.device}}, {"role", name_of(s.role)}};
    put(o, "peer", s.peer, no_index);
    out.push_back(std::move(o));
  }
  return out;
}

json::value write_frame_buffers(const program_frame& f) {
  json::array out;
  for (const auto& b : f.buffers)
    out.push_back(json::object{
        {"device", std::uint64_t{b.device}}, {"role", name_of(b.role)}, {"size", b.size}, {"memory", name_of(b.kind)}});
  return out;
}

json::value write_frame_rings(const program_frame& f) {
  json::array out;
  for (const auto& r : f.rings) {
    json::object o{{"device", std::uint64_t{r.device}}, {"slots", std::uint64_t{r.slots}}};
    put(o, "buffer", r.buffer, no_handle);
    put(o, "offset", r.offset, 0);
    put(o, "slot_size", r.slot_size, 0);
    put(o, "copied", r.copied, no_handle);
    put(o, "freed", r.freed, no_handle);
    out.push_back(std::move(o));
  }
  return out;
}

}  // namespace

json::value write_program(const program& p) {
  json::array copies, operations;
  for (const auto n : p.copies) copies.emplace_back(std::uint64_t{n});
  operations.reserve(p.operations.size());
  for (const auto& o : p.operations) operations.push_back(write_operation(o));
  json::object out{{"format", "berth.program/1"},
                   {"phase", name_of(p.phase)},
                   {"streams", write_frame_streams(p.frame)},
                   {"buffers", write_frame_buffers(p.frame)},
                   {"rings", write_frame_rings(p.frame)},
                   {"events", std::uint64_t{p.frame.events}},
                   {"copies", std::move(copies)}};
  put(out, "last_stream", p.last_stream, no_handle);
  out.push_back({"operations", std::move(operations)});
  return out;
}

namespace {

constexpr std::array<std::string_view, 9> program_members{"format", "phase",  "streams",     "buffers",   "rings",
                                                          "events", "copies", "last_stream", "operations"};
constexpr std::array<std::string_view, 3> stream_members{"device", "role", "peer"};
constexpr std::array<std::string_view, 4> buffer_members{"device", "role", "size", "memory"};
constexpr std::array<std::string_view, 7> ring_members{"device",    "slots",  "buffer", "offset",
                                                       "slot_size", "copied", "freed"};
constexpr std::array<std::string_view, 5> range_members{"buffer", "offset", "size", "ring", "step"};
constexpr std::array<std::string_view, 3> stored_members{"file", "offset", "size"};
constexpr std::array<std::string_view, 19> operation_members{
    "kind",       "stream", "buffer",  "atom",    "from",    "to",    "stored",    "transfer", "event", "event_ring",
    "event_step", "flops",  "touched", "compute", "weights", "state", "workspace", "in",       "out"};

class program_reader : member_reader {
 public:
  program_reader(const json::value& document, std::string_view what) : member_reader(document, what) {}

  result<program_document> run() {
    if (auto f = check_format("berth.program/1", "a program")) return *f;
    auto& p = out_.program;
    p.phase = word(document_, "phase", {}, program_phase::decode);
    p.frame.events = small(document_, "events", {});
    streams();
    buffers();
    rings();
    for (const auto& n : list("copies", max_program_parts)) {
      const auto copies = n.to_uint64();
      if (!copies || *copies > no_handle) refuse("copies", "holds something else than numbers of copies");
      p.copies.push_back(static_cast<std::uint32_t>(copies.value_or(0)));
    }
    p.last_stream = position(document_, "last_stream", {}, p.frame.streams.size());
    note(document_, program_members, {});
    operations();
    if (problem_) return *problem_;
    return std::move(out_);
  }

 private:
  /// Enumerations by their names; absent where `absent` is given.
  template <class E>
  E word(const json::value& object, std::string_view key, const std::string& path, E last,
         std::optional<E> absent = std::nullopt) {
    if (absent && object.find(key) == nullptr) return *absent;
    const auto name = string(object, key, path);
    const auto found = named(name, last);
    if (!found) refuse(path_of(path, key), "is not known to this version");
    return found.value_or(last);
  }
  std::uint64_t size_or_0(const json::value& object, std::string_view key, const std::string& path) {
    return object.find(key) == nullptr ? 0 : size(object, key, path);
  }
  std::uint32_t small_or(const json::value& object, std::string_view key, const std::string& path,
                         std::uint32_t absent) {
    return object.find(key) == nullptr ? absent : small(object, key, path);
  }
  double number_or_0(const json::value& object, std::string_view key, const std::string& path) {
    return object.find(key) == nullptr ? 0 : number(object, key, path);
  }
  /// A number below `count`, or `no_handle` where the member is absent.
  std::uint32_t position(const json::value& object, std::string_view key, const std::string& path, std::size_t count) {
    if (object.find(key) == nullptr) return no_handle;
    const auto n = small(object, key, path);
    if (n >= count) refuse(path_of(path, key), "names what the program does not have");
    return n;
  }
  void note(const json::value& object, std::span<const std::string_view> known, const std::string& path) {
    note_unknown(object, known, path, out_.notes);
  }
  /// Calls `read` with each object of a list and its path.
  template <class Read>
  void each(std::string_view key, std::size_t most, Read read) {
    const auto& items = list(key, most);
    for (std::size_t i = 0; i < items.size() && !problem_; ++i) {
      const auto path = std::string(key) + "[" + std::to_string(i) + "]";
      if (items[i].if_object() == nullptr) return refuse(path, "is not an object");
      read(items[i], path);
    }
  }

  void streams() {
    each("streams", max_program_parts, [&](const json::value& v, const std::string& path) {
      out_.program.frame.streams.push_back(
          {small(v, "device", path), word(v, "role", path, stream_role::load), small_or(v, "peer", path, no_index)});
      note(v, stream_members, path);
    });
  }
  void buffers() {
    each("buffers", max_program_parts, [&](const json::value& v, const std::string& path) {
      out_.program.frame.buffers.push_back(
          {small(v, "device", path), word(v, "role", path, buffer_role::messages), size(v, "size", path),
           word(v, "memory", path, memory_kind::pinned, std::optional(memory_kind::plain))});
      note(v, buffer_members, path);
    });
  }
  void rings() {
    each("rings", max_program_parts, [&](const json::value& v, const std::string& path) {
      auto& f = out_.program.frame;
      staging_ring r;
      r.device = small(v, "device", path);
      r.slots = small(v, "slots", path);
      r.buffer = position(v, "buffer", path, f.buffers.size());
      r.offset = size_or_0(v, "offset", path);
      r.slot_size = size_or_0(v, "slot_size", path);
      r.copied = position(v, "copied", path, f.events);
      r.freed = position(v, "freed", path, f.events);
      for (const auto first : {r.copied, r.freed})
        if (first != no_handle && r.slots > f.events - first) refuse(path, "has more slots than there are events");
      f.rings.push_back(r);
      note(v, ring_members, path);
    });
  }

  program_range range(const json::value& object, std::string_view key, const std::string& outer) {
    const auto* v = object.find(key);
    if (v == nullptr) return {};
    const auto path = path_of(outer, key);
    program_range r;
    r.buffer = position(*v, "buffer", path, out_.program.frame.buffers.size());
    r.offset = size_or_0(*v, "offset", path);
    r.size = size_or_0(*v, "size", path);
    r.ring = position(*v, "ring", path, out_.program.frame.rings.size());
    r.step = small_or(*v, "step", path, 0);
    if (v->if_object() == nullptr) refuse(path, "is not an object");
    note(*v, range_members, path);
    return r;
  }
  storage_range stored(const json::value& object, const std::string& outer) {
    const auto* v = object.find("stored");
    if (v == nullptr) return {};
    const auto path = path_of(outer, "stored");
    if (v->if_object() == nullptr) refuse(path, "is not an object");
    note(*v, stored_members, path);
    return {small_or(*v, "file", path, 0), size_or_0(*v, "offset", path), size_or_0(*v, "size", path)};
  }
  void operations() {
    each("operations", max_program_operations, [&](const json::value& v, const std::string& path) {
      const auto& f = out_.program.frame;
      operation o;
      o.kind = word(v, "kind", path, op_kind::wait);
      o.stream = position(v, "stream", path, f.streams.size());
      o.buffer = position(v, "buffer", path, f.buffers.size());
      o.atom = small_or(v, "atom", path, no_index);
      o.from = range(v, "from", path);
      o.to = range(v, "to", path);
      o.stored = stored(v, path);
      o.transfer = word(v, "transfer", path, transfer_kind::message, std::optional(transfer_kind::copy));
      o.event = position(v, "event", path, f.events);
      o.event_ring = position(v, "event_ring", path, f.rings.size());
      o.event_step = small_or(v, "event_step", path, 0);
      o.flops = number_or_0(v, "flops", path);
      o.touched = number_or_0(v, "touched", path);
      if (v.find("compute") != nullptr) {
        const auto type = dtype_from_safetensors(string(v, "compute", path));
        if (!type) refuse(path + ".compute", "is not a dtype");
        o.compute = type.value_or(dtype::bf16);
      }
      auto& m = o.memory;
      m = {range(v, "weights", path), range(v, "state", path), range(v, "workspace", path), range(v, "in", path),
           range(v, "out", path)};
      out_.program.operations.push_back(o);
      note(v, operation_members, path);
    });
  }

  program_document out_;
};

}  // namespace

result<program_document> read_program(const json::value& document, std::string_view what) {
  return program_reader(document, what).run();
}

}  // namespace berth
