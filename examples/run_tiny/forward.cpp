// SPDX-License-Identifier: Apache-2.0
// The forward pass on the CPU: by a team of one.
#include "forward.hpp"

#include <cstdint>

#include "forward_core.hpp"

namespace tiny {

using core::alone;

matrix rows_of(const matrix& m, std::int64_t first, std::int64_t count) { return core::part_of(m, first, count); }

void embed(const shape& s, const matrix& table, const sequence& q, std::int64_t count, float* out) {
  core::embed(alone{}, s, table, q, count, out);
}
void add_positions(const shape& s, const matrix& table, const sequence& q, std::int64_t count, const float* in,
                   float* out) {
  core::add_positions(alone{}, s, table, q, count, in, out);
}
void block(const shape& s, const block_weights& w, const sequence& q, std::int64_t count, const float* in, float* out,
           float* cache, float* scratch) {
  core::block(alone{}, s, w, q, count, in, out, cache, scratch);
}
void final_norm(const shape& s, const norm& n, std::int64_t count, const float* in, float* out) {
  core::final_norm(alone{}, s, n, count, in, out);
}
void pass_on(const shape& s, std::int64_t count, const float* in, float* out) {
  core::pass_on(alone{}, s, count, in, out);
}
void head(const shape& s, const linear& w, sequence& q, std::int64_t count, const float* in, float* scratch) {
  core::head(alone{}, s, w, q, count, in, scratch);
}

}  // namespace tiny
