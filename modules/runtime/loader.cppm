// SPDX-License-Identifier: Apache-2.0
// Exports nothing: one load on one machine. The caller's thread drives the machine, reader threads fill slots.
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <string_view>
#include <utility>
#include <vector>

export module berth.runtime:loader;

import berth.base;
import berth.topology;
import berth.plan;
import berth.exec;
import :image;
import :image_storage;
import :offload;
import :materialise_options;
import :load_report;
import :read_plan;
import :weight_files;
import :reader_pool;
import :slots;
import :load_memory;
import :load_watch;
import :slot_transfers;
import :load_check;

namespace berth::detail {

/// Everything that `materialise` says.
template <class M>
class loader {
 public:
  loader(M& machine, const plan& p, const compiled_plan& programs, const weight_images& images,
         const materialise_options& options, std::pmr::memory_resource* memory)
      : machine_(machine),
        p_(p),
        images_(images),
        options_(options),
        memory_(memory),
        at_(machine, p, programs, images, options, memory),
        transfers_(at_),
        watch_(options) {}

  /// On an error everything is given back.
  result<done> run() {
    begun_ = machine_.now();
    auto ok = carry_out();
    pool_.reset();  // no reader touches memory from here on
    if (!ok)
      at_.give_back_all();
    else
      ok = at_.give_back_staging();
    if (!ok) at_.give_back_all();
    report_.peak_resident = peak_resident_memory();
    return ok;
  }
  frame_handles take_handles() { return std::move(at_.handles); }
  load_report take_report() { return std::move(report_); }

 private:
  result<done> carry_out() {
    if (auto ok = prepare(); !ok) return ok;
    report_.preparing = seconds_since(begun_);
    if (auto ok = at_.fill_zeros(); !ok) return ok;
    if (auto ok = transfer_all(); !ok) return ok;
    if (auto ok = at_.drain(); !ok) return ok;
    if (auto ok = files_->unchanged(); !ok) return ok;
    report_.seconds = seconds_since(begun_);
    if (auto ok = write_offloaded(); !ok) return ok;
    return options_.verify ? load_check<M>(at_, watch_).run() : done{};
  }

  result<done> prepare() {
    if (auto ok = watch_.stopped(); !ok) return ok;
    if (auto ok = refuse_options(); !ok) return ok;
    if (auto ok = at_.take(memory_); !ok) return ok;
    files_ = std::make_unique<weight_files>(images_.files(), images_.file_sizes(), options_.direct);
    std::size_t jobs = in_place_jobs();
    for (const auto& l : at_.lanes) jobs += l.slots.size();
    pool_ = std::make_unique<reader_pool>(at_.reads, *files_, options_.readers, jobs);
    report_.readers = pool_->readers();
    if (report_.readers < options_.readers && at_.reads.steps.size() > static_cast<std::size_t>(report_.readers))
      report_.warnings.push_back("the system gives fewer threads than there should be readers");
    return done{};
  }

  result<done> refuse_options() const {
    if (options_.slots < 2 || options_.staging / options_.slots < least_slot + slot_overhead)
      return fail(errc::invalid_argument, "staging", "a load needs two slots, of 64 KiB each at least",
                  std::max<std::uint32_t>(options_.slots, 2) * (least_slot + slot_overhead), options_.staging);
    for (std::uint32_t i = 0; i < p_.atoms.size(); ++i) {
      if (!must_be_written(i)) continue;
      if (options_.storage != nullptr && !options_.offload_folder.empty()) continue;
      return fail(errc::invalid_argument, p_.atoms[i].name,
                  "lives on the disk, but its weights are not stored as the plan wants them; give an offload folder "
                  "for them, or keep the dtype of the checkpoint");
    }
    return done{};
  }
  bool must_be_written(std::uint32_t atom) const {
    if (p_.devices[p_.placements[atom].home].kind != device_kind::disk) return false;
    const auto pieces = images_.pieces_of(atom);
    return std::any_of(pieces.begin(), pieces.end(), [](const image_piece& piece) { return !piece.plain; });
  }

  std::size_t in_place_jobs() const { return 2 * static_cast<std::size_t>(std::max(options_.readers, 1)); }

  result<done> transfer_all() {
    finished_read read;
    while (completed_ < at_.reads.steps.size()) {
      if (auto ok = watch_.stopped(); !ok) return ok;
      bool moved = submit_reads();
      while (pool_->take(read, 0)) {
        moved = true;
        if (auto ok = arrived(read); !ok) return ok;
      }
      for (std::uint32_t l = 0; l < at_.lanes.size(); ++l)
        if (auto ok = collect(l, moved); !ok) return ok;
      if (moved) continue;
      if (auto ok = idle(read); !ok) return ok;
    }
    return done{};
  }

  /// Homes in turn, so that all links are busy. Reading on the caller's thread: one at a time, so that its copy goes on
  /// during the next read.
  bool submit_reads() {
    bool any = false;
    for (bool more = true; more;) {
      more = false;
      for (std::uint32_t l = 0; l < at_.lanes.size(); ++l) {
        if (!submit_one(l)) continue;
        any = more = true;
        if (pool_->readers() == 0) return true;
      }
    }
    return any;
  }
  bool submit_one(std::uint32_t l) {
    auto& lane = at_.lanes[l];
    if (lane.next == lane.end) return false;
    if (at_.reads.steps[lane.next].in_place) {
      if (in_place_ == in_place_jobs()) return false;
      ++in_place_;
      pool_->submit({lane.next++, lane.home, no_handle});
      return true;
    }
    auto& slot = lane.slots[lane.fill];
    if (slot.state != slot_state::free) return false;
    slot.state = slot_state::reading;
    pool_->submit({lane.next++, slot.data(), lane.fill});
    lane.fill = (lane.fill + 1) % static_cast<std::uint32_t>(lane.slots.size());
    return true;
  }

