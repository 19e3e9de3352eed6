#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures transformers with accelerate on the GPU of this machine, for the checkpoint that run_bundle.sh measures berth
with, and writes JSON to be put beside its result. Peers that cannot be imported are named as such, not guessed.

    side_by_side.py OUT.json [--model FOLDER | --gib 8] [--tokens 32] [--gpu-share 0.6]

Cases: resident (all on the GPU), cpu_offload and disk_offload (a device map with max_memory; gpu-share of the weights on
the GPU), int8 (bitsandbytes). Each runs in a process of its own, so that none finds what another has cached on the
device. Times are wall-clock; the first token is reported apart. Without torch or a GPU it says so and leaves with 77.
"""
import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = ("resident", "cpu_offload", "disk_offload", "int8")


def missing():
    """Why nothing can be measured here, or None."""
    try:
        import torch
    except ImportError as e:
        return f"torch cannot be imported ({e})"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    try:
        import accelerate  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as e:
        return f"a peer cannot be imported ({e})"
    return None


def stored_bytes(folder):
    return sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder) if f.endswith(".safetensors"))


def map_arguments(case, folder, share, scratch):
    on_gpu = int(stored_bytes(folder) * share)
    if case == "resident":
        return {"device_map": {"": 0}}
    if case == "cpu_offload":
        return {"device_map": "auto", "max_memory": {0: on_gpu, "cpu": 1 << 50}}
    if case == "disk_offload":
        return {"device_map": "auto", "max_memory": {0: on_gpu, "cpu": 0}, "offload_folder": scratch}
    from transformers import BitsAndBytesConfig
    import bitsandbytes  # noqa: F401  its absence is the result
    return {"device_map": {"": 0}, "quantization_config": BitsAndBytesConfig(load_in_8bit=True)}


def measure(case, folder, tokens, share):
    """One case, in this process."""
    import torch
    from transformers import AutoModelForCausalLM
    with tempfile.TemporaryDirectory() as scratch:
        arguments = map_arguments(case, folder, share, scratch)
        torch.cuda.synchronize()
        begin = time.perf_counter()
        model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.bfloat16, **arguments)
        torch.cuda.synchronize()
        load = time.perf_counter() - begin
        ids = torch.ones((1, 16), dtype=torch.long, device="cuda")
        times, cache = [], None
        with torch.inference_mode():
            for _ in range(tokens + 1):
                begin = time.perf_counter()
                out = model(input_ids=ids, past_key_values=cache, use_cache=True)
                torch.cuda.synchronize()
                times.append(time.perf_counter() - begin)
                cache = out.past_key_values
                ids = out.logits[:, -1:].argmax(-1).to("cuda")
        decode = sorted(times[1:])
        places = {}
        for place in getattr(model, "hf_device_map", {}).values():
            places[str(place)] = places.get(str(place), 0) + 1
        return {"load_seconds": load, "load_bytes_per_second": stored_bytes(folder) / load,
                "first_token_seconds": times[0], "token_seconds": decode[len(decode) // 2],
                "token_seconds_low": decode[0], "token_seconds_high": decode[-1],
                "gpu_bytes": torch.cuda.max_memory_allocated(), "modules": places}


def run_case(case, a, folder):
    command = [sys.executable, os.path.abspath(__file__), "-", "--case", case, "--model", folder, "--tokens",
               str(a.tokens), "--gpu-share", str(a.gpu_share)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout.strip().splitlines()[-1])
    return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}


def versions():
    from importlib import metadata
    out = {}
    for name in ("torch", "transformers", "accelerate", "bitsandbytes"):
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            out[name] = None
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--model", help="folder of a checkpoint; without it one is made")
    parser.add_argument("--gib", type=float, default=8)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--gpu-share", type=float, default=0.6)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if why := missing():
        print(f"skipped: {why}")
        return 77
    if a.case:
        print(json.dumps(measure(a.case, a.model, a.tokens, a.gpu_share)))
        return 0
    import torch
    with tempfile.TemporaryDirectory(dir=".") as made:
        folder = a.model or os.path.join(made, "model")
        if not a.model:
            subprocess.run([sys.executable, os.path.join(HERE, "make_checkpoint.py"), folder, "--gib", str(a.gib)],
                           check=True)
        result = {"format": "berth.side_by_side/1", "date": datetime.datetime.now(datetime.timezone.utc).isoformat(),
                  "device": torch.cuda.get_device_name(0), "versions": versions(), "bytes": stored_bytes(folder),
                  "gpu_share": a.gpu_share, "results": {case: run_case(case, a, folder) for case in CASES}}
    with open(a.out, "w", encoding="utf-8") as out:
        json.dump(result, out, indent=1)
    print(a.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
