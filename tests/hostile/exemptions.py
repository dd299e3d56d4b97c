"""Numbers of docs/errors.md that no row of the table meets: {number: (reason, the test that meets it instead, or "")}."""

import pathlib
import re

VERDICT = (
    "a verdict of q4verify on a right container and another source, or on limits",
    "tests/libconvert/verify/verify_test.cc",
)
GATE = ("gate files and baselines, which belong to the user", "tests/libconvert/judge/gate_test.cc")
LOADER = ("the loader's interface, which no tool uses", "tests/libconvert/load/load_test.cc")
LINT = ("a finding of q4inspect --lint, which breaks each rule", "tests/libconvert/lint/lint_test.cc")
EXPORT = ("a model that is right but cannot be exported so", "tests/libconvert/export/export_test.cc")
FORGERY = ("a lie about what was done, in a container whose structure is right", "tests/cli/forgery_test.py")
GPU = ("needs a GPU", "tests/libconvert/engine/slab_engine_test.cc")



def checked_in(folder):
    """The numbers that docs/errors.md says are checked in `folder`."""
    page = (pathlib.Path(__file__).resolve().parent.parent.parent / "docs" / "errors.md").read_text(encoding="utf-8")
    return [int(number) for number in re.findall(rf"^\| Q4-(\d{{4}}) \|.*\| {re.escape(folder)} \|$", page, re.M)]


