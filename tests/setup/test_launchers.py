#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The launchers ./berth and ./test in a made-up checkout, on machines played by stand-ins for dpkg, apt, CMake, Ninja."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Each stand-in writes its call into $LOG.
DPKG_QUERY = """#!/bin/sh
shift 3
for package; do case " $ABSENT " in *" $package "*) ;; *) echo "installed $package" ;; esac; done
"""
APT_GET = '#!/bin/sh\necho "apt-get $*" >>"$LOG"\n'
ID = '#!/bin/sh\necho "${FAKE_UID:-0}"\n'
CMAKE = """#!/bin/sh
echo "cmake $*" >>"$LOG"
echo "-- configuring"
[ -z "$BREAK_CONFIGURE" ] || { echo "CMake Error: no such preset"; exit 1; }
: >build/$2/build.ninja
"""
NINJA = """#!/bin/sh
echo "ninja $*" >>"$LOG"
echo "ninja: Entering directory \\`$2'"
if [ -n "$BREAK_BUILD" ]; then
  printf '%s\\n' '[1/2] Building x.o' 'FAILED: x.o' 'x.cpp:1:1: error: a \\ mistake' 'ninja: build stopped'
  exit 1
fi
if [ -e "$2/tools/berth" ]; then echo "ninja: no work to do."; exit 0; fi
echo "[1/1] Linking berth"
mkdir -p "$2/tools"
printf '#!/bin/sh\\necho "in $PWD with:"\\nprintf "<%%s>" "$@"\\ncat\\nexit 7\\n' >"$2/tools/berth"
chmod +x "$2/tools/berth"
"""
SYSTEMS = {"debian": 'ID=debian\nVERSION_ID="12"\n', "trixie": 'ID=debian\nVERSION_ID="13"\n',
           "ubuntu": 'ID=ubuntu\nVERSION_ID="24.04"\n', "other": "ID=plan9\n"}


