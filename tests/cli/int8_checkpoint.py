#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes small checkpoints and compares an int8 copy with the formula of bitsandbytes, both without other packages.

    int8_checkpoint.py make FOLDER [DTYPE] [BAD]   a tiny Llama with a config; DTYPE BF16 (default), F16, F32; BAD puts
                                                   nan, inf or tiny into row 3 of a weight
    int8_checkpoint.py check SOURCE COPY           every tensor of COPY is what SOURCE says it must be
"""
import json
import os
import random
import struct
import sys

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 48,
          "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64,
          "max_position_embeddings": 128, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "hidden_act": "silu",
          "tie_word_embeddings": False}
TORCH = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
BAD_TENSOR = "model.layers.1.mlp.up_proj.weight"


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def encode(values, dtype):
    if dtype == "F32":
        return struct.pack(f"<{len(values)}f", *values)
    if dtype == "F16":
        return struct.pack(f"<{len(values)}e", *values)
    bits = struct.unpack(f"<{len(values)}I", struct.pack(f"<{len(values)}f", *values))
    return struct.pack(f"<{len(values)}H", *(b >> 16 for b in bits))


def decode(data, dtype):
    if dtype == "F32":
        return struct.unpack(f"<{len(data) // 4}f", data)
    if dtype == "F16":
        return struct.unpack(f"<{len(data) // 2}e", data)
    bits = struct.unpack(f"<{len(data) // 2}H", data)
    return struct.unpack(f"<{len(bits)}f", struct.pack(f"<{len(bits)}I", *(b << 16 for b in bits)))


def shapes():
    hidden, wide, head = 32, 48, 8
    yield "model.embed_tokens.weight", (64, hidden)
    for layer in range(2):
        base = f"model.layers.{layer}."
        yield base + "input_layernorm.weight", (hidden,)
        for name, rows in (("q", 32), ("k", 2 * head), ("v", 2 * head), ("o", 32)):
            yield f"{base}self_attn.{name}_proj.weight", (rows, hidden)
        yield base + "post_attention_layernorm.weight", (hidden,)
        yield base + "mlp.gate_proj.weight", (wide, hidden)
        yield base + "mlp.up_proj.weight", (wide, hidden)
        yield base + "mlp.down_proj.weight", (hidden, wide)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (64, hidden)


def make(folder, dtype="BF16", bad=None):
    rng = random.Random(7)
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, shape in shapes():
        count = 1
        for d in shape:
            count *= d
        values = [rng.gauss(0, 0.05) for _ in range(count)]
        if name.endswith("k_proj.weight"):  # a row of zeros, and one with a single large weight
            values[:shape[1]] = [0.0] * shape[1]
            values[shape[1] + 5] = 60.0
        if bad and name == BAD_TENSOR:
            at = 3 * shape[1]
            values[at:at + shape[1]] = [1e-40] * shape[1] if bad == "tiny" else values[at:at + shape[1]]
            if bad != "tiny":
                values[at + 1] = float(bad)
        part = encode(values, dtype)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    os.makedirs(folder)
    with open(os.path.join(folder, "model.safetensors"), "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + data)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as out:
        json.dump(dict(CONFIG, torch_dtype=TORCH[dtype]), out)
    for name in ("tokenizer.json", "generation_config.json", "LICENSE"):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
            out.write("{}\n")
    with open(os.path.join(folder, "notes.bin"), "wb") as out:
        out.write(b"not copied")


def read(folder):
    """name -> (dtype, shape, bytes), checked as the format wants it"""
    tensors = {}
    names = sorted(n for n in os.listdir(folder) if n.endswith(".safetensors"))
    for name in names:
        with open(os.path.join(folder, name), "rb") as file:
            content = file.read()
        length, = struct.unpack("<Q", content[:8])
        header = json.loads(content[8:8 + length])
        data = content[8 + length:]
        header.pop("__metadata__", None)
        end = 0
        for tensor, info in sorted(header.items(), key=lambda t: t[1]["data_offsets"]):
            begin, stop = info["data_offsets"]
            assert begin == end, f"{name}: {tensor} leaves a hole"
            end = stop
            assert tensor not in tensors, f"{tensor} is in two files"
            tensors[tensor] = (info["dtype"], info["shape"], data[begin:stop])
        assert end == len(data), f"{name}: bytes behind the last tensor"
    index = os.path.join(folder, "model.safetensors.index.json")
    assert os.path.exists(index) == (len(names) > 1)
    if len(names) > 1:
        with open(index, encoding="utf-8") as file:
            document = json.load(file)
        assert set(document["weight_map"]) == set(tensors)
        assert document["metadata"]["total_size"] == sum(len(t[2]) for t in tensors.values())
    return tensors


def quantized_rows(values, columns):
    """bitsandbytes: CB = rint(w * (127 / SCB)) in f32 with SCB the largest magnitude of the row"""
    codes, scales = [], []
    for at in range(0, len(values), columns):
        row = values[at:at + columns]
        scale = max(map(abs, row))
        factor = f32(127.0 / scale) if scale else 0.0
        # A product of two f32 is exact in a double, so this rounds once; Python rounds ties to even.
        codes += [round(f32(v * factor)) for v in row]
        scales.append(scale)
    return codes, scales


def check(source, copy):
    before, after = read(source), read(copy)
    with open(os.path.join(copy, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    block = config.pop("quantization_config")
    with open(os.path.join(source, "config.json"), encoding="utf-8") as file:
        assert config == json.load(file), "config.json changed"
    assert block["load_in_8bit"] is True and block["quant_method"] == "bitsandbytes"
    assert block["llm_int8_threshold"] == 6.0
    quantized = 0
    for name, (dtype, shape, data) in before.items():
        module = name.rpartition(".")[0]
        if not name.endswith(".weight") or module + ".SCB" not in after:
            assert after.pop(name) == (dtype, shape, data), f"{name} changed"
            continue
        values = decode(data, dtype)
        conv1d = config["model_type"] == "gpt2"
        rows, columns = (shape[1], shape[0]) if conv1d else shape
        if conv1d:
            values = [values[c * rows + r] for r in range(rows) for c in range(columns)]
        codes, scales = quantized_rows(values, columns)
        assert after.pop(name) == ("I8", [rows, columns], struct.pack(f"{len(codes)}b", *codes)), name
        assert after.pop(module + ".SCB") == ("F32", [rows], struct.pack(f"<{rows}f", *scales)), name
        assert after.pop(module + ".weight_format") == ("U8", [], b"\0"), name
        quantized += 1
    assert not after, f"more than there should be: {sorted(after)}"
    print(quantized, "weights")


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]](*sys.argv[2:])
