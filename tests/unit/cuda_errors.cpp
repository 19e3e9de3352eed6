// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>

#include <fstream>
#include <set>
#include <string>

import berth;
import berth.cuda;

namespace cuda = berth::cuda;
using berth::errc;
using cuda::status;
using cuda::status_kind;

BOOST_AUTO_TEST_CASE(every_status_has_one_row_and_an_error_that_names_it) {
  int last = -1;
  std::set<std::string> names;
  for (const auto& row : cuda::all_statuses()) {
    BOOST_TEST_CONTEXT(row.name) {
      BOOST_TEST(row.value > last);
      last = row.value;
      BOOST_TEST(names.insert(std::string(row.name)).second);
      const auto s = static_cast<status>(row.value);
      BOOST_TEST(cuda::name_of(s) == row.name);
      BOOST_TEST((cuda::kind_of(s) == row.kind));
      if (row.kind == status_kind::none) continue;
      const auto e = cuda::error_of(s, {"cudaMemcpyAsync", "1", 3 * berth::GiB, false}).why;
      BOOST_TEST(e.subject.view() == "1");
      for (const std::string& part :
           {std::string("cudaMemcpyAsync of 3.00 GiB"), std::string(row.name), "(" + std::to_string(row.value) + ")"})
        BOOST_TEST(e.detail.view().find(part) != std::string_view::npos, part);
      BOOST_TEST(e.detail.view().substr(e.detail.view().size() - 3) != "...");  // nothing was cut
    }
  }
  BOOST_TEST(cuda::all_statuses().size() == 133u);
}

BOOST_AUTO_TEST_CASE(kinds_of_status_become_codes) {
  const auto code = [](int s, bool transfer = false) {
    return cuda::error_of(static_cast<status>(s), {"call", "0", 1, transfer}).why.code;
  };
  BOOST_TEST((code(2) == errc::out_of_memory));
  for (const int s : {3, 34, 35, 46, 100, 802, 803, 804}) BOOST_TEST((code(s) == errc::unavailable), s);
  for (const int s : {4, 201, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 999})
    BOOST_TEST((code(s, true) == errc::device_lost), s);
  BOOST_TEST((code(101) == errc::unknown_device));
  for (const int s : {98, 200, 209, 222, 701, 720, 900, 901, 902, 903, 904, 905, 906, 907, 908})
    BOOST_TEST((code(s, true) == errc::invalid_program), s);
  for (const int s : {1, 400, 801, 123456}) {
    BOOST_TEST((code(s) == errc::invalid_argument), s);
    BOOST_TEST((code(s, true) == errc::copy_failed), s);
  }
  BOOST_TEST(cuda::error_of(status::memory_allocation, {"cudaMalloc", "0", 77}).why.needed == 77u);
}

BOOST_AUTO_TEST_CASE(the_list_is_that_of_the_installed_header) {
  std::ifstream header(BERTH_CUDA_DRIVER_TYPES);
  if (!header) {
    BOOST_TEST_MESSAGE("skipped: the build has no CUDA header to compare with");
    return;
  }
  std::size_t compared = 0;
  for (std::string line; std::getline(header, line);) {
    const auto name = line.find("cudaError"), equals = line.find('=');
    if (name == std::string::npos || equals == std::string::npos || line.find('*') != std::string::npos) continue;
    const auto end = line.find_first_of(" =", name);
    if (line.find_first_not_of(" ", equals + 1) == std::string::npos) continue;
    if (line.find("cudaErrorApiFailureBase") != std::string::npos) continue;  // no status of its own, long unused
    ++compared;
    const auto s = static_cast<status>(std::stoi(line.substr(equals + 1)));
    BOOST_TEST(cuda::name_of(s) == line.substr(name, end - name));
  }
  BOOST_TEST(compared > 100u);
}

BOOST_AUTO_TEST_CASE(without_a_driver_or_a_toolkit_the_runtime_is_unavailable_and_says_what_to_do) {
  const auto r = cuda::runtime();
  if (r.has_value()) {
    int n = 0;
    BOOST_TEST(((*r)->device_count(&n) == status::success));
    BOOST_TEST(n > 0);
    return;
  }
  BOOST_TEST_MESSAGE("runtime: " << r.error().detail.view());
  BOOST_TEST((r.error().code == errc::unavailable));
  const auto detail = r.error().detail.view();
  const bool built = detail.find("cudaGetDeviceCount") != std::string_view::npos;
  BOOST_TEST((built || detail.find("-DBERTH_CUDA=ON") != std::string_view::npos));
  if (built) BOOST_TEST(detail.find("driver") != std::string_view::npos);
}
