"""What importing the package does, and what type checkers see of it."""

import importlib.util
import inspect
import os
import pathlib
import subprocess
import sys
import tempfile

from package_setup import ROOT, SOURCE, check, count, python

import q4


def test_import_is_light():
    done = python(
        "import q4, sys, os\n"
        "heavy = {'numpy', 'torch', 'transformers', 'tqdm', 'ml_dtypes', 'bitsandbytes'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert len(os.listdir('/proc/self/task')) == 1, 'a thread was started'\n"
        "assert 'libcuda' not in open('/proc/self/maps').read()\n"
    )
    check(done.returncode == 0, "import q4 is light", done.stderr)


def test_works_without_numpy():
    with tempfile.TemporaryDirectory() as work:
        done = python(
            "import sys\n"
            "for name in ('numpy', 'torch', 'tqdm'): sys.modules[name] = None\n"
            "import q4\n"
            "q4.convert(sys.argv[1], 'm.q4')\n"
            "assert q4.verify('m.q4', against=sys.argv[1])\n"
            "model = q4.open('m.q4')\n"
            "parts = model.load()['model.layers.0.mlp.down_proj.weight']\n"
            "assert memoryview(parts.codes).nbytes * 2 == model[parts.name].elements\n"
            "try: q4.verify('m.q4', progress=True)\n"
            "except q4.UsageError as error: assert 'pip install tqdm' in str(error)\n"
            "else: raise SystemExit('progress=True without tqdm')\n",
            SOURCE,
            cwd=work,
        )
    check(done.returncode == 0, "everything but numpy() works without NumPy", done.stderr)


def test_public_names():
    for name in q4.__all__:
        thing = getattr(q4, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            check(bool(thing.__doc__), f"{name} has a docstring")
    for cls in (q4.Model, q4.Tensor, q4.Loaded, q4.Parts, q4.Report, q4.VerifyReport):
        for name, member in vars(cls).items():
            if not name.startswith("_") and inspect.isfunction(member) and name != "close":
                check(bool(member.__doc__) or name in ("of",), f"{cls.__name__}.{name} has a docstring")
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    check("libconvert/base/version.h" in text, "the version comes from one place")
    check(q4.__version__ == q4.build_info(gpu=False).version, "the version is that of the library")
    check(q4.build_info(gpu=False).no_gpu_reason is None, "GPUs are not looked for unasked")
    info = q4.build_info()
    check(bool(info.cpu) and (info.cuda_architectures != () or info.no_gpu_reason is not None), "build_info says what there is", info)


def test_stub():
    """The committed stub is what stubgen makes of the module."""
    committed = ROOT / "python" / "q4" / "_core.pyi"
    if importlib.util.find_spec("nanobind") is None:
        print("SKIP the stub: nanobind is not installed")
        return
    with tempfile.TemporaryDirectory() as work:
        made = pathlib.Path(work) / "_core.pyi"
        subprocess.run([sys.executable, "-m", "nanobind.stubgen", "-q", "--exclude-values", "-m", "q4._core", "-o", made], check=True)
        check(made.read_bytes() == committed.read_bytes(), "python/q4/_core.pyi is what `python -m nanobind.stubgen -q --exclude-values -m q4._core -o python/q4/_core.pyi` makes")


def test_types():
    if importlib.util.find_spec("mypy") is None:
        print("SKIP types: mypy is not installed")
        return
    with tempfile.TemporaryDirectory() as work:
        environment = {**os.environ, "MYPYPATH": str(ROOT / "python"), "MYPY_CACHE_DIR": work}
        environment.pop("PYTHONPATH")
        examples = pathlib.Path(work) / "examples.py"
        page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
        blocks = [block.split("```")[0] for block in page.split("```python\n")[1:]]
        examples.write_text("\n".join(blocks), encoding="utf-8")
        settings = pathlib.Path(work) / "mypy.ini"
        # Others' packages are not what is checked here, and take minutes.
        settings.write_text("[mypy]\nstrict = True\n[mypy-torch.*,numpy.*,transformers.*,bitsandbytes.*,accelerate.*,peft.*,diffusers.*,vllm.*,sglang.*,ray.*,gguf.*,huggingface_hub.*]\nfollow_imports = skip\nignore_missing_imports = True\n")
        for what in (["-p", "q4"], [str(examples)]):
            done = subprocess.run([sys.executable, "-m", "mypy", "--config-file", settings, *what], env=environment, capture_output=True, text=True,
                                  check=False)  # fmt: skip
            check(done.returncode == 0, f"mypy --strict {what[0]}", done.stdout)


def main():
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
    print(f"python_import: {count()} checks")


main()
