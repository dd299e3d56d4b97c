"""q4.diffusers: components and pipelines equal to those of the exported directory, saving, devices, seals, errors."""

import hashlib
import importlib.util
import json
import pathlib
import shutil
import sys
import tempfile

from package_setup import ROOT, SOURCE, check, count, raises

for package in ("torch", "transformers", "diffusers", "accelerate", "bitsandbytes"):
    if importlib.util.find_spec(package) is None:
        print(f"SKIP python_diffusers (no {package}; scripts/python_env.sh installs it)")
        sys.exit(77)

import logging
import warnings

# Theirs, of which some come at any time.
warnings.simplefilter("ignore")
sys.path.insert(0, str(ROOT / "tests" / "python"))
import diffusers  # noqa: E402
import diffusers_check as peers  # noqa: E402
import pipelines  # noqa: E402
import safetensors.torch  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

import q4  # noqa: E402
import q4.diffusers  # noqa: E402

# A component of each kind: kept layers, shards, old names of layers, one without layers in 4 bits; and what each is converted by.
COMPONENTS = {
    "flux_kept": {"exclude": ["embedder", "norm_out"]}, "flux_sharded": {}, "sd3": {"double_quant": False}, "unet_linear_fp16": {"type": "fp4"},
    "pixart": {}, "vae": {"exclude": ["."]}, "vae_old_names": {}, "wan": {"block_size": 32}, "controlnet": {},
}  # fmt: skip
DTYPES = {"flux": torch.bfloat16, "sd3": torch.float16, "sdxl": torch.float16}


def plain(config):
    """A configuration without where it came from."""
    return {name: str(value) for name, value in dict(config).items() if name != "_name_or_path"}


def differs(ours, theirs):
    """What is not the same of two models, or None."""
    if type(ours) is not type(theirs):
        return type(ours), type(theirs)
    for what in ("state_dict", "named_buffers", "named_parameters"):
        mine, other = dict(getattr(ours, what)()), dict(getattr(theirs, what)())
        if mine.keys() != other.keys():
            return what, sorted(mine.keys() ^ other.keys())[:4]
        for name, tensor in mine.items():
            if tensor.dtype != other[name].dtype or tensor.device != other[name].device or not torch.equal(tensor, other[name]):
                return what, name
            if type(tensor) is not type(other[name]) or tensor.requires_grad != other[name].requires_grad:
                return what, name, type(tensor), type(other[name])
    layers = peers.linear4bit(theirs)
    if peers.linear4bit(ours).keys() != layers.keys():
        return "layers in 4 bits", sorted(peers.linear4bit(ours))
    for name, module in peers.linear4bit(ours).items():
        if (module.compute_dtype, module.weight.quant_type) != (layers[name].compute_dtype, layers[name].weight.quant_type):
            return name, module.compute_dtype, module.weight.quant_type
    for what in ("training", "hf_device_map", "is_loaded_in_4bit", "is_quantized", "quantization_method"):
        if getattr(ours, what, None) != getattr(theirs, what, None):
            return what, getattr(ours, what, None), getattr(theirs, what, None)
    hooks = [{name: type(module._hf_hook).__name__ for name, module in model.named_modules() if hasattr(module, "_hf_hook")} for model in (ours, theirs)]
    if hooks[0] != hooks[1]:
        return "hooks", hooks
    if isinstance(ours, diffusers.ModelMixin) and plain(ours.config) != plain(theirs.config):
        return "config", plain(ours.config), plain(theirs.config)
    return None


def component(name, work, **options):
    """(case, container, exported directory) of a component of diffusers_check.py."""
    case = next(each for each in peers.cases() if each.name == name)
    peers.make(case, work / f"{name}_src")
    path = q4.convert(work / f"{name}_src", work / f"{name}.q4", force=True, **options).path
    q4.export(path, work / f"{name}_bnb", to="bnb", force=True, shard_size="100KB" if name.endswith("_sharded") else None)
    return case, path, work / f"{name}_bnb"


