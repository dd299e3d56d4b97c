"""The same bytes on every device, or the reason why a GPU was not used."""

import subprocess

from checks import check


def same_on_every_device(tools, *arguments):
    """Who asks for a GPU gets it, with the bytes of the cores, or an error: never the cores instead. `arguments`: of q4convert, but for output and device."""
    for out, device in (("gpu.q4", "cuda"), ("cpu.q4", "cpu"), ("auto.q4", "auto")):
        (tools.work / out).unlink(missing_ok=True)
        command = [tools.folder / "q4convert", *arguments, "-o", out, "--device", device]
        done = subprocess.run(command, cwd=tools.work, capture_output=True, text=True, check=False)
        check("no GPU runs the encoder" not in done.stdout + done.stderr, "every encoder runs on GPUs", done.stderr)
        if device == "cuda" and done.returncode != 0:
            # No CUDA in this build, or no device in this machine.
            check("Q4-5301" in done.stderr or "Q4-9302" in done.stderr, "why not", done.stderr)
            check(not (tools.work / out).exists(), "nothing is left", out)
        else:
            check(done.returncode == 0, "converted", done.stderr)
    cpu = (tools.work / "cpu.q4").read_bytes()
    check((tools.work / "auto.q4").read_bytes() == cpu, "the same bytes", arguments)
    if (tools.work / "gpu.q4").exists():
        check((tools.work / "gpu.q4").read_bytes() == cpu, "the same bytes on a GPU", arguments)
