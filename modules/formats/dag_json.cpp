// SPDX-License-Identifier: Apache-2.0
module;

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

module berth.formats;

namespace berth {
namespace {

/// Reads the document member by member; the first problem is kept in `problem`.
class workload_reader {
 public:
  explicit workload_reader(std::string_view what) : what_(what) {}

  bool read(const json::value& document) {
    double memory = 0;
    if (!read_number(document, "maxSizePerFPGA", "the document", memory)) return false;
    if (memory >= static_cast<double>(max_bytes)) return refuse("the document", "\"maxSizePerFPGA\" is too large");
    out.accelerator_memory = static_cast<bytes>(std::floor(memory));
    return read_count(document, "maxFPGAs", out.accelerators) && read_count(document, "maxCPUs", out.cpus) &&
           read_nodes(document) && read_edges(document);
  }

  dag_problem out;
  std::optional<failure> problem;

 private:
  bool refuse(const std::string& where, const std::string& why) {
    problem = fail(errc::malformed, what_, where + ": " + why);
    return false;
  }

  bool read_number(const json::value& v, std::string_view key, const std::string& where, double& number) {
    const auto* m = v.find(key);
    if (m == nullptr) return refuse(where, "\"" + std::string(key) + "\" is missing");
    const auto n = m->to_double();
    if (!n) return refuse(where, "\"" + std::string(key) + "\" is not a number");
    if (!std::isfinite(*n) || *n < 0) return refuse(where, "\"" + std::string(key) + "\" is negative or not finite");
    number = *n;
    return true;
  }

  bool read_count(const json::value& v, std::string_view key, std::uint32_t& count) {
    const auto* m = v.find(key);
    if (m == nullptr) return refuse("the document", "\"" + std::string(key) + "\" is missing");
    const auto n = m->to_double();
    if (!n || !(*n >= 0 && *n <= static_cast<double>(max_dag_nodes)) || std::floor(*n) != *n)
      return refuse("the document",
                    "\"" + std::string(key) + "\" is not a whole number up to " + std::to_string(max_dag_nodes));
    count = static_cast<std::uint32_t>(*n);
    return true;
  }

  bool read_id(const json::value& v, std::string_view key, const std::string& where, std::int64_t& id) {
    const auto* m = v.find(key);
    if (m == nullptr) return refuse(where, "\"" + std::string(key) + "\" is missing");
    const auto n = m->to_int64();
    if (!n) return refuse(where, "\"" + std::string(key) + "\" is not an integer");
    id = *n;
    return true;
  }

  /// true and false, or 1 and 0.
  bool read_flag(const json::value& v, std::string_view key, const std::string& where, bool& flag) {
    const auto* m = v.find(key);
    if (m == nullptr) return refuse(where, "\"" + std::string(key) + "\" is missing");
    if (const auto* b = m->if_bool()) {
      flag = *b;
      return true;
    }
    const auto n = m->to_double();
    if (!n || (*n != 0 && *n != 1)) return refuse(where, "\"" + std::string(key) + "\" is not true, false, 1 or 0");
    flag = *n == 1;
    return true;
  }

  bool read_nodes(const json::value& document) {
    const auto* list = document.find("nodes");
    if (list == nullptr || !list->if_array()) return refuse("the document", "\"nodes\" is missing or not an array");
    out.nodes.reserve(list->if_array()->size());
    for (const auto& v : *list->if_array())
      if (!read_node(v)) return false;
    return true;
  }

  bool read_node(const json::value& v) {
    dag_node node;
    const auto number = "node number " + std::to_string(out.nodes.size());
    if (!v.if_object()) return refuse(number, "not an object");
    if (!read_id(v, "id", number, node.id)) return false;
    const auto where = "node " + std::to_string(node.id);
    if (!position_.emplace(node.id, static_cast<std::uint32_t>(out.nodes.size())).second)
      return refuse(where, "the id is given twice");
    double size = 0;
    if (!read_number(v, "fpgaLatency", where, node.accelerator_time) ||
        !read_number(v, "cpuLatency", where, node.cpu_time) || !read_number(v, "size", where, size) ||
        !read_flag(v, "supportedOnFpga", where, node.on_accelerator) ||
        !read_flag(v, "isBackwardNode", where, node.backward))
      return false;
    if (size >= static_cast<double>(max_bytes)) return refuse(where, "\"size\" is too large");
    node.size = static_cast<bytes>(std::ceil(size));
    if (const auto* color = v.find("colorClass"); color != nullptr && !color->is_null()) {
      std::int64_t c = 0;
      if (!read_id(v, "colorClass", where, c)) return false;
      node.color = c;
    }
    if (const auto* name = v.find("name"); name != nullptr && name->if_string()) node.name = *name->if_string();
    out.nodes.push_back(std::move(node));
    return true;
  }

