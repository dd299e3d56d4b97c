"""Runs the examples of docs/python.md, one after the other, as a reader would, and those of pages that need no more than q4."""

import contextlib
import importlib.util
import io
import logging
import os
import re
import shutil
import tempfile

from package_setup import ROOT, SOURCE, check, count

EXAMPLES = 11
# Pages with examples that begin with `import q4` alone, and how many of these there are.
OTHERS = {"README.md": 1, "docs/jobs.md": 1}
# What a torch or NumPy of the machine warns about is theirs; q4's examples stop at a warning.


def examples():
    """(heading, code)."""
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    for section in page.split("\n## ")[1:]:
        for block in re.findall(r"```python\n(.*?)```", section, re.S):
            yield section.splitlines()[0], block


def main():
    found = list(examples())
    check(len(found) == EXAMPLES, "as many examples", len(found))
    namespace = {"__name__": "examples"}
    with tempfile.TemporaryDirectory(prefix="q4-python-docs-") as work:
        os.chdir(work)
        shutil.copytree(SOURCE, "Llama-3.2-1B")
        for heading, code in found:
            missing = [name for name in ("torch", "numpy", "tqdm") if importlib.util.find_spec(name) is None and
                       (f"import {name}" in code or (name, heading[:2]) in (("numpy", "7."), ("tqdm", "9.")))]  # fmt: skip
            if missing:
                print(f"SKIP example {heading}: no {', '.join(missing)}")
                continue
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
                exec(compile(code, f"docs/python.md: {heading}", "exec"), namespace)
            check(bool(printed.getvalue()) or "with open" in code, f"example {heading} prints something")
        q4 = namespace["q4"]
        shutil.copytree(SOURCE, "Llama-3.1-8B")
        q4.convert("Llama-3.1-8B", "model.q4")
        for page, number in OTHERS.items():
            blocks = re.findall(r"```python\n(import q4\n.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)
            check(len(blocks) == number, f"examples of {page}", len(blocks))
            for code in blocks:
                if "numpy(" in code and importlib.util.find_spec("numpy") is None:
                    print(f"SKIP example of {page}: no numpy")
                    continue
                for name in ("llama.q4",):
                    if f'"{name}"' in code and os.path.exists(name):
                        os.remove(name)
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    exec(compile(code, f"{page}: example", "exec"), {"__name__": "examples"})
                check(True, f"the example of {page} runs")
        check(os.path.getsize("report.html") > 10_000 and os.path.isfile("llama-bnb/model.safetensors"), "what the examples leave")
        check(not os.path.exists("strict.q4"), "a broken gate leaves no output")
        os.chdir("/")
    logging.shutdown()
    print(f"python_docs: {count()} checks")


main()
