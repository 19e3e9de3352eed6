// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <charconv>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <string_view>

export module berth.base:text;

export namespace berth {

/// Text of at most `N` bytes held inside the object: a literal type that never allocates, so that errors and
/// device ids work in constant expressions and under `-fno-exceptions`. Longer text is cut and ends in "...".
template <std::size_t N>
class text {
 public:
  constexpr text() = default;
  constexpr text(std::string_view s) { append(s); }
  constexpr text(const char* s) { append(std::string_view(s)); }

  /// Appends, cutting at the capacity. Returns itself so that messages can be chained.
  constexpr text& append(std::string_view s) {
    for (std::size_t i = 0; i < s.size(); ++i) {
      if (size_ == N) {
        for (std::size_t k = 0; k < 3 && k < N; ++k) chars_[N - 1 - k] = '.';
        return *this;
      }
      chars_[size_++] = s[i];
    }
    return *this;
  }
  constexpr text& append(std::uint64_t v) {
    std::array<char, 20> digits{};
    std::size_t n = 0;
    do {
      digits[n++] = static_cast<char>('0' + v % 10);
      v /= 10;
    } while (v != 0);
    while (n > 0) append(std::string_view(&digits[--n], 1));
    return *this;
  }

  constexpr std::string_view view() const { return {chars_.data(), size_}; }
  constexpr operator std::string_view() const { return view(); }
  constexpr bool empty() const { return size_ == 0; }
  constexpr std::size_t size() const { return size_; }

  friend constexpr bool operator==(const text& a, const text& b) { return a.view() == b.view(); }
  friend constexpr auto operator<=>(const text& a, const text& b) { return a.view() <=> b.view(); }

 private:
  std::array<char, N> chars_{};
  std::size_t size_ = 0;
};

}  // namespace berth
