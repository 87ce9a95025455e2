"""A real PostgreSQL of its own, on a Unix socket and on loopback with TLS, for tests that need one."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from provisioning.site import CONTROL_LIFE, init_site, issue, load_authority, pair_files
from tests.broker import free_port

CONF = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
fsync = {fsync}
full_page_writes = {fsync}
max_connections = 60
shared_buffers = 32MB
autovacuum = off
wal_level = minimal
max_wal_senders = 0
ssl = on
ssl_cert_file = '{folder}/server.crt'
ssl_key_file = '{folder}/server.key'
ssl_ca_file = '{folder}/ca.crt'
"""
WHO_MAY = """
local   all all trust
hostssl all all 127.0.0.1/32 cert
"""


def binary(name: str) -> str:
    """Where Debian keeps this program of PostgreSQL: the newest version that is here."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    if not found:
        pytest.fail("PostgreSQL is not installed: run scripts/setup")
    return str(found[-1])


class Postgres:
    """A cluster of one server. PostgreSQL refuses to run as root: then it is Debian's user ``postgres``.

    Args:
        fsync: whether it waits for the disk, as a real one does; tests of rules need not.
    """

    def __init__(self, *, fsync: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lfr-pg-"))  # short: a socket's path has 107 characters at most
        self.port = free_port()
        self._made = 0
        self.folder.chmod(0o755)
        self._as: list[str] = []
        if os.geteuid() == 0:
            them = pwd.getpwnam("postgres")
            self._as = ["setpriv", f"--reuid={them.pw_uid}", f"--regid={them.pw_gid}", "--clear-groups"]
            os.chown(self.folder, them.pw_uid, them.pw_gid)
        data = self.folder / "data"
        self._run(binary("initdb"), "--no-sync", "--username=lfr", "--auth=trust", "--encoding=UTF8",
                  "--locale=C", str(data))  # fmt: skip
        self._certificates()
        (data / "postgresql.conf").write_text(
            CONF.format(port=self.port, folder=self.folder, fsync="on" if fsync else "off")
        )
        (data / "pg_hba.conf").write_text(WHO_MAY)
        self.start()

    def _certificates(self) -> None:
        """A server's and a client's certificate of one authority."""
        site = self.folder / "site"
        init_site(site)
        authority = load_authority(site)
        for name, hosts in (("server", ["localhost"]), ("lfr", [])):
            pair_files(self.folder, name, issue(authority, name, CONTROL_LIFE, hosts=hosts))
        shutil.copy(site / "control-room" / "ca.crt", self.folder / "ca.crt")
        shutil.rmtree(site)
        if self._as:
            shutil.chown(self.folder / "server.key", "postgres")

    def _run(self, *command: str) -> None:
        done = subprocess.run([*self._as, *command], cwd="/", capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr + done.stdout

    def start(self) -> None:
        self._run(binary("pg_ctl"), "--wait", f"--pgdata={self.folder}/data", f"--log={self.folder}/log", "start")

    def stop(self, how: str = "fast") -> None:
        """``immediate`` is what a power cut does."""
        self._run(binary("pg_ctl"), "--wait", f"--pgdata={self.folder}/data", f"--mode={how}", "stop")

    def database(self) -> str:
        """A new and empty data base; how it is reached."""
        self._made += 1
        name = f"room{self._made}"
        with self.ask("postgres") as db:
            db.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, name: str) -> str:
        return f"postgresql://lfr@/{name}?host={self.folder}&port={self.port}"

    @contextlib.contextmanager
    def ask(self, name: str) -> Iterator[psycopg.Connection]:
        """A connection of somebody who keeps the server."""
        db = psycopg.connect(self.url(name), autocommit=True)
        try:
            yield db
        finally:
            db.close()

    def remove(self) -> None:
        with contextlib.suppress(AssertionError):
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)
