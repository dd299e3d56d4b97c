"""Runs the examples of the pages on torch, transformers, diffusers and vLLM, one after the other, as a reader would."""

import contextlib
import importlib.util
import io
import os
import pathlib
import re
import sys
import tempfile

from package_setup import ROOT, check, count

for package in ("torch", "transformers", "accelerate", "bitsandbytes", "diffusers"):
    if importlib.util.find_spec(package) is None:
        print(f"SKIP python_integrations (no {package}; scripts/python_env.sh installs it)")
        sys.exit(77)

import warnings  # noqa: E402

warnings.simplefilter("ignore")  # theirs

sys.path.insert(0, str(ROOT / "tests" / "python"))
import pipelines  # noqa: E402
import q4  # noqa: E402
import transformers  # noqa: E402

PAGES = {"python_torch": 4, "python_transformers": 5, "python_diffusers": 3, "python_vllm": 1, "python_sglang": 1}
# Single examples of other pages, by their first line, and what must be there.
OTHERS = {"jobs": "import q4.transformers", "q4export": "from transformers import"}


def llama(folder):
    """Of sizes that bitsandbytes is right about on every CPU (docs/export_bnb.md)."""
    config = transformers.LlamaConfig(vocab_size=128, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    transformers.LlamaForCausalLM(config).bfloat16().save_pretrained(folder)


def main():
    transformers.logging.set_verbosity_error()
    for page, examples in PAGES.items():
        found = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"), re.S)
        check(len(found) == examples, f"examples of {page}", len(found))
        namespace = {"__name__": "examples"}
        with tempfile.TemporaryDirectory(prefix="q4-docs-") as work:
            os.chdir(work)
            if page == "python_diffusers":
                pipelines.flux(pathlib.Path(work)).rename("FLUX.1-dev")
            else:
                llama("Llama-3.2-1B")
            for number, code in enumerate(found, 1):
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    exec(compile(code, f"docs/{page}.md: example {number}", "exec"), namespace)
                check(True, f"example {number} of {page} runs")
            if page == "python_transformers":
                check(os.path.isfile("saved/model.safetensors") and namespace["tokens"].shape[1] > 3, "what the examples leave")
            os.chdir("/")
    for page, begin in OTHERS.items():
        blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"), re.S)
        code = next((block for block in blocks if block.startswith(begin)), None)
        check(code is not None, f"docs/{page}.md has an example that begins with {begin}")
        with tempfile.TemporaryDirectory(prefix="q4-docs-") as work:
            os.chdir(work)
            llama("model")
            q4.convert("model", "model.q4")
            q4.export("model.q4", "model-bnb", to="bnb")
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                namespace = {"__name__": "examples"}
                exec(compile(code, f"docs/{page}.md", "exec"), namespace)
            check(namespace["model"].config.model_type == "llama", f"the example of {page} loads the model")
            os.chdir("/")
    print(f"python_integrations: {count()} checks")


main()
