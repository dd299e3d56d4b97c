"""How tools built with AddressSanitizer and UndefinedBehaviorSanitizer are run, and how their reports are recognised."""

import os
import re
import signal
import subprocess

# How much more processor time than a plain build a row may take.
SLOWER = 10
# No tool ends with it, so that no report passes for a refusal that a row expects.
EXIT_CODE = 99
# More than a plain run can allocate under the limit on its address space: somebody believed a size that an input claims. Such an
# allocation is a report, where the sanitizer's default would hand out up to a terabyte.
LARGEST_ALLOCATION_MIB = 1024

ENVIRONMENT = {
    "ASAN_OPTIONS": f"exitcode={EXIT_CODE}:detect_leaks=1:allocator_may_return_null=0:"
    f"max_allocation_size_mb={LARGEST_ALLOCATION_MIB}",
    "UBSAN_OPTIONS": f"exitcode={EXIT_CODE}:print_stacktrace=1",
}

REPORT = re.compile(r"(?:ERROR|WARNING): \w+Sanitizer|:\d+:\d+: runtime error: ")
# A sanitizer speaks of itself, as when it cannot start; also when its process is killed under it, which is no finding.
TROUBLE = re.compile(r"^==\d+==", re.M)


def report(code, stderr):
    """What a sanitizer found in a run, or ""."""
    if REPORT.search(stderr) or code != -signal.SIGKILL and TROUBLE.search(stderr):
        return f"a sanitizer reports: {stderr.strip()[:4000]}"
    if code == EXIT_CODE:
        return "ended by a sanitizer, whose report is lost"
    return ""


def missing(tool):
    """The sanitizers that the program `tool` was built without: rows would hold in vain."""
    code = tool.read_bytes()
    calls = {"AddressSanitizer": b"__asan_report_", "UndefinedBehaviorSanitizer": b"__ubsan_handle_"}
    return [name for name, call in calls.items() if call not in code]


def runtime(tool):
    """AddressSanitizer's library, as `tool` finds it; it must come before all others that are preloaded. "" where it is part of the
    tool, as Clang links it."""
    shown = subprocess.run([tool], env={**os.environ, "LD_TRACE_LOADED_OBJECTS": "1"}, capture_output=True, text=True).stdout
    found = re.search(r"libasan\S* => (\S+)", shown)
    return found.group(1) if found else ""
