"""Kills the daemon or its processes at random moments, and looks at what one `ns down` leaves.

    python -m tests.e2e.chaos ROUNDS [SEED]

Each round: a daemon starts and brings a lab up, carries traffic, takes it down; at some moment of
that, SIGKILL hits the daemon, a worker, or whatever process of it is there then. Afterwards one
`ns down` must leave no namespace, no process, no file but logs, and no socket.
"""

import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.conftest import PRIVATE, Daemon, Lab


def processes_of(daemon: Daemon) -> list[int]:
    """Every process that carries this daemon's environment, but for those of `tunnelctl`."""
    mark = f"TUNNELD_STATE={daemon.state}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark not in (entry / "environ").read_bytes().split(b"\0"):
                continue
            argv = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if argv[0] and b"ctl" not in argv[:4]:
            found.append(int(entry.name))
    return found


def leftovers(daemon: Daemon, lab: Lab) -> list[str]:
    """What should not be there when a lab is down."""
    found = [f"process {pid}" for pid in processes_of(daemon)]
    for directory in ("/run/netns", "/etc/netns"):
        for path in Path(directory).glob(f"{lab.name}-*"):
            found.append(str(path))
    labs = daemon.state / "labs"
    if labs.exists():
        found += [str(path) for path in labs.rglob("*") if not path.is_dir() or path.parent == labs]
    if daemon.control.exists():
        found.append(str(daemon.control))
    return found


def _story(daemon: Daemon, lab: Lab) -> Iterator[str]:
    """The steps in which somebody may be killed; a step that fails for that is no news."""
    yield "up"
    daemon.ctl("ns", "up", "--name", lab.name, check=False)
    yield "traffic"
    daemon.ctl("dial", f"{PRIVATE}:7", stdin=os.urandom(1 << 20), check=False, timeout=20)
    daemon.ctl("http", "http://local-server.svc:8080/ok", check=False, timeout=20)
    yield "down"
    daemon.ctl("ns", "down", "--name", lab.name, check=False)


def _kill_after(daemon: Daemon, delay: float, chance: random.Random, killed: list[str]) -> None:
    time.sleep(delay)
    victims = processes_of(daemon)
    if not victims:
        return
    victim = chance.choice(victims)
    argv = "gone"
    try:
        argv = Path(f"/proc/{victim}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:90]
        os.kill(victim, signal.SIGKILL)
    except (ProcessLookupError, FileNotFoundError):
        pass
    killed.append(argv)


def play(directory: Path, chance: random.Random) -> tuple[str, list[str]]:
    """One round; returns what was done, and what was left."""
    daemon = Daemon(directory)
    lab = Lab(daemon, f"c{os.getpid()}")
    daemon.start()
    moment = chance.choice(["up", "traffic", "down"])
    delay = chance.uniform(0, {"up": 2.5, "traffic": 0.6, "down": 0.8}[moment])
    killed: list[str] = []
    for step in _story(daemon, lab):
        if step == moment:
            killer = threading.Thread(target=_kill_after, args=(daemon, delay, chance, killed))
            killer.start()
    killer.join()
    last = daemon.ctl("ns", "down", "--name", lab.name, check=False)
    daemon.tunneld("stop", check=False)
    left = leftovers(daemon, lab)
    if last.returncode not in (0, 4):
        left.append(f"ns down: exit {last.returncode}: {last.stderr.decode().strip()}")
    return f"{moment} +{delay:.2f} s: {', '.join(killed) or 'nobody'}", left


def run(rounds: int, seed: int) -> list[str]:
    """Play ``rounds`` rounds; returns the complaints."""
    chance = random.Random(seed)
    complaints = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        for number in range(rounds):
            what, left = play(Path(directory), chance)
            print(f"{number:3} {what}: {'; '.join(left) or 'nothing left'}", flush=True)
            complaints += left
    return complaints


def main() -> None:
    rounds, seed = int(sys.argv[1]), int((sys.argv[2:] or ["1"])[0])
    sys.exit(1 if run(rounds, seed) else 0)


if __name__ == "__main__":
    main()
