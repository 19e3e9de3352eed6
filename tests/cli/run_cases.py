#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
r"""Runs command line cases: run_cases.py --berth PROGRAM CASE...

A case file NAME.case is a list of steps. A step starts with the command; the lines below it say what must come out:

    # A comment; blank lines separate nothing, they are only for the reader.
    file tree.json                  makes a file for the steps below, from the lines that start with "|"
    | {"format": "berth.module_tree/1"}

    $ berth inspect tree.json       run by sh in a fresh folder of this case; `berth` is the program under test
    exit 2                          exit code; 0 if not given
    stderr~ tree\.json.*"root"      a regular expression (Python's) that occurs in stderr; give several if needed
    stderr!~ terminate              one that does not occur
    stdout~ ...  stdout!~ ...       the same for stdout
    stdout=                         all of stdout, as the lines below that start with "|"
    | GPU 0   14.96 GiB
    json .devices[0].id == 0        stdout is one JSON document, and the member at this path equals this JSON value
    json .certificate exists        the member is there (`json .x missing`: it is not)
    json                            stdout is JSON: no duplicate keys, no NaN
    seconds 5                       time limit; 60 if not given
    env NO_COLOR=1                  for this step
    stdin=                          what the command reads; nothing if not given
    | 1.5GiB

What holds for every step without being written down: the program does not crash; nothing but text without escape codes
comes out, since no terminal is there; after exit 0 stderr is empty unless the step has a line about stderr; after
exit 2 (wrong usage, unreadable input) stdout is empty and stderr holds one or two lines. `any stderr`, `any stdout`
lifts these two for a step.

$CASES is the folder of the case file, $ROOT the checkout, $BERTH_DATA the golden data. A step that names $BERTH_DATA is
skipped with its whole case when there is no such folder (a failure if BERTH_REQUIRE_DATA=1). Exit code 77: skipped.
"""
import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77


class CaseError(Exception):
    """The case file itself is wrong."""


class Step:
    def __init__(self, line, command):
        self.line, self.command = line, command
        self.exit, self.seconds, self.stdin = 0, 60, ""
        self.environment, self.checks = {}, []
        self.free = set()  # streams that `any` leaves unchecked


def read_case(path):
    """[("file", name, text) or ("step", Step)]"""
    items, block, step = [], None, None
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.startswith("|"):
            if block is None:
                raise CaseError(f"{path.name}:{number}: a line with | belongs to nothing")
            block.append(line[2:] + "\n")
            continue
        block = None
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if not word or word.startswith("#"):
            continue
        if word == "file":
            block = []
            items.append(("file", rest, block))
            continue
        if word == "$":
            step = Step(number, rest)
            items.append(("step", step, None))
            continue
        if step is None:
            raise CaseError(f"{path.name}:{number}: '{word}' before the first command")
        block = read_property(path, number, step, word, rest)
    if not any(kind == "step" for kind, _, _ in items):
        raise CaseError(f"{path.name}: no command")
    return items


def read_property(path, number, step, word, rest):
    """Adds one line to the step; returns the list that takes the lines with | below it, if any."""
    where = f"{path.name}:{number}"
    if word == "exit":
        step.exit = int(rest)
    elif word == "seconds":
        step.seconds = float(rest)
    elif word == "env":
        name, _, value = rest.partition("=")
        step.environment[name] = value
    elif word == "any":
        step.free.add(rest)
    elif word in ("stdout~", "stderr~", "stdout!~", "stderr!~"):
        stream = word[:6]
        step.checks.append((number, "matches" if word[6] == "~" else "differs", stream, re.compile(rest, re.M)))
    elif word in ("stdout=", "stderr="):
        expected = []
        step.checks.append((number, "equals", word[:6], expected))
        return expected
    elif word == "stdin=":
        step.stdin = []
        return step.stdin
    elif word == "json":
        step.checks.append((number, "json", "stdout", rest))
    else:
        raise CaseError(f"{where}: unknown line '{word}'")
    return None


