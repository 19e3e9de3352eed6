// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>

import berth.base;
import berth.exec;

namespace {

using namespace berth;

struct known {
  double work, rate;
  picoseconds time;
};

/// ceil(work / rate * 10^12) in rational arithmetic (Python: fractions.Fraction), cut to `never`.
constexpr std::array<known, 75> table{{{0x1.0000000000000p+0, 0x1.0000000000000p+0, 1000000000000},
                                       {0x1.0000000000000p+0, 0x1.8000000000000p+1, 333333333334},
                                       {0x1.0000000000000p+1, 0x1.8000000000000p+1, 666666666667},
                                       {0x1.d1a94a2000000p+39, 0x1.d1a94a2000000p+39, 1000000000000},
                                       {0x1.0000000000000p+0, 0x1.d1a94a2000000p+39, 1},
                                       {0x1.0000000000000p+0, 0x1.2309ce5400000p+43, 1},
                                       {0x1.19799812dea11p-40, 0x1.0000000000000p+0, 1},
                                       {0x1.19799812dea11p+23, 0x1.0000000000000p+0, 9223372036854775623},
                                       {0x1.19799812dea12p+23, 0x1.0000000000000p+0, 9223372036854775807},
                                       {0x0.0000000000001p-1022, 0x0.0000000000001p-1022, 1000000000000},
                                       {0x0.0000000000001p-1022, 0x1.0000000000000p+0, 1},
                                       {0x1.0000000000000p+0, 0x0.0000000000001p-1022, 9223372036854775807},
                                       {0x0.00000000013c4p-1022, 0x0.00000000005eep-1022, 3333333333334},
                                       {0x1.0000000000000p-1022, 0x0.fffffffffffffp-1022, 1000000000001},
                                       {0x1.fffffffffffffp+1023, 0x1.fffffffffffffp+1023, 1000000000000},
                                       {0x1.fffffffffffffp+1023, 0x1.754e31cd072dap+1006, 179769313486231571},
                                       {0x1.ddd4baa009303p+999, 0x1.1eb2d66005835p+998, 3333333333334},
                                       {0x1.e000000000000p+33, 0x1.74876e8000000p+34, 644245094400},
                                       {0x1.0000000000000p+30, 0x1.dcd6500000000p+35, 16777216000},
                                       {0x1.0000000000000p+22, 0x1.d562f6c000000p+39, 4161016},
                                       {0x1.45f680b000000p+40, 0x1.2c221cc6a0000p+47, 8484848485},
                                       {0x1.999999999999ap-4, 0x1.3333333333333p-2, 333333333334},
                                       {0x1.d6f3454000000p+26, 0x1.d6f3458800000p+29, 124999998861},
                                       {0x1.56e1fc2f8f359p-997, 0x1.7e43c8800759cp+996, 1},
                                       {0x1.7e43c8800759cp+996, 0x1.56e1fc2f8f359p-997, 9223372036854775807},
                                       {0x1.8000000000000p+1, 0x1.7e43c8800759cp+996, 1},
                                       {0x1.0000000000000p+13, 0x1.85fdc7ae00000p+41, 2446},
                                       {0x1.1018774ddba74p+950, 0x1.3da81866e815cp+981, 399},
                                       {0x1.1253f6b96ce9bp-102, 0x1.5a71bcef6944ep-83, 1510313},
                                       {0x1.41e158aebf2aep+93, 0x1.0c10583a29261p+71, 5036351147769183611},
                                       {0x1.1756a03c58a66p+745, 0x1.6a816076a3b16p+732, 6312568494978458},
                                       {0x1.fea6c9f795d3dp-885, 0x1.9bab53e22c197p-893, 317552961129875},
                                       {0x1.6e60408b044b9p-670, 0x1.742521cb53301p-612, 1},
                                       {0x1.d598bf499c4cfp+3, 0x1.60d33d06e9988p-14, 174451777556469337},
                                       {0x1.9d358c60073cdp-23, 0x1.fb8f57476e961p+2, 24263},
                                       {0x1.34d343a45aa31p+187, 0x1.faa43d7de28adp+193, 9524276915},
                                       {0x1.3138657628ccdp+848, 0x1.7752548e8b258p+885, 6},
                                       {0x1.adf94d2665d4fp+250, 0x1.2da11e95337acp+231, 747374564444767632},
                                       {0x1.01ba40ae59c57p+788, 0x1.07e15dd695c10p+821, 114},
                                       {0x1.3b847eb7740d8p-66, 0x1.f249aba700425p-52, 38647674},
                                       {0x1.7bc17bf91cca4p+519, 0x1.f60bbddfcc7ccp+484, 9223372036854775807},
                                       {0x1.73660c0c1dff7p-875, 0x1.af817ed5f237bp-920, 9223372036854775807},
                                       {0x1.7c83b78053a46p+835, 0x1.61e769ed9d364p+888, 1},
                                       {0x1.2115d45613a72p-947, 0x1.684b7d9eebe9fp-934, 97944020},
                                       {0x1.3ae0e87909607p-177, 0x1.5056c6762aef4p-194, 122708829913437474},
                                       {0x1.442416dac0cacp-33, 0x1.786eba831d141p-66, 9223372036854775807},
                                       {0x1.3d1c883edbbe1p-176, 0x1.c3c4826346bdep-191, 23001002701118341},
                                       {0x1.4fdc20f3d925cp-337, 0x1.56f0e60577dc0p-334, 122418968632},
                                       {0x1.8308cd5d18494p+922, 0x1.744f99d03162ep+906, 68127692708369352},
                                       {0x1.bda5f9cc3325ap+735, 0x1.5419f8c262fc6p+693, 9223372036854775807},
                                       {0x1.6d7f6d7df541ap-1012, 0x1.5c5198ec0526dp-959, 1},
                                       {0x1.fdd3b037e4791p+479, 0x1.4b1bb618b6349p+480, 769879505798},
                                       {0x1.2f79fa9906899p+735, 0x1.098e23d216987p+781, 1},
                                       {0x1.878256b262dc2p+196, 0x1.7d5e42c07a376p+210, 62658137},
                                       {0x1.0b4b1221249f5p+287, 0x1.3bca868311660p+273, 13867814274967903},
                                       {0x1.d5d12184f44f2p-394, 0x1.7219a215e8151p-430, 9223372036854775807},
                                       {0x1.48e4016ff2b53p-295, 0x1.d3707421d4904p-305, 720487221775085},
                                       {0x1.c91a549e0b257p-605, 0x1.6182ebfcd79d8p-607, 5172142526095},
                                       {0x1.0c45a51172fb8p-516, 0x1.5ccd91002dcdap-497, 1466984},
                                       {0x1.7e98e7e6ba900p+750, 0x1.6d4363dee35f6p+793, 1},
                                       {0x1.65edbad2e52bbp-448, 0x1.3742db05708d5p-397, 1},
                                       {0x1.a78e9b58da985p-289, 0x1.31569fa89a2bap-300, 2840929700691348},
                                       {0x1.9019126aff420p+273, 0x1.755e675da5121p+331, 1},
                                       {0x1.50251dab39a00p+43, 0x1.fcfeccd09e020p+47, 41275550034},
                                       {0x1.09eea11146000p+43, 0x1.cb99975979300p+47, 36163534197},
                                       {0x1.69cfa945f2100p+44, 0x1.3461e0129f7d8p+49, 36664226001},
                                       {0x1.b0cbdcca68000p+37, 0x1.0dc645c13a2c0p+46, 3133377474},
                                       {0x1.f7547c971dc00p+44, 0x1.2cafb9c582830p+49, 52310519632},
                                       {0x1.08c233fc5ca00p+44, 0x1.b36dfafa62d50p+49, 19001248934},
                                       {0x1.a94e2048a4e00p+44, 0x1.86f1a263c0c20p+48, 67993322922},
                                       {0x1.2f5df6bed7200p+43, 0x1.82e7b3edfd060p+49, 12251351120},
                                       {0x1.e0e0c7def5200p+44, 0x1.4d41dd996cbb0p+48, 90185208940},
                                       {0x1.3b989b77a3100p+44, 0x1.b73f54d50a6c0p+46, 179623220725},
                                       {0x1.12fce96794000p+44, 0x1.e4d55b7f81800p+42, 2268720933261},
                                       {0x1.499345c1cc000p+40, 0x1.4d50845fb86b8p+49, 1931214174}}};

/// The same by division digit by digit, for whole numbers.
picoseconds by_long_division(std::uint64_t work, std::uint64_t rate) {
  std::uint64_t quotient = work / rate, rest = work % rate;
  for (int digit = 0; digit < 12; ++digit) {
    const auto ten = static_cast<unsigned __int128>(rest) * 10;
    quotient = quotient * 10 + static_cast<std::uint64_t>(ten / rate);
    rest = static_cast<std::uint64_t>(ten % rate);
  }
  return static_cast<picoseconds>(quotient + (rest != 0 ? 1 : 0));
}

constexpr double infinite = std::numeric_limits<double>::infinity();
static_assert(work_time(1, 1) == 1'000'000'000'000);
static_assert(work_time(1, 3) == 333'333'333'334);

}  // namespace

BOOST_AUTO_TEST_SUITE(exec_work_time)

BOOST_AUTO_TEST_CASE(times_are_those_of_rational_arithmetic) {
  for (const auto& k : table)
    BOOST_TEST_CONTEXT(k.work << " / " << k.rate) BOOST_TEST(work_time(k.work, k.rate) == k.time);
}

BOOST_AUTO_TEST_CASE(whole_numbers_agree_with_long_division) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20'000; ++i) {
    const auto rate = 1 + random() % (std::uint64_t{1} << (1 + random() % 50));
    const auto work = random() % (std::uint64_t{1} << (1 + random() % 50));
    if (work / rate >= 9'000'000) continue;
    BOOST_REQUIRE_EQUAL(work_time(static_cast<double>(work), static_cast<double>(rate)), by_long_division(work, rate));
  }
}

