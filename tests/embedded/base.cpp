// SPDX-License-Identifier: Apache-2.0
// berth.base runs, and reports errors, in a program without exceptions and RTTI.
#include <optional>
#include <string>
#include <string_view>

#include "check.hpp"

import berth.base;

#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "the embedded preset has no exceptions and no RTTI"
#endif

int main() {
  const auto size = berth::parse_size("1.5GiB");
  CHECK(size && *size == berth::GiB + berth::GiB / 2);

  const auto wrong = berth::parse_size("20 GiB");
  CHECK(!wrong);
  CHECK(wrong.error().code == berth::errc::invalid_argument);
  CHECK(wrong.error().subject.view() == "20 GiB");
  CHECK(wrong.value_or(7) == 7);

  const auto chained = berth::parse_size("3KiB").and_then([](berth::bytes n) -> berth::result<berth::bytes> {
    return berth::fail(berth::errc::capacity, "buffer", "", n);
  });
  CHECK(!chained && chained.error().needed == 3 * berth::KiB);

  CHECK(berth::format_size(16'060'522'496) == "14.96 GiB");
  CHECK(berth::dtype_from_torch("torch.bfloat16") == berth::dtype::bf16);
  return embedded::failures == 0 ? 0 : 1;
}