def weight_files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def test_components(work):
    for name, options in COMPONENTS.items():
        case, path, exported = component(name, work, **options)
        cls = getattr(diffusers, case.model)
        in_4bit = "quantization_config" in json.loads((exported / "config.json").read_text())
        check(in_4bit == (name != "vae"), f"{name}: layers in 4 bits", in_4bit)
        # What diffusers does without torch_dtype is another for components with and without layers in 4 bits.
        for settings in ({"dtype": case.dtype}, {})[: 2 if name in ("sd3", "vae") else 1]:
            device_map = {"": "cpu"} if in_4bit else None
            theirs = cls.from_pretrained(exported, torch_dtype=settings.get("dtype"), device_map=device_map, local_files_only=True)
            ours = q4.diffusers.load_component(path, device_map=device_map, **settings)
            wrong = differs(ours, theirs)
            check(wrong is None, f"{name} {settings}", wrong)
            check(ours.config["_name_or_path"] == str(path), f"{name}: where it came from")
            if "dtype" in settings and not name.endswith(("_sharded", "_names")):
                ours.save_pretrained(work / "saved")
                # Wan's class keeps some in float32, whatever the files have.
                check(cls._keep_in_fp32_modules or weight_files(work / "saved") == weight_files(exported), f"{name}: save_pretrained writes the export's weights")
                again = cls.from_pretrained(work / "saved", torch_dtype=case.dtype, device_map=device_map, local_files_only=True)
                check(differs(again, theirs) is None, f"{name}: what was saved loads", differs(again, theirs))
                shutil.rmtree(work / "saved")
        for folder in (exported, work / f"{name}_src"):
            shutil.rmtree(folder)


def outputs(pipeline, seed):
    """Latents of one step of a pipeline. In train(), in which bitsandbytes does not pack weights anew (docs/export_bnb.md)."""
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.train()
        elif hasattr(part, "model_max_length"):
            part.model_max_length = 77
    pipeline.tokenizer_max_length = 77
    torch.manual_seed(seed)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline("a b c", num_inference_steps=1, height=16, width=16, output_type="latent", generator=torch.Generator().manual_seed(seed))
    return made.images


def test_pipelines(work):
    for name, maker in pipelines.MAKERS.items():
        source, folder, exported = maker(work), work / f"{name}_q4", work / f"{name}_bnb"
        q4.convert(source, folder)
        q4.export(folder, exported, to="bnb")
        index = json.loads((source / "model_index.json").read_text())
        cls = getattr(diffusers, index["_class_name"])
        theirs = cls.from_pretrained(exported, torch_dtype=DTYPES[name], local_files_only=True, device_map="cpu")
        ours = q4.diffusers.load_pipeline(folder, dtype=DTYPES[name], device="cpu")
        check(type(ours) is cls and ours.components.keys() == theirs.components.keys(), f"{name}: class and components", type(ours))
        quantized = {path.parent.name for path in folder.glob("*/model.q4")}
        for part, module in ours.components.items():
            if part in quantized:
                wrong = differs(module, getattr(theirs, part))
                check(wrong is None, f"{name}.{part}", wrong)
        check(torch.equal(ours.vae.decoder.conv_in.weight, theirs.vae.decoder.conv_in.weight), f"{name}: what is carried")
        made = outputs(ours, 5)
        check(torch.equal(made, outputs(theirs, 5)) and torch.isfinite(made).all().item(), f"{name}: outputs")
        # The folder of a component.
        for part in quantized:
            if name == "sd3" or "encoder" in part:
                continue
            alone = q4.diffusers.load_component(folder / part, dtype=DTYPES[name], device_map="cpu")
            wrong = differs(alone.train(), getattr(ours, part))
            check(wrong is None and type(alone).__name__ == index[part][1], f"{name}.{part} alone", wrong)


