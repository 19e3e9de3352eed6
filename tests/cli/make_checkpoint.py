#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a small Llama in bf16 with weights that anyone can make again: make_checkpoint.py FOLDER [HIDDEN LAYERS VOCABULARY]"""
import json
import pathlib
import struct
import sys


def weights(count, seed):
    """bf16 numbers of ordinary size, by a repeated block that differs from tensor to tensor."""
    state, block = seed * 2654435761 % 2**32, []
    for _ in range(1021):
        state = (state * 1664525 + 1013904223) % 2**32
        block.append(0x3C00 | (state >> 16 & 0x83FF))
    data = struct.pack("<1021H", *block)
    return (data * (count // 1021 + 1))[: 2 * count]


def main():
    folder = pathlib.Path(sys.argv[1])
    hidden, layers, vocabulary = (int(a) for a in sys.argv[2:5]) if len(sys.argv) > 2 else (64, 4, 256)
    inner = 5 * hidden // 2
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": vocabulary, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16"}))
    tensors = [("model.embed_tokens.weight", [vocabulary, hidden])]
    for layer in range(layers):
        name = f"model.layers.{layer}."
        tensors += [(name + "input_layernorm.weight", [hidden]),
                    (name + "mlp.down_proj.weight", [hidden, inner]),
                    (name + "mlp.gate_proj.weight", [inner, hidden]),
                    (name + "mlp.up_proj.weight", [inner, hidden]),
                    (name + "post_attention_layernorm.weight", [hidden]),
                    (name + "self_attn.k_proj.weight", [hidden // 2, hidden]),
                    (name + "self_attn.o_proj.weight", [hidden, hidden]),
                    (name + "self_attn.q_proj.weight", [hidden, hidden]),
                    (name + "self_attn.v_proj.weight", [hidden // 2, hidden])]
    tensors += [("model.norm.weight", [hidden]), ("lm_head.weight", [vocabulary, hidden])]
    half = len(tensors) // 2
    index = {}
    for number, part in enumerate((tensors[:half], tensors[half:]), 1):
        file, header, data = f"model-0000{number}-of-00002.safetensors", {}, b""
        for name, shape in part:
            count = shape[0] * (shape[1] if len(shape) > 1 else 1)
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(data), len(data) + 2 * count]}
            data += weights(count, len(index) + 1)
            index[name] = file
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        (folder / file).write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


if __name__ == "__main__":
    main()
