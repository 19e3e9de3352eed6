#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a Llama-shaped bf16 checkpoint of a given size: config.json and safetensors shards. Weights are noise of small
magnitude; only their sizes and places mean something. Needs nothing but Python.

    make_checkpoint.py FOLDER [--gib 8] [--seed 1]
"""
import argparse
import json
import os
import random
import struct

HIDDEN, INNER, HEADS, KEYS, VOCABULARY = 4096, 14336, 32, 8, 32000
SHARD = 4 << 30
BLOCK = 8 << 20


def layer(i):
    at = f"model.layers.{i}."
    head = HIDDEN // HEADS
    return [(at + "input_layernorm.weight", [HIDDEN]),
            (at + "mlp.down_proj.weight", [HIDDEN, INNER]),
            (at + "mlp.gate_proj.weight", [INNER, HIDDEN]),
            (at + "mlp.up_proj.weight", [INNER, HIDDEN]),
            (at + "post_attention_layernorm.weight", [HIDDEN]),
            (at + "self_attn.k_proj.weight", [KEYS * head, HIDDEN]),
            (at + "self_attn.o_proj.weight", [HIDDEN, HIDDEN]),
            (at + "self_attn.q_proj.weight", [HIDDEN, HIDDEN]),
            (at + "self_attn.v_proj.weight", [KEYS * head, HIDDEN])]


def size_of(shape):
    n = 2
    for d in shape:
        n *= d
    return n


def tensors(wanted):
    """Tensors of as many layers as come nearest to the wanted bytes, at least one."""
    outside = [("model.embed_tokens.weight", [VOCABULARY, HIDDEN])], [("model.norm.weight", [HIDDEN]),
                                                                     ("lm_head.weight", [VOCABULARY, HIDDEN])]
    fixed = sum(size_of(shape) for part in outside for _, shape in part)
    each = sum(size_of(shape) for _, shape in layer(0))
    layers = max(1, round((wanted - fixed) / each))
    return outside[0] + [t for i in range(layers) for t in layer(i)] + outside[1], layers


def noise(seed):
    """bf16 values between 2^-8 and 2^-6 in magnitude, of both signs."""
    source = random.Random(seed)
    block = bytearray(BLOCK)
    block[0::2] = source.randbytes(BLOCK // 2)
    block[1::2] = bytes(source.choices((0x3B, 0x3C, 0xBB, 0xBC), k=BLOCK // 2))
    return block


def write_shard(path, members, block):
    header, at = {}, 0
    for name, shape in members:
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size_of(shape)]}
        at += size_of(shape)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        left = at
        while left > 0:
            out.write(memoryview(block)[:min(left, len(block))])
            left -= min(left, len(block))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--gib", type=float, default=8)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    os.makedirs(a.folder, exist_ok=True)
    members, layers = tensors(int(a.gib * (1 << 30)))
    shards, used = [[]], 0
    for name, shape in members:
        if used + size_of(shape) > SHARD and shards[-1]:
            shards.append([])
            used = 0
        shards[-1].append((name, shape))
        used += size_of(shape)
    block = noise(a.seed)
    names = {}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        write_shard(os.path.join(a.folder, file), shard, block)
        names.update({name: file for name, _ in shard})
    total = sum(size_of(shape) for _, shape in members)
    with open(os.path.join(a.folder, "model.safetensors.index.json"), "w", encoding="utf-8") as out:
        json.dump({"metadata": {"total_size": total}, "weight_map": names}, out)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
              "intermediate_size": INNER, "num_hidden_layers": layers, "num_attention_heads": HEADS,
              "num_key_value_heads": KEYS, "vocab_size": VOCABULARY, "max_position_embeddings": 8192,
              "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "hidden_act": "silu", "torch_dtype": "bfloat16",
              "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2}
    with open(os.path.join(a.folder, "config.json"), "w", encoding="utf-8") as out:
        json.dump(config, out, indent=1)
    print(f"{a.folder}: {layers} layers, {total} bytes in {len(shards)} files")


if __name__ == "__main__":
    main()
