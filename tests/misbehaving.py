"""A serving process that does not do what it should: `hang`, `die`, `give up`, `babble`, `orphan` or `wait`, as the file `mode` says. Run by tests."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main(directory: Path) -> None:
    """Misbehave."""
    mode = (directory / "mode").read_text()
    if mode in ("hang", "orphan"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (directory / "child").write_text(str(child.pid))
    if mode == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    if mode == "wait":
        (directory / "child").write_text("ready")
        sys.stdin.readline()
    if mode == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "give up":
        sys.exit("I give up")
    if mode == "babble":
        (directory / "answer.jsonl").write_text('{"part": "load", "value": {"seconds": 1.0, "columns": {}}}\nHello!\n')


if __name__ == "__main__":
    main(Path(sys.argv[1]))
