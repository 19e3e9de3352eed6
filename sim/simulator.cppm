// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <span>
#include <vector>

export module berth.sim:simulator;

import berth.base;
import berth.topology;
import berth.exec;
import :flows;
import :event_queue;

export namespace berth::sim {

/// Engines of a device. Items wait for the engines they need in the order (ready, submission), strictly.
enum class engine_kind : std::uint8_t { compute, copy_in, copy_out };
inline constexpr std::uint32_t engine_kinds = 3;

struct engine {
  std::uint32_t device = no_index;  ///< `no_index`: none is needed
  engine_kind kind = engine_kind::compute;
};

/// What the simulator knows of a device.
struct device_model {
  bytes memory = 0;
  bytes granularity = 1;
  std::uint32_t copy_in_engines = 1;
  std::uint32_t copy_out_engines = 1;
};

/// Everything that the simulator is bounded by; nothing is allocated after construction.
struct simulator_bounds {
  std::uint32_t streams = 256;
  std::uint32_t events = 65'536;
  std::uint32_t items = 65'536;  ///< submitted and not completed, of all streams
  flow_bounds flows{};
};

/// One item of work: it occupies its engines from its start, for `least` picoseconds and until its flow has ended.
struct item_request {
  engine first, second;
  picoseconds least = 0;                 ///< at least 1 in the end; `never`: it never completes
  double flow_size = 0;                  ///< bytes over `route`; 0: no flow
  std::span<const segment_index> route;  ///< must stay as it is until the item completes
  double cap = no_cap;                   ///< bytes/s
  picoseconds latency = 0;               ///< from the start to the beginning of the flow
  berth::work work;                      ///< called when the item starts, with `work_tag`
  op_tag work_tag = no_tag;
  work_memory<memory_view> memory{};  ///< what `work` is told: sizes
  std::uint32_t tag = no_tag;
};

/// What the simulator reports of an operation of a stream: works from start to end; records, waits and releases when
/// they are reached and completed.
enum class step_kind : std::uint8_t { work, record, wait, release };
struct step {
  step_kind kind = step_kind::work;
  std::uint32_t stream = 0;
  std::uint32_t tag = no_tag;
  picoseconds start = 0, end = 0;
};
struct step_observer {
  void* context = nullptr;
  void (*see)(void* context, const step& s) = nullptr;
};

/// Virtual time: streams, engines, events, flows and memory. Simulates what `docs/simulation.md` says, to the
/// picosecond. Time moves only in `advance_to` and `run_until_idle`; calls take no time. At one instant completions,
/// stream progress and calls come to rest before any engine picks an item, so engines pick when time is about to move.
class simulator {
 public:
  simulator(std::span<const device_model> devices, std::span<const double> capacities, const simulator_bounds& bounds,
            std::pmr::memory_resource* memory);

  result<std::uint32_t> add_stream(std::uint32_t device);
  result<std::uint32_t> add_event();

  /// Errors of all submissions: `capacity`.
  result<done> submit(std::uint32_t stream, const item_request& r);
  result<done> record(std::uint32_t stream, std::uint32_t event, std::uint32_t tag = no_tag);
  result<done> wait(std::uint32_t stream, std::uint32_t event, std::uint32_t tag = no_tag);
  /// Gives `size` bytes (as `allocate` returned them) back when the stream gets there.
  result<done> release(std::uint32_t stream, std::uint32_t device, bytes size, std::uint32_t tag = no_tag);
  /// Takes memory now; the size as rounded up, or `out_of_memory` and nothing taken.
  result<bytes> allocate(std::uint32_t device, bytes size);

  bool idle(std::uint32_t stream) const { return streams_[stream].first == none; }
  /// The latest record of the event has completed, or there is none.
  bool complete(std::uint32_t event) const;

  picoseconds now() const { return now_; }
  /// Ends the instant: engines pick. `never`: nothing is pending.
  picoseconds next_time();
  void advance_to(picoseconds t);
  /// Error `stalled` when the stream waits for something that never happens.
  result<done> run_until_idle(std::uint32_t stream);
  result<done> run_until_complete(std::uint32_t event);

  void observe(step_observer o) { observer_ = o; }
  void set_capacity(segment_index s, double capacity);

  bytes used(std::uint32_t device) const { return devices_[device].used; }
  bytes highest(std::uint32_t device) const { return devices_[device].highest; }
  picoseconds busy(engine e) const { return engines_[engine_index(e)].busy_time; }
  /// Bytes of the flows over a segment that have ended.
  double carried(segment_index s) const { return carried_[s]; }
  const flow_network& flows() const { return flows_; }
  std::uint64_t events_processed() const { return processed_; }

