"""The cases of same_bytes: which tool is run over which input with which options.

A case is a name and commands that run one after the other in a folder of their own, where a dictionary of files may be put first.
Inputs lie at `../../in/`, what an earlier case wrote at `../<its name>/`: all paths that a tool sees are relative and the same
everywhere, so that none has to be normalized."""

BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
TINY = ("tiny_plain", "tiny_fp4", "tiny_bf16st", "tiny_bnb", "tiny_skip")
IN = "../../in"
CONVERT = "q4convert --device cpu --threads 2 --progress none"  # the device, the number of cores and the pace of the machine say nothing
VERIFY = "q4verify --threads 2 --progress none"
EXPORT = "q4export --threads 2 --progress none"
NO_DQ = "--no-double-quant"


def all_cases(inputs: dict, model: bool) -> dict[str, list[str | list]]:
    """{name: commands}; a command is a line, or a list of arguments. `model`: whether in/minilm is there."""
    cases: dict[str, list] = {}

    def case(name: str, *commands) -> None:
        assert name not in cases, name
        cases[name] = list(commands)

    def convert(name: str, source: str, options: str = "") -> None:
        case(name, f"{CONVERT} {IN}/{source} -o m.q4 {options}")

    convert_cases(case, convert, inputs)
    inspect_cases(case, inputs)
    verify_cases(case)
    export_cases(case)
    refused_cases(case, inputs)
    if model:
        minilm_cases(case)
    return cases


def convert_cases(case, convert, inputs) -> None:
    for tiny in TINY:
        convert(f"convert.{tiny}", f"checkpoints/{tiny}_src")
    for source in ("checkpoints/tiny_bnb_src", "mixed.safetensors"):
        short = "tiny" if "tiny" in source else "mixed"
        for book in ("nf4", "fp4"):
            for block in BLOCKS:
                for nested in ("", NO_DQ):
                    convert(
                        f"convert.{short}.{book}.b{block}{'.no_dq' if nested else ''}",
                        source,
                        f"--type {book} --block-size {block} {nested} -q",
                    )
    for name, options in {
        "zstd": "--compress zstd",
        "zstd1": "--compress zstd:1",
        "zstd19": "--compress zstd:19 --type fp4",
        "shards": "--shard-size 100KB",
        "shards_zstd": "--shard-size 60KB --compress zstd --no-double-quant",
        "keep_bf16": "--keep-dtype bf16",
        "keep_fp16": "--keep-dtype fp16",
        "keep_fp32": "--keep-dtype fp32",
        "include": "--include embed --exclude layers.1",
        "exclude_all": "--exclude .",
        "include_all": "--include .",
        "xxh3": "--source-digest xxh3",
        "verbose": "-v",
        "json": "--json",
        "report": "--report r.json -q",
        "threads1": "--threads 1",
        "threads7": "--threads 7",
        "memory": "--max-memory 64MiB",
        "gate": "--gate default",
        "sync": "--sync-every 1KB",
        "gate_holds": f"--gate {IN}/gates/holds.json",
        "json_progress": "--progress json",
    }.items():
        for source in ("checkpoints/tiny_skip_src", "mixed.safetensors", "sharded"):
            convert(f"convert.{name}.{source.split('/')[-1].split('.')[0]}", source, options)
    for recipe in ("mixed_rules", "everything", "nothing", "no_change", "bad_pattern", "bad_block"):
        convert(f"convert.recipe.{recipe}", "checkpoints/tiny_plain_src", f"--recipe {IN}/recipes/{recipe}.json")
        convert(f"plan.recipe.{recipe}", "mixed.safetensors", f"--recipe {IN}/recipes/{recipe}.json --dry-run --include odd")
    for source in (
        "tied",
        "conv1d",
        "sharded/model.safetensors.index.json",
        "one_bit_off",
        "near_top_f16.safetensors",
        "near_top_f32.safetensors",
        "tiny_values.safetensors",
        "scales_overflow.safetensors",
        "wide_norm.safetensors",
    ):
        short = source.split("/")[0].split(".")[0]
        convert(f"convert.{short}", source)
        convert(f"convert.{short}.fp4", source, f"--type fp4 {NO_DQ} --json")
    for source in ("nan", "infinite"):
        for what in ("error", "keep"):
            convert(f"convert.{source}.{what}", f"{source}.safetensors", f"--on-nonfinite {what} --report r.json")
    for source in ("checkpoints/tiny_fp4_src", "mixed.safetensors", "sharded", "tied", "conv1d", "checkpoints/tiny_bnb"):
        for options in ("", "--json", "--json --shard-size 50KB --type fp4 --compress zstd", "--include . --threads 9 --keep-dtype fp16"):
            case(
                f"plan.{source.split('/')[-1].split('.')[0]}.{options.replace(' ', '')}",
                f"{CONVERT} {IN}/{source} -o m.q4 --dry-run {options}",
            )
    for name in inputs["architectures"]:
        case(f"plan.{name}", f"{CONVERT} {IN}/arch/{name} -o m.q4 --dry-run")
    case("convert.again", f"{CONVERT} {IN}/sharded -o m.q4 -q", f"{CONVERT} {IN}/sharded -o m.q4", f"{CONVERT} {IN}/tied -o m.q4 --force")
    case(
        "convert.gate_breaks",
        f"{CONVERT} {IN}/sharded -o m.q4 --gate {IN}/gates/breaks.json",
        f"{CONVERT} {IN}/sharded -o m.q4 --max-nmse 1e-4",
    )
    case("convert.gate_statistics", f"{CONVERT} {IN}/mixed.safetensors -o m.q4 --gate {IN}/gates/every_statistic.json")
    case(
        "convert.file_size_limit",
        f"FILE_SIZE=40000 {CONVERT} {IN}/checkpoints/tiny_bnb_src -o m.q4",
        f"{CONVERT} {IN}/checkpoints/tiny_bnb_src -o m.q4",
    )
    case("convert.wide_norm.fp16", f"{CONVERT} {IN}/wide_norm.safetensors -o m.q4 --keep-dtype fp16")