def test_calibrate(work):
    """A component in memory is calibrated on batches, under the checkpoint's names (docs/calibration.md)."""
    folder = work / "flux" / "transformer"
    model = diffusers.FluxTransformer2DModel.from_pretrained(folder, torch_dtype=torch.float32)
    batch = {
        "hidden_states": torch.randn(1, 6, 4), "encoder_hidden_states": torch.randn(1, 5, 32), "pooled_projections": torch.randn(1, 32),
        "timestep": torch.tensor([0.5]), "img_ids": torch.zeros(6, 3), "txt_ids": torch.zeros(5, 3),
    }  # fmt: skip
    result = q4.calibrate(model, [batch], output=work / "flux.calibration", hessian=False)
    check(set(q4.plan(folder).quantized) <= set(result.weights), "calibrate: every weight of a transformer", result.skipped)


def test_devices(work):
    _, path, exported = component("sd3", work)
    theirs = diffusers.SD3Transformer2DModel.from_pretrained(exported, device_map="cpu", local_files_only=True)
    for device_map in ("cpu", torch.device("cpu"), {"": "cpu"}, "auto"):
        ours = q4.diffusers.load_component(path, device_map=device_map)
        check({str(p.device) for p in ours.parameters()} == {"cpu"} or device_map == "auto", f"device_map={device_map!r}")
    check(differs(q4.diffusers.load_component(path, device_map="cpu"), theirs) is None, "a device")
    raises(q4.UnsupportedError, lambda: q4.diffusers.load_component(path, device_map={"": "cpu", "proj_out": "disk"}), "a disk")
    raises(q4.UsageError, lambda: q4.diffusers.load_component(path, device_map={"proj_out": "cpu"}), "a module without device")
    ours = q4.diffusers.load_component(path, device_map="cpu", compute_dtype=torch.float32)
    check(ours.proj_out.compute_dtype == torch.float32, "what bitsandbytes computes in")
    seen = []
    opened = q4.open(path)
    q4.diffusers.load_component(opened, device_map="cpu", root=opened.root, cls=diffusers.SD3Transformer2DModel, progress=seen.append)
    check(bool(seen) and seen[-1].done_bytes == seen[-1].total_bytes, "an open model with its root, its class, and progress")


def changed(work, name, change):
    """A container of the component whose weights `change` changed."""
    folder = work / name
    shutil.copytree(work / "sd3_src", folder)
    file = folder / "diffusion_pytorch_model.safetensors"
    tensors = safetensors.torch.load_file(file)
    change(tensors)
    safetensors.torch.save_file(tensors, file, metadata={"format": "pt"})
    return q4.convert(folder, work / f"{name}.q4").path


def flip(path):
    """Damages more than the space between two parts of a tensor."""
    octets = bytearray(path.read_bytes())
    middle = len(octets) // 2
    octets[middle : middle + 4097] = bytes(each ^ 1 for each in octets[middle : middle + 4097])
    path.write_bytes(octets)


def test_errors(work):
    def load(path, **options):
        return lambda: q4.diffusers.load_component(path, device_map="cpu", **options)

    bias = "transformer_blocks.0.attn.to_q.bias"
    for name, change, word in (
        ("missing", lambda t: t.pop(bias), "missing"),
        ("unexpected", lambda t: t.update({"another.bias": torch.ones(64)}), "unexpected"),
        ("misshapen", lambda t: t.update({bias: torch.ones(65)}), "of another shape"),
    ):
        error = raises(q4.FormatError, load(changed(work, name, change)), f"{name} keys")
        check(word in str(error), f"{name} keys are named", error)
    path = work / "sd3.q4"
    error = raises(q4.FormatError, load(path, cls=diffusers.FluxTransformer2DModel), "another class")
    damaged = work / "damaged.q4"
    shutil.copy(path, damaged)
    flip(damaged)
    check(raises(q4.DamagedError, load(damaged), "a damaged chunk").tensor is not None, "whose")
    raises(q4.DamagedError, load(path, root="sha256:" + "0" * 64), "another root")
    raises(q4.InputError, load(work / "none.q4"), "no file")
    text = q4.diffusers.load_component(work / "flux_q4" / "text_encoder_2" / "model.q4", device_map={"": "cpu"}, dtype=torch.bfloat16)
    check(type(text) is transformers.T5EncoderModel and bool(peers.linear4bit(text)), "a text encoder alone", type(text))
    raises(q4.UsageError, load(work), "a folder without a container")
    error = raises(q4.UnsupportedError, load(q4.convert(SOURCE, work / "llama.q4").path), "a language model")
    check("q4.transformers.load" in str(error), "what loads it", error)
    (work / "later").mkdir()
    for file in (work / "sd3_src").iterdir():
        shutil.copy(file, work / "later" / file.name)
    config = json.loads((work / "later" / "config.json").read_text())
    (work / "later" / "config.json").write_text(json.dumps(config | {"_class_name": "SD9Transformer2DModel"}))
    later = q4.convert(work / "later", work / "later.q4").path
    check("SD9" in str(raises(q4.UnsupportedError, load(later), "a class that diffusers lacks")), "which")
    check(type(load(later, cls=diffusers.SD3Transformer2DModel)()).__name__ == "SD3Transformer2DModel", "unless it is given")

    def stop(_):
        raise KeyboardInterrupt

    raises(KeyboardInterrupt, load(path, progress=stop), "interrupted")


