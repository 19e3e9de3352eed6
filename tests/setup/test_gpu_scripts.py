#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The scripts in gpu/ on machines without a GPU, and on one whose programs are stand-ins."""
import importlib.util
import json
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import unittest

GPU = pathlib.Path(__file__).resolve().parents[2] / "gpu"
DEVICE = """#!/bin/sh
if [ "$1" = --device ]; then printf '{"name": "Stand-in", "driver": 13000}\\n'; exit 0; fi
printf '{"memory_copy_bytes_per_second": 1}\\n'
"""


class GpuScripts(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.root = pathlib.Path(scratch.name)
        shutil.copy(GPU / "run_bundle.sh", self.root)
        (self.root / "version").write_text("v1\n")

    def program(self, name, text):
        path = self.root / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run_bundle(self, **environment):
        return subprocess.run(["sh", "run_bundle.sh", "result.json"], cwd=self.root, text=True, capture_output=True,
                              env={**os.environ, "GIB": "0", **environment}, check=False)

    def test_without_a_device_nothing_is_measured_and_the_code_says_so(self):
        self.program("berth_bench_gpu", "#!/bin/sh\necho 'skipped: CUDA: no NVIDIA driver was found'\nexit 77\n")
        done = self.run_bundle()
        self.assertEqual(done.returncode, 77)
        self.assertIn("skipped: no device", done.stdout)
        self.assertIn("no NVIDIA driver was found", done.stdout)
        self.assertEqual([p.name for p in self.root.iterdir() if p.name.startswith(("result", "berth-gpu"))], [])

    def test_a_folder_that_is_no_bundle_is_refused_or_skipped(self):
        done = self.run_bundle()
        driver = os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/dxg")
        self.assertEqual(done.returncode, 2 if driver else 77, done.stdout + done.stderr)

    def test_everything_that_ran_is_in_one_json_with_failures_as_failures(self):
        self.program("berth_bench_gpu", DEVICE)
        self.program("berth_conformance", "#!/bin/sh\nprintf 'a \"quoted\" \\\\ line\\nand\\ta tab\\n'\nexit 3\n")
        self.program("berth_kernels_gpu", "#!/bin/sh\necho fine\n")
        self.program("berth", "#!/bin/sh\necho 'calibrate: broken' >&2\nexit 2\n")
        done = self.run_bundle()
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads((self.root / "result.json").read_text())
        self.assertEqual(result["format"], "berth.gpu_result/1")
        self.assertEqual(result["version"], "v1")
        self.assertEqual(result["device"]["name"], "Stand-in")
        self.assertEqual(result["results"]["conformance"]["exit"], 3)
        self.assertIn('a "quoted" \\ line\n', result["results"]["conformance"]["output"])
        self.assertEqual(result["results"]["kernels"]["exit"], 0)
        self.assertEqual(result["results"]["bench"], {"memory_copy_bytes_per_second": 1})
        self.assertEqual(result["results"]["topology"]["exit"], 2)
        self.assertIn("broken", result["results"]["topology"]["output"])

    def test_a_made_checkpoint_is_whole(self):
        spec = importlib.util.spec_from_file_location("make_checkpoint", GPU / "make_checkpoint.py")
        make = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(make)
        make.HIDDEN, make.INNER, make.VOCABULARY, make.BLOCK = 64, 96, 100, 1000
        members, layers = make.tensors(300000)
        self.assertGreaterEqual(layers, 2)
        path = self.root / "x.safetensors"
        make.write_shard(path, members, make.noise(1))
        data = path.read_bytes()
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8:8 + length])
        self.assertEqual(list(header), [name for name, _ in members])
        end = 0
        for entry in header.values():
            self.assertEqual(entry["data_offsets"][0], end)
            end = entry["data_offsets"][1]
        self.assertEqual(len(data), 8 + length + end)

    def test_peers_that_are_missing_are_named(self):
        if importlib.util.find_spec("torch"):
            self.skipTest("torch is here")
        done = subprocess.run(["python3", str(GPU / "side_by_side.py"), "out.json"], cwd=self.root, text=True,
                              capture_output=True, check=False)
        self.assertEqual(done.returncode, 77)
        self.assertIn("skipped: torch cannot be imported", done.stdout)
        self.assertFalse((self.root / "out.json").exists())


if __name__ == "__main__":
    unittest.main()