CONTAINERS = (
    "../convert.mixed.nf4.b64/m.q4",
    "../convert.mixed.fp4.b128.no_dq/m.q4",
    "../convert.shards.tiny_skip_src/m.q4.index.json",
    "../convert.shards.tiny_skip_src/m-00002-of-00004.q4",
    "../convert.zstd.sharded/m.q4",
    "../convert.exclude_all.mixed/m.q4",
    "../convert.xxh3.sharded/m.q4",
    "../convert.recipe.mixed_rules/m.q4",
    "../convert.scales_overflow/m.q4",
    "../convert.nan.keep/m.q4",
    f"{IN}/q4/v1_two_tensors.q4",
    f"{IN}/q4/v1_full.q4",
    f"{IN}/q4/v1_full_zstd.q4",
)
CHECKPOINTS = (
    f"{IN}/checkpoints/tiny_plain_src",
    f"{IN}/checkpoints/tiny_plain",
    f"{IN}/checkpoints/tiny_fp4",
    f"{IN}/checkpoints/tiny_bf16st",
    f"{IN}/checkpoints/tiny_bnb",
    f"{IN}/checkpoints/tiny_skip",
    f"{IN}/mixed.safetensors",
    f"{IN}/sharded",
    f"{IN}/nan.safetensors",
    f"{IN}/golden/q4_nested.safetensors",
    f"{IN}/checkpoints/tiny_bnb/model.safetensors",
    f"{IN}/no_tensors.safetensors",
)


def short_name(path: str) -> str:
    return path.removeprefix(IN).removeprefix("..").strip("/").replace("/", "+")


