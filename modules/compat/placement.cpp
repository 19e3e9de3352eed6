// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.compat;

import berth.model;
import :layer_maxima;
import :nodes;
import :placement;
import :tie_index;
import :work_list;

namespace berth::hf {

placement::placement(peer rules, const placement_input& input)
    : rules_(rules),
      in_(input),
      nodes_(input.tree),
      maxima_(nodes_, input.sizes, input.whole),
      ties_(nodes_, input.ties),
      todo_(nodes_.size()),
      reserve_(maxima_, nodes_, todo_) {
  list_devices(input.budgets);
  const auto first = nodes_.first_list();
  todo_.push_back(first);
  reserve_.start(first);
}

void placement::list_devices(const hf::budgets& given) {
  bool disk = false;
  for (const auto& b : given) {
    device_state d{b.device, b.bytes};
    d.unlimited = b.device.is("disk");
    d.offload = d.unlimited || b.device.is("cpu");
    disk = disk || d.unlimited;
    devices_.push_back(std::move(d));
  }
  if (!disk) {
    device_state d{device_key::named("disk"), 0};
    d.unlimited = d.offload = true;
    devices_.push_back(std::move(d));
  }
  // Main devices: mps alone; or the first accelerator and the CPU; or the CPU.
  const auto mps = std::find_if(devices_.begin(), devices_.end(), [](const auto& d) { return d.key.is("mps"); });
  if (mps != devices_.end()) {
    mps->main = true;
    return;
  }
  if (devices_.front().key.is_accelerator()) devices_.front().main = true;
  for (auto& d : devices_) d.main = d.main || d.key.is("cpu");
}

result<done> placement::run() {
  while (!todo_.empty()) {
    const auto entry = todo_.front();
    todo_.erase(entry);
    reserve_.left(entry);
    reserve_.treated(entry);
    if (const auto ok = treat(entry); !ok) return ok;
  }
  return done{};
}

result<done> placement::treat(node entry) {
  const auto c = examine(entry, [this](node n) { return todo_.contains(n); });
  if (!c) return c.propagate();
  auto& device = current();
  if (device.unlimited) {
    place(*c);
    return done{};
  }
  const auto limit = device.main ? device.budget - reserve_.bytes() : device.budget;
  if (device.used + c->total <= limit) {
    place(*c);
    return done{};
  }
  if (!c->ties.empty() && device.used + c->size <= limit && split_an_owner(*c)) return done{};
  // accelerate splits an entry that is itself too large (equality counts as too large here); transformers also one that
  // is too large only with its ties.
  const bool too_large = rules_ == peer::transformers || device.used + c->size >= limit;
  if (too_large && splittable(entry)) {
    split(entry);
    return done{};
  }
  if (rules_ == peer::transformers && escape(*c)) return done{};
  if (in_.fallback && device.used == 0) {
    const auto found = fall_back(*c);
    if (!found) return found.propagate();
    if (*found) return done{};
  }
  next_device(*c);
  return done{};
}

node placement::owner_of(const tied_member& member, const std::function<bool(node)>& listed) const {
  // Names below an alias are known to the table of extra nodes only.
  std::string_view name = member.name;
  for (auto dot = name.rfind('.'); dot != std::string_view::npos; dot = name.rfind('.')) {
    name = name.substr(0, dot);
    if (name.size() <= nodes_.name(member.anchor).size()) break;
    if (const auto n = nodes_.find_extra(name); n != none && listed(n)) return n;
  }
  for (auto n = member.anchor; n != none && n != 0; n = nodes_.parent(n))
    if (listed(n)) return n;
  return none;
}

result<placement::candidate> placement::examine(node entry, const std::function<bool(node)>& listed) const {
  candidate c{entry, bytes(entry), {}, {}, {}};
  c.total = c.size;
  if (ties_.empty()) return c;
  c.ties = ties_.tied_to(nodes_.name(entry));
  for (const auto* member : c.ties) {
    const auto owner = owner_of(*member, listed);
    if (owner == none)
      return fail(errc::peer_failure, "IndexError",
                  "the peer crashes while it places \"" + std::string(nodes_.name(entry)) +
                      "\": it looks for the module that holds \"" + member->name +
                      "\" (tied to it, or with a name that contains its name) among the modules still to be placed and "
                      "finds none. berth's own strategies can plan this model");
    if (rules_ == peer::accelerate) {
      c.total += bytes(owner) - (member->parameter == none ? number(0) : bytes(member->parameter));
    } else {
      if (std::find(c.owners.begin(), c.owners.end(), owner) != c.owners.end()) continue;
      c.total += bytes(owner);
    }
    c.owners.push_back(owner);
  }
  return c;
}

void placement::place(const candidate& c) {
  auto& device = current();
  device.used += c.total;
  device.placed += c.total;
  placed_.emplace_back(c.entry, cursor_);
  for (const auto owner : c.owners) {
    if (!todo_.contains(owner)) continue;
    todo_.erase(owner);
    reserve_.left(owner);
    placed_.emplace_back(owner, cursor_);
  }
  if (!in_.offload_buffers && nodes_.is_module(c.entry)) device.buffers += in_.buffer_bytes(nodes_.object(c.entry));
}

void placement::put_back(node entry) {
  todo_.push_front(entry);
  reserve_.entered(entry);
}

bool placement::split_an_owner(const candidate& c) {
  const auto owner = std::find_if(c.owners.begin(), c.owners.end(), [this](node n) { return splittable(n); });
  if (owner == c.owners.end()) return false;
  const auto parts = nodes_.split(*owner);
  todo_.replace(*owner, parts);
  reserve_.divided(*owner, parts);
  put_back(c.entry);
  reserve_.recompute();
  return true;
}

void placement::split(node entry) {
  const auto parts = nodes_.split(entry);
  todo_.push_front(parts);
  for (const auto part : parts) reserve_.entered(part);
  reserve_.recompute();
}

bool placement::escape(const candidate& c) {
  if (!in_.no_placement || !nodes_.is_module(c.entry) || !in_.whole[nodes_.object(c.entry)]) return false;
  const auto unplaced = [&](node n) {
    const auto& names = *in_.no_placement;
    return std::find(names.begin(), names.end(), nodes_.name(n).substr(nodes_.name(c.entry).size() + 1)) != names.end();
  };
  auto parts = nodes_.tensors_below(c.entry, tensor_kind::parameters);
  if (std::none_of(parts.begin(), parts.end(), unplaced)) return false;
  if (cursor_ + 1 >= devices_.size() || devices_[cursor_ + 1].offload) return false;
  const auto& next = devices_[cursor_ + 1];
  if (next.used + c.total <= next.budget) return false;
  const auto buffers = nodes_.tensors_below(c.entry, tensor_kind::buffers);
  parts.insert(parts.end(), buffers.begin(), buffers.end());
  std::erase_if(parts, unplaced);
  todo_.push_front(parts);
  for (const auto part : parts) reserve_.exclude(part);
  return true;
}

void placement::next_device(const candidate& c) {
  auto& device = current();
  const auto reserved = device.main ? reserve_.bytes() : number(0);
  if (device.used == 0) device.min_needed = c.total + reserved;
  device.used += reserved;
  ++cursor_;
  put_back(c.entry);
}

void placement::report(outcome& out) const {
  device_map map;
  map.reserve(placed_.size());
  for (const auto& [n, device] : placed_) map.push_back({std::string(nodes_.name(n)), devices_[device].key});
  out.map = std::move(map);
  number left_behind = 0;
  for (const auto& d : devices_) {
    if (d.offload) left_behind += d.buffers;
    if (d.min_needed) out.min_needed.push_back({d.key, *d.min_needed});
    out.placed.push_back({d.key, d.placed});
  }
  if (left_behind <= 0 || in_.offload_buffers) return;
  bool accelerators = false;
  for (const auto& d : devices_) {
    if (d.offload) continue;
    accelerators = true;
    if (d.budget >= left_behind + (d.used > 0 ? d.used : number(0))) return;
  }
  if (!accelerators) return;
  out.offloaded_buffer_bytes = left_behind;
  out.warnings.push_back({warning_kind::buffers_do_not_fit,
                          "Buffers of modules on the CPU or disk (" + left_behind.text() +
                              " bytes) stay on the main device at run time, and no accelerator has room for them; "
                              "set offload_buffers or leave more room."});
}

}  // namespace berth::hf
