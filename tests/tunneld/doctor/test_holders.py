import os
import socket
from pathlib import Path

from tunneld.doctor.holders import holder_of

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F9A 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1
   1: 0100007F:1F9B 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4243 1
"""


def fake_proc(tmp_path: Path) -> Path:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text(TABLE)
    for pid, inode in (("1", 1), ("812", 4242)):
        (tmp_path / pid / "fd").mkdir(parents=True)
        (tmp_path / pid / "fd/3").symlink_to(f"socket:[{inode}]")
        (tmp_path / pid / "comm").write_text("nginx\n")
    return tmp_path


def test_who_listens_is_found_by_the_socket_s_inode(tmp_path: Path) -> None:
    assert holder_of(0x1F9A, fake_proc(tmp_path)) == "nginx, pid 812"


def test_a_connection_is_no_listener(tmp_path: Path) -> None:
    assert holder_of(0x1F9B, fake_proc(tmp_path)) == ""


def test_the_real_proc_is_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert f"pid {os.getpid()}" in holder_of(listener.getsockname()[1])
