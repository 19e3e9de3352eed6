// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>

export module berth.exec:traced;

import berth.base;
import :activity;
import :machine;
import :trace;
import :forwarded;

export namespace berth {

/// A machine whose activities are kept in a trace. It takes the machine's only observer's place; an observer set on the
/// decorator is told after the trace. Stays where it is: the machine points to it. At the end it hands the machine over
/// to the observer set on it.
template <Machine M>
class traced : public detail::forwarded<M> {
  using base = detail::forwarded<M>;

 public:
  explicit traced(M& m, trace& t) : base(m), trace_(&t) { base::observe({this, &traced::see}); }
  ~traced() { base::observe(outer_); }
  traced(const traced&) = delete;
  traced& operator=(const traced&) = delete;

  void observe(observer o) { outer_ = o; }

 private:
  static void see(void* context, const activity& a) {
    auto& self = *static_cast<traced*>(context);
    self.trace_->add(a);
    self.outer_(a);
  }

  trace* trace_;
  observer outer_;
};

}  // namespace berth
