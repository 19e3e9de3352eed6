// SPDX-License-Identifier: Apache-2.0
// A second forward pass, written independently of the example's: double precision, no cache, weights by their names in
// the files. What the example is compared with where no stored logits exist (int8).
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

// Include this file last: what follows an import may not be included.
import berth;
import berth.formats;
import tiny;

namespace tiny_test {

class double_forward {
 public:
  /// Reads all weights. `int8`: those of linear layers become codes by the LLM.int8 rule, then weights again.
  static berth::result<double_forward> read(const tiny::opened& m, bool int8);

  /// Of the last token.
  std::vector<double> logits(std::span<const std::int32_t> tokens) const;

  /// The largest error that int8 made of a weight, as a share of the largest magnitude in its row.
  double worst_weight_error() const { return worst_; }

 private:
  using vector = std::vector<double>;
  using rows = std::vector<vector>;  ///< one per token
  struct weight {
    std::vector<std::uint64_t> shape;
    vector values;
  };

  const weight* find(const std::string& name) const;
  double setting(const char* key, const char* gpt2_key) const;
  void quantize(weight& w, bool by_column);
  vector linear(const std::string& module, const vector& x) const;
  vector normed(const std::string& module, const vector& x) const;
  rows attention(const std::string& block, const rows& x) const;
  vector feed_forward(const std::string& block, const vector& x) const;
  vector mixture(const std::string& block, const vector& x) const;
  void rotate(vector& all, std::size_t heads, std::size_t position) const;

  std::map<std::string, weight> weights_;
  berth::json::value config_;
  bool gpt2_ = false;
  double worst_ = 0;
};

}  // namespace tiny_test
