"""A Slurm of this machine alone, for tests: a controller and nodes that call themselves as large as deploy/slurm asks for, on ports of their own, in a folder of their own.

Needs slurm-wlm; several slurmd run on one host in Debian's build.
"""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "sinfo", "scontrol", "scancel")


def missing() -> str:
    """Why no cluster can be started here, or nothing."""
    lacks = [name for name in PROGRAMS if not shutil.which(name)]
    if lacks:
        return "slurm-wlm is not installed: no " + ", ".join(lacks)
    return "" if os.geteuid() == 0 else "slurmd needs to be root"


def free_ports(count: int) -> "list[int]":
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Unavailable(Exception):
    """Slurm is installed, and this machine does not let it run."""


class Cluster:
    """A context. `environment` is what Slurm's commands need."""

    def __init__(self, folder: pathlib.Path, nodes: int = 2):
        self.folder = folder.resolve()
        self.nodes = [f"n{i}" for i in range(nodes)]
        self.conf = self.folder / "slurm.conf"
        self.environment = {**os.environ, "SLURM_CONF": str(self.conf)}
        for name in [key for key in self.environment if key.startswith("SLURM_") and key != "SLURM_CONF"]:
            del self.environment[name]

    def __enter__(self):
        (self.folder / "state").mkdir(parents=True)
        controller, *ports = free_ports(1 + len(self.nodes))
        lines = [
            "ClusterName=q4", "SlurmctldHost=localhost", "SlurmUser=root", "AuthType=auth/none", "CredType=cred/none",
            f"SlurmctldPort={controller}", f"SlurmctldPidFile={self.folder}/ctld.pid", f"SlurmdPidFile={self.folder}/slurmd.%n.pid",
            f"SlurmdSpoolDir={self.folder}/spool.%n", f"StateSaveLocation={self.folder}/state",
            f"SlurmctldLogFile={self.folder}/ctld.log", f"SlurmdLogFile={self.folder}/slurmd.%n.log",
            "SlurmdTimeout=10", "ProctrackType=proctrack/linuxproc", "SelectType=select/cons_tres", "ReturnToService=2", "KillWait=5", "SlurmdParameters=config_overrides",
            "SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,defer",
        ]  # fmt: skip
        for node, port in zip(self.nodes, ports):
            lines.append(f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=4096")
            (self.folder / f"spool.{node}").mkdir()
        lines.append(f"PartitionName=q4 Nodes={','.join(self.nodes)} Default=YES")
        self.conf.write_text("\n".join(lines) + "\n")
        try:
            self.command("slurmctld", "-c", "-f", self.conf)
            for node in self.nodes:
                self.start(node)
            deadline = time.monotonic() + 60
            while "idle" not in self.command("sinfo", "-h", "-o", "%t") and time.monotonic() < deadline:
                time.sleep(0.1)
            if self.command("sinfo", "-h", "-o", "%t") != "idle":
                raise RuntimeError(f"its nodes do not come up:\n{self.logs()}")
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            self.__exit__()
            raise Unavailable(str(error)) from error
        return self

    def __exit__(self, *_):
        """Returns when the daemons are gone, which write into the folder to their end."""
        pids = []
        for path in [*self.folder.glob("slurmd.*.pid"), self.folder / "ctld.pid"]:
            try:
                pids.append(int(path.read_text()))
                os.kill(pids[-1], signal.SIGTERM)
            except (OSError, ValueError):
                pass
        deadline = time.monotonic() + 20
        while any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.05)

    def command(self, *arguments, **options) -> str:
        done = subprocess.run(list(map(str, arguments)), env=self.environment, capture_output=True, text=True, timeout=60, **options)
        if done.returncode != 0:
            raise RuntimeError(f"{arguments}: exit {done.returncode}: {done.stderr.strip()}\n{self.logs()}")
        return done.stdout.strip()

    def start(self, node: str) -> None:
        self.command("slurmd", "-N", node, "-f", self.conf)

    def submit(self, *arguments) -> str:
        """The number of the job."""
        return self.command("sbatch", "--parsable", *arguments, cwd=self.folder).split(";")[0]

    def states(self, job: str) -> "dict[str, str]":
        """The state of each task of an array, or of the job."""
        lines = self.command("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def wait(self, job: str, seconds: float, until) -> "dict[str, str]":
        """Until `until(states)`, which are returned."""
        deadline = time.monotonic() + seconds
        while True:
            states = self.states(job)
            if until(states):
                return states
            if time.monotonic() > deadline:
                raise RuntimeError(f"job {job} after {seconds} s: {states}\n{self.logs()}")
            time.sleep(0.1)

    def ended(self, job: str, seconds: float) -> "dict[str, str]":
        running = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED")
        return self.wait(job, seconds, lambda states: bool(states) and not any(state in running for state in states.values()))

    def logs(self) -> str:
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in sorted(self.folder.glob("*.log")))
