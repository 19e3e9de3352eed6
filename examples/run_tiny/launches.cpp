// SPDX-License-Identifier: Apache-2.0
// Binds every launch of a plan to the forward pass: which tensors it reads, where its scratch begins.
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "forward.hpp"

module tiny;

import berth;
import berth.formats;
import berth.runtime;

namespace tiny {

enum class role : std::uint8_t { tokens, positions, block, norm, head, pass_on };

/// The tensors of an atom, by what they are to it. An atom that is no block has `first` and `first_bias`.
enum part : std::uint8_t {
  first,
  first_bias,
  qkv,
  qkv_bias,
  q,
  q_bias,
  k,
  k_bias,
  v,
  v_bias,
  o,
  o_bias,
  second,
  second_bias,
  gate,
  up,
  up_bias,
  down,
  down_bias,
  router,
  expert_in,
  expert_out,
  parts
};

/// What one launch of one phase is about.
struct launch {
  tiny::role role = role::pass_on;
  bool streamed = false;
  const tiny::shape* shape = nullptr;
  tiny::sequence* sequence = nullptr;
  std::int64_t count = 0;  ///< tokens of a pass
  const gpu_forward* gpu = nullptr;
  std::size_t scratch = 0;  ///< where scratch begins in the workspace, behind the activations
  std::array<const berth::image_tensor*, parts> tensors{};
};

namespace {

using berth::errc;
using berth::fail;
using berth::result;

struct part_name {
  part which;
  std::string_view name;
};
constexpr part_name llama_names[] = {
    {first, "input_layernorm.weight"},       {q, "self_attn.q_proj.weight"},
    {q_bias, "self_attn.q_proj.bias"},       {k, "self_attn.k_proj.weight"},
    {k_bias, "self_attn.k_proj.bias"},       {v, "self_attn.v_proj.weight"},
    {v_bias, "self_attn.v_proj.bias"},       {o, "self_attn.o_proj.weight"},
    {o_bias, "self_attn.o_proj.bias"},       {second, "post_attention_layernorm.weight"},
    {gate, "mlp.gate_proj.weight"},          {up, "mlp.up_proj.weight"},
    {down, "mlp.down_proj.weight"},          {router, "mlp.gate.weight"},
    {expert_in, "mlp.experts.gate_up_proj"}, {expert_out, "mlp.experts.down_proj"}};
constexpr part_name gpt2_names[] = {
    {first, "ln_1.weight"},         {first_bias, "ln_1.bias"},   {qkv, "attn.c_attn.weight"},
    {qkv_bias, "attn.c_attn.bias"}, {o, "attn.c_proj.weight"},   {o_bias, "attn.c_proj.bias"},
    {second, "ln_2.weight"},        {second_bias, "ln_2.bias"},  {up, "mlp.c_fc.weight"},
    {up_bias, "mlp.c_fc.bias"},     {down, "mlp.c_proj.weight"}, {down_bias, "mlp.c_proj.bias"}};
constexpr part_name own_names[] = {{first, "weight"}, {first_bias, "bias"}};

/// Parts that a block cannot do without.
std::span<const part> needed_by(const shape& s) {
  static constexpr part gpt2[] = {first, first_bias, qkv, o, second, second_bias, up, down};
  static constexpr part dense[] = {first, q, k, v, o, second, gate, up, down};
  static constexpr part mixture[] = {first, q, k, v, o, second, router, expert_in, expert_out};
  if (s.gpt2) return gpt2;
  return s.experts > 0 ? std::span<const part>(mixture) : dense;
}

bool readable(const berth::image_tensor& t) {
  const auto type = t.form.type;
  return !t.form.packed && (type == berth::dtype::f32 || type == berth::dtype::f16 || type == berth::dtype::bf16);
}

/// Leading dimensions are rows, one below the other. `inputs_first`: the tensor is stored [in, out].
matrix matrix_of(const berth::image_tensor* t, const launch& l, const berth::work_call& call, bool inputs_first) {
  matrix m;
  if (t == nullptr) return m;
  std::int64_t elements = 1;
  for (const auto n : t->shape) elements *= static_cast<std::int64_t>(n);
  const auto last = static_cast<std::int64_t>(t->shape.back());
  m.data = berth::address_of(*t, call, l.streamed);
  m.type = t->form.type == berth::dtype::f32    ? element::f32
           : t->form.type == berth::dtype::bf16 ? element::bf16
                                                : element::f16;
  m.rows = t->shape.size() == 1 ? elements : inputs_first ? last : elements / last;
  m.columns = elements / m.rows;
  m.row_step = inputs_first ? 1 : m.columns;
  m.column_step = inputs_first ? last : 1;
  if (t->form.int8) {  // scales, then codes, row by row whatever the tensor's order
    m.scales = reinterpret_cast<const float*>(m.data);
    m.data += t->form.rows * sizeof(float);
    m.type = element::i8;
    m.row_step = m.columns;
    m.column_step = 1;
  }
  return m;
}

block_weights weights_of(const launch& l, const berth::work_call& call) {
  const auto vector = [&](part p) { return matrix_of(l.tensors[p], l, call, false); };
  const auto weight = [&](part p) { return matrix_of(l.tensors[p], l, call, l.shape->gpt2); };
  block_weights w;
  w.before_attention = {vector(first), vector(first_bias)};
  w.before_feed_forward = {vector(second), vector(second_bias)};
  if (l.tensors[qkv] != nullptr) {
    const auto joined = weight(qkv), bias = vector(qkv_bias);
    const auto third = joined.rows / 3;
    linear* targets[] = {&w.q, &w.k, &w.v};
    for (std::int64_t i = 0; i < 3; ++i) {
      targets[i]->weight = rows_of(joined, i * third, third);
      if (bias.rows > 0) targets[i]->bias = rows_of(bias, i * third, third);
    }
  } else {
    w.q = {weight(q), vector(q_bias)};
    w.k = {weight(k), vector(k_bias)};
    w.v = {weight(v), vector(v_bias)};
  }
  w.o = {weight(o), vector(o_bias)};
  w.gate = {weight(gate), {}};
  w.up = {weight(up), vector(up_bias)};
  w.down = {weight(down), vector(down_bias)};
  w.router = weight(router);
  w.expert_in = weight(expert_in);
  w.expert_out = weight(expert_out);
  return w;
}

float* floats(std::byte* at) { return reinterpret_cast<float*>(at); }

/// What the callable of a launch works on.
struct operands {
  const float* in;
  float *out, *scratch, *state;
  matrix own, bias;  ///< of an atom that is no block
};
operands operands_of(const launch& l, const berth::work_call& call) {
  const auto& m = call.memory;
  const auto tensor = [&](part p) { return matrix_of(l.role == role::block ? nullptr : l.tensors[p], l, call, false); };
  return {floats(m.in.data),    floats(m.out.data), floats(m.workspace.data + l.scratch),
          floats(m.state.data), tensor(first),      tensor(first_bias)};
}

/// A kernel that does not start is for the machine to find: it asks CUDA after every launch.
void enqueue(const launch& l, const operands& o, const berth::work_call& call) {
  const auto& s = *l.shape;
  auto* stream = call.native_stream;
  switch (l.role) {
    case role::tokens:
      return (void)l.gpu->embed(s, o.own, l.sequence, l.count, o.out, stream);
    case role::positions:
      return (void)l.gpu->add_positions(s, o.own, l.sequence, l.count, o.in, o.out, stream);
    case role::block:
      return (void)l.gpu->block(s, weights_of(l, call), l.sequence, l.count, o.in, o.out, o.state, o.scratch, stream);
    case role::norm:
      return (void)l.gpu->final_norm(s, {o.own, o.bias}, l.count, o.in, o.out, stream);
    case role::head:
      return (void)l.gpu->head(s, {o.own, o.bias}, l.sequence, l.count, o.in, o.scratch, stream);
    case role::pass_on:
      return (void)l.gpu->pass_on(s, l.count, o.in, o.out, stream);
  }
}

/// The callable of every launch: does its work here, or enqueues it if there is a stream for it.
void run(void* context, const berth::work_call& call) {
  const auto& l = *static_cast<const launch*>(context);
  const auto& s = *l.shape;
  const auto o = operands_of(l, call);
  if (l.gpu != nullptr && call.native_stream != nullptr) return enqueue(l, o, call);
  switch (l.role) {
    case role::tokens:
      return embed(s, o.own, *l.sequence, l.count, o.out);
    case role::positions:
      return add_positions(s, o.own, *l.sequence, l.count, o.in, o.out);
    case role::block:
      return block(s, weights_of(l, call), *l.sequence, l.count, o.in, o.out, o.state, o.scratch);
    case role::norm:
      return final_norm(s, {o.own, o.bias}, l.count, o.in, o.out);
    case role::head:
      return head(s, {o.own, o.bias}, *l.sequence, l.count, o.in, o.scratch);
    case role::pass_on:
      return pass_on(s, l.count, o.in, o.out);
  }
}

/// Where scratch begins: behind the activations that lie in the workspace; the head's input may be overwritten. Refuses
/// memory that is too small for the forward pass, so that no launch writes beside it.
result<std::size_t> scratch_of(const berth::operation& op, const launch& l, std::uint64_t tokens_kept,
                               std::string_view atom) {
  const auto& w = op.memory.workspace;
  const auto activation = static_cast<berth::bytes>(l.count * l.shape->hidden) * sizeof(float);
  const auto cache = tokens_kept * static_cast<berth::bytes>(l.shape->cache_step()) * sizeof(float);
  const bool reads = l.role != role::tokens, writes = l.role != role::head;
  berth::bytes begin = 0;
  if (l.role != role::head)
    for (const auto* r : {&op.memory.in, &op.memory.out})
      if (r->size > 0 && r->buffer == w.buffer && r->offset >= w.offset && r->offset < w.offset + w.size)
        begin = std::max(begin, r->offset + r->size - w.offset);
  const auto elements = l.role == role::block  ? l.shape->block_scratch()
                        : l.role == role::head ? l.shape->head_scratch()
                                               : 0;
  const auto needed = begin + static_cast<berth::bytes>(elements) * sizeof(float);
  const std::pair<berth::bytes, berth::bytes> sizes[] = {{needed, w.size},
                                                         {reads ? activation : 0, op.memory.in.size},
                                                         {writes ? activation : 0, op.memory.out.size},
                                                         {l.role == role::block ? cache : 0, op.memory.state.size}};
  for (const auto& [need, given] : sizes)
    if (need > given)
      return fail(errc::capacity, atom,
                  "the plan gives it less memory than the forward pass needs; cost the chain with activations and a "
                  "cache of 4 bytes (chain_of)",
                  need, given);
  return static_cast<std::size_t>(begin);
}

role role_of(const berth::plan& p, std::uint32_t atom, bool weight) {
  switch (p.atoms[atom].kind) {
    case berth::atom_kind::embedding:
      return !weight ? role::pass_on : atom == 0 ? role::tokens : role::positions;  // rotary tables have no weight
    case berth::atom_kind::block:
      return role::block;
    case berth::atom_kind::norm:
      return role::norm;
    case berth::atom_kind::head:
      return role::head;
    case berth::atom_kind::other:
      break;
  }
  return role::pass_on;
}

result<launch> launch_of(const berth::plan& p, const berth::weight_images& images, const shape& s, std::uint32_t atom) {
  launch l;
  const std::string prefix(p.atoms[atom].name);
  const bool block = p.atoms[atom].kind == berth::atom_kind::block;
  const auto names = !block   ? std::span<const part_name>(own_names)
                     : s.gpt2 ? std::span<const part_name>(gpt2_names)
                              : std::span<const part_name>(llama_names);
  for (const auto& n : names) {
    const auto* t = images.find(atom, prefix + "." + std::string(n.name));
    if (t != nullptr && !readable(*t))
      return fail(errc::unsupported, t->name,
                  "the example reads f32, f16, bf16 and int8 of its own; plan with a dtype");
    l.tensors[n.which] = t;
  }
  l.role = role_of(p, atom, l.tensors[first] != nullptr);
  const auto none = std::span<const part>();
  static constexpr part one[] = {first};
  for (const auto needed : l.role == role::block     ? needed_by(s)
                           : l.role == role::pass_on ? none
                                                     : std::span<const part>(one))
    if (l.tensors[needed] == nullptr)
      return fail(errc::unsupported, p.atoms[atom].name,
                  "is not laid out as the example expects; plan whole blocks (granularity blocks)");
  if (l.role == role::pass_on && !images.of(atom).empty() && images.of(atom).front().stored)
    return fail(errc::unsupported, p.atoms[atom].name, "holds weights that the example has no use for");
  return l;
}

}  // namespace

result<berth::done> bind(prepared& p) {
  const auto& plan = p.plan_;
  const auto atoms = static_cast<std::uint32_t>(plan.atoms.size());
  if (plan.workload.batch != 1) return fail(errc::unsupported, "batch", "the example generates one sequence");
  for (const auto ph : berth::all_phases)
    for (std::uint32_t i = 0; i < atoms; ++i) {
      auto l = launch_of(plan, p.images_, p.shape_, i);
      if (!l) return l.propagate();
      l->streamed = plan.placements[i].streamed(ph);
      l->shape = &p.shape_;
      l->sequence = p.sequence_.data();
      l->count = ph == berth::phase::prefill ? static_cast<std::int64_t>(plan.workload.prompt) : 1;
      p.launches_.push_back(*l);
    }
  for (const auto* program : {&p.programs_.prefill, &p.programs_.decode})
    for (const auto& op : program->operations) {
      if (op.kind != berth::op_kind::launch) continue;
      auto& l = p.launches_[(program == &p.programs_.decode ? atoms : 0) + op.atom];
      const auto& w = plan.workload;
      const auto kept = program == &p.programs_.prefill ? w.prompt : w.prompt + w.generate - (w.generate > 0 ? 1 : 0);
      auto scratch = scratch_of(op, l, kept, plan.atoms[op.atom].name);
      if (!scratch) return scratch.propagate();
      l.scratch = *scratch;
    }
  return berth::done{};
}

prepared::prepared(const opened& m, berth::plan p, berth::compiled_plan programs, berth::weight_images images,
                   bool keep_logits, std::pmr::memory_resource* shared)
    : shape_(m.shape),
      plan_(std::move(p)),
      programs_(std::move(programs)),
      images_(std::move(images)),
      tokens_(plan_.workload.prompt + plan_.workload.generate + 1, shared),
      logits_(keep_logits ? (rounds() + 1) * static_cast<std::size_t>(shape_.vocabulary) : 0, shared),
      sequence_(1, shared) {}
prepared::~prepared() = default;

berth::work_source prepared::work(const gpu_forward* gpu) {
  for (auto& l : launches_) l.gpu = gpu;
  return {this, [](void* context, berth::program_phase phase, std::uint32_t atom) {
            auto& self = *static_cast<prepared*>(context);
            const auto first = phase == berth::program_phase::decode ? self.plan_.atoms.size() : 0;
            return berth::work{&self.launches_[first + atom], &run};
          }};
}

result<berth::done> prepared::begin(std::span<const std::int32_t> prompt) {
  if (prompt.size() != plan_.workload.prompt || prompt.empty())
    return fail(errc::invalid_argument, "prompt", "has another length than the plan's workload", prompt.size(),
                plan_.workload.prompt);
  for (const auto t : prompt)
    if (t < 0 || t >= shape_.vocabulary)
      return fail(errc::invalid_argument, "prompt", "has a token outside the vocabulary",
                  static_cast<berth::bytes>(std::max(t, 0)), static_cast<berth::bytes>(shape_.vocabulary));
  std::copy(prompt.begin(), prompt.end(), tokens_.begin());
  sequence_.front() = {tokens_.data(), 0, logits_.empty() ? nullptr : logits_.data(), 0};
  return berth::done{};
}

std::span<const std::int32_t> prepared::generated() const {
  return std::span(tokens_).subspan(plan_.workload.prompt, static_cast<std::size_t>(sequence_.front().passes));
}
std::span<const float> prepared::logits() const {
  if (logits_.empty()) return {};
  return std::span(logits_).first(static_cast<std::size_t>(sequence_.front().passes * shape_.vocabulary));
}

result<std::unique_ptr<prepared>> prepare(const opened& m, berth::plan p, const berth::precision& how, bool keep_logits,
                                          std::pmr::memory_resource* shared) {
  const auto last = m.model.architecture.max_context;
  if (last > 0 && p.workload.prompt + p.workload.generate > last)
    return fail(errc::invalid_argument, "workload", "has more tokens than the model has positions",
                p.workload.prompt + p.workload.generate, last);
  auto programs = berth::compile_all(p);
  if (!programs) return programs.propagate();
  auto sources = berth::sources_of(m.model);
  if (!sources) return sources.propagate();
  auto images = berth::make_images(p, m.model.tree(), m.model.sizes, how, *std::move(sources));
  if (!images) return images.propagate();
  auto out = std::make_unique<prepared>(m, std::move(p), *std::move(programs), *std::move(images), keep_logits, shared);
  if (auto ok = bind(*out); !ok) return ok.propagate();
  return out;
}

}  // namespace tiny
