// SPDX-License-Identifier: Apache-2.0
// Whatever fails during a load, wherever it fails: the error says what, everything is given back, and the same machine
// loads when the cause is gone.
#define BOOST_TEST_MODULE load_faults
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "../unit/runtime_loading.hpp"

import berth;
import berth.formats;
import berth.host;
import berth.runtime;

namespace {

using namespace load_test;
using berth::errc;
using host_machine = berth::host::machine;

/// Weights on two GPUs, the CPU and the disk, all of them converted to int8: every path of a load.
place_wish everything() {
  place_wish w;
  w.map = {{"", "0"},
           {"model.layers.0", "0"},
           {"model.layers.1", "1"},
           {"model.layers.2", "cpu"},
           {"model.layers.3", "disk"}};
  w.how.int8 = true;
  return w;
}

berth::materialise_options quick() {
  berth::materialise_options o;
  o.gpu = berth::cpu_transforms();
  o.staging = 256 * berth::KiB;
  o.slots = 2;
  return o;
}

/// A machine and all that a load on it needs.
struct bench {
  checkpoint c{{.seed = 5}};
  std::unique_ptr<job> j;
  std::unique_ptr<berth::image_storage> storage;
  folder offload;
  std::unique_ptr<host_machine> machine;

  explicit bench(const place_wish& w = everything(), int threads = 0) {
    auto made = make_job(c.at.path(), w);
    BOOST_REQUIRE_MESSAGE(made.has_value(), (made ? "" : words_of(made.error())));
    j = std::move(*made);
    storage = std::make_unique<berth::image_storage>(j->images);
    machine = std::make_unique<host_machine>(
        j->plan.topology(),
        berth::host::machine_options{
            .storage = storage->as_storage(), .threads = threads, .streams = 65'536, .events = 1'048'576});
  }
  berth::materialise_options options() {
    auto o = quick();
    o.storage = storage.get();
    o.offload_folder = offload.path();
    return o;
  }
  template <class M>
  berth::result<berth::loaded> load(M& m, const berth::materialise_options& o) {
    return berth::materialise(m, j->plan, j->programs, j->images, o);
  }
  /// "" if the machine is empty, takes a load, and is empty again.
  std::string works_again() {
    for (berth::device_index d = 0; d < j->plan.devices.size(); ++d) {
      // A stream of a device that a decorator has lost cannot be waited for, but the machine's thread gets there.
      for (int i = 0; i < 2000 && machine->used(d) != 0; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        (void)machine->make_event();
      }
      if (machine->used(d) != 0) return "memory of device " + std::to_string(d) + " was not given back";
    }
    berth::counted counting(*machine);
    auto done = load(counting, options());
    if (!done) return words_of(done.error());
    auto wrong = wrong_in(c, *j, counting, done->handles);
    if (auto ok = berth::release_loaded(counting, j->programs, done->handles); !ok) return words_of(ok.error());
    return counting.live() == 0 ? wrong : "memory was not given back";
  }
};

}  // namespace

BOOST_AUTO_TEST_CASE(every_allocation_and_copy_that_fails_ends_the_load_with_its_error_and_leaves_nothing) {
  for (const int readers : {0, 2}) {
    bench b;
    std::uint64_t allocations = 0, copies = 0;
    {
      berth::counted counting(*b.machine);
      auto o = b.options();
      o.readers = readers;
      auto done = b.load(counting, o);
      BOOST_REQUIRE_MESSAGE(done.has_value(), (done ? "" : words_of(done.error())));
      allocations = counting.total().allocations;
      copies = counting.total().copies;
      BOOST_REQUIRE(berth::release_loaded(counting, b.j->programs, done->handles).has_value());
    }
    BOOST_TEST(allocations >= 5u);
    BOOST_TEST(copies > 10u);
    const auto attempt = [&](const std::string& fault, errc expected, bool may_recover) {
      berth::counted counting(*b.machine);
      const auto schedule = berth::parse_faults(fault, 1);
      BOOST_REQUIRE(schedule.has_value());
      berth::faulty failing(counting, *schedule);
      auto o = b.options();
      o.readers = readers;
      auto done = b.load(failing, o);
      if (done) {
        BOOST_TEST(may_recover, fault << " went unnoticed");
        BOOST_TEST(wrong_in(b.c, *b.j, failing, done->handles) == "", fault);
        BOOST_TEST(berth::release_loaded(failing, b.j->programs, done->handles).has_value());
      } else {
        BOOST_TEST((done.error().code == expected), fault << ": " << words_of(done.error()));
      }
      BOOST_TEST(counting.live() == 0u, fault);
    };
    const auto arenas = b.j->programs.load.frame.buffers.size();
    for (std::uint64_t n = 1; n <= allocations; ++n)  // staging falls back to smaller slots
      attempt("alloc:n=" + std::to_string(n), errc::out_of_memory, n > arenas);
    for (std::uint64_t n = 1; n <= copies; n += n < 20 ? 1 : 7) {
      attempt("copy:n=" + std::to_string(n), errc::copy_failed, true);  // tried again
      attempt("copy:n=" + std::to_string(n) + ",times=9", errc::copy_failed, false);
    }
    BOOST_TEST(b.works_again() == "");
  }
}

BOOST_AUTO_TEST_CASE(a_device_that_is_lost_at_any_time_ends_the_load_and_leaves_nothing) {
  for (const char* device : {"0", "1", "cpu"}) {
    bench b(everything(), 1);
    for (const char* at : {"0ms", "0.1ms", "1ms", "3ms"}) {
      berth::counted counting(*b.machine);
      const auto now = std::to_string(b.machine->now() / 1'000'000);
      const auto later = std::to_string(b.machine->now() / 1'000'000 + (at[0] - '0') * 1000 + (at[2] == '1' ? 100 : 0));
      const auto schedule = berth::parse_faults(std::string("lost:device=") + device + ",at=" + later + "us", 1);
      BOOST_REQUIRE_MESSAGE(schedule.has_value(), now);
      berth::faulty failing(counting, *schedule);
      auto done = b.load(failing, b.options());
      if (done)
        (void)berth::release_loaded(failing, b.j->programs, done->handles);
      else
        BOOST_TEST((done.error().code == errc::device_lost), words_of(done.error()));
      BOOST_TEST(counting.live() == 0u, device << " lost at " << at);
    }
    BOOST_TEST(b.works_again() == "");
  }
}

BOOST_AUTO_TEST_CASE(files_that_vanish_shrink_or_change_during_a_load_are_named) {
  enum class harm { removed, truncated, touched };
  for (const auto what : {harm::removed, harm::truncated, harm::touched})
    for (const int readers : {0, 2})
      for (const int when : {0, 2, 5}) {
        bench b;
        const auto file = b.c.at.path("model-00003-of-00003.safetensors");
        const auto size = std::filesystem::file_size(file);
        const auto time = std::filesystem::last_write_time(file);
        const auto kept = b.c.at.path("kept");
        std::filesystem::copy_file(file, kept);
        struct spoiler {
          harm what;
          int left;
          std::string file;
          std::uintmax_t size;
        } s{what, when, file, size};
        auto o = b.options();
        o.readers = readers;
        o.progress_context = &s;
        o.progress = [](void* context, const berth::load_progress&) {
          auto& at = *static_cast<spoiler*>(context);
          if (at.left-- != 0) return;
          if (at.what == harm::removed) std::filesystem::remove(at.file);
          if (at.what == harm::truncated) std::filesystem::resize_file(at.file, at.size / 2);
          if (at.what == harm::touched)
            std::filesystem::last_write_time(at.file, std::filesystem::file_time_type::clock::now());
        };
        berth::counted counting(*b.machine);
        const auto done = b.load(counting, o);
        BOOST_REQUIRE(!done.has_value());
        const auto& e = done.error();
        BOOST_TEST((e.code == errc::not_found || e.code == errc::unreadable || e.code == errc::corrupted), words_of(e));
        const auto text = words_of(e);
        BOOST_TEST(text.find("model-00003-of-00003") != std::string::npos, text);
        BOOST_TEST(counting.live() == 0u);
        std::filesystem::rename(kept, file);
        std::filesystem::last_write_time(file, time);
        // The storage noted the file as it was; what was copied back has its time and size.
        BOOST_TEST(b.works_again() == "");
      }
}

BOOST_AUTO_TEST_CASE(a_file_that_was_cut_before_the_load_is_found_before_anything_is_allocated_or_read) {
  bench b;
  const auto file = b.c.at.path("model-00001-of-00003.safetensors");
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 1);
  berth::counted counting(*b.machine);
  const auto done = b.load(counting, b.options());
  BOOST_REQUIRE(!done.has_value());
  BOOST_TEST((done.error().code == errc::corrupted), words_of(done.error()));
  BOOST_TEST(done.error().subject.view().starts_with("model."), words_of(done.error()));
  BOOST_TEST(counting.live() == 0u);
}

BOOST_AUTO_TEST_CASE(a_load_can_be_stopped_at_every_progress_call_and_done_again) {
  for (const int readers : {0, 2}) {
    bench b;
    for (int n = 0;; ++n) {
      std::atomic<bool> stop = false;
      struct stopper {
        int left;
        std::atomic<bool>* flag;
      } s{n, &stop};
      auto o = b.options();
      o.readers = readers;
      o.verify = true;
      o.cancel = &stop;
      o.progress_context = &s;
      o.progress = [](void* context, const berth::load_progress&) {
        auto& at = *static_cast<stopper*>(context);
        if (at.left-- == 0) at.flag->store(true);
      };
      berth::counted counting(*b.machine);
      auto done = b.load(counting, o);
      if (done) {  // fewer calls than that
        BOOST_TEST(n > 5);
        BOOST_REQUIRE(berth::release_loaded(counting, b.j->programs, done->handles).has_value());
        break;
      }
      BOOST_TEST((done.error().code == errc::cancelled), words_of(done.error()));
      BOOST_TEST(counting.live() == 0u, "call " << n);
      BOOST_REQUIRE(n < 1000);
    }
    BOOST_TEST(b.works_again() == "");
  }
}

BOOST_AUTO_TEST_CASE(a_flag_that_another_thread_sets_stops_a_load) {
  bench b;
  std::atomic<bool> stop = true;
  auto o = b.options();
  o.cancel = &stop;
  const auto done = b.load(*b.machine, o);
  BOOST_REQUIRE(!done.has_value());
  BOOST_TEST((done.error().code == errc::cancelled));
  BOOST_TEST(b.works_again() == "");
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_hold_the_offloaded_weights_is_an_error_and_leaves_no_file) {
  bench b;
  rlimit before{};
  BOOST_REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 3000;  // as a disk that is full behind so many bytes
  BOOST_REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  berth::counted counting(*b.machine);
  const auto done = b.load(counting, b.options());
  BOOST_REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  BOOST_REQUIRE(!done.has_value());
  BOOST_TEST((done.error().code == errc::unwritable), words_of(done.error()));
  BOOST_TEST(counting.live() == 0u);
  BOOST_TEST(std::filesystem::is_empty(b.offload.path()));
  BOOST_TEST(b.works_again() == "");
}

BOOST_AUTO_TEST_CASE(a_full_disk_is_an_error_and_leaves_no_file) {
  const folder disk;
  if (::mount("none", disk.path().c_str(), "tmpfs", 0, "size=16k") != 0) {
    BOOST_TEST_MESSAGE("skipped: mounting a small file system is not permitted here");
    return;
  }
  {
    bench b;
    auto o = b.options();
    o.offload_folder = disk.path("offload");
    berth::counted counting(*b.machine);
    const auto done = b.load(counting, o);
    BOOST_CHECK(!done.has_value());
    if (!done) BOOST_TEST((done.error().code == errc::unwritable), words_of(done.error()));
    BOOST_TEST(counting.live() == 0u);
    std::error_code none;
    BOOST_TEST((!std::filesystem::exists(o.offload_folder, none) || std::filesystem::is_empty(o.offload_folder)));
    BOOST_TEST(b.works_again() == "");
  }
  BOOST_TEST(::umount(disk.path().c_str()) == 0);
}

namespace {

/// Runs in a process of its own, which may limit or kill itself; its exit code, or minus the signal.
int in_process(const std::function<int()>& body) {
  const auto child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) return -1000;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace

BOOST_AUTO_TEST_CASE(without_a_right_to_lock_memory_a_load_is_pageable_and_right) {
  const auto code = in_process([] {
    rlimit none{};
    if (::setrlimit(RLIMIT_MEMLOCK, &none) != 0) return 2;
    if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) return 3;  // root may lock whatever the limit says
    std::filesystem::current_path("/");
    bench b;
    return b.works_again() == "" ? 0 : 1;
  });
  BOOST_TEST(code == 0);
}

BOOST_AUTO_TEST_CASE(a_process_that_is_killed_in_the_middle_leaves_nothing_that_the_next_one_stumbles_over) {
  const folder offload;
  int calls = 0;
  {
    bench whole;
    auto o = whole.options();
    o.readers = 0;
    o.offload_folder = offload.path();
    o.progress_context = &calls;
    o.progress = [](void* context, const berth::load_progress&) { ++*static_cast<int*>(context); };
    BOOST_REQUIRE(whole.load(*whole.machine, o).has_value());
  }
  BOOST_REQUIRE(calls > 4);
  const int while_writing = -1;
  for (const int when : {0, calls / 2, calls - 1, while_writing, while_writing, while_writing}) {
    const auto code = in_process([&] {
      bench b;
      struct killer {
        int left;
      } k{when};
      auto o = b.options();
      o.readers = 0;
      o.offload_folder = offload.path();
      o.progress_context = &k;
      o.progress = [](void* context, const berth::load_progress&) {
        if (static_cast<killer*>(context)->left-- == 0) ::kill(::getpid(), SIGKILL);
      };
      if (when == while_writing) {  // again and again, so that it happens anywhere
        std::thread([] {
          std::this_thread::sleep_for(std::chrono::milliseconds(20));
          ::kill(::getpid(), SIGKILL);
        }).detach();
        for (;;) (void)berth::offload_tensors(*b.storage, std::vector<std::uint32_t>{4}, {.folder = offload.path()});
      }
      (void)b.load(*b.machine, o);
      return 0;
    });
    BOOST_TEST(code == -SIGKILL);
    bench next;
    auto o = next.options();
    o.offload_folder = offload.path();
    o.verify = true;
    auto done = next.load(*next.machine, o);
    BOOST_REQUIRE_MESSAGE(done.has_value(), (done ? "" : words_of(done.error())));
    BOOST_TEST(wrong_in(next.c, *next.j, *next.machine, done->handles) == "");
  }
  // What a killed process wrote under temporary names may lie there, but not under the name of a tensor.
  for (const auto& e : std::filesystem::directory_iterator(offload.path()))
    if (e.path().extension() == ".dat") BOOST_TEST(std::filesystem::file_size(e.path()) > 0u);
}