BOOST_AUTO_TEST_CASE(no_work_takes_no_time_and_no_rate_takes_forever) {
  BOOST_TEST(work_time(0, 0) == 0);
  BOOST_TEST(work_time(0, 5) == 0);
  BOOST_TEST(work_time(-1, 5) == 0);
  BOOST_TEST(work_time(1, 0) == never);
  BOOST_TEST(work_time(1, -3) == never);
  BOOST_TEST(work_time(1, std::nan("")) == never);
  BOOST_TEST(work_time(infinite, 1) == never);
  BOOST_TEST(work_time(infinite, infinite) == never);
  BOOST_TEST(work_time(1, infinite) == 1);
}

BOOST_AUTO_TEST_CASE(time_is_never_short_by_a_picosecond_and_scale_does_not_matter) {
  for (std::uint64_t seed = 1; seed <= 20'000; ++seed) {
    std::mt19937_64 random(seed);
    const auto draw = [&] {
      return std::ldexp(static_cast<double>((random() >> 11) | 1), static_cast<int>(random() % 40) - 30);
    };
    const double work = draw(), rate = draw();
    const auto t = work_time(work, rate);
    BOOST_TEST_CONTEXT("seed " << seed) {
      BOOST_REQUIRE_GE(t, 1);
      const int scale = static_cast<int>(random() % 600) - 300;
      BOOST_REQUIRE_EQUAL(work_time(std::ldexp(work, scale), std::ldexp(rate, scale)), t);
      BOOST_REQUIRE_GE(work_time(std::nextafter(work, infinite), rate), t);
      BOOST_REQUIRE_LE(work_time(work, std::nextafter(rate, infinite)), t);
      if (t == never || t > 1'000'000'000'000'000) continue;
      // Within rounding of the double nearby, and never below it by a whole picosecond.
      const double near = work / rate * 1e12;
      BOOST_REQUIRE_LE(std::abs(static_cast<double>(t) - near), 1 + near * 1e-15);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
