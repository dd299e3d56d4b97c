"""with_modules.py MODULE[,MODULE...] SCRIPT [ARGUMENT...]: runs SCRIPT if the modules can be imported; else says which is missing
and exits with 77, which ctest counts as skipped."""
import importlib.util
import runpy
import sys

missing = [name for name in sys.argv[1].split(",") if importlib.util.find_spec(name) is None]
if missing:
    print(f"SKIP {sys.argv[2]} (no Python module {', '.join(missing)}; scripts/python_env.sh installs them)")
    sys.exit(77)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
