// SPDX-License-Identifier: Apache-2.0
// Any JSON as a config.json, built into a module tree. Numbers of more than two digits are left out: models with
// thousands of layers are legal, and building them would take all the time that there is.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "require.hpp"

import berth.base;
import berth.formats;
import berth.model;

namespace {

/// Also true for digits followed by an exponent.
bool has_large_numbers(std::string_view text) {
  int run = 0;
  for (const char c : text) {
    if (run > 0 && (c == 'e' || c == 'E')) return true;
    run = c >= '0' && c <= '9' ? run + 1 : 0;
    if (run > 2) return true;
  }
  return false;
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto text = fuzz::as_text(data, size);
  if (has_large_numbers(text)) return 0;
  const auto model = berth::load_model_text(text, "input");
  if (!model) {
    fuzz::require(!model.error().detail.empty(), "a refused config comes with a reason");
    return 0;
  }
  fuzz::require(model->tree().element_total() <= berth::max_bytes, "a model's elements fit 63 bits");
  return 0;
}
