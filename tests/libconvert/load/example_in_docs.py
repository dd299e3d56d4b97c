#!/usr/bin/env python3
"""Fails unless docs/loading.md shows the example that example_test.cc compiles: example_in_docs.py EXAMPLE PAGE."""
import pathlib
import sys

example = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8").split("// ----\n")[1].strip("\n")
page = pathlib.Path(sys.argv[2]).read_text(encoding="utf-8")
if f"```cpp\n{example}\n```" not in page:
    sys.exit(f"{sys.argv[2]} does not show the example of {sys.argv[1]}")
print("example_in_docs: equal")
