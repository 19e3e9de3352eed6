#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The layer check finds each kind of breach in a made-up tree, at the right line, and accepts what is allowed."""
import importlib.util
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHECK = ROOT / "cmake" / "check_layers.py"
specification = importlib.util.spec_from_file_location("check_layers", CHECK)
check_layers = importlib.util.module_from_spec(specification)
specification.loader.exec_module(check_layers)

ALLOWED = {
    "modules/base/a.cppm": "module;\n\n#include <cstdint>\n\nexport module berth.base:a;\n",
    "modules/plan/a.cppm": "export module berth.plan;\nexport import :b;\nimport berth.model;\nimport berth.base;\n",
    "modules/plan/a.cpp": "module;\n#include <range/v3/all.hpp>\nmodule berth.plan;\nnamespace {\nint x();\n}\n",
    "modules/berth/berth.cppm": "export module berth;\nexport import berth.plan;\n",
    "modules/formats/json.cpp": "module;\n#include <boost/json.hpp>\n#include <fstream>\nmodule berth.formats;\n",
    "modules/compat/keys.cpp": "module;\n#include <re2/re2.h>\nmodule berth.compat;\nimport berth.plan;\n",
    "modules/exec/note.cppm": "// import berth.sim;\n/* #include <iostream>\n#include <thread> */\nexport module berth.exec;\n",
    "backends/cuda/kernels.cu": "#include <cuda_runtime_api.h>\n#include \"kernels.h\"\n",
    "backends/cuda/kernels.h": "#include <stddef.h>\n",
    "sim/machine.cppm": "export module berth.sim;\nimport berth.exec;\n",
    "tools/main.cpp": "#include <CLI/CLI.hpp>\n#include <fmt/core.h>\n#include <iostream>\nimport berth;\n",
    "tools/plan.cpp": "#include <string>\nimport berth;\n#include \"machine.hpp\"\n",
    "tests/unit/plan_a.cpp": "#include <boost/test/unit_test.hpp>\n#include <range/v3/all.hpp>\nimport berth.plan;\n",
    "bench/place.cpp": "#include <benchmark/benchmark.h>\nimport berth;\n",
}

