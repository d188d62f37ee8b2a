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
from typing import Any

# Read when moto is first imported. The built-in images and their 1,306 snapshots cost each new
# account seconds, and no AWS account has them as its own.
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
os.environ.setdefault("MOTO_IAM_LOAD_MANAGED_POLICIES", "false")
# What only a browser asks for.
os.environ.setdefault("MOTO_DISABLE_GLOBAL_CORS", "true")

from moto.moto_server.werkzeug_app import (  # noqa: E402
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server  # noqa: E402

import extension  # noqa: E402
import headers  # noqa: E402
from moto import backends  # noqa: E402

WARM = ("ec2", "autoscaling", "elb", "elbv2", "iam", "sts", "dynamodb", "s3", "events", "sqs", "sns", "guardduty", "organizations", "cloudtrail")


class Handler(MotoRequestHandler):
    """Quiet, for the record of calls says what a log would; and it keeps connections open, which werkzeug's own
    does not: a connection and a thread for each request is a sixth of the time that answering takes.
    """

    protocol_version = "HTTP/1.1"
    # One segment an answer, and at once.
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_request(self, *args, **kwargs) -> None:
        pass

    def handle_expect_100(self) -> bool:
        # A client that asks waits a second for this line before it sends its body all the same.
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def run_wsgi(self) -> None:
        self.environ = environ = self.make_environ()
        # How much of such a body has been read is not known, so another request cannot follow it.
        self.close_connection |= "HTTP_TRANSFER_ENCODING" in environ
        head: list = []

        def start_response(status: str, headers: list, exc_info: Any = None) -> None:
            head[:] = status.split(" ", 1), headers

        try:
            parts = self.server.app(environ, start_response)
            body = b"".join(parts)
            if hasattr(parts, "close"):
                parts.close()
            (code, reason), headers = head
        except Exception:
            logging.getLogger("werkzeug").exception("error on request")
            body, code, reason, headers = b"", "500", "Internal Server Error", []
        self.send_response(int(code), reason)
        for name, value in headers:
            if name.lower() != "content-length":
                self.send_header(name, value)
        # The answer to HEAD says how long the body would be, and has none.
        described = [value for name, value in headers if name.lower() == "content-length"]
        unsent = self.command == "HEAD" or int(code) in (204, 304)
        if not unsent or described:
            self.send_header("Content-Length", described[-1] if unsent else str(len(body)))
        self.end_headers()
        if not unsent:
            self.wfile.write(body)
        self.wfile.flush()


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
    headers.install()
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
