"""moto's server with our extension, on loopback.

    python server.py [--port PORT]

Prints one line of JSON when it is ready ({"port": …, "pid": …}) and ends when its standard
input closes, so that it never outlives whoever started it.
"""

import argparse
import gc
import json
import logging
import os
import sys
import threading

# Read when moto is first imported. The built-in images and their 1,306 snapshots cost each new
# account seconds, and no AWS account has them as its own.
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
os.environ.setdefault("MOTO_IAM_LOAD_MANAGED_POLICIES", "false")

from moto.moto_server.werkzeug_app import (  # noqa: E402
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server  # noqa: E402

import extension  # noqa: E402
from moto import backends  # noqa: E402

WARM = ("ec2", "autoscaling", "elb", "elbv2", "iam", "sts", "dynamodb", "s3", "events", "sqs", "sns", "guardduty", "organizations")


class Handler(MotoRequestHandler):
    """Quiet: the record of calls says what a log would."""

    def log_request(self, *args, **kwargs) -> None:
        pass


def warm(app: DomainDispatcherApplication) -> None:
    """Load the services now, while nobody waits for a budget: the first call of each costs up to seconds."""
    for service in WARM:
        with app.lock:
            if service not in app.app_instances:
                app.app_instances[service] = create_backend_app(service)


def list_modules_once() -> None:
    """moto lists its hundreds of folders for each request: two thirds of what dispatching one takes."""
    modules = frozenset(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: modules


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    arguments = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    extension.install()
    list_modules_once()
    from calls import Recorder  # after the extension: it imports its doors

    app = DomainDispatcherApplication(create_backend_app)
    warm(app)
    # What is loaded by now stays: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    server = make_server("127.0.0.1", arguments.port, Recorder(app), threaded=True, request_handler=Handler)
    server.daemon_threads = True
    os.environ["MOTO_PORT"] = str(server.port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.port, "pid": os.getpid()}), flush=True)
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
