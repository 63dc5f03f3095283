"""The image that peers get in place of those they would pull."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import tarfile
from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path

from docker import APIClient
from docker.errors import APIError

from mcp_agentrun.engine.docker.image import ImageRecipe
from mcp_agentrun.engine.network import NetworkSettings
from tests.support import CHECKOUT

__all__ = ["REQUIREMENTS", "containers_of", "gateway_of", "peer_image", "remove_containers"]

REQUIREMENTS = Path(__file__).parent / "requirements"
_CERTIFICATES = "/etc/peer-ca-bundle.pem"
_PREPARE = """
set -e
python3 -m venv /tmp/tools
/tmp/tools/bin/pip install --quiet -r /tmp/uv.txt
/tmp/tools/bin/uv pip install --quiet --no-cache --compile-bytecode --system -c /tmp/constraints.txt \\
    -r /tmp/uv.txt -r /tmp/image.txt
command -v python >/dev/null || ln -s "$(command -v python3)" /usr/local/bin/python
rm -r /tmp/tools
mkdir -p /code /app
"""
_GATEWAY = '["jupyter", "kernelgateway", "--KernelGatewayApp.ip=0.0.0.0", "--KernelGatewayApp.port=8888"]'


@contextmanager
def peer_image(api: APIClient) -> Generator[str]:
    """Make an image that has, on the base of ours, the same data packages for the system's Python, uv, pip, ipykernel
    and this machine's settings for package indexes. `gateway_of` it is the same, but starts Jupyter's kernel gateway.

    At the end both are removed with all their containers, some of which peers leave behind.
    """
    repository = f"mcp-agentrun-peers-{secrets.token_hex(6)}"
    image = f"{repository}:latest"
    try:
        _commit(api, _prepared(api), image, '["python3"]')
        api.tag(image, repository, "0.2.3")  # the tag that python-docker-mcp looks for
        _commit(api, api.create_container(image)["Id"], gateway_of(image), _GATEWAY)
        yield image
    finally:
        remove_containers(api, containers_of(api, image))
        for name in (gateway_of(image), f"{repository}:0.2.3", image):
            if api.images(name):
                api.remove_image(name, force=True)


def _commit(api: APIClient, container: str, image: str, command: str) -> None:
    try:
        # With the label of ours, the next build would remove it as an old one.
        changes = ["ENTRYPOINT []", f"CMD {command}", "WORKDIR /", "LABEL mcp-agentrun.image=peers"]
        repository, _, tag = image.partition(":")
        api.commit(container, repository, tag, changes=changes)
    finally:
        api.remove_container(container, force=True, v=True)


def gateway_of(image: str) -> str:
    repository, _, tag = image.partition(":")
    return f"{repository}-gateway:{tag}"


def containers_of(api: APIClient, image: str) -> set[str]:
    """The ids of all containers of *image* and of the one with the gateway."""
    names = (image, gateway_of(image))
    return {each["Id"] for name in names for each in api.containers(all=True, filters={"ancestor": name})}


def remove_containers(api: APIClient, containers: Collection[str]) -> None:
    for container in containers:
        with contextlib.suppress(APIError):  # it is being removed already
            api.remove_container(container, force=True, v=True)


def _prepared(api: APIClient) -> str:
    network = NetworkSettings.from_environment(os.environ)
    environment = {
        **network.environment(),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/root",
        "UV_BREAK_SYSTEM_PACKAGES": "1",
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    files = {
        "tmp/uv.txt": b"uv==0.13.9\n",
        "tmp/image.txt": (REQUIREMENTS / "image.txt").read_bytes(),
        "tmp/constraints.txt": (CHECKOUT / "runner_image" / "constraints.txt").read_bytes(),
    }
    if network.index_url is not None:
        environment["PIP_INDEX_URL"] = network.index_url
    if network.ca_bundle is not None:
        environment |= dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"), _CERTIFICATES)
        files[_CERTIFICATES.lstrip("/")] = network.ca_bundle
    labels = api.inspect_image(ImageRecipe().environment_tag)["Config"]["Labels"]
    base = labels["mcp-agentrun.base"].partition("@")[0]
    container = api.create_container(base, ["sleep", "100000"], entrypoint=[], user="0:0", environment=environment)[
        "Id"
    ]
    try:
        api.start(container)
        api.put_archive(container, "/", _archive(files))
        prepared = api.exec_create(container, ["sh", "-c", _PREPARE])["Id"]
        said: bytes = api.exec_start(prepared)
        if api.exec_inspect(prepared)["ExitCode"] != 0:
            raise RuntimeError(f"the peers' image can't be built: {said.decode()}")
    except BaseException:
        api.remove_container(container, force=True, v=True)
        raise
    return container


def _archive(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()
