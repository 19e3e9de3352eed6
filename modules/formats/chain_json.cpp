// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.formats;

import :member_reader;

namespace berth {
namespace {

constexpr std::size_t max_chain_devices = 64;
constexpr std::size_t max_chain_atoms = 1'000'000;

/// Reads one chain document; everything after the first problem is ignored.
class chain_reader : member_reader {
 public:
  chain_reader(const json::value& document, std::string_view what) : member_reader(document, what) {}

  result<chain_instance> run() {
    if (auto f = check_format("berth.chain/1", "a chain")) return *f;
    devices();
    links();
    workload();
    if (problem_) return *problem_;
    atoms();
    if (problem_) return *problem_;
    out_.topology.name = "the machine of the instance";
    out_.topology.sort_routes();
    if (auto valid = validate(out_.topology); !valid)
      return fail(errc::malformed, what_,
                  text<256>(valid.error().subject.view()).append(" ").append(valid.error().detail));
    return std::move(out_);
  }

 private:
  std::string id(const json::value& object, std::string_view key, const std::string& path) {
    const auto* v = object.find(key);
    if (v != nullptr && v->if_string() != nullptr && device_id::fits(*v->if_string())) return *v->if_string();
    if (v != nullptr && v->to_uint64() && *v->to_uint64() < 100000) return std::to_string(*v->to_uint64());
    refuse(path + "." + std::string(key), "is missing or not a device id");
    return "0";
  }
  void devices() {
    const auto& items = list("devices", max_chain_devices);
    for (std::size_t i = 0; i < items.size(); ++i) {
      const auto path = "devices[" + std::to_string(i) + "]";
      const auto name = id(items[i], "id", path);
      device d;
      d.id = device_id(name);
      const auto* kind = items[i].find("kind");
      const auto word =
          kind == nullptr || kind->if_string() == nullptr ? std::nullopt : device_kind_from(*kind->if_string());
      if (!word) refuse(path + ".kind", "is not gpu, cpu or disk");
      d.kind = word.value_or(device_kind::gpu);
      if (d.kind == device_kind::gpu) d.api = accelerator_api::cuda;
      // A budget below zero, as arithmetic on the caller's side may leave it, holds nothing.
      const auto* memory = items[i].find("memory");
      const bool negative = memory != nullptr && memory->to_int64() && *memory->to_int64() < 0;
      d.memory = d.free = negative ? 0 : size(items[i], "memory", path);
      if (d.executes()) {
        d.peak_flops.fill(number(items[i], "flops", path));
        d.peak_bandwidth = number(items[i], "bandwidth", path);
        d.overhead = number(items[i], "overhead", path);
      }
      if (!index_.emplace(name, static_cast<device_index>(i)).second) refuse(path + ".id", "occurs twice");
      out_.topology.add(d);
    }
  }

  void links() {
    const auto& items = list("links", max_chain_devices * max_chain_devices);
    std::map<std::pair<device_index, device_index>, std::size_t> seen;
    for (std::size_t i = 0; i < items.size() && !problem_; ++i) {
      const auto path = "links[" + std::to_string(i) + "]";
      const auto from = index_.find(id(items[i], "from", path)), to = index_.find(id(items[i], "to", path));
      if (from == index_.end() || to == index_.end()) return refuse(path, "names a device that does not exist");
      if (from->second == to->second) return refuse(path, "leads from a device to itself");
      if (!seen.emplace(std::pair(from->second, to->second), i).second) return refuse(path, "occurs twice");
      route r;
      r.from = from->second;
      r.to = to->second;
      r.latency = number(items[i], "latency", path);
      r.setup = r.latency;
      r.bandwidth = number(items[i], "bandwidth", path);
      if (!(r.bandwidth > 0)) return refuse(path + ".bandwidth", "must be positive; leave an unusable link out");
      const auto own = out_.topology.add(
          segment{text<48>(from->first).append(" to ").append(to->first), segment_kind::fabric, r.bandwidth});
      out_.topology.connect(r, std::array{own});
    }
  }

  void workload() {
    const auto* w = document_.find("workload");
    if (w == nullptr || w->if_object() == nullptr) return refuse("workload", "is missing or not an object");
    out_.workload.prompt = w->find("prompt") == nullptr ? 0 : size(*w, "prompt", "workload");
    out_.workload.generate = size(*w, "generated", "workload");
    // The states of the atoms are what they are; the context that they were computed for is not part of the file.
    out_.workload.context = 0;
    const auto* o = document_.find("objective");
    const auto* word = o == nullptr ? nullptr : o->if_string();
    if (word == nullptr || *word == "latency")
      out_.workload.objective = objective::latency;
    else if (*word == "throughput")
      out_.workload.objective = objective::throughput;
    else if (*word == "memory")
      out_.workload.objective = objective::memory;
    else
      refuse("objective", "is not latency, throughput or memory");
  }

  void atoms() {
    const auto& items = list("atoms", max_chain_atoms);
    if (items.empty()) refuse("atoms", "is empty");
    bytes total = 0;
    std::map<std::string_view, std::size_t> names;
    for (std::size_t i = 0; i < items.size() && !problem_; ++i) {
      const auto path = "atoms[" + std::to_string(i) + "]";
      const auto* name = items[i].find("name");
      if (name == nullptr || name->if_string() == nullptr || name->if_string()->empty())
        return refuse(path + ".name", "is missing or not a name");
      if (!names.emplace(*name->if_string(), i).second) return refuse(path + ".name", "occurs twice");
      atom a;
      a.name = *name->if_string();
      a.kind = atom_kind::other;
      a.weights = size(items[i], "weights", path);
      a.state = size(items[i], "state", path);
      a.workspace = size(items[i], "workspace", path);
      for (const auto ph : all_phases) work(items[i], ph, path, a);
      for (const auto part : {a.weights, a.state, a.workspace}) {
        const auto sum = checked_add(total, part);
        if (!sum) return refuse(path, "makes the chain larger than 2^63 bytes");
        total = *sum;
      }
      out_.model.add(a);
    }
  }
  void work(const json::value& item, phase ph, const std::string& path, atom& a) {
    const auto* v = item.find(name_of(ph));
    if (v == nullptr || v->if_object() == nullptr)
      return refuse(path + "." + std::string(name_of(ph)), "is missing or not an object");
    const auto inner = path + "." + std::string(name_of(ph));
    a.work[static_cast<std::size_t>(ph)] = {number(*v, "flops", inner), number(*v, "bytes", inner),
                                            number(*v, "out", inner)};
  }

  chain_instance out_;
  std::map<std::string, device_index> index_;
};

}  // namespace

result<chain_instance> read_chain(const json::value& document, std::string_view what) {
  return chain_reader(document, what).run();
}

}  // namespace berth
