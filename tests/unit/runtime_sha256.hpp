// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4) in hexadecimal.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace runtime_test {

/// Constants are the fractions of square and cube roots of the first primes.
struct sha256_constants {
  std::array<std::uint32_t, 8> start{};
  std::array<std::uint32_t, 64> round{};

  sha256_constants() {
    std::size_t n = 0;
    for (std::uint32_t p = 2; n < round.size(); ++p) {
      bool prime = true;
      for (std::uint32_t q = 2; q * q <= p; ++q) prime = prime && p % q != 0;
      if (!prime) continue;
      const auto fraction = [](long double root) {
        return static_cast<std::uint32_t>((root - std::floor(root)) * 4294967296.0L);
      };
      if (n < start.size()) start[n] = fraction(std::sqrt(static_cast<long double>(p)));
      round[n++] = fraction(std::cbrt(static_cast<long double>(p)));
    }
  }
};

inline std::string sha256(std::span<const std::byte> data) {
  const sha256_constants k;
  auto h = k.start;
  std::vector<std::byte> message(data.begin(), data.end());
  message.push_back(std::byte{0x80});
  while (message.size() % 64 != 56) message.push_back(std::byte{0});
  for (int shift = 56; shift >= 0; shift -= 8)
    message.push_back(static_cast<std::byte>(static_cast<std::uint64_t>(data.size()) * 8 >> shift));
  for (std::size_t block = 0; block < message.size(); block += 64) {
    std::array<std::uint32_t, 64> w{};
    for (std::size_t i = 0; i < 64; ++i) w[i / 4] = w[i / 4] << 8 | std::to_integer<std::uint32_t>(message[block + i]);
    for (std::size_t i = 16; i < 64; ++i) {
      const auto a = w[i - 15], b = w[i - 2];
      w[i] = w[i - 16] + (std::rotr(a, 7) ^ std::rotr(a, 18) ^ a >> 3) + w[i - 7] +
             (std::rotr(b, 17) ^ std::rotr(b, 19) ^ b >> 10);
    }
    auto s = h;
    for (std::size_t i = 0; i < 64; ++i) {
      const auto one = s[7] + (std::rotr(s[4], 6) ^ std::rotr(s[4], 11) ^ std::rotr(s[4], 25)) +
                       ((s[4] & s[5]) ^ (~s[4] & s[6])) + k.round[i] + w[i];
      const auto two = (std::rotr(s[0], 2) ^ std::rotr(s[0], 13) ^ std::rotr(s[0], 22)) +
                       ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
      s = {one + two, s[0], s[1], s[2], s[3] + one, s[4], s[5], s[6]};
    }
    for (std::size_t i = 0; i < 8; ++i) h[i] += s[i];
  }
  std::string out;
  for (const auto word : h)
    for (int shift = 28; shift >= 0; shift -= 4) out += "0123456789abcdef"[word >> shift & 15u];
  return out;
}

}  // namespace runtime_test