def inspect_cases(case, inputs) -> None:
    modes = (
        "",
        "--tensors",
        "--tree",
        "--stats",
        "--hist",
        "--files",
        "--lint",
        "--stats --sort nmse",
        "--tensors --sort size --filter proj",
        "--hist --filter down",
        "--sort elems",
        "--stats --hist --files --tensors --tree",
        "--color always",
        "--tensors --color always",
        "--tree --color always",
        "--stats --sort sqnr --filter nothing_matches",
    )
    for path in CONTAINERS + CHECKPOINTS:
        case(f"inspect.{short_name(path)}", *[f"q4inspect {path} {mode} {json}" for mode in modes for json in ("", "--json")])
    tensors = {
        "../convert.mixed.nf4.b64/m.q4": (
            "model.layers.0.mlp.up_proj.weight",
            "odd.proj.weight",
            "scalar",
            "empty.proj.weight",
            "lm_head.weight",
            "none",
        ),
        "../convert.mixed.fp4.b128.no_dq/m.q4": ("model.layers.8.mlp.down_proj.weight", "model.layers.9.mlp.experts.down_proj"),
        "../convert.shards_zstd.sharded/m.q4.index.json": ("model.layers.2.self_attn.q_proj.weight",),
        f"{IN}/checkpoints/tiny_bnb": ("model.layers.0.mlp.down_proj.weight", "model.norm.weight"),
        f"{IN}/checkpoints/tiny_fp4": ("model.layers.1.self_attn.q_proj.weight",),
        f"{IN}/mixed.safetensors": ("buffers.I64", "buffers.F8_E4M3", "model.layers.2.mlp.up_proj.weight"),
    }
    for path, names in tensors.items():
        case(
            f"inspect.one.{short_name(path)}",
            *[
                f"q4inspect {path} --tensor {name} {dump} {json}"
                for name in names
                for json in ("", "--json")
                for dump in ("", "--dump 0:64", "--dump 50:10000", "--dump 3:1", "--dump 62:0", "--dump x", "--dump 99999999:1")
            ],
        )
    pairs = [(a, b) for n, a in enumerate(CONTAINERS[:9]) for b in CONTAINERS[n:9:3]]
    pairs += [
        ("../convert.tiny_bnb/m.q4", other)
        for other in (
            "../convert.tiny.nf4.b64/m.q4",
            "../convert.tiny.nf4.b64.no_dq/m.q4",
            "../convert.tiny.fp4.b64/m.q4",
            "../convert.tiny.nf4.b128/m.q4",
            f"{IN}/checkpoints/tiny_bnb",
            f"{IN}/checkpoints/tiny_bnb_src",
        )
    ]
    pairs += [
        (f"{IN}/checkpoints/tiny_plain_src", f"{IN}/one_bit_off"),
        (f"{IN}/checkpoints/tiny_plain", f"{IN}/checkpoints/tiny_bf16st"),
        (f"{IN}/checkpoints/tiny_skip", "../convert.tiny_skip/m.q4"),
        (f"{IN}/one_bit_off", "../convert.tiny_plain/m.q4"),
        ("../convert.include.sharded/m.q4", "../convert.zstd.sharded/m.q4"),
        (f"{IN}/sharded", f"{IN}/tied"),
        (f"{IN}/sharded", f"{IN}/absent"),
    ]
    for left, right in pairs:
        case(f"diff.{short_name(left)}.{short_name(right)}", *[f"q4inspect {left} --diff {right} {json}" for json in ("", "--json")])
    for name in inputs["faulty"]:
        path = f"{IN}/faulty/{name}"
        case(
            f"faulty.{name}",
            f"q4inspect {path} --lint",
            f"q4inspect {path} --lint --json",
            f"q4inspect {path} --tensors",
            f"q4inspect {path} --stats --json",
            f"q4inspect {path} --diff {IN}/checkpoints/tiny_bnb",
            f"{CONVERT} {path} -o m.q4 --dry-run",
            f"{VERIFY} ../convert.tiny_bnb/m.q4 --against {path}",
        )
    case(
        "inspect.patterns",
        *[
            ["q4inspect", "../convert.mixed.nf4.b64/m.q4", "--filter", content.split(b"\n")[0]]
            for content in inputs["patterns"].values()
            if b"\0" not in content.split(b"\n")[0]
        ],
    )


SOURCE_OF = {
    "../convert.tiny_plain/m.q4": f"{IN}/checkpoints/tiny_plain_src",
    "../convert.mixed.nf4.b64/m.q4": f"{IN}/mixed.safetensors",
    "../convert.mixed.fp4.b4096.no_dq/m.q4": f"{IN}/mixed.safetensors",
    "../convert.shards_zstd.sharded/m.q4.index.json": f"{IN}/sharded",
    "../convert.tied/m.q4": f"{IN}/tied",
    "../convert.recipe.mixed_rules/m.q4": f"{IN}/checkpoints/tiny_plain_src",
    "../convert.keep_fp16.mixed/m.q4": f"{IN}/mixed.safetensors",
    "../convert.near_top_f16/m.q4": f"{IN}/near_top_f16.safetensors",
    "../convert.xxh3.sharded/m.q4": f"{IN}/sharded",
    "../convert.nan.keep/m.q4": f"{IN}/nan.safetensors",
    "../convert.shards_zstd.sharded/m-00002-of-00002.q4": f"{IN}/sharded",
    # What does not belong together.
    "../convert.tiny_bf16st/m.q4": f"{IN}/one_bit_off",
    "../convert.zstd.sharded/m.q4": f"{IN}/tied",
    "../convert.tiny_fp4/m.q4": f"{IN}/checkpoints/tiny_bnb_src",
    "../convert.conv1d/m.q4": f"{IN}/checkpoints/tiny_fp4",
    f"{IN}/q4/v1_full.q4": f"{IN}/mixed.safetensors",
}


