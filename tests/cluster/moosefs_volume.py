"""A MooseFS of this machine alone, for tests: a master and a chunk server in a network of their own, and mounts of one volume, each a client
with caches of its own, as two machines have.

Needs moosefs-master, moosefs-chunkserver, moosefs-client and fuse3, and to be root. MooseFS refuses the loopback address, hence the network
namespace, with an address on its `lo`.
"""
import os
import pathlib
import shutil
import signal
import subprocess
import time

PROGRAMS = ("mfsmaster", "mfschunkserver", "mfsmount", "nsenter", "unshare")
ADDRESS = "10.99.0.1"


def missing() -> str:
    """Why no volume can be mounted here, or nothing."""
    lacks = [name for name in PROGRAMS if not shutil.which(name)]
    if lacks:
        return "MooseFS is not installed: no " + ", ".join(lacks)
    if os.geteuid() != 0:
        return "mounting needs to be root"
    return "" if os.access("/dev/fuse", os.R_OK | os.W_OK) else "there is no /dev/fuse"


class Volume:
    """A context. `mounts`: the same volume as many times as it has clients."""

    def __init__(self, folder: pathlib.Path, clients: int = 2):
        self.folder = folder.resolve()
        self.mounts = [self.folder / f"client{i}" for i in range(clients)]
        self.daemons = []

    def inside(self, *command) -> None:
        done = subprocess.run(["nsenter", f"--net=/proc/{self.keeper.pid}/ns/net", *map(str, command)], capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"{command}: exit {done.returncode}: {done.stdout}{done.stderr}")

    def __enter__(self):
        data, disk, etc = self.folder / "data", self.folder / "disk", self.folder / "etc"
        for path in (data, disk, etc, *self.mounts):
            path.mkdir(parents=True)
        self.keeper = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        while os.readlink(f"/proc/{self.keeper.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            time.sleep(0.01)
        try:
            self.inside("ip", "link", "set", "lo", "up")
            self.inside("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
            common = f"WORKING_USER = root\nWORKING_GROUP = root\nDATA_PATH = {data}\nSYSLOG_MIN_LEVEL = ERROR\n"
            (data / "metadata.mfs").write_bytes(b"MFSM NEW")
            (etc / "exports.cfg").write_text("* / rw,alldirs,maproot=0\n")
            (etc / "hdd.cfg").write_text(f"{disk}\n")
            (etc / "master.cfg").write_text(f"{common}EXPORTS_FILENAME = {etc}/exports.cfg\nMATOML_LISTEN_HOST = {ADDRESS}\nMATOCS_LISTEN_HOST = {ADDRESS}\nMATOCL_LISTEN_HOST = {ADDRESS}\n")
            (etc / "chunk.cfg").write_text(f"{common}HDD_CONF_FILENAME = {etc}/hdd.cfg\nMASTER_HOST = {ADDRESS}\nCSSERV_LISTEN_HOST = {ADDRESS}\nBIND_HOST = {ADDRESS}\nHDD_LEAVE_SPACE_DEFAULT = 64MiB\n")
            for program, name in (("mfsmaster", "master.cfg"), ("mfschunkserver", "chunk.cfg")):
                self.inside(program, "-c", etc / name, "start")
                self.daemons.append((program, etc / name))
            for mount in self.mounts:
                self.inside("mfsmount", mount, "-H", ADDRESS)
            self.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait(self) -> None:
        """Until a chunk server takes what is written."""
        probe, deadline = self.mounts[0] / "probe", time.monotonic() + 60
        while True:
            try:
                probe.write_bytes(b"?")
                probe.unlink()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def __exit__(self, *_):
        for mount in self.mounts:
            subprocess.run(["umount", "-l", mount], capture_output=True, check=False)
        for program, path in reversed(self.daemons):
            subprocess.run(["nsenter", f"--net=/proc/{self.keeper.pid}/ns/net", program, "-c", path, "stop"], capture_output=True, check=False, timeout=60)
        self.keeper.send_signal(signal.SIGKILL)
        self.keeper.wait()
