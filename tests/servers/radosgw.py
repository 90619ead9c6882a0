"""A real S3 server for tests: Ceph's radosgw on loopback with one monitor and one object store in memory, ready in about three seconds."""

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ACCESS, SECRET = "testkey", "testsecret"
PROGRAMS = ("radosgw", "ceph-mon", "ceph-osd", "ceph", "ceph-authtool", "monmaptool", "radosgw-admin")
CONF = """[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{mon},v1:127.0.0.1:{mon1}]
mon_initial_members = a
auth_allow_insecure_global_id_reclaim = false
keyring = {home}/keyring
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
osd_pool_default_size = 1
osd_pool_default_min_size = 1
mon_allow_pool_size_one = true
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_objectstore = memstore
memstore_device_bytes = 1073741824
run_dir = {home}/run
admin_socket = {home}/run/$name.asok
pid_file = {home}/run/$name.pid
log_file = {home}/log/$name.log
mon_data = {home}/mon
osd_data = {home}/osd
mon_cluster_log_file = {home}/log/cluster.log
crash_dir = {home}/run
mon_warn_on_pool_no_redundancy = false
paxos_propose_interval = 0.01
paxos_min_wait = 0.01
setuser_match_path =

[client.rgw]
rgw_data = {home}/rgw
rgw_frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw_enable_quota_threads = false
"""


def absent() -> list[str]:
    """Name the programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@dataclass
class Gateway:
    """The S3 server, which may be stopped and started again; the objects are kept by the store behind it."""

    home: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = _start(self.home, "radosgw", "-c", self.home / "ceph.conf", "-n", "client.rgw", "-f")
        _until(lambda: _listens(self.port))

    def stop(self) -> None:
        """Kill it."""
        if self.process is not None:
            _kill(self.process)
        self.process = None


@contextmanager
def serving(home: Path) -> Iterator[Gateway]:
    """Run the server, with what it stands on, in `home`; stop all of it at the end."""
    for name in ("mon", "osd", "rgw", "run", "log"):
        (home / name).mkdir(parents=True)
    port, mon, mon1 = _free_ports(3)
    fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
    conf = home / "ceph.conf"
    conf.write_text(CONF.format(home=home, fsid=fsid, port=port, mon=mon, mon1=mon1))
    with ExitStack() as started:
        _keys(home)
        addresses = f"[v2:127.0.0.1:{mon},v1:127.0.0.1:{mon1}]"
        _run("monmaptool", "-c", conf, "--create", "--clobber", "--fsid", fsid, "--addv", "a", addresses, home / "monmap")
        _run("ceph-mon", "-c", conf, "--mkfs", "-i", "a", "--monmap", home / "monmap", "--keyring", home / "keyring")
        started.callback(_kill, _start(home, "ceph-mon", "-c", conf, "-i", "a", "-f"))
        _run("ceph", "-c", conf, "--connect-timeout", "30", "osd", "new", osd)
        _run("ceph-osd", "-c", conf, "-i", "0", "--osd-uuid", osd, "--mkfs")
        started.callback(_kill, _start(home, "ceph-osd", "-c", conf, "-i", "0", "-f"))
        _until(lambda: b"1 up" in _run("ceph", "-c", conf, "osd", "stat"))
        gateway = Gateway(home, port)
        started.callback(gateway.stop)
        gateway.start()
        user = ("--uid=test", "--display-name=test", f"--access-key={ACCESS}", f"--secret={SECRET}")
        _run("radosgw-admin", "-c", conf, "-n", "client.rgw", "user", "create", *user)
        yield gateway


@contextmanager
def running(home: Path) -> Iterator[str]:
    """Run the server in `home` and give its address."""
    with serving(home) as gateway:
        yield gateway.url


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def _keys(home: Path) -> None:
    _run("ceph-authtool", "-C", home / "keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    for name in ("client.admin", "osd.0", "client.rgw"):
        caps = [word for part in ("mon", "osd", "mgr") for word in ("--cap", part, "allow *")]
        _run("ceph-authtool", home / "keyring", "--gen-key", "-n", name, *caps)


def _run(*command: str | Path) -> bytes:
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=120).stdout


def _start(home: Path, *command: str | Path) -> "subprocess.Popen[bytes]":
    with (home / "log" / f"{command[0]}.out").open("wb") as log:
        return subprocess.Popen([str(word) for word in command], stdout=log, stderr=log, env={**os.environ})


def _until(holds: object, patience: float = 60) -> None:
    limit = time.monotonic() + patience
    while not holds():  # type: ignore[operator]
        if time.monotonic() > limit:
            raise TimeoutError("the S3 server did not come up")
        time.sleep(0.1)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