  result<done> arrived(const finished_read& read) {
    const auto& step = at_.reads.steps[read.job.step];
    report_.reading += read.seconds;
    if (!read.outcome) return unreadable(read);
    report_.from_cache += read.outcome->cached;
    report_.from_disk += read.outcome->direct;
    ++report_.reads;
    if (step.in_place) {
      --in_place_;
      return complete(read.job.step);
    }
    auto& lane = at_.lanes[step.lane];
    auto& slot = lane.slots[read.job.slot];
    slot.step = read.job.step;
    slot.state = slot_state::read;
    // Slots go on in the order in which they were given out: reads may overtake one another, copies do not.
    for (;;) {
      auto& next = lane.slots[lane.send];
      if (next.state != slot_state::read) return done{};
      if (auto ok = transfers_.send(step.lane, next); !ok) return ok;
      next.state = slot_state::sent;
      lane.send = (lane.send + 1) % static_cast<std::uint32_t>(lane.slots.size());
    }
  }

  /// Which tensor a failed read was for.
  failure unreadable(const finished_read& read) const {
    const auto& part = at_.reads.parts[read.failed_part];
    const auto& e = read.outcome.error();
    return fail(e.code, images_.of(part.atom)[part.piece.tensor].name,
                text<416>(e.subject.view()).append(" ").append(e.detail.view()), e.needed, e.available);
  }

  /// Takes back the slots of a lane that are done.
  result<done> collect(std::uint32_t l, bool& moved) {
    auto& lane = at_.lanes[l];
    while (!lane.slots.empty()) {
      auto& slot = lane.slots[lane.free];
      if (slot.state != slot_state::sent) return done{};
      const auto ready = machine_.ready(slot.finished);
      if (!ready) return ready.propagate();
      if (!*ready) return done{};
      moved = true;
      if (auto ok = transfers_.rows_were_good(slot); !ok) return ok;
      slot.state = slot_state::free;
      lane.free = (lane.free + 1) % static_cast<std::uint32_t>(lane.slots.size());
      if (auto ok = complete(slot.step); !ok) return ok;
    }
    return done{};
  }

  result<done> complete(std::uint32_t step_number) {
    ++completed_;
    const auto& step = at_.reads.steps[step_number];
    report_.stored += step.stored;
    auto& d = at_.report_of(at_.reads.lanes[step.lane].device);
    d.stored += step.stored;
    d.seconds = seconds_since(begun_);
    watch_.tell(report_.stored, at_.reads.stored, images_.files()[step.file], false, d.seconds);
    return watch_.stopped();
  }

  /// Nothing can be submitted: waits for a reader, or for the machine.
  result<done> idle(finished_read& read) {
    const auto from = machine_.now();
    result<done> ok = done{};
    if (pool_->outstanding() > 0) {
      const bool sent =
          std::any_of(at_.lanes.begin(), at_.lanes.end(), [](const lane_state& l) { return l.any_sent(); });
      if (pool_->take(read, sent ? short_wait : long_wait)) ok = arrived(read);
    } else {
      const auto lane =
          std::find_if(at_.lanes.begin(), at_.lanes.end(), [](const lane_state& l) { return l.any_sent(); });
      if (lane == at_.lanes.end())
        return fail(errc::stalled, "load",
                    "nothing is under way although not everything has arrived: a fault of berth");
      ok = machine_.synchronize(lane->slots[lane->free].finished);
    }
    report_.waiting += seconds_from(machine_.now() - from);
    return ok;
  }

  result<done> write_offloaded() {
    std::vector<std::uint32_t> atoms;
    for (std::uint32_t i = 0; i < p_.atoms.size(); ++i)
      if (must_be_written(i)) atoms.push_back(i);
    if (atoms.empty()) return done{};
    const auto from = machine_.now();
    offload_options o;
    o.folder = options_.offload_folder;
    auto written = offload_tensors(*options_.storage, atoms, o);
    if (!written) return written.propagate();
    if (auto ok = options_.storage->adopt(*written); !ok) return ok;
    report_.offloaded = *std::move(written);
    report_.writing = seconds_since(from);
    return watch_.stopped();
  }

  double seconds_since(picoseconds t) const { return seconds_from(machine_.now() - t); }

  M& machine_;
  const plan& p_;
  const weight_images& images_;
  const materialise_options& options_;
  std::pmr::memory_resource* memory_;
  load_memory<M> at_;
  slot_transfers<M> transfers_;
  load_watch watch_;
  load_report& report_ = at_.report;
  std::unique_ptr<weight_files> files_;
  std::unique_ptr<reader_pool> pool_;  // after what its threads use
  picoseconds begun_ = 0;
  std::size_t completed_ = 0;
  std::size_t in_place_ = 0;  // reads straight into host memory under way
};

}  // namespace berth::detail