  bool read_edges(const json::value& document) {
    const auto* list = document.find("edges");
    if (list == nullptr || !list->if_array()) return refuse("the document", "\"edges\" is missing or not an array");
    out.edges.reserve(list->if_array()->size());
    std::vector<std::uint8_t> priced(out.nodes.size());
    for (const auto& v : *list->if_array())
      if (!read_edge(v, priced)) return false;
    return true;
  }

  bool read_end(const json::value& v, std::string_view key, const std::string& where, std::uint32_t& position) {
    std::int64_t id = 0;
    if (!read_id(v, key, where, id)) return false;
    const auto it = position_.find(id);
    if (it == position_.end())
      return refuse(where, "\"" + std::string(key) + "\" " + std::to_string(id) + " is not a node");
    position = it->second;
    return true;
  }

  bool read_edge(const json::value& v, std::vector<std::uint8_t>& priced) {
    dag_edge edge;
    const auto number = "edge number " + std::to_string(out.edges.size());
    if (!v.if_object()) return refuse(number, "not an object");
    if (!read_end(v, "sourceId", number, edge.from) || !read_end(v, "destId", number, edge.to)) return false;
    auto& node = out.nodes[edge.from];
    const auto where = "edge " + std::to_string(node.id) + " -> " + std::to_string(out.nodes[edge.to].id);
    double cost = 0;
    if (!read_number(v, "cost", where, cost)) return false;
    if (priced[edge.from] != 0 && cost != node.output_cost)
      return refuse(where, "the cost differs from that of another edge out of the same node");
    priced[edge.from] = 1;
    node.output_cost = cost;
    out.edges.push_back(edge);
    return true;
  }

  std::string_view what_;
  std::unordered_map<std::int64_t, std::uint32_t> position_;
};

}  // namespace

bool is_dag(const json::value& document) {
  return document.find("nodes") != nullptr && document.find("edges") != nullptr && document.find("maxFPGAs") != nullptr;
}

result<dag_problem> read_dag(const json::value& document, std::string_view what) {
  workload_reader reader(what);
  if (!reader.read(document)) return *reader.problem;
  if (auto valid = validate(reader.out); !valid) {
    const auto& why = valid.error();
    return fail(why.code, what, text<416>(why.subject.view()).append(": ").append(why.detail.view()));
  }
  return std::move(reader.out);
}

json::value write_dag_split(const dag_problem& p, const dag_split& split) {
  json::array devices;
  for (std::uint32_t d = 0; d < p.devices(); ++d) {
    const bool cpu = d >= p.accelerators;
    json::array ids;
    for (std::size_t i = 0; i < p.nodes.size(); ++i)
      if (split.device[i] == d) ids.emplace_back(p.nodes[i].id);
    devices.emplace_back(json::object{{"id", dag_device_id(p, d)},
                                      {"kind", cpu ? "cpu" : "accelerator"},
                                      {"load", split.loads.load[d]},
                                      {"memory", split.loads.memory[d]},
                                      {"nodes", std::move(ids)}});
  }
  return json::object{
      {"format", "berth.dag_plan/1"},     {"objective", "throughput"}, {"objective_value", split.loads.maximum},
      {"lower_bound", split.lower_bound}, {"proven", split.proven},    {"method", name_of(split.method)},
      {"devices", std::move(devices)}};
}

std::string dag_device_id(const dag_problem& p, std::uint32_t device) {
  if (device < p.accelerators) return std::to_string(device);
  return p.cpus == 1 ? std::string("cpu") : "cpu" + std::to_string(device - p.accelerators);
}

}  // namespace berth