def unique_members(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has a member twice")
    return members


def read_json(text):
    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    return json.loads(text, object_pairs_hook=unique_members, parse_constant=refuse)


MISSING = object()


def member_at(document, path):
    """.a.b[0]["c.d"] -> the member or MISSING"""
    for name, index, quoted in re.findall(r"\.([\w-]+)|\[(-?\d+)\]|\[\"([^\"]*)\"\]", path):
        try:
            document = document[int(index)] if index else document[name or quoted]
        except (KeyError, IndexError, TypeError):
            return MISSING
    return document


def check_json(text, rule):
    """A message if the rule does not hold."""
    try:
        document = read_json(text)
    except ValueError as problem:
        return f"stdout is not JSON: {problem}"
    if not rule:
        return None
    if equality := re.fullmatch(r"(\S+) == (.+)", rule):
        path, expected = equality.group(1), json.loads(equality.group(2))
        found = member_at(document, path)
        if found is MISSING:
            return f"{path} is missing"
        # True == 1 in Python, not here.
        same = found == expected and isinstance(found, bool) == isinstance(expected, bool)
        return None if same else f"{path} is {json.dumps(found)}"
    if presence := re.fullmatch(r"(\S+) (exists|missing)", rule):
        there = member_at(document, presence.group(1)) is not MISSING
        return None if there == (presence.group(2) == "exists") else f"{presence.group(1)} is {'' if there else 'not '}there"
    raise CaseError(f"cannot read 'json {rule}'")


def check_habits(step, code, output):
    """What holds for every step; yields messages."""
    if code < 0 or code >= 126:
        yield f"exit {code}: the program crashed or was not found"
    elif code != step.exit:
        yield f"exit {code}, expected {step.exit}"
    for stream, text in output.items():
        if "\x1b" in text or "\r" in text:
            yield f"{stream} holds escape codes, though it is no terminal"
    errors = output["stderr"]
    checked = any(stream == "stderr" for _, _, stream, _ in step.checks)
    if step.exit == 0 and errors and not checked and "stderr" not in step.free:
        yield "stderr is not empty"
    if step.exit == 2 and "stderr" not in step.free and len(errors.splitlines()) not in (1, 2):
        yield f"{len(errors.splitlines())} lines on stderr; wrong usage is explained in one or two"
    if step.exit == 2 and "stdout" not in step.free and output["stdout"]:
        yield "stdout is not empty, though the input was refused"


def run_step(step, folder, environment):
    """Messages of what is wrong with this step."""
    process = subprocess.Popen(["/bin/sh", "-c", step.command], cwd=folder, env=environment | step.environment,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True)
    try:
        streams = process.communicate("".join(step.stdin).encode(), timeout=step.seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the shell and what it started
        process.communicate()
        return [f"not done after {step.seconds:g} s"], {}
    output = {name: text.decode("utf-8", "replace") for name, text in zip(("stdout", "stderr"), streams)}
    problems = list(check_habits(step, process.returncode, output))
    for number, kind, stream, expected in step.checks:
        text = output[stream]
        if kind == "matches" and not expected.search(text):
            problems.append(f"line {number}: {stream} does not match {expected.pattern}")
        elif kind == "differs" and expected.search(text):
            problems.append(f"line {number}: {stream} matches {expected.pattern}")
        elif kind == "equals" and text != "".join(expected):
            problems.append(f"line {number}: {stream} is not the expected text")
        elif kind == "json" and (problem := check_json(text, expected)):
            problems.append(f"line {number}: {problem}")
    return problems, output


def run_case(path, berth):
    """0 passed, 1 failed, 77 skipped"""
    items = read_case(path)
    data = os.environ.get("BERTH_DATA", "")
    if not os.path.isdir(data) and any(kind == "step" and "BERTH_DATA" in step.command for kind, step, _ in items):
        required = os.environ.get("BERTH_REQUIRE_DATA") == "1"
        print(f"{path.name}: {'failed' if required else 'skipped'}: no folder $BERTH_DATA")
        return 1 if required else SKIPPED
    with tempfile.TemporaryDirectory(prefix="berth-cli-") as temporary:
        folder, programs = pathlib.Path(temporary, "work"), pathlib.Path(temporary, "bin")
        folder.mkdir()
        programs.mkdir()
        (programs / "berth").symlink_to(berth)
        environment = {name: os.environ[name] for name in ("HOME", "TMPDIR", "ASAN_OPTIONS", "LLVM_PROFILE_FILE")
                       if name in os.environ}
        environment |= {"PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "ROOT": str(ROOT),
                        "CASES": str(path.parent), "BERTH_DATA": data}
        for kind, item, lines in items:
            if kind == "file":
                target = folder / item
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text("".join(lines), encoding="utf-8")
                continue
            problems, output = run_step(item, folder, environment)
            if problems:
                print(f"FAIL {path.name}:{item.line}: $ {item.command}")
                for problem in problems:
                    print(f"  {problem}")
                for stream, text in output.items():
                    print(f"  -- {stream}:")
                    print("".join(f"  | {line}\n" for line in text.splitlines()[:40]), end="")
                return 1
    print(f"{path.name}: passed")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--berth", required=True, type=pathlib.Path, help="the program under test")
    parser.add_argument("cases", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    results = set()
    for case in arguments.cases:
        try:
            results.add(run_case(case.resolve(), arguments.berth.resolve()))
        except (CaseError, re.error, ValueError, OSError) as problem:
            print(f"FAIL {case.name}: {problem}")
            results.add(1)
    if 1 in results:
        return 1
    return SKIPPED if results == {SKIPPED} else 0


if __name__ == "__main__":
    sys.exit(main())
