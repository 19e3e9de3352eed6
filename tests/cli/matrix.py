#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the program over everything in the golden data: matrix.py --berth PROGRAM --data DIR

Every checkpoint and config is inspected, every machine description is read, and every checkpoint is planned with every
strategy for several machines; berth's own plans are proved by `berth check -`. What must hold: exit 0 (and the plan
holds), or exit 1 or 2 with nothing on stdout and a reason of one or two lines. Prints one row per input and the
refusals grouped by reason; exits 1 if a run crashes, gives no reason, takes too long, or its plan does not hold.
"""
import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys
import time

GPU_COUNTS = (1, 2, 4, 8)
MACHINES = {f"{n}x80GiB": ",".join(f"{i}=80GiB" for i in range(n)) for n in GPU_COUNTS}
MACHINES |= {"24GiB+cpu": "0=24GiB,cpu=512GiB", "cpu 2TiB": "cpu=2048GiB"}
OWN = ("auto", "balanced", "balanced_low_0", "sequential", "single:0", "cpu", "current")
PEERS = ("accelerate", "transformers")
PEER_WORDS = ("auto", "balanced", "balanced_low_0", "sequential")
FAULTS = re.compile(r"terminate called|Traceback|AddressSanitizer|runtime error|Assertion|a fault of berth itself")


class Run:
    """One command: its streams and what is wrong with it."""

    def __init__(self, berth, arguments, seconds, stdin=""):
        self.command = "berth " + " ".join(f"'{a}'" if " " in a else a for a in arguments)
        start = time.monotonic()
        try:
            done = subprocess.run([berth, *arguments], input=stdin.encode(), capture_output=True, timeout=seconds,
                                  check=False)
            self.code, self.out = done.returncode, done.stdout.decode("utf-8", "replace")
            self.errors = done.stderr.decode("utf-8", "replace").strip()
        except subprocess.TimeoutExpired:
            self.code, self.out, self.errors = None, "", f"not done after {seconds:g} s"
        self.seconds = time.monotonic() - start
        self.fault = self.find_fault()

    def find_fault(self):
        lines = self.errors.splitlines()
        if self.code is None:
            return self.errors
        if self.code not in (0, 1, 2):
            return f"exit {self.code}"
        if FAULTS.search(self.errors):
            return "the text of a crash on stderr"
        if self.code != 0 and not 1 <= len(lines) <= 2:
            return f"exit {self.code} with {len(lines)} lines on stderr"
        if self.code != 0 and self.out.strip():
            return f"exit {self.code}, though stdout is not empty"
        return None


class Findings:
    """What went wrong, and the refusals by reason."""

    def __init__(self):
        self.faults, self.refusals, self.slowest = [], collections.defaultdict(list), (0, "")

    def add(self, run, path, label, group):
        if run.fault:
            self.faults.append(f"{run.fault}\n    $ {run.command}\n    {run.errors[:400]}")
        elif run.code != 0:
            message = run.errors.replace(str(path), "PATH")
            reason = re.sub(r'"[^"]*"', '"NAME"', re.sub(r"\d[\d.,]*", "N", message))
            self.refusals[group, run.code, reason].append((label, message))
        self.slowest = max(self.slowest, (run.seconds, run.command))

    def print(self):
        for (group, code, _), entries in sorted(self.refusals.items()):
            names = sorted({label for label, _ in entries})
            print(f"\n[{group}] exit {code}, {len(entries)} times: {entries[0][1]}")
            print("  " + ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else ""))
        print(f"\nslowest: {self.slowest[0]:.2f} s: {self.slowest[1]}")
        for fault in self.faults:
            print(f"FAULT {fault}")
        print(f"{len(self.faults)} faults")


def document_of(run, findings):
    """The JSON object on stdout, or None."""
    if run.code != 0 or run.fault:
        return None
    try:
        return json.loads(run.out)
    except ValueError as problem:
        findings.faults.append(f"stdout is no JSON: {problem}\n    $ {run.command}")
        return None


def inspect(options, path, label, findings):
    """Whether the model is readable."""
    run = Run(options.berth, ["inspect", str(path), "--format", "json"], options.seconds)
    findings.add(run, path, label, "inspect")
    found = document_of(run, findings)
    if found is None:
        print(f"{label:58} refused ({run.code})")
        return False
    members = ("model_type", "parameters", "bytes", "bytes_from_config", "difference", "blocks", "kv_bytes_per_token")
    missing = [m for m in members if m not in found]
    if missing:
        findings.faults.append(f"inspect has no {', '.join(missing)}\n    $ {run.command}")
    row = " ".join(f"{str(found.get(m)):>15}" for m in members)
    print(f"{label:58} {row}  {found.get('dtype_source')}")
    return True


def topology(options, path, label, findings):
    run = Run(options.berth, ["topology", str(path), "--format", "json"], options.seconds)
    findings.add(run, path, label, "topology")
    found = document_of(run, findings)
    if found is None:
        print(f"{label:58} refused ({run.code})")
        return
    kinds = collections.Counter(d.get("kind") for d in found.get("devices", []))
    print(f"{label:58} {dict(kinds)}, {len(found.get('links', []))} links")


def outcome(options, path, arguments, label, group, findings, proved):
    """One letter: . done and proved, n the answer is no, u refused, ! a fault"""
    run = Run(options.berth, ["plan", str(path), "--format", "json", *arguments], options.seconds)
    findings.add(run, path, label, group)
    if run.fault:
        return "!"
    if run.code != 0:
        return "n" if run.code == 1 else "u"
    if document_of(run, findings) is None:
        return "!"
    if proved:
        check = Run(options.berth, ["check", "-"], options.seconds, run.out)
        if check.code != 0 or check.fault:
            findings.faults.append(f"the plan does not hold\n    $ {run.command} | berth check -\n"
                                   f"    {(check.out + check.errors)[:400]}")
            return "!"
    return "."


def plans(options, checkpoints, findings):
    columns = [(word, ["--strategy", word], True) for word in OWN]
    columns += [(f"{peer} {word}", ["--compat", peer, "--strategy", word], False) for peer in PEERS
                for word in PEER_WORDS]
    print("\nplans: per machine one letter for each of " + ", ".join(name for name, _, _ in columns))
    print(". done (and proved)  n the answer is no  u refused  ! fault")
    print(f"{'':48} " + " ".join(f"{m:>{len(columns)}}" for m in MACHINES))
    for path in checkpoints:
        cells = []
        for machine, budgets in MACHINES.items():
            cells.append("".join(outcome(options, path, [*arguments, "--max-memory", budgets], path.name,
                                         f"plan {name}", findings, proved)
                                 for name, arguments, proved in columns))
        print(f"{path.name[:48]:48} {' '.join(cells)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--berth", required=True, help="the program under test")
    parser.add_argument("--data", required=True, type=pathlib.Path, help="the folder of the golden data")
    parser.add_argument("--seconds", type=float, default=60, help="time limit of one command")
    parser.add_argument("--no-plans", action="store_true", help="only inspect and topology")
    options = parser.parse_args()
    findings = Findings()
    checkpoints = sorted(p for p in (options.data / "checkpoints").iterdir() if p.is_dir())
    configs = sorted([*(options.data / "configs").rglob("*.json"), *(options.data / "golden/configs").glob("*.json")])
    print("inspect: model_type, parameters, bytes, bytes_from_config, difference, blocks, kv_bytes_per_token, "
          "dtype_source")
    readable = [path for path in [*checkpoints, *configs]
                if inspect(options, path, str(path.relative_to(options.data)), findings)]
    print("\ntopology")
    for path in sorted(p for p in (options.data / "topology").rglob("*") if p.is_file()):
        topology(options, path, str(path.relative_to(options.data)), findings)
    if not options.no_plans:
        plans(options, [path for path in checkpoints if path in readable], findings)
    findings.print()
    return 1 if findings.faults else 0


if __name__ == "__main__":
    sys.exit(main())
