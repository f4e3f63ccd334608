"""A few machines on one: each with an address, processes, files and an sshd of its own.

A host is a set of Linux namespaces. Its root is an overlay over this machine's, so what is
installed here is there too, and what it writes lies in memory and goes with it. All are wired to
the network of one more, the laptop, from which a person works; this machine's own network has no
part in it. A host's processes die with its first one and that one with us, however we end: there
is nothing to clean up.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

NETWORK = "10.0.0"
LAPTOP = 254
UNSHARED = ("--fork", "--net", "--mount", "--pid", "--uts", "--propagation", "private")
AS_LONG_AS_US = ("setpriv", "--pdeathsig", "KILL")
TOOLS = ("ip", "unshare", "nsenter", "setpriv", "ssh", "ssh-keygen", "sshd", "rsync")

HOST = """set -e
mount -t tmpfs -o mode=755 disk {disk}
mkdir {disk}/root
for place in {places}; do
  part={disk}/$(echo "$place" | tr / -)
  mkdir -p $part/upper $part/work
  mount -t overlay -o lowerdir=$place,upperdir=$part/upper,workdir=$part/work host {disk}/root$place
done
cd {disk}/root
mount --rbind /dev dev
mount --rbind /sys sys
mount -t proc proc proc
mkdir -p shared tmp/ray
for own in dev/shm run tmp/ray; do mount -t tmpfs own $own; done
mkdir run/sshd
mount --bind {shared} shared
hostname {name}
ip link set lo up
echo up
exec chroot . {first}
"""


def unavailable() -> str | None:
    """Why there can be no hosts here, if so."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "namespaces and mounts need Linux and root"
    missing = [tool for tool in TOOLS if not shutil.which(tool, path=_path())]
    if missing:
        return f"{', '.join(missing)} not found (Debian: openssh-server iproute2 rsync)"
    refused = subprocess.run(
        ["unshare", *UNSHARED, "true"],
        capture_output=True,
        text=True,
    )
    return f"no namespaces here: {refused.stderr.strip()}" if refused.returncode else None


class Hosts:
    """Running hosts, numbered from 1, and the laptop beside them."""

    def __init__(self, folder: Path, needed: Sequence[Path]) -> None:
        self.folder, self.shared, self.key = folder, folder / "shared", folder / "key"
        self._places = sorted({_mount_point(path) for path in ("/", folder, *needed)})
        self._firsts: dict[int, subprocess.Popen[str]] = {}

    def address(self, host: int) -> str:
        """Where its sshd listens."""
        return f"{NETWORK}.{host}"

    def start(self, host: int, environment: Mapping[str, str]) -> None:
        """Bring up a host; with `environment`, people who come by ssh are met."""
        disk = self.folder / f"disk{host}"
        disk.mkdir(exist_ok=True)
        set_ = " ".join(f"{name}={value}" for name, value in environment.items())
        sshd = [shutil.which("sshd", path=_path()), "-D", "-e", "-f", "none", "-h", str(self.key)]
        for option in (
            f"AuthorizedKeysFile={self.key}.pub",
            "StrictModes=no",
            "UsePAM=no",
            "PrintMotd=no",
            "MaxStartups=100",
            *([f"SetEnv={set_}"] if set_ else []),
        ):
            sshd += ["-o", option]
        script = HOST.format(
            disk=shlex.quote(str(disk)),
            places=shlex.join(self._places),
            shared=shlex.quote(str(self.shared)),
            name="laptop" if host == LAPTOP else f"host{host}",
            first="sleep infinity" if host == LAPTOP else shlex.join(map(str, sshd)),
        )
        with (self.folder / f"host{host}.log").open("w") as log:
            first = subprocess.Popen(
                [*AS_LONG_AS_US, "unshare", "--kill-child", *UNSHARED, "sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PATH": _path()},
            )
        self._firsts[host] = first
        assert first.stdout is not None
        if first.stdout.readline() != "up\n":
            raise RuntimeError(Path(log.name).read_text())
        if host == LAPTOP:
            self._net(host, "link add lan type bridge", "link set lan up")
            self._net(host, f"addr add {self.address(host)}/24 dev lan")
        else:
            self._net(
                LAPTOP,
                f"link add host{host} type veth peer name eth0 netns {first.pid}",
                f"link set host{host} master lan up",
            )
            self._net(
                host,
                f"addr add {self.address(host)}/24 dev eth0",
                "link set eth0 up",
                f"route add default via {self.address(LAPTOP)}",  # Ray asks for it: who am I?
            )

    def on(self, host: int, command: str) -> list[str]:
        """The command line, for subprocess, of a shell command on a host (not by ssh)."""
        enter = self._enter(host, "--mount", "--net", "--pid", "--uts", "--root", "--wd")
        return [*enter, *AS_LONG_AS_US, "bash", "-c", command]

    def kill(self, host: int) -> None:
        """Pull the plug: all its processes are gone, its files and its address with them."""
        os.kill(self._inside(self._firsts[host]), signal.SIGKILL)
        self._firsts.pop(host).communicate()

    def stop(self) -> None:
        """Kill what is left."""
        for host in list(self._firsts):
            self.kill(host)

    def _net(self, host: int, *commands: str) -> None:
        for command in commands:
            line = [*self._enter(host, "--net"), "ip", *command.split()]
            subprocess.run(line, check=True, env={**os.environ, "PATH": _path()})

    def _enter(self, host: int, *namespaces: str) -> list[str]:
        return ["nsenter", "--target", str(self._inside(self._firsts[host])), *namespaces]

    @staticmethod
    def _inside(first: subprocess.Popen[str]) -> int:
        """A host's first process, as numbered here."""
        return int(Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text())


@contextmanager
def hosts(
    count: int, folder: Path, needed: Sequence[Path], environment: Mapping[str, str]
) -> Iterator[Hosts]:
    """`count` hosts and a laptop, as long as the block runs.

    folder: for their mounts and the ssh key; its `shared` is /shared on all of them. needed: what
    they must see of this machine. environment: of who comes by ssh.
    """
    with ExitStack() as stack:
        up = Hosts(folder, needed)
        stack.callback(up.stop)
        up.shared.mkdir()
        make_key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(up.key)]
        subprocess.run(make_key, check=True)
        for host in (LAPTOP, *range(1, count + 1)):
            up.start(host, environment)
        yield up


def _mount_point(path: str | Path) -> str:
    path = Path(path).resolve()
    return str(next(p for p in (path, *path.parents) if p.is_mount()))


def _path() -> str:
    """Where an administrator's commands are too."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