def verify_cases(case) -> None:
    reports = "--junit r.xml --markdown r.md --html r.html"
    for path in CONTAINERS:
        case(
            f"verify.{short_name(path)}",
            f"{VERIFY} {path}",
            f"{VERIFY} {path} --json {reports}",
            f"{VERIFY} {path} --gate default",
            f"{VERIFY} {path} --max-nmse 0.001 --min-sqnr 20 --max-abs-error 1e-3 {reports.replace('r.', 'limits.')}",
        )
    for path, source in SOURCE_OF.items():
        case(
            f"against.{short_name(path)}.{short_name(source)}",
            f"{VERIFY} {path} --against {source}",
            f"{VERIFY} {path} --against {source} --json {reports}",
            f"{VERIFY} {path} --against {source} --sample 10 --json",
            f"{VERIFY} {path} --against {source} --tensor down --threads 1",
            f"{VERIFY} {path} --against {source} --gate {IN}/gates/breaks.json {reports.replace('r.', 'gate.')}",
            f"{VERIFY} {path} --against {source} --max-memory 32MiB -q",
        )
    for gate in ("holds", "breaks", "every_statistic", "unknown"):
        case(
            f"gate.{gate}",
            *[
                f"{VERIFY} {path} --gate {IN}/gates/{gate}.json --html h.html {json}"
                for path in (CONTAINERS[0], CONTAINERS[2])
                for json in ("", "--json")
            ],
        )
    for other in ("tiny.nf4.b64", "tiny.nf4.b128", "tiny.fp4.b64", "tiny_plain", "mixed.nf4.b64"):
        for slack in ("", "--baseline-slack 0", "--baseline-slack 20%"):
            case(
                f"baseline.{other}.{slack.replace(' ', '')}",
                f"STDOUT=baseline.json {VERIFY} ../convert.tiny.nf4.b64/m.q4 --json",
                f"{VERIFY} ../convert.{other}/m.q4 --baseline baseline.json {slack} --markdown b.md",
            )


def export_cases(case) -> None:
    for tiny in TINY:
        case(
            f"export.bnb.{tiny}",
            f"{EXPORT} ../convert.{tiny}/m.q4 --to bnb -o out",
            f"q4inspect out --lint",
            f"q4inspect out --stats",
            f"q4inspect out --diff ../convert.{tiny}/m.q4",
        )
    for name in (
        "tiny.nf4.b32",
        "tiny.fp4.b256.no_dq",
        "mixed.nf4.b64",
        "mixed.fp4.b64.no_dq",
        "tied",
        "conv1d",
        "include.sharded",
        "include_all.mixed",
        "exclude_all.sharded",
    ):
        case(
            f"export.bnb.{name}",
            f"{EXPORT} ../convert.{name}/m.q4 --to bnb -o out",
            f"{EXPORT} ../convert.{name}/m.q4 --to bnb -o out",
            f"{EXPORT} ../convert.{name}/m.q4 --to bnb -o out --force --json --quant-storage bfloat16 --compute-dtype bfloat16",
            f"{EXPORT} ../convert.{name}/m.q4 --to bnb -o shards --shard-size 40KB",
            f"{EXPORT} ../convert.{name}/m.q4 --to bnb -o subset --tensor '(up|q)_proj'",
        )
    for name in ("tiny.nf4.b64", "tiny.fp4.b64.no_dq", "mixed.nf4.b128", "near_top_f16", "tied", "keep_bf16.tiny_skip_src"):
        for dtype in ("same", "bf16", "fp16", "fp32"):
            case(
                f"export.safetensors.{name}.{dtype}",
                f"{EXPORT} ../convert.{name}/m.q4 --to safetensors --dtype {dtype} -o out",
                f"{EXPORT} ../convert.{name}/m.q4 --to safetensors --dtype {dtype} -o one.safetensors --tensor proj --json -v",
            )
    for source in (
        "../convert.shards.tiny_skip_src/m.q4.index.json",
        "../convert.zstd.sharded/m.q4",
        f"{IN}/q4/v1_full.q4",
        f"{IN}/q4/v1_full_zstd.q4",
    ):
        case(
            f"export.other.{short_name(source)}",
            f"{EXPORT} {source} --to safetensors -o dense --shard-size 60KB --max-memory 64MiB",
            f"{EXPORT} {source} --to bnb -o bnb --threads 1",
        )


