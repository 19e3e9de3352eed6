// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

module berth.compat;

import berth.model;
import :layer_maxima;
import :nodes;
import :work_list;

namespace berth::hf {

void work_list::insert(std::uint32_t behind, node n) {
  const auto at = n + 1;
  if (at >= links_.size()) links_.resize(std::size_t{at} + at / 2 + 1);
  const auto next = links_[behind].next;
  links_[at] = {next, behind, true};
  links_[behind].next = at;
  links_[next].previous = at;
}

void work_list::push_front(const node_list& list) {
  for (auto n = list.rbegin(); n != list.rend(); ++n) push_front(*n);
}

void work_list::push_back(const node_list& list) {
  for (const auto n : list) insert(links_[0].previous, n);
}

void work_list::erase(node n) {
  auto& l = links_[n + 1];
  links_[l.previous].next = l.next;
  links_[l.next].previous = l.previous;
  l.listed = false;
}

void work_list::replace(node n, const node_list& list) {
  auto behind = links_[n + 1].previous;
  erase(n);
  for (const auto part : list) {
    insert(behind, part);
    behind = part + 1;
  }
}

number layer_reserve::value_of(int128 eighths, const level& l) const {
  layer_maximum m{eighths, 1, l.real_entries == l.entries};
  if (l.real_entries != 0 && l.real_entries != l.entries) {
    // Ints and floats of one value: the first in the list decides.
    for (auto n = list_.front(); n != none; n = list_.after(n)) {
      const auto candidate = maxima_.of(n);
      if (!nodes_.is_module(n) || candidate.eighths != eighths) continue;
      m.real = candidate.real;
      break;
    }
  }
  return m.value();
}

void layer_reserve::start(const node_list& list) {
  for (const auto n : list) {
    entered(n);
    const auto m = maxima_.of(n);
    if (m.eighths > eighths_) {
      eighths_ = m.eighths;
      bytes_ = m.value();
      holding_ = 0;
    }
    if (m.eighths == eighths_) holding_ += m.layers;
  }
}

void layer_reserve::recompute() {
  ++computation_;
  if (levels_.empty()) {
    eighths_ = 0;
    bytes_ = 0;
    holding_ = 0;
    return;
  }
  const auto& [eighths, top] = *levels_.begin();
  eighths_ = eighths;
  bytes_ = value_of(eighths, top);
  holding_ = top.layers;
}

void layer_reserve::entered(node n) {
  if (!nodes_.is_module(n)) return;
  const auto m = maxima_.of(n);
  auto& l = levels_[m.eighths];
  l.layers += m.layers;
  l.entries += 1;
  l.real_entries += m.real ? 1 : 0;
}

void layer_reserve::left(node n) {
  if (!nodes_.is_module(n)) return;
  const auto m = maxima_.of(n);
  const auto it = levels_.find(m.eighths);
  it->second.layers -= m.layers;
  it->second.entries -= 1;
  it->second.real_entries -= m.real ? 1 : 0;
  if (it->second.entries == 0) levels_.erase(it);
}

void layer_reserve::treated(node n) {
  if (!excluded(n)) {
    const auto m = maxima_.of(n);
    if (m.eighths == eighths_) holding_ -= m.layers;
    exclude(n);
  }
  if (holding_ != 0) return;
  recompute();
  exclude(n);
}

void layer_reserve::divided(node n, const node_list& parts) {
  left(n);
  for (const auto part : parts) {
    entered(part);
    if (!nodes_.is_module(part) || excluded(n)) exclude(part);
  }
}

void layer_reserve::exclude(node n) {
  if (n >= excluded_at_.size()) excluded_at_.resize(std::size_t{n} + n / 2 + 1);
  excluded_at_[n] = computation_;
}

}  // namespace berth::hf
