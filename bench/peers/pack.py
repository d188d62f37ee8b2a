"""Packs functions as they are deployed, and unpacks them as Lambda does.

    python pack.py DIRECTORY POLICY…      with Cloud Custodian's own code, one folder for each policy
    python pack.py DIRECTORY --plain FILE the file alone

Prints one line of JSON: the bytes of each package, by its folder's name.
"""

import compileall
import io
import json
import sys
import zipfile
from pathlib import Path


def custodian(policy: Path) -> bytes:
    """As `custodian run` does (`c7n/mu.py`): the package `c7n`, the policy as `config.json`, and a handler of three lines."""
    from c7n.config import Config
    from c7n.mu import PolicyLambda
    from c7n.policy import PolicyCollection
    from c7n.resources import load_resources

    data = json.loads(policy.read_text(encoding="utf-8"))
    load_resources((f"aws.{data['resource']}",))
    options = Config.empty(region="eu-west-1", account_id="000000000000")
    (loaded,) = PolicyCollection.from_data({"policies": [data]}, options)
    loaded.validate()
    return PolicyLambda(loaded).get_archive().get_bytes()


def plain(file: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(file, file.name)
    return packed.getvalue()


def main() -> None:
    directory = Path(sys.argv[1])
    files = [Path(name) for name in sys.argv[2:] if name != "--plain"]
    pack = plain if "--plain" in sys.argv else custodian
    sizes, code = {}, None
    for file in files:
        packed, home = pack(file), directory / file.stem
        sizes[file.stem] = len(packed)
        home.mkdir(parents=True)
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            # The same code again would only be compiled again.
            archive.extractall(home, [name for name in archive.namelist() if not (code and name.startswith("c7n/"))])
        if code:
            (home / "c7n").symlink_to(code)
        elif (home / "c7n").is_dir():
            code = (home / "c7n").resolve()
        compileall.compile_dir(home, quiet=2)
    print(json.dumps(sizes))


if __name__ == "__main__":
    main()