class Launchers(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="berth setup "))  # a space in the path, as users have
        self.addCleanup(shutil.rmtree, self.folder)
        self.top, self.bin = self.folder / "checkout", self.folder / "bin"
        self.log = self.folder / "log"
        (self.top / "cmake").mkdir(parents=True)
        self.bin.mkdir()
        for name in ("berth", "test", "cmake/bootstrap.sh", "CMakePresets.json"):
            shutil.copy(ROOT / name, self.top / name)
        for name, text in SYSTEMS.items():
            (self.folder / name).write_text(text, encoding="utf-8")
        for name, text in {"dpkg-query": DPKG_QUERY, "apt-get": APT_GET, "id": ID}.items():
            self.program(self.bin / name, text)
        tools = self.top / ".venv" / "bin"
        tools.mkdir(parents=True)
        self.program(tools / "cmake", CMAKE)
        self.program(tools / "ninja", NINJA)
        (self.top / ".venv" / ".berth").write_text(f"1 {self.top}\n", encoding="utf-8")

    def program(self, path, text):
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def run_launcher(self, *arguments, name="berth", system="debian", stdin="", **environment):
        clean = {"PATH": f"{self.bin}:/usr/bin:/bin", "LOG": str(self.log), "ABSENT": "", "BREAK_BUILD": "",
                 "BREAK_CONFIGURE": "", "BERTH_OS_RELEASE": str(self.folder / system)}
        self.log.write_text("", encoding="utf-8")
        done = subprocess.run([self.top / name, *arguments], cwd=self.folder, env=clean | environment, input=stdin,
                              capture_output=True, text=True, check=False)
        self.calls = self.log.read_text(encoding="utf-8").splitlines()
        return done

    def test_first_use_builds_and_runs_the_command_where_the_caller_is(self):
        done = self.run_launcher("plan", "a b", stdin="input")
        self.assertEqual(done.returncode, 7)
        self.assertEqual(done.stdout, f"in {self.folder} with:\n<plan><a b>input")
        self.assertEqual(done.stderr, "berth: building (a first build takes some minutes)\n")
        self.assertEqual([call.split()[0] for call in self.calls], ["cmake", "ninja"])

    def test_later_uses_say_nothing_and_configure_nothing(self):
        self.run_launcher()
        done = self.run_launcher("x")
        self.assertEqual(done.stderr, "")
        self.assertEqual([call.split()[0] for call in self.calls], ["ninja"])

    def test_works_through_a_link(self):
        (self.folder / "link").symlink_to(self.top / "berth")
        done = subprocess.run([self.folder / "link"], env={"PATH": f"{self.bin}:/usr/bin:/bin", "LOG": str(self.log),
                              "ABSENT": "", "BREAK_BUILD": "", "BREAK_CONFIGURE": "",
                              "BERTH_OS_RELEASE": str(self.folder / "debian")}, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, check=False)
        self.assertEqual(done.returncode, 7, done.stderr)

    def test_new_presets_are_configured_again(self):
        self.run_launcher()
        os.utime(self.top / "build" / "release" / ".berth", (1, 1))
        self.run_launcher()
        self.assertEqual([call.split()[0] for call in self.calls], ["cmake", "ninja"])

    def test_a_moved_checkout_is_built_afresh(self):
        self.run_launcher()
        (self.top / "build" / "release" / "CMakeCache.txt").touch()
        (self.top / "build" / "release" / ".berth").write_text("command /elsewhere\n", encoding="utf-8")
        done = self.run_launcher()
        self.assertFalse((self.top / "build" / "release" / "CMakeCache.txt").exists())
        self.assertEqual(done.returncode, 7)

    def test_the_tests_and_the_command_share_one_build(self):
        self.run_launcher()
        self.assertIn("-DBERTH_BUILD_TESTS=OFF", self.calls[0])
        self.run_launcher("unit", name="test")
        self.assertIn("-DBERTH_BUILD_TESTS=ON", self.calls[0])
        self.run_launcher()
        self.assertEqual([call.split()[0] for call in self.calls], ["ninja"])

    def test_a_failed_build_shows_what_the_compiler_said(self):
        done = self.run_launcher(BREAK_BUILD="1")
        self.assertEqual((done.returncode, done.stdout), (3, ""))
        self.assertIn("x.cpp:1:1: error: a \\ mistake\n", done.stderr)

    def test_a_failed_configuration_is_shown_and_tried_again(self):
        done = self.run_launcher(BREAK_CONFIGURE="1")
        self.assertEqual((done.returncode, done.stdout), (3, ""))
        self.assertIn("no such preset", done.stderr)
        self.assertEqual(self.run_launcher().returncode, 7)

    def test_root_installs_only_what_is_missing_and_removes_nothing(self):
        self.run_launcher(ABSENT="lld-19 libre2-dev")
        self.assertEqual(self.calls[0], "apt-get update -qq")
        self.assertIn("apt-get install", self.calls[1])
        self.assertIn("--no-remove", self.calls[1])
        self.assertTrue(self.calls[1].endswith("--no-install-recommends lld-19 libre2-dev"), self.calls[1])

    def test_others_get_the_one_command_to_run(self):
        done = self.run_launcher(ABSENT="lld-19", FAKE_UID="1000")
        self.assertEqual((done.returncode, done.stdout, self.calls), (2, "", []))
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertRegex(done.stderr, r"run as root: apt-get update && apt-get install -y .* lld-19\n$")

    def test_the_command_needs_no_test_tools(self):
        tests_only = "libboost-test1.81-dev libbenchmark-dev clang-tidy-19 libclang-rt-19-dev"
        self.assertEqual(self.run_launcher(ABSENT=tests_only, FAKE_UID="1000").returncode, 7)
        done = self.run_launcher(name="test", ABSENT=tests_only, FAKE_UID="1000")
        self.assertEqual(done.returncode, 2)
        for package in tests_only.split():
            self.assertIn(package, done.stderr)

    def test_other_systems_have_their_own_package_names(self):
        for system, package in (("trixie", "libboost-json-dev"), ("ubuntu", "libboost-json1.83-dev")):
            with self.subTest(system):
                done = self.run_launcher(system=system, ABSENT=f"cmake ninja-build {package}", FAKE_UID="1000")
                self.assertEqual(done.returncode, 2)
                self.assertTrue(done.stderr.rstrip().endswith(f"cmake ninja-build {package}"), done.stderr)

    def test_an_unknown_system_gets_the_list_of_needs(self):
        done = self.run_launcher(system="other")
        self.assertEqual((done.returncode, done.stdout, self.calls), (3, "", []))
        self.assertIn("clang 19", done.stderr)
        self.assertIn("BERTH_SKIP_SETUP=1", done.stderr)

    def test_an_unknown_kind_of_test_is_refused_before_anything_is_built(self):
        done = self.run_launcher("unti", name="test")
        self.assertEqual((done.returncode, done.stdout, self.calls), (2, "", []))
        self.assertIn("no kind of test called unti", done.stderr)


if __name__ == "__main__":
    unittest.main()
