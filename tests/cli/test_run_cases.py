#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The case runner fails when it should: each broken expectation is found, with a made-up program under test."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

RUNNER = pathlib.Path(__file__).resolve().with_name("run_cases.py")
# berth OUT ERR CODE prints the two texts and exits with the code.
PROGRAM = '#!/bin/sh\nprintf "%b" "$1"\nprintf "%b" "$2" >&2\nexit "${3:-0}"\n'

PASSES = r"""
# a comment
file sub/a.txt
| one
|
| two
$ berth 'x\ny\n' ''
stdout~ ^y$
stdout!~ z
stdout=
| x
| y
$ cat sub/a.txt
stdout=
| one
|
| two
$ berth '' 'berth: no such device: 9\n' 2
exit 2
stderr~ device: \d
$ berth 'no' '' 1
exit 1
$ berth '{"a": [{"id": 0, "b.c": null}], "n": 1.5, "t": true}' ''
json
json .a[0].id == 0
json .a[0]["b.c"] == null
json .n == 1.5
json .t == true
json .a[1] missing
json .a exists
$ berth 'x' 'note\n'
any stderr
$ cat; echo $COLOR
env COLOR=1
stdin=
| 1.5GiB
stdout=
| 1.5GiB
| 1
"""

FAILS = {
    "exit code": "$ berth a '' 1\n",
    "expected exit code": "$ berth a ''\nexit 1\n",
    "crash": "$ kill -SEGV $$\nexit 139\n",
    "not found": "$ no-such-program\nexit 127\nany stderr\n",
    "stderr after success": "$ berth a warning\n",
    "silent refusal": "$ berth '' '' 2\nexit 2\n",
    "long refusal": "$ berth '' 'a\\nb\\nc\\n' 2\nexit 2\n",
    "refusal with output": "$ berth table error 2\nexit 2\n",
    "escape codes": "$ berth '\\033[1mbold' ''\n",
    "stdout pattern": "$ berth abc ''\nstdout~ ^b\n",
    "forbidden pattern": "$ berth abc ''\nstdout!~ b\n",
    "stderr pattern": "$ berth '' abc\nstderr~ x\n",
    "exact text": "$ berth 'a\\n' ''\nstdout=\n| b\n",
    "no JSON": "$ berth '{' ''\njson\n",
    "NaN": "$ berth '[NaN]' ''\njson\n",
    "duplicate member": "$ berth '{\"a\": 1, \"a\": 1}' ''\njson\n",
    "JSON value": "$ berth '{\"a\": 1}' ''\njson .a == 2\n",
    "JSON kind": "$ berth '{\"a\": true}' ''\njson .a == 1\n",
    "JSON presence": "$ berth '{\"a\": 1}' ''\njson .b exists\n",
    "time": "$ sleep 5\nseconds 0.2\n",
    "no command": "# nothing\n",
    "unknown line": "$ berth a ''\nstdoot~ a\n",
    "text without owner": "$ berth a ''\n| a\n",
    "second step": "$ berth a ''\n$ berth a '' 1\n",
}


class CaseRunner(unittest.TestCase):
    def run_case(self, text, **environment):
        with tempfile.TemporaryDirectory() as folder:
            program, case = pathlib.Path(folder, "program"), pathlib.Path(folder, "made-up.case")
            program.write_text(PROGRAM, encoding="utf-8")
            program.chmod(0o755)
            case.write_text(text, encoding="utf-8")
            return subprocess.run([sys.executable, RUNNER, "--berth", program, case], capture_output=True, text=True,
                                  env=os.environ | environment, check=False)

    def test_passes_when_everything_holds(self):
        done = self.run_case(PASSES)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_fails_on_every_broken_expectation(self):
        for name, text in FAILS.items():
            with self.subTest(name):
                done = self.run_case(text)
                self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
                self.assertIn("FAIL made-up.case", done.stdout)

    def test_skips_without_data_unless_data_is_required(self):
        text = "$ berth $BERTH_DATA ''\n"
        self.assertEqual(self.run_case(text, BERTH_DATA="/nowhere", BERTH_REQUIRE_DATA="").returncode, 77)
        self.assertEqual(self.run_case(text, BERTH_DATA="/nowhere", BERTH_REQUIRE_DATA="1").returncode, 1)
        self.assertEqual(self.run_case(text, BERTH_DATA="/").returncode, 0)


if __name__ == "__main__":
    unittest.main()