ISSUES = {
    # Options that do not go with a container, or name what is not in it.
    **{number: ("options of packing a container anew", "tests/cli/repack_test.py") for number in (*range(1750, 1758), 4750)},
    **{number: ("parts of a conversion", "tests/cli/parts_test.py") for number in (1310, 1311, 1312, 1313, 1314, 1315, 6310, 6311, 6312, 6313, 6314, 6315, 9310)},
    **{number: ("what may be asked of a pipeline, and where it goes", "tests/cli/pipeline_test.py") for number in (1821, 1822, 1823, 1825, 1826)},
    4820: ("a pipeline's run that is interrupted between its components", "tests/cli/pipeline_test.py"),
    5822: ("a pipeline that is converted already", "tests/cli/pipeline_test.py"),
    6823: ("a lie in a pipeline whose containers are right", "tests/cli/pipeline_test.py"),
    6825: ("a pipeline beside another source", "tests/cli/pipeline_test.py"),
    5901: ("no encoder is without an object at present", "tests/libconvert/convert/convert_test.cc"),
    1830: ("asked of a right container", "tests/cli/adapter_test.py"),
    1622: ("asked of a right container", "tests/cli/calibrated_test.py"),
    6620: ("asked of a right container", "tests/cli/calibrated_test.py"),
    **{number: ("what a budget asks of a right checkpoint", "tests/cli/budget_test.py") for number in range(1651, 1655)},
    5350: ("what a comparison asks of a right checkpoint", "tests/cli/compare_test.py"),
    1340: ("an output that nobody named", "tests/cli/manners_test.py"),
    4340: ("Ctrl-C while a tool is at something long", "tests/cli/manners_test.py"),
    5340: ("asked of a right container", "tests/cli/command_test.py"),
    1002: ("where a report goes", "tests/cli/reports_test.py"),
    1003: ("where a report goes", "tests/cli/reports_test.py"),
    1004: ("where a report goes", "tests/cli/reports_test.py"),
    1005: ("where a report goes", "tests/cli/reports_test.py"),
    4620: ("a file name, which a row cannot have", "tests/cli/output_test.py"),
    8620: ("names of modules, in an export", "tests/libconvert/export/bnb_names_test.cc"),
    8621: ("names of tensors, in an export", "tests/libconvert/export/bnb_names_test.cc"),
    1301: LOADER,
    1302: LOADER,
    1840: ("slices of the loader's interface, which no tool uses", "tests/libconvert/load/slice_test.cc"),
    2950: ("memory that the loader's caller gives", "tests/libconvert/load/fill_test.cc"),
    1841: ("memory that the loader's caller gives", "tests/libconvert/load/fill_test.cc"),
    **{number: ("what a server does, or its URL", "tests/cli/network_test.py") for number in (1320, 1321, 1322, 1323, 2320, 2321, 2322, 2324, 3320, 3322, 5321, 5322, 6320)},
    2323: ("a signal while a server is waited for", "tests/cli/network_test.py"),
    3321: ("a list of a hundred thousand files", "tests/cli/network_test.py"),
    5320: ("a machine without libcurl", "tests/cli/network_test.py"),
    5450: ("a container in the place of an original, which is no fault of a file", "tests/cli/messages_test.py"),
    5451: ("a right checkpoint that is another one", "tests/cli/messages_test.py"),
    1650: ("a hundred thousand tensors", "tests/cli/memory_bounds_test.py"),
    2005: ("a file that shrinks between two reads", "tests/formats/base/file_test.cc"),
    2009: ("a directory that vanishes between two looks", "tests/formats/base/file_test.cc"),
    2021: ("an output that appears between the check and the rename", "tests/formats/publish/atomic_file_test.cc"),
    2028: ("close() that fails, as network file systems do", "tests/formats/base/file_test.cc"),
    2030: ("a file that cannot be removed in a directory that can be written", "tests/formats/base/file_test.cc"),
    2032: ("the exporter says Q4-8003 before", "tests/formats/publish/atomic_directory_test.cc"),
    2610: ("needs two users", "tests/cli/shared_folder_test.py"),
    2560: ("caught by those who open outputs, who then do without", "tests/cli/publish_test.py"),
    4911: LOADER,
    6012: VERDICT,
    **{number: LINT for number in checked_in("libconvert/lint")},
    **{number: VERDICT for number in range(6201, 6217) if number != 6213},
    **{number: FORGERY for number in (6630, 6631, 6632, 6637, 6638, 7631, 7632)},
    **{number: (VERDICT[0], "tests/libconvert/verify/proof_test.cc") for number in (6633, 6634, 6635)},
    6520: ("a verdict on a folder that changed since the conversion", "tests/cli/model_folder_test.py"),
    6218: ("a verdict, as above", "tests/libconvert/verify/report_test.cc"),
    6403: ("asked of a --diff with a damaged bitsandbytes weight", "tests/libconvert/inspect/bnb_test.cc"),
    6219: ("a --tensor that matches nothing", "tests/libconvert/verify/report_test.cc"),
    **{number: VERDICT for number in range(6302, 6305)},
    **{number: GATE for number in (*range(4201, 4207), *range(6306, 6309), 1670, 6670)},
    7060: ("asked for by a caller, not by a file", "tests/formats/q4/reader_test.cc"),
    7061: ("asked for by a caller, not by a file", "tests/formats/q4/writer_test.cc"),
    7062: ("needs a million tensors in one container", "tests/formats/q4/writer_test.cc"),
    7063: ("asked for by a caller, not by a file", "tests/formats/q4/model_test.cc"),
    6640: ("q4inspect --content that is interrupted", "tests/libconvert/model/content_identity_test.cc"),
    8008: ("an interrupted export", "tests/libconvert/export/export_test.cc"),
    8009: ("needs more than 10,000 files of an export", "tests/libconvert/export/files_test.cc"),
    8012: ("asked for by a caller; the tool knows all names", "tests/libconvert/export/export_test.cc"),
    8103: EXPORT,
    5550: ("a choice of kept modules that diffusers cannot be told", "tests/libconvert/export/component_test.cc"),
    8540: ("a weight that transformers splits, in a right model", "tests/libconvert/export/export_test.cc"),
    8550: ("experts in 4 bits, a right model", "tests/libconvert/export/experts_test.cc"),
    8551: ("fused experts of Llama 4, a right model", "tests/libconvert/export/experts_test.cc"),
    8106: ("a scheme that bitsandbytes does not read, which no container of today has", "tests/libconvert/export/bnb_test.cc"),
    8511: ("a model that is right but does not load so", "tests/libconvert/export/unloadable_test.cc"),
    8510: ("a container that this version does not make", "tests/libconvert/export/foreign_test.cc"),
    8730: ("a right model that came from GGUF", "tests/libconvert/export/foreign_test.cc"),
    9002: ("an invariant of q4 itself, which no input can break", "tests/cli/tool_main_test.cc"),
    9101: ("memory that is short inside zstd", "tests/formats/base/zstd_codec_test.cc"),
    9102: ("asked for by a caller, not by a file", "tests/formats/source/open_checkpoint_test.cc"),
    9201: ("an invariant of q4 itself, which no input can break", "tests/libconvert/source/file_hasher_test.cc"),
    9301: GPU,
    5302: ("needs a GPU, and an encoder without kernels for it", "tests/libconvert/convert/convert_gpu_test.cc"),
    9303: ("needs a GPU", "tests/libconvert/load/load_gpu_test.cc"),
    9304: LOADER,
}

# Met only where fault_shim.c can be preloaded.
NEEDS_SHIM = {2002, 2026, 2027, 2029, 2561, 9001}
# Met only where memory can be limited.
NEEDS_MEMORY_LIMIT = {2091, 2102, 2570}
# Which of these is met depends on the build and on the moment at which memory runs out.
ANY_OF = ({5301, 9302}, {2091, 2102})
