// SPDX-License-Identifier: Apache-2.0
module;

#include <memory>
#include <utility>

export module berth.cuda:graph;

import :machine_state;

export namespace berth::cuda {

/// Work of several streams that was recorded once and is launched as one: see `machine::begin_capture`. Owns what its
/// host functions need. Destroying it waits for its last launch. Empty after it was moved from.
class graph {
 public:
  graph() = default;
  graph(graph&&) noexcept = default;
  graph& operator=(graph&& other) noexcept {
    if (this != &other) {
      drop();
      state_ = std::move(other.state_);
    }
    return *this;
  }
  ~graph() { drop(); }

  bool empty() const { return state_ == nullptr; }

 private:
  friend class machine;
  explicit graph(std::unique_ptr<detail::graph_state> state) : state_(std::move(state)) {}
  void drop() {
    if (state_ != nullptr && state_->machine != nullptr) state_->release(state_->machine, *state_);
    state_.reset();
  }

  std::unique_ptr<detail::graph_state> state_;
};

}  // namespace berth::cuda