def refused_cases(case, inputs) -> None:
    for name in inputs["hostile"]:
        path = f"{IN}/hostile/{name}"
        if name.endswith(".q4"):
            case(
                f"hostile.{name}", f"{VERIFY} {path}", f"q4inspect {path} --tensors --stats", f"{EXPORT} {path} --to safetensors -o out -q"
            )
        else:
            case(f"hostile.{name}", f"q4inspect {path} --tensors", f"{CONVERT} {path} -o m.q4 --dry-run", f"q4inspect {path} --lint")
    for name, (files, command) in inputs["rows"].items():
        case(f"row.{name}", files, list(command))
    for target, names in inputs["fuzz"].items():
        for name in names:
            path = f"{IN}/fuzz/{target}/{name}"
            case(
                f"fuzz.{target}.{name}",
                {
                    "recipe": f"{CONVERT} {IN}/sharded -o m.q4 --dry-run --recipe {path}",
                    "gate": f"{VERIFY} ../convert.tiny_plain/m.q4 --gate {path}",
                    "baseline": f"{VERIFY} ../convert.tiny_plain/m.q4 --baseline {path}",
                    "q4_shard_list": f"{VERIFY} {path}",
                }.get(target, f"q4inspect {path} --tensors"),
            )
    some = "../convert.tiny_plain/m.q4"
    for n, line in enumerate(
        (
            "q4convert",
            f"{CONVERT} {IN}/sharded",
            f"{CONVERT} {IN}/absent -o m.q4",
            f"{CONVERT} {IN}/empty_folder -o m.q4",
            f"{CONVERT} {IN}/empty.safetensors -o m.q4",
            f"{CONVERT} {IN}/not_json.json -o m.q4",
            f"{CONVERT} {IN}/text.q4 -o m.q4",
            f"{CONVERT} {IN}/no_tensors.safetensors -o m.q4",
            f"{CONVERT} {IN}/no_tensors.safetensors -o m.q4 --allow-empty",
            f"{CONVERT} {some} -o m.q4",
            f"{CONVERT} {IN}/sharded -o absent/m.q4",
            f"{CONVERT} {IN}/sharded -o m.bin",
            f"{CONVERT} {IN}/sharded -o .",
            f"{CONVERT} {IN}/mixed.safetensors -o {IN}/mixed.safetensors",
            f"{CONVERT} {IN}/sharded -o m.q4 --encoder mse --effort 0",
            f"{CONVERT} {IN}/sharded -o m.q4 --encoder best",
            f"{CONVERT} {IN}/sharded -o m.q4 --type int4",
            f"{CONVERT} {IN}/sharded -o m.q4 --block-size 48",
            f"{CONVERT} {IN}/sharded -o m.q4 --compress zstd:99",
            f"{CONVERT} {IN}/sharded -o m.q4 --compress lz4",
            f"{CONVERT} {IN}/sharded -o m.q4 --max-memory 1MiB",
            f"{CONVERT} {IN}/sharded -o m.q4 --max-memory much",
            f"{CONVERT} {IN}/sharded -o m.q4 --threads 0",
            f"{CONVERT} {IN}/sharded -o m.q4 --include '('",
            f"{CONVERT} {IN}/sharded -o m.q4 --device tpu",
            f"{CONVERT} {IN}/sharded -o m.q4 --gate {IN}/absent.json",
            f"{CONVERT} {IN}/sharded -o m.q4 --recipe {IN}/not_json.json",
            f"{CONVERT} {IN}/sharded -o m.q4 --nonsense",
            f"{CONVERT} {IN}/checkpoints/tiny_bnb -o m.q4",
            f"{CONVERT} {IN}/sharded -o m.q4 --shard-size 0",
            f"{CONVERT} {IN}/sharded -o m.q4 --report absent/r.json",
            f"{CONVERT} {IN}/sharded -o m.q4 --gate {IN}/text.q4",
            "q4inspect",
            f"q4inspect {IN}/absent",
            f"q4inspect {IN}/text.q4",
            f"q4inspect {some} --dump 0:4",
            f"q4inspect {some} --filter '*'",
            f"q4inspect {some} --sort colour",
            f"q4inspect {some} --diff {IN}/text.q4",
            f"q4inspect {IN}/empty_folder",
            f"q4inspect {IN}/empty.safetensors --lint",
            f"q4inspect {some} --color sometimes",
            "q4verify",
            f"{VERIFY} {IN}/absent.q4",
            f"{VERIFY} {IN}/text.q4",
            f"{VERIFY} {IN}/sharded",
            f"{VERIFY} {some} --sample 5",
            f"{VERIFY} {some} --tensor x",
            f"{VERIFY} {some} --against {IN}/absent",
            f"{VERIFY} {some} --against {IN}/checkpoints/tiny_plain_src --sample 0",
            f"{VERIFY} {some} --html r --markdown r",
            f"{VERIFY} {some} --against {IN}/checkpoints/tiny_plain_src --tensor '('",
            f"{VERIFY} {some} --baseline {IN}/not_json.json",
            f"{VERIFY} {some} --html absent/r.html",
            f"{VERIFY} {some} --baseline {IN}/gates/holds.json --baseline-slack much",
            f"{VERIFY} {some} --max-nmse x",
            f"{VERIFY} {some} --gate {IN}/not_json.json",
            "q4export",
            f"{EXPORT} {some} -o out",
            f"{EXPORT} {some} --to gguf -o out",
            f"{EXPORT} {IN}/text.q4 --to bnb -o out",
            f"{EXPORT} {some} --to bnb -o ../convert.tiny_plain",
            f"{EXPORT} {some} --to bnb -o out --tensor '('",
            f"{EXPORT} {some} --to bnb -o out --tensor nothing_matches",
            f"{EXPORT} {some} --to safetensors -o out --dtype int8",
            f"{EXPORT} {some} --to bnb -o out.safetensors",
            f"{EXPORT} {some} --to bnb -o out",
            f"{EXPORT} {some} --to safetensors -o absent/out",
            f"{EXPORT} {IN}/sharded --to bnb -o out",
            f"{EXPORT} {some} --to bnb -o out --max-memory 1KB",
        )
    ):
        case(f"refused.{n:02}", line)
    for tool in ("q4convert", "q4inspect", "q4verify", "q4export"):
        case(f"help.{tool}", f"{tool} --help", f"{tool} --version")