# path -> (text, line of the breach, part of the message)
BREACHES = {
    "modules/base/up.cppm": ("export module berth.base:up;\nimport berth.model;\n", 2, "modules/base may import nothing"),
    "modules/model/side.cppm": ("export module berth.model:side;\nimport berth.topology;\n", 2, "may import berth.base"),
    "modules/plan/reader.cpp": ("module berth.plan;\nimport berth.formats;\n", 2, "imports berth.formats"),
    "modules/plan/all.cpp": ("module berth.plan;\nimport berth;\n", 2, "imports berth;"),
    "modules/compat/json.cpp": ("module berth.compat;\nimport berth.formats;\n", 2, "imports berth.formats"),
    "modules/runtime/machine.cpp": ("module berth.runtime;\nimport berth.cuda;\n", 2, "imports berth.cuda"),
    "backends/cuda/simulated.cpp": ("module berth.cuda;\nimport berth.sim;\n", 2, "imports berth.sim"),
    "sim/strategy.cpp": ("module berth.sim;\nimport berth.plan;\n", 2, "imports berth.plan"),
    "modules/plan/foreign.cpp": ("module berth.plan;\nimport boost.json;\n", 2, "none of our modules"),
    "modules/plan/std.cpp": ("module berth.plan;\nimport std;\n", 2, "included, not imported"),
    "modules/plan/print.cpp": ("module;\n#include <iostream>\nmodule berth.plan;\n", 2, "no I/O"),
    "modules/topology/lock.cpp": ("module;\n#include <mutex>\nmodule berth.topology;\n", 2, "no I/O"),
    "modules/base/env.cpp": ("module berth.base;\nauto f() { return getenv(\"X\"); }\n", 2, "calls getenv"),
    "modules/model/posix.cpp": ("module;\n#include <unistd.h>\nmodule berth.model;\n", 2, "no I/O"),
    "modules/compat/regex.cpp": ("module;\n#include <regex>\nmodule berth.compat;\n", 2, "RE2"),
    "modules/plan/json.cpp": ("module;\n#include <boost/json.hpp>\nmodule berth.plan;\n", 2, "only modules/formats may"),
    "modules/formats/json.cppm": ("module;\n#include <boost/json.hpp>\nexport module berth.formats:j;\n", 2, "into a .cpp"),
    "modules/plan/view.cppm": ("module;\n#include <range/v3/all.hpp>\nexport module berth.plan:v;\n", 2, "into a .cpp"),
    "modules/formats/fmt.cpp": ("module;\n#include <fmt/core.h>\nmodule berth.formats;\n", 2, "only tools may"),
    "modules/formats/test.cpp": ("module;\n#include <boost/test/unit_test.hpp>\nmodule berth.formats;\n", 2, "only tests may"),
    "backends/host/cuda.cpp": ("module;\n#include <cuda_runtime.h>\nmodule berth.host;\n", 2, "only backends/cuda may"),
    "tests/unit/json.cpp": ("#include <boost/json.hpp>\n", 1, "only modules/formats may"),
    "tools/unknown.cpp": ("#include <indicators/bar.hpp>\n", 1, "no rule"),
    "modules/plan/steal.cpp": ("module;\n#include \"../model/tree.hpp\"\nmodule berth.plan;\n", 2, "another layer"),
    "modules/plan/late.cpp": ("module berth.plan;\nimport berth.base;\n#include <vector>\n", 3, "all includes come first"),
    "tools/late.cpp": ("import berth;\n#include <vector>\n", 2, "all includes come first"),
    "modules/plan/unnamed.cppm": ("export module berth.plan:u;\nnamespace {\nint x;\n}\n", 2, "unnamed namespace"),
    "modules/plan/name.cppm": ("export module berth.model:x;\n", 1, "belong to berth.plan"),
    "modules/newcomer/a.cppm": ("export module berth.newcomer;\n", 1, "no rule"),
}


class LayerCheck(unittest.TestCase):
    def check(self, files):
        with tempfile.TemporaryDirectory() as folder:
            for path, text in files.items():
                target = pathlib.Path(folder, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
            return check_layers.check_tree(folder)[2]

    def test_accepts_what_is_allowed(self):
        self.assertEqual(self.check(ALLOWED), [])

    def test_finds_every_kind_of_breach(self):
        for path, (text, line, message) in BREACHES.items():
            with self.subTest(path):
                breaches = self.check(ALLOWED | {path: text})
                self.assertEqual(len(breaches), 1, breaches)
                self.assertTrue(breaches[0].startswith(f"{path}:{line}: "), breaches)
                self.assertIn(message, breaches[0])


class Program(unittest.TestCase):
    def run_check(self, root, *options):
        return subprocess.run([sys.executable, CHECK, root, *options], capture_output=True, text=True, check=False)

    def test_a_breach_fails_the_build_step_and_leaves_no_stamp(self):
        with tempfile.TemporaryDirectory() as folder:
            source, stamp = pathlib.Path(folder, "modules/base/up.cppm"), pathlib.Path(folder, "stamp")
            source.parent.mkdir(parents=True)
            source.write_text(BREACHES["modules/base/up.cppm"][0], encoding="utf-8")
            options = ("--stamp", stamp, "--depfile", f"{stamp}.d")
            done = self.run_check(folder, *options)
            self.assertEqual(done.returncode, 1)
            self.assertIn("modules/base may import nothing", done.stderr)
            self.assertFalse(stamp.exists())
            source.write_text(ALLOWED["modules/base/a.cppm"], encoding="utf-8")
            self.assertEqual(self.run_check(folder, *options).returncode, 0)
            self.assertTrue(stamp.exists())
            self.assertIn("modules/base/up.cppm", pathlib.Path(f"{stamp}.d").read_text(encoding="utf-8"))

    def test_an_empty_tree_is_no_success(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(self.run_check(folder).returncode, 1)

    def test_this_tree_has_no_breach(self):
        done = self.run_check(ROOT)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
