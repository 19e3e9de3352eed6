// SPDX-License-Identifier: Apache-2.0
// What published_bench.cpp reads and how it fits: rows of the two tables, configurations of the models, least squares.
// Include before the imports.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// A table with a header line; fields may be quoted.
struct table {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;

  const std::string& at(std::size_t row, std::string_view column) const {
    static const std::string empty;
    const auto it = std::find(columns.begin(), columns.end(), column);
    const auto i = static_cast<std::size_t>(it - columns.begin());
    return i < rows[row].size() ? rows[row][i] : empty;
  }
  double number(std::size_t row, std::string_view column) const {
    return std::strtod(at(row, column).c_str(), nullptr);
  }
  std::uint64_t count(std::size_t row, std::string_view column) const {
    return static_cast<std::uint64_t>(number(row, column));
  }
};

inline std::vector<std::string> csv_fields(const std::string& line) {
  std::vector<std::string> out(1);
  bool quoted = false;
  for (const char c : line) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      out.emplace_back();
    } else if (c != '\r') {
      out.back() += c;
    }
  }
  return out;
}

inline std::optional<table> read_csv(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  table out;
  out.columns = csv_fields(line);
  while (std::getline(file, line))
    if (!line.empty()) out.rows.push_back(csv_fields(line));
  return out;
}

/// Half of the last digit that a table prints: the row may have been anything within it.
inline double half_digit(const std::string& text) {
  const auto point = text.find('.');
  const auto digits = point == std::string::npos ? 0 : static_cast<int>(text.size() - point - 1);
  return 0.5 * std::pow(10.0, -digits);
}

/// The models of the tables, as their config.json describes them; `dtype` is "float16" or "float32".
inline std::string config_of(std::string_view model, std::string_view dtype) {
  struct entry {
    std::string_view name, text;
  };
  static constexpr std::array<entry, 8> known{{
      {"Llama-3-8B", R"("model_type":"llama","architectures":["LlamaForCausalLM"],"hidden_size":4096,
        "intermediate_size":14336,"num_attention_heads":32,"num_hidden_layers":32,"num_key_value_heads":8,
        "max_position_embeddings":8192,"vocab_size":128256,"tie_word_embeddings":false)"},
      {"Llama-3-70B", R"("model_type":"llama","architectures":["LlamaForCausalLM"],"hidden_size":8192,
        "intermediate_size":28672,"num_attention_heads":64,"num_hidden_layers":80,"num_key_value_heads":8,
        "max_position_embeddings":8192,"vocab_size":128256,"tie_word_embeddings":false)"},
      {"OPT-6.7B", R"("model_type":"opt","architectures":["OPTForCausalLM"],"hidden_size":4096,"ffn_dim":16384,
        "num_attention_heads":32,"num_hidden_layers":32,"vocab_size":50272,"max_position_embeddings":2048,
        "word_embed_proj_dim":4096)"},
      {"OPT-30B", R"("model_type":"opt","architectures":["OPTForCausalLM"],"hidden_size":7168,"ffn_dim":28672,
        "num_attention_heads":56,"num_hidden_layers":48,"vocab_size":50272,"max_position_embeddings":2048,
        "word_embed_proj_dim":7168)"},
      {"OPT-175B", R"("model_type":"opt","architectures":["OPTForCausalLM"],"hidden_size":12288,"ffn_dim":49152,
        "num_attention_heads":96,"num_hidden_layers":96,"vocab_size":50272,"max_position_embeddings":2048,
        "word_embed_proj_dim":12288)"},
      {"GPT-J-6B", R"("model_type":"gptj","architectures":["GPTJForCausalLM"],"n_embd":4096,"n_head":16,
        "n_layer":28,"n_positions":2048,"rotary_dim":64,"vocab_size":50400,"tie_word_embeddings":false)"},
      {"GPT-NeoX-20B", R"("model_type":"gpt_neox","architectures":["GPTNeoXForCausalLM"],"hidden_size":6144,
        "intermediate_size":24576,"num_attention_heads":64,"num_hidden_layers":44,"vocab_size":50432,
        "max_position_embeddings":2048,"rotary_pct":0.25,"tie_word_embeddings":false)"},
      {"T0pp-11B", R"("model_type":"t5","architectures":["T5ForConditionalGeneration"],"d_model":4096,"d_ff":10240,
        "d_kv":64,"num_heads":64,"num_layers":24,"num_decoder_layers":24,"vocab_size":32128,
        "feed_forward_proj":"gated-gelu","is_encoder_decoder":true,"tie_word_embeddings":false)"},
  }};
  for (const auto& e : known)
    if (e.name == model)
      return std::string("{").append(e.text).append(",\"torch_dtype\":\"").append(dtype).append("\"}");
  return {};
}

