"""The image that peers get in place of those they would pull: the environment image's system with Python's packages."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import tarfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from docker import APIClient

from mcp_agentrun.engine.docker.image import ImageRecipe
from mcp_agentrun.engine.network import NetworkSettings

__all__ = ["REQUIREMENTS", "peer_image"]

REQUIREMENTS = Path(__file__).parent / "requirements"
_REPOSITORY = "mcp-agentrun-bench-peers"
_CERTIFICATES = "/etc/peer-ca-bundle.pem"
_PREPARE = """
set -e
command -v python >/dev/null || ln -s "$(command -v python3)" /usr/local/bin/python
uv pip freeze --quiet --python /opt/venv/bin/python > /tmp/data.txt
uv pip install --quiet --no-cache --system -r /tmp/data.txt -r /tmp/image.txt
mkdir -p /code /app
"""
_GATEWAY = '["jupyter", "kernelgateway", "--KernelGatewayApp.ip=0.0.0.0", "--KernelGatewayApp.port=8888"]'


@contextmanager
def peer_image(api: APIClient) -> Generator[str]:
    """Make an image with the system's Python, the data packages of ours in their versions, uv, pip and ipykernel, and
    the settings of this machine for package indexes. Its name with ``-gateway`` starts Jupyter's kernel gateway.

    At the end the image is removed with all containers of it, some of which peers leave behind.
    """
    network = NetworkSettings.from_environment(os.environ)
    tag = secrets.token_hex(6)
    with contextlib.ExitStack() as stack:
        stack.callback(_remove, api, tag)
        container = _prepared(api, network, f"{_REPOSITORY}:{tag}")
        try:
            for name, command in ((tag, '["python3"]'), (f"{tag}-gateway", _GATEWAY)):
                # With the label of an environment, the next build would remove it as an old one.
                changes = ["ENTRYPOINT []", f"CMD {command}", "WORKDIR /", "LABEL mcp-agentrun.image=peers"]
                api.commit(container, _REPOSITORY, name, changes=changes)
        finally:
            api.remove_container(container, force=True, v=True)
        yield f"{_REPOSITORY}:{tag}"


def _prepared(api: APIClient, network: NetworkSettings, name: str) -> str:
    environment = {
        **network.environment(),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/root",
        "MPLBACKEND": "agg",
        "UV_BREAK_SYSTEM_PACKAGES": "1",
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    files = {"tmp/image.txt": (REQUIREMENTS / "image.txt").read_bytes()}
    if network.index_url is not None:
        environment["PIP_INDEX_URL"] = network.index_url
    if network.ca_bundle is not None:
        environment |= dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"), _CERTIFICATES)
        files[_CERTIFICATES.lstrip("/")] = network.ca_bundle
    container = api.create_container(
        ImageRecipe().environment_tag, ["sleep", "100000"], entrypoint=[], user="0:0", environment=environment
    )["Id"]
    try:
        api.start(container)
        api.put_archive(container, "/", _archive(files))
        prepared = api.exec_create(container, ["sh", "-c", _PREPARE])["Id"]
        said: bytes = api.exec_start(prepared)
        if api.exec_inspect(prepared)["ExitCode"] != 0:
            raise RuntimeError(f"{name} can't be built: {said.decode()}")
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


def _remove(api: APIClient, tag: str) -> None:
    for name in (f"{_REPOSITORY}:{tag}-gateway", f"{_REPOSITORY}:{tag}"):
        for container in api.containers(all=True, filters={"ancestor": name}):
            api.remove_container(container["Id"], force=True, v=True)
        if api.images(name):
            api.remove_image(name, force=True)
