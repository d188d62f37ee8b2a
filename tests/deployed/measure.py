"""The binaries that `sam build` made: where they run, how large they are, how fast they start, how much memory they take."""

import hashlib
import http.server
import os
import statistics
import subprocess
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

from emulators import HUB, REGION
from scene import Scene
from stack import STACK
from tell import figure, holds, same

TOPIC = "Deployed"


def named(scene: Scene) -> dict:
    """The functions of the stack: what each is called without the stack's name, by its logical id."""
    kinds, names = scene.stack["types"], scene.stack["resources"]
    functions = [logical for logical, kind in kinds.items() if kind == "AWS::Lambda::Function"]
    return {logical: names[logical].removeprefix(f"{STACK}-") for logical in sorted(functions)}


def functions(scene: Scene, architecture: str) -> None:
    """Each function is what the template says, under the template's role."""
    client = scene.hub("lambda")
    for logical, name in named(scene).items():
        found = client.get_function_configuration(FunctionName=scene.stack["resources"][logical])
        is_so = [found["Runtime"], found["Architectures"], found["Role"]]
        role = f"arn:aws:iam::{HUB}:role/firebreak/{name}"
        same(TOPIC, f"{name} runs on provided.al2023 under its own role", ["provided.al2023", [architecture], role], is_so)


def processes() -> dict:
    """The processes that run functions, by the function's name."""
    found: dict = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            environment = (directory / "environ").read_bytes().split(b"\0")
            executable = os.readlink(directory / "exe")
        except OSError:
            continue
        names = [part[25:].decode() for part in environment if part.startswith(b"AWS_LAMBDA_FUNCTION_NAME=")]
        if names and executable.endswith("/bootstrap"):
            found[names[0]] = (directory, executable)
    return found


def digest(path: Any) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def running(scene: Scene, built: Path, quick: bool) -> None:
    """What runs is what was built; its size, its start and its memory."""
    alive, ran = processes(), []
    profile = "built quickly: no measure of what ships" if quick else "as it ships"
    for logical, name in named(scene).items():
        binary = built / logical / "bootstrap"
        parts = [f"{binary.stat().st_size / 1e6:.1f} MB", f"{zipped(binary) / 1e6:.1f} MB as a package"]
        parts.append(f"ready in {statistics.median(started(scene, logical, binary) for _ in range(5)):.0f} ms")
        found = alive.get(scene.stack["resources"][logical])
        if found:
            directory, executable = found
            ran.append(logical)
            same(TOPIC, f"the process of {name} is the very binary that sam build made", digest(binary), digest(executable))
            peak = [line for line in (directory / "status").read_text().splitlines() if line.startswith("VmHWM:")]
            parts.append(f"{int(peak[0].split()[1]) / 1e3:.0f} MB of memory at most")
        figure(f"{name} ({profile})", ", ".join(parts))
    same(TOPIC, "every function has run in a process of its own", sorted(named(scene)), sorted(ran))


def zipped(binary: Path) -> int:
    """The size of the package that Lambda is given."""
    package = binary.with_name("package.zip")
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(binary, "bootstrap")
    size = package.stat().st_size
    package.unlink()
    return size


def started(scene: Scene, logical: str, binary: Path) -> float:
    """Milliseconds from the start of the process to its first request for an event.

    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
    """
    asked = threading.Event()

    class Runtime(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.set()
            # As long as the process lives, there is no event.
            time.sleep(1)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Runtime)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    name = scene.stack["resources"][logical]
    configured = scene.hub("lambda").get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    environment = {
        **scene.emulators.environment("AKIAIOSFODNN7EXAMPLE", "none"),
        **configured,
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_address[1]}",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_LOG_GROUP_NAME": "none",
        "AWS_LAMBDA_LOG_STREAM_NAME": "none",
        "AWS_REGION": REGION,
    }
    begun = time.monotonic()
    process = subprocess.Popen(
        [str(binary)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    try:
        if not asked.wait(30):
            raise RuntimeError(f"{binary} asks for no event")
        return (time.monotonic() - begun) * 1000
    finally:
        process.kill()
        process.wait()
        server.shutdown()