/// Solves the normal equations a x = b in place (n is at most a dozen), largest pivot first.
inline std::vector<double> solve(std::vector<std::vector<double>> a, std::vector<double> b) {
  const auto n = b.size();
  for (std::size_t k = 0; k < n; ++k) {
    std::size_t best = k;
    for (std::size_t i = k + 1; i < n; ++i)
      if (std::abs(a[i][k]) > std::abs(a[best][k])) best = i;
    std::swap(a[k], a[best]);
    std::swap(b[k], b[best]);
    for (std::size_t i = 0; i < n; ++i) {
      if (i == k || a[k][k] == 0) continue;
      const double f = a[i][k] / a[k][k];
      for (std::size_t j = k; j < n; ++j) a[i][j] -= f * a[k][j];
      b[i] -= f * b[k];
    }
  }
  for (std::size_t k = 0; k < n; ++k) b[k] = a[k][k] == 0 ? 0 : b[k] / a[k][k];
  return b;
}

/// `residuals` (logarithms of predicted / measured) as small as they get in the sum of squares over positive
/// parameters: Levenberg and Marquardt's method on logarithms of the parameters, with difference quotients.
inline std::vector<double> fit(std::vector<double> parameters,
                               const std::function<std::vector<double>(const std::vector<double>&)>& residuals) {
  const auto n = parameters.size();
  const auto squares = [](const std::vector<double>& r) {
    double s = 0;
    for (const double x : r) s += x * x;
    return s;
  };
  auto r = residuals(parameters);
  double damping = 1e-3;
  for (int round = 0; round < 60; ++round) {
    constexpr double step = 1e-4;
    std::vector<std::vector<double>> slope(n);
    for (std::size_t k = 0; k < n; ++k) {
      auto moved = parameters;
      moved[k] *= std::exp(step);
      slope[k] = residuals(moved);
      for (std::size_t i = 0; i < r.size(); ++i) slope[k][i] = (slope[k][i] - r[i]) / step;
    }
    std::vector<std::vector<double>> normal(n, std::vector<double>(n));
    std::vector<double> right(n);
    for (std::size_t k = 0; k < n; ++k)
      for (std::size_t i = 0; i < r.size(); ++i) {
        right[k] -= slope[k][i] * r[i];
        for (std::size_t j = 0; j < n; ++j) normal[k][j] += slope[k][i] * slope[j][i];
      }
    for (std::size_t k = 0; k < n; ++k) normal[k][k] = normal[k][k] * (1 + damping) + 1e-12;
    const auto move = solve(normal, right);
    auto next = parameters;
    for (std::size_t k = 0; k < n; ++k) next[k] *= std::exp(std::clamp(move[k], -0.7, 0.7));
    auto after = residuals(next);
    const double gain = squares(r) - squares(after);
    damping = gain > 0 ? damping / 5 : damping * 8;
    if (gain <= 0) continue;
    parameters = std::move(next);
    r = std::move(after);
    if (gain < 1e-12) break;
  }
  return parameters;
}