def test_seals(work):
    folder = work / "sdxl_q4"

    def load(where=folder, **options):
        return lambda: q4.diffusers.load_pipeline(where, dtype=torch.float16, device="cpu", **options)

    root = "sha256:" + hashlib.sha256((folder / "q4-pipeline.json").read_bytes()).hexdigest()
    pipeline = load(root=root, components={"text_encoder_2": None, "vae": diffusers.AutoencoderTiny()})()
    check(pipeline.text_encoder_2 is None and type(pipeline.vae).__name__ == "AutoencoderTiny", "components in place of the folder's")
    raises(q4.DamagedError, load(root="sha256:" + "0" * 64), "another root")
    raises(q4.UsageError, load(components={"unett": None}), "no such component")
    raises(q4.UsageError, load(work / "sdxl"), "a pipeline that was not converted")
    raises(q4.UsageError, load(work / "nowhere"), "no folder")

    def spoilt(name, change):
        copy = work / "spoilt"
        shutil.copytree(folder, copy)
        change(copy)
        kind = q4.FormatError if name.startswith("a seal") else q4.UnsupportedError if name.startswith("a later") else q4.DamagedError
        error = raises(kind, load(copy), name)
        shutil.rmtree(copy)
        return error

    def edit(path, **members):
        path.write_text(json.dumps(json.loads(path.read_text()) | members))

    error = spoilt("a tokenizer's file more", lambda copy: (copy / "tokenizer" / "added_tokens.json").write_text("{}"))
    check("added_tokens.json" in str(error), "which one", error)
    check("vae" in str(spoilt("weights that are carried", lambda copy: flip(copy / "vae" / "diffusion_pytorch_model.safetensors"))), "which")
    spoilt("a file less", lambda copy: (copy / "scheduler" / "scheduler_config.json").unlink())
    spoilt("a file that grew", lambda copy: edit(copy / "model_index.json", more=1))
    check(spoilt("a chunk of a container", lambda copy: flip(copy / "unet" / "model.q4")).exit_code == 6, "of the container")
    other = (work / "flux_q4" / "text_encoder" / "model.q4").read_bytes()
    spoilt("another container", lambda copy: (copy / "text_encoder" / "model.q4").write_bytes(other))
    spoilt("a seal that is none", lambda copy: (copy / "q4-pipeline.json").write_text("{}"))
    spoilt("a later version", lambda copy: edit(copy / "q4-pipeline.json", version=2))
    spoilt("a seal without a file of its own", lambda copy: edit(copy / "q4-pipeline.json", files=[{"path": "a"}]))


def main():
    logging.disable(logging.WARNING)
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
    # Of the peer's loads; q4's do not ask.
    peers.answer_for_the_gpu()
    with tempfile.TemporaryDirectory(prefix="q4-python-diffusers-") as name:
        work = pathlib.Path(name)
        for test in (test_components, test_pipelines, test_calibrate, test_seals, test_devices, test_errors):
            test(work)
    print(f"python_diffusers: {count()} checks")


if __name__ == "__main__":
    main()
