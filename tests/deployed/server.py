"""ministack on loopback, over TLS, with authorisation on and the additions of `additions.py`.

    FIREBREAK_MOTO=http://127.0.0.1:PORT python server.py DIRECTORY

It keeps its files in DIRECTORY, prints one line of JSON when it is ready ({"port", "door", "certificate"}) and ends, with
every function that it has started, when its standard input closes. Two things join it to what is around it:

- Each session that its STS gives is told to moto's server (a door of `../emulator/calls.py`), so that what ministack lacks
  is answered there in the account that the session belongs to.
- There is no name service for `on.aws` here: the one function URL of the deployment is also answered on a port of its own.
"""

import datetime
import ipaddress
import json
import os
import signal
import socket
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

# What ministack lacks or does not do in full, by the names that the SDKs know: AWS_ENDPOINT_URL_….
OF_MOTO = ("EC2", "AUTO_SCALING", "ELASTIC_LOAD_BALANCING", "ELASTIC_LOAD_BALANCING_V2", "GUARDDUTY", "SECURITYHUB")


def free_ports(count: int) -> list:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def certify(directory: Path) -> tuple:
    """A certificate for this machine and its key. Policies that ask for TLS are met, and nothing else trusts it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "certificate.pem", directory / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].touch(mode=0o600)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths[1].write_bytes(key.private_bytes(*form))
    return paths


def settle(directory: Path, moto: str, port: int) -> Path:
    """The environment, which functions get as well; it is read when ministack is imported."""
    certificate, key = certify(directory)
    os.environ.update(
        {
            "BIND_HOST": "127.0.0.1",
            # Both would listen on every address.
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "GATEWAY_PORT": str(port),
            "AUTH": "true",
            "USE_SSL": "1",
            "MINISTACK_SSL_CERT": str(certificate),
            "MINISTACK_SSL_KEY": str(key),
            "TMPDIR": str(directory),
            "HOME": str(directory),
            "AWS_ENDPOINT_URL": f"https://127.0.0.1:{port}",
            "AWS_CA_BUNDLE": str(certificate),
            "LOG_LEVEL": "WARNING",
        }
    )
    os.environ.update({f"AWS_ENDPOINT_URL_{service}": moto for service in OF_MOTO})
    return certificate


def tell_of_sessions(moto: str) -> None:
    """Each session is known to moto before whoever asked for it has it."""
    from additions import override, role_arn
    from ministack.services import sts

    @override(sts, "register_session")
    def register_session(original: Any, access_key: str, session: dict) -> None:
        original(access_key, session)
        arn = session["Arn"]
        known = {"account": arn.split(":")[4], "access_key": access_key, "role": role_arn(arn)}
        policy = (session.get("SessionPolicies") or {}).get("Policy") or ""
        body = json.dumps({**known, "session": arn.rsplit("/", 1)[-1], "policy": policy}).encode()
        with urlopen(Request(f"{moto}/moto-api/firebreak/sts/sessions", data=body), timeout=30) as answer:
            answer.read()


def open_door(app: Any, door: int) -> None:
    """The function URL that there is, at a port: nothing is signed for, decided or answered otherwise."""
    import hypercorn.asyncio
    from additions import override
    from ministack.services import lambda_svc

    @override(hypercorn.asyncio, "serve")
    def serve(original: Any, application: Any, config: Any) -> Any:
        # Not 443, which it takes where it can.
        config.bind = [config.bind[0], f"127.0.0.1:{door}"]
        return original(application, config)

    @override(app, "_parse_lambda_url")
    def parse(original: Any, host: str, path: str) -> Any:
        if host != f"127.0.0.1:{door}":
            return original(host, path)
        urls = [config["FunctionUrl"] for _, config in lambda_svc._function_urls.to_dict().items()]
        return original(urls[0].split("://", 1)[1].rstrip("/"), path) if len(urls) == 1 else None


def end_with_the_input() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    # The functions' processes are of this group, which is ours alone.
    os.killpg(os.getpgrp(), signal.SIGKILL)


def say_when_ready(port: int, door: int, certificate: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    while True:
        try:
            with urlopen(f"https://127.0.0.1:{port}/_ministack/health", timeout=5, context=trusting) as answer:
                answer.read()
                break
        except OSError:
            time.sleep(0.05)
    print(json.dumps({"port": port, "door": door, "certificate": str(certificate)}), flush=True)


def main() -> None:
    directory, moto = Path(sys.argv[1]), os.environ.pop("FIREBREAK_MOTO")
    os.setpgid(0, 0)
    port, door = free_ports(2)
    certificate = settle(directory, moto, port)
    import additions

    additions.install()
    tell_of_sessions(moto)
    from ministack import app

    open_door(app, door)
    threading.Thread(target=end_with_the_input, daemon=True).start()
    threading.Thread(target=say_when_ready, args=(port, door, certificate), daemon=True).start()
    sys.argv = ["ministack"]
    app.main()


if __name__ == "__main__":
    main()
