// SPDX-License-Identifier: Apache-2.0
// The forward pass of small decoder models over plain memory: Llama, Qwen2, Mixtral and GPT-2. No berth types, so that
// the same declarations serve the CPU (forward.cpp) and kernels. Activations and caches are f32, weights as they are
// stored. Tokens are worked off one after the other: a reference to read and to compare with, not a fast one.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define TINY_BOTH __host__ __device__
#else
#define TINY_BOTH
#endif

namespace tiny {

enum class element : std::uint8_t { f32, f16, bf16, i8 };

/// A weight as a matrix of `rows` outputs and `columns` inputs. Steps are in elements; [in, out] tensors have a row
/// step of 1. Codes of int8 become weights by their row's scale: code x scale / 127.
struct matrix {
  const std::byte* data = nullptr;
  const float* scales = nullptr;
  element type = element::f32;
  std::int64_t rows = 0, columns = 0;
  std::int64_t row_step = 0, column_step = 1;
};

/// `count` rows of `m` from row `first` on: a part of joined projections, or one expert of a stack.
matrix rows_of(const matrix& m, std::int64_t first, std::int64_t count);

/// What all blocks of a model have in common.
struct shape {
  std::int64_t hidden = 0, heads = 0, kv_heads = 0, head_width = 0;
  std::int64_t width = 0;                ///< of the feed-forward part, or of one expert
  std::int64_t experts = 0, active = 0;  ///< 0 experts: a dense feed-forward part
  std::int64_t vocabulary = 0;
  float epsilon = 1e-5f;
  float theta = 10000;  ///< base of the rotary angles
  bool gpt2 = false;    ///< layer norms with bias, learned positions, no gate; else RMS norms, rotation, SwiGLU

  /// f32 elements that one token adds to a block's cache: its keys, then its values.
  TINY_BOTH std::int64_t cache_step() const { return 2 * kv_heads * head_width; }
  /// f32 elements of scratch that a block needs.
  std::int64_t block_scratch() const {
    const auto attention = 2 * heads * head_width, feed_forward = width + (experts > 0 ? experts + 1 : 0);
    return hidden + (attention > feed_forward ? attention : feed_forward);
  }
  /// f32 elements that the head needs: the last position and the logits.
  std::int64_t head_scratch() const { return hidden + vocabulary; }
};

struct linear {
  matrix weight;
  matrix bias;  ///< one column; no rows: none
};
struct norm {
  matrix weight, bias;
};
struct block_weights {
  norm before_attention, before_feed_forward;
  linear q, k, v, o;
  linear gate, up, down;         ///< GPT-2 has no gate
  matrix router;                 ///< of a mixture
  matrix expert_in, expert_out;  ///< all experts, one below the other; of one: gate rows, then up rows
};

/// The sequence that is generated, shared by all atoms of a run; the embedding reads tokens from `position` on, the
/// head writes the next one behind them and moves `position`. Rounds need no decision of the host in between.
struct sequence {
  std::int32_t* tokens = nullptr;  ///< the prompt, then what was generated
  std::int64_t position = 0;       ///< of the first token of this pass
  float* logits = nullptr;         ///< if wanted: those of every pass, one behind the other
  std::int64_t passes = 0;
};

// Activations are [count][hidden]; `in` and `out` are the same memory or do not overlap.

void embed(const shape& s, const matrix& table, const sequence& q, std::int64_t count, float* out);
void add_positions(const shape& s, const matrix& table, const sequence& q, std::int64_t count, const float* in,
                   float* out);
void block(const shape& s, const block_weights& w, const sequence& q, std::int64_t count, const float* in, float* out,
           float* cache, float* scratch);
void final_norm(const shape& s, const norm& n, std::int64_t count, const float* in, float* out);
void pass_on(const shape& s, std::int64_t count, const float* in, float* out);
/// Greedy: the likeliest token, the first of equals.
void head(const shape& s, const linear& w, sequence& q, std::int64_t count, const float* in, float* scratch);

/// The same for GPUs: each enqueues one kernel on `stream` (a cudaStream_t) and returns a cudaError_t. All memory, the
/// sequence and what it points to included, is memory that the GPU can use.
struct gpu_forward {
  int (*embed)(const shape& s, const matrix& table, const sequence* q, std::int64_t count, float* out, void* stream);
  int (*add_positions)(const shape& s, const matrix& table, const sequence* q, std::int64_t count, const float* in,
                       float* out, void* stream);
  int (*block)(const shape& s, const block_weights& w, const sequence* q, std::int64_t count, const float* in,
               float* out, float* cache, float* scratch, void* stream);
  int (*final_norm)(const shape& s, const norm& n, std::int64_t count, const float* in, float* out, void* stream);
  int (*pass_on)(const shape& s, std::int64_t count, const float* in, float* out, void* stream);
  int (*head)(const shape& s, const linear& w, sequence* q, std::int64_t count, const float* in, float* scratch,
              void* stream);
};
/// In forward.cu.
const gpu_forward& cuda_forward();

}  // namespace tiny
