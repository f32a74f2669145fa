"""The kernel that a stage's notebook runs in: this very Python, whatever kernels a user has.

python -m walls.pipeline.kernel -f CONNECTION_FILE
"""

import json
import os
import sys
from pathlib import Path

from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQInteractiveShell

NAME = "walls"
REFUSALS = (ValueError, OSError)  # what a cell raises about its input, or a file
# The GNU library's malloc gives large blocks back to the system at once, which clears each anew:
# a quarter of a training step. Here it keeps them. Other systems read neither.
MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34)}


class Shell(ZMQInteractiveShell):
    """A shell that tells an error's kind by what it is, not by its name.

    A library's own ValueError, such as pandas' ParserError, is then a ValueError to the runner too.
    """

    def _showtraceback(self, etype, evalue, stb):
        kind = next((base for base in REFUSALS if issubclass(etype, base)), etype)
        super()._showtraceback(kind, evalue, stb)


class Kernel(IPythonKernel):
    """A kernel with that shell."""

    shell_class = Shell


def offer(folder: Path) -> str:
    """Make this kernel known below `folder`, before any other; the name to start it by."""
    spec = folder / "kernels" / NAME
    spec.mkdir(parents=True)
    # Nothing that a stage runs belongs into its user's own history, which a full disk may refuse.
    quiet = ["--log-level=ERROR", "--HistoryManager.enabled=False"]
    command = [sys.executable, "-m", __name__, "-f", "{connection_file}", *quiet]
    own = {name: os.environ.get(name, value) for name, value in MEMORY.items()}
    about = {"argv": command, "display_name": NAME, "language": "python", "env": own}
    (spec / "kernel.json").write_text(json.dumps(about), encoding="utf-8")
    others = os.environ.get("JUPYTER_PATH")
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(folder), others]))
    return NAME


if __name__ == "__main__":
    IPKernelApp.launch_instance(kernel_class=Kernel)