def minilm_cases(case) -> None:
    """A real model: tensors of several slabs and chunks. The embedding of 11.7 M elements is quantized too where `--include` says so."""
    source = f"{IN}/minilm"
    for book in ("nf4", "fp4"):
        for block in BLOCKS:
            for nested in ("", NO_DQ):
                case(
                    f"minilm.{book}.b{block}{'.no_dq' if nested else ''}",
                    f"{CONVERT} {source} -o m.q4 --type {book} --block-size {block} {nested}",
                    f"{VERIFY} m.q4 -q",
                )
    for name, options in {
        "embedding": "--include embeddings",
        "embedding_fp4": f"--include embeddings --type fp4 {NO_DQ} --block-size 128",
        "zstd": "--compress zstd --keep-dtype bf16",
        "shards": "--shard-size 5MB --json",
        "small_memory": "--include embeddings --max-memory 160MiB --threads 1",
    }.items():
        case(f"minilm.{name}", f"{CONVERT} {source} -o m.q4 {options}")
    for name in ("nf4.b64", "fp4.b128.no_dq", "embedding", "embedding_fp4", "zstd"):
        path = f"../minilm.{name}/m.q4"
        case(
            f"minilm.read.{name}",
            f"{VERIFY} {path} --against {source} --json --html r.html --junit r.xml --markdown r.md",
            f"{VERIFY} {path} --against {source} --sample 20 --max-memory 100MiB",
            f"q4inspect {path}",
            f"q4inspect {path} --tensors --stats --hist --json",
            f"q4inspect {path} --tree",
            f"q4inspect {path} --lint",
            f"q4inspect {path} --diff ../minilm.nf4.b64/m.q4",
        )
    case(
        "minilm.export.bnb",
        f"{EXPORT} ../minilm.embedding/m.q4 --to bnb -o out --shard-size 10MB",
        f"{EXPORT} ../minilm.nf4.b64/m.q4 --to bnb -o plain",
        "q4inspect plain --lint --json",
    )
    case(
        "minilm.export.safetensors",
        f"{EXPORT} ../minilm.zstd/m.q4 --to safetensors --dtype bf16 -o out",
        f"{EXPORT} ../minilm.embedding_fp4/m.q4 --to safetensors -o same --max-memory 64MiB",
    )
    # A file size limit ends the first run; the second goes on with what it left.
    case("minilm.resumed", f"FILE_SIZE=60000000 {CONVERT} {source} -o m.q4 --sync-every 1MB --threads 1", f"{CONVERT} {source} -o m.q4")
    case("minilm.read.shards", f"{VERIFY} ../minilm.shards/m.q4.index.json --against {source}")
