#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads the import and #include lines of the tree and fails on a breach of the dependency rules.

    check_layers.py ROOT [--stamp FILE --depfile FILE]

The rules are those of "Who may import whom" in ARCHITECTURE.md; this file is where they are enforced. A folder or a
header without a rule is a breach too: whoever adds one decides here who may use it. With --stamp and --depfile the
check takes part in the build and runs again only when a file or folder changed.
"""
import argparse
import os
import re
import sys

# Layer -> berth modules that it may import. A layer is modules/NAME, backends/NAME or another top-level folder.
CORE = ("base", "model", "topology", "plan", "exec")
IMPORTS = {
    "modules/base": (),
    "modules/model": ("base",),
    "modules/topology": ("base",),
    "modules/plan": ("base", "model", "topology"),
    "modules/exec": ("base", "model", "topology", "plan"),
    "modules/berth": CORE,
    "modules/compat": ("base", "model", "topology", "plan"),
    "modules/formats": ("base", "model", "topology", "plan", "exec"),
    "modules/int8": ("base",),
    "modules/runtime": CORE + ("int8",),
    "sim": ("base", "topology", "exec"),
    "backends/host": ("base", "topology", "exec"),
    "backends/cuda": ("base", "topology", "exec"),
}
ANYTHING = ("tools", "tests", "examples", "bench")
TOP_FOLDERS = ("modules", "sim", "backends") + ANYTHING

# Layers without I/O, clock, thread, environment and random source: what a plan says depends on its input alone.
PURE = tuple("modules/" + name for name in CORE) + ("modules/berth", "modules/int8", "sim")
IMPURE_HEADERS = set("""
    iostream fstream istream ostream sstream iomanip syncstream strstream print cstdio filesystem
    thread mutex shared_mutex condition_variable future semaphore latch barrier stop_token
    chrono ctime random csignal csetjmp locale clocale
    """.split())
IMPURE_NAMES = re.compile(r"\b(getenv|secure_getenv|setenv|system|rand|srand|clock_gettime|gettimeofday)\s*\(")

# Third-party headers -> (layers that may include them, or None for all; only implementation units?)
THIRD_PARTY = (
    ("range/v3/", None, True),
    ("boost/test/", ("tests",), True),
    ("boost/", ("modules/formats",), True),
    ("pugixml.hpp", ("modules/formats",), True),
    ("re2/", ("modules/compat",), True),
    ("CLI/", ("tools",), False),
    ("fmt/", ("tools",), False),
    ("benchmark/", ("bench",), True),
    ("cuda_runtime_api.h", ("backends/cuda", "examples", "tests"), False),
    ("cuda", ("backends/cuda",), False),
    ("nvml.h", ("backends/cuda",), False),
    ("ucontext.h", ("tests",), True),
    ("sanitizer/", ("tests",), True),
    ("xxhash.h", ("backends/host", "backends/cuda"), True),
)
# Operating system headers: allowed wherever I/O is.
SYSTEM = re.compile(r"^(sys|linux|netinet|arpa)/|^(unistd|fcntl|dirent|dlfcn|errno|poll|pthread|sched|signal|spawn|termios"
                    r"|time|stdio|stdlib|malloc|glob|pwd|link|elf|ftw|getopt|syslog|semaphore)\.h$")
FREESTANDING_C = {"stddef.h", "stdint.h", "string.h", "math.h", "limits.h", "float.h", "stdbool.h", "assert.h"}
STANDARD = IMPURE_HEADERS | set("""
    algorithm any array atomic bit bitset cassert cctype cerrno cfenv cfloat charconv cinttypes climits cmath compare
    complex concepts coroutine cstdarg cstddef cstdint cstdlib cstring cuchar cwchar cwctype deque exception execution
    expected format forward_list functional initializer_list ios iosfwd iterator limits list map memory memory_resource
    new numbers numeric optional queue ranges ratio regex scoped_allocator set source_location span stack stdexcept
    streambuf string string_view system_error tuple type_traits typeindex typeinfo unordered_map unordered_set utility
    valarray variant vector version
    """.split())

SOURCE = re.compile(r"\.(cppm|cpp|hpp|h|cu|cuh)$")
INCLUDE = re.compile(r"^\s*#\s*include\s*([<\"])([^>\"]+)[>\"]")
IMPORT = re.compile(r"^\s*(?:export\s+)?import\s+([\w.]+|:[\w.]+|<[^>]+>|\"[^\"]+\")\s*;")
MODULE = re.compile(r"^\s*(?:export\s+)?module\s+([\w.]+)(?::[\w.]+)?\s*;")
UNNAMED_NAMESPACE = re.compile(r"^\s*(?:inline\s+)?namespace\s*(\{|$)")


def layer_of(path):
    """modules/plan/strategy/x.cpp -> modules/plan; tests/unit/x.cpp -> tests"""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] in ("modules", "backends") else parts[0]


def without_comments(text):
    """Blanks comments and string contents, keeping the lines (but not the names in #include lines)."""
    token = re.compile(r'^[ \t]*#[ \t]*include[^\n]*|//[^\n]*|/\*.*?\*/|R"([^()\\\s]{0,16})\(.*?\)\1"|"(?:\\.|[^"\\\n])*"'
                       r"|'(?:\\.|[^'\\\n])'", re.S | re.M)

    def blank(match):
        found = match.group(0)
        if found.lstrip().startswith("#"):
            return found
        return "\n" * found.count("\n") if found[0] == "/" else '""' + "\n" * found.count("\n")

    return token.sub(blank, text)


def check_include(layer, path, quote, header):
    interface = path.endswith(".cppm")
    if quote == '"':
        target = os.path.normpath(os.path.join(os.path.dirname(path), header)).replace(os.sep, "/")
        if layer not in ANYTHING and layer_of(target) != layer:
            return f'includes "{header}" of another layer; import its module'
        return None
    for prefix, layers, implementation_only in THIRD_PARTY:
        if header.startswith(prefix):
            if layers is not None and layer not in layers:
                return f"includes <{header}>, which only {' and '.join(layers)} may"
            if implementation_only and not path.endswith(".cpp"):
                return f"includes <{header}> outside an implementation unit; move the use into a .cpp"
            if interface:
                return f"includes <{header}> in an interface unit; every importer would pay for it"
            return None
    if header == "regex":
        return "includes <regex>, which backtracks without bound; use RE2 in modules/compat"
    if layer in PURE and (header in IMPURE_HEADERS or SYSTEM.match(header)):
        return f"includes <{header}>; this layer has no I/O, clock, thread, environment or random source"
    if header in STANDARD or header in FREESTANDING_C or SYSTEM.match(header):
        return None
    return f"includes <{header}>, for which there is no rule in cmake/check_layers.py"


def check_import(layer, name):
    if name in ("std", "std.compat") or name[0] in '<"':
        return f"imports {name}; the standard library is included, not imported"
    if name[0] == ":" or layer in ANYTHING:
        return None
    if name != "berth" and not name.startswith("berth."):
        return f"imports {name}, which is none of our modules"
    module = name[len("berth."):] or "berth"
    if layer.split("/")[-1] == module or module in IMPORTS[layer]:
        return None
    allowed = ", ".join("berth." + m for m in IMPORTS[layer]) or "nothing"
    return f"imports {name}; {layer} may import {allowed}"


def check_file(path, text):
    """Yields (line number, message) for every breach in one file."""
    layer = layer_of(path)
    if layer not in IMPORTS and layer not in ANYTHING:
        yield 1, f"{layer} has no rule in cmake/check_layers.py"
        return
    imported = False
    for number, line in enumerate(without_comments(text).split("\n"), 1):
        message = None
        if include := INCLUDE.match(line):
            message = check_include(layer, path, *include.groups())
            # Headers of our own may use what was imported before them, as long as they are no module's.
            if not message and imported and (include.group(1) == "<" or layer in IMPORTS):
                message = "includes after an import; all includes come first"
        elif found := IMPORT.match(line):
            imported = True
            message = check_import(layer, found.group(1))
        elif (module := MODULE.match(line)) and layer in IMPORTS:
            folder = layer.split("/")[-1]
            expected = "berth" if folder == "berth" else "berth." + folder
            if module.group(1) != expected:
                message = f"is a unit of module {module.group(1)}; units in {layer} belong to {expected}"
        elif path.endswith(".cppm") and UNNAMED_NAMESPACE.match(line):
            message = "has an unnamed namespace in an interface unit; name it detail"
        elif layer in PURE and (call := IMPURE_NAMES.search(line)):
            message = f"calls {call.group(1)}; this layer has no environment, clock, process or random source"
        if message:
            yield number, message


def walk(root):
    """All folders and source files below the top folders, in sorted order, relative to root."""
    folders, files = [], []
    for top in TOP_FOLDERS:
        for folder, subfolders, names in os.walk(os.path.join(root, top)):
            subfolders.sort()
            folders.append(os.path.relpath(folder, root).replace(os.sep, "/"))
            files += [folders[-1] + "/" + name for name in sorted(names) if SOURCE.search(name)]
    return folders, files


def check_tree(root):
    """(folders, files, breaches as 'path:line: message')"""
    folders, files = walk(root)
    breaches = []
    for path in files:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as source:
            breaches += [f"{path}:{line}: {message}" for line, message in check_file(path, source.read())]
    return folders, files, breaches


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("--stamp", help="written when there is no breach")
    parser.add_argument("--depfile", help="make rule: the stamp depends on every file and folder read")
    arguments = parser.parse_args()
    folders, files, breaches = check_tree(arguments.root)
    for breach in breaches:
        print(breach, file=sys.stderr)
    if not files:
        print(f"{arguments.root}: no source file found", file=sys.stderr)
    if breaches or not files:
        return 1
    if arguments.depfile:
        read = [os.path.join(arguments.root, path).replace(" ", "\\ ") for path in folders + files]
        with open(arguments.depfile, "w", encoding="utf-8") as out:
            out.write(arguments.stamp.replace(" ", "\\ ") + ": " + " \\\n  ".join(read) + "\n")
    if arguments.stamp:
        open(arguments.stamp, "w", encoding="utf-8").close()
    else:
        print(f"layers: {len(files)} files, no breach")
    return 0


if __name__ == "__main__":
    sys.exit(main())
