// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

module berth.compat;

import berth.model;
import :nodes;
import :placement;
import :tie_index;
import :work_list;

// accelerate's fallback allocation: for a device that would stay empty, look further down the list for anything that
// fits.
namespace berth::hf {

result<bool> placement::fall_back(const candidate& c) {
  const auto& device = current();
  const auto limit = device.budget - first_max(reserve_.bytes(), c.total) - device.used;
  if (limit.is_real())
    return fail(
        errc::peer_failure, "AttributeError",
        "the peer's fallback allocation crashes on the fractional limit " + limit.text() + " of device " +
            device.key.text() +
            " (a budget times 0.9, or tensors narrower than a byte). berth's own strategies can plan this model");
  if (limit < 0) return false;
  const auto found = search(limit);
  if (!found) return found.propagate();
  if (*found == none) return false;
  bring_forward(*found, c.entry);
  return true;
}

result<node> placement::search(const number& limit) {
  ++searches_;
  const auto state = [this](node n) -> std::uint32_t& {
    if (n >= searched_.size()) searched_.resize(std::size_t{n} + n / 2 + 1);
    return searched_[n];
  };
  // The search has a list of its own: what is left of the work list, with the parts of split modules in front.
  node_list parts;
  const auto listed = [&](node n) {
    const auto s = n < searched_.size() ? searched_[n] : 0;
    return s == 2 * searches_ + 1 || (s != 2 * searches_ && todo_.contains(n));
  };
  auto rest = todo_.empty() ? none : todo_.front();
  while (!parts.empty() || rest != none) {
    node n = rest;
    if (parts.empty()) {
      rest = todo_.after(rest);
    } else {
      n = parts.back();
      parts.pop_back();
    }
    state(n) = 2 * searches_;
    const auto c = examine(n, listed);
    if (!c) return c.propagate();
    if (c->total <= limit) return n;
    if (!splittable(n)) continue;
    const auto split = nodes_.split(n);
    for (auto part = split.rbegin(); part != split.rend(); ++part) {
      state(*part) = 2 * searches_ + 1;
      parts.push_back(*part);
    }
  }
  return none;
}

void placement::bring_forward(node found, node entry) {
  node_list ancestors;
  for (auto n = found; !todo_.contains(n);) ancestors.push_back(n = nodes_.parent(n));
  for (auto a = ancestors.rbegin(); a != ancestors.rend(); ++a) {
    const auto parts = nodes_.split(*a);
    todo_.replace(*a, parts);
    reserve_.divided(*a, parts);
  }
  todo_.erase(found);
  todo_.push_front(entry);
  todo_.push_front(found);
  reserve_.entered(entry);
}

}  // namespace berth::hf