  /// Checks every invariant at every event from now on (slow): no segment above its capacity, what flowed over each
  /// segment is what its flows carried, no device uses more memory than it has, time does not run backwards.
  void audit(bool on) { auditing_ = on; }
  /// The first broken invariant, if any.
  const std::optional<error>& broken() const { return broken_; }

 private:
  static constexpr std::uint32_t none = 0xffffffffu;

  struct node {
    step_kind kind = step_kind::work;
    std::uint32_t stream = none, next = none, tag = no_tag;
    std::uint64_t sequence = 0;
    picoseconds ready = 0, start = 0;
    std::uint32_t mark = none;  ///< of a record or a wait
    std::uint32_t device = none;
    bytes size = 0;                           ///< of a release
    std::uint32_t engines[2] = {none, none};  ///< distinct
    std::uint32_t after[2] = {none, none};    ///< in the queues of its engines
    std::uint32_t before[2] = {none, none};
    std::uint32_t pending = 0;  ///< parts that have not ended: fixed part, flow
    item_request request;
  };
  /// One submitted record: waits refer to it, however often its event is recorded again.
  struct mark {
    bool complete = false;
    std::uint32_t users = 0;
    std::uint32_t waiting = none;  ///< first stream that waits
  };
  struct stream_state {
    std::uint32_t device = none;
    std::uint32_t first = none, last = none;
    std::uint32_t next_waiting = none;
    bool started = false;  ///< its first node was handed over: to an engine, or to a wait
    bool queued = false;   ///< in `moving_`
  };
  struct engine_state {
    std::uint32_t free = 1;
    std::uint32_t first = none, last = none;
    bool queued = false;  ///< in `picking_`
    picoseconds busy_time = 0;
  };
  struct device_state {
    bytes memory = 0, granularity = 1, used = 0, highest = 0;
  };

  static std::uint32_t engine_index(engine e) {
    return e.device == no_index ? none : e.device * engine_kinds + static_cast<std::uint32_t>(e.kind);
  }
  static std::uint32_t side(const node& n, std::uint32_t e) { return n.engines[0] == e ? 0 : 1; }

  result<std::uint32_t> append(std::uint32_t stream, step_kind kind, std::uint32_t tag);
  void move(std::uint32_t stream);
  void come_to_rest();
  bool step_on(std::uint32_t stream);
  void make_ready(std::uint32_t item);
  void enqueue(std::uint32_t e, std::uint32_t item);
  void dequeue(std::uint32_t e, std::uint32_t item);
  void want_pick(std::uint32_t e);
  void pick();
  bool can_start(std::uint32_t e) const;
  void start(std::uint32_t item);
  void begin_flow(std::uint32_t item);
  void end_part(std::uint32_t item);
  void finish(std::uint32_t item);
  void drop_first(std::uint32_t stream);
  void complete_mark(std::uint32_t m);
  void let_go(std::uint32_t m);
  void end_instant();
  void happen_at(picoseconds t);
  void tell(const node& n, picoseconds start);
  void audit_now();
  void audit_interval(picoseconds from, picoseconds to);
  void breach(const char* what, std::uint64_t number);

  std::pmr::vector<device_state> devices_;
  std::pmr::vector<engine_state> engines_;
  std::pmr::vector<stream_state> streams_;
  std::pmr::vector<std::uint32_t> event_marks_;
  std::pmr::vector<node> nodes_;
  std::pmr::vector<std::uint32_t> unused_nodes_;
  std::pmr::vector<mark> marks_;
  std::pmr::vector<std::uint32_t> unused_marks_;
  std::pmr::vector<std::uint32_t> moving_;      ///< streams that may go on
  std::pmr::vector<std::uint32_t> picking_;     ///< engines that may start something
  std::pmr::vector<std::uint32_t> engineless_;  ///< ready items that need no engine
  std::pmr::vector<std::uint32_t> item_of_flow_;
  std::pmr::vector<double> carried_;
  flow_network flows_;
  event_queue queue_;
  simulator_bounds bounds_;
  picoseconds now_ = 0;
  std::uint64_t sequence_ = 0;
  std::uint64_t processed_ = 0;
  step_observer observer_;
  bool auditing_ = false;
  std::pmr::vector<double> flowed_;   ///< audit: integral of the rates over each segment
  std::pmr::vector<double> rounded_;  ///< audit: by how much that may be off
  std::optional<error> broken_;
};

}  // namespace berth::sim
