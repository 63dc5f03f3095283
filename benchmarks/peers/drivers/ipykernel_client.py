"""ipykernel, by jupyter_client: on this machine, or in a container."""

import json
import secrets
import socket
import sys
import time

from _serve import Base, docker, remove_container, serve, start_container
from jupyter_client import BlockingKernelClient, KernelManager

PORTS = {name: 5555 + number for number, name in enumerate(("shell", "iopub", "stdin", "hb", "control"))}


class Host(Base):
    def start(self):
        self._manager = KernelManager(kernel_name="python3")
        self._manager.start_kernel()
        self._client = self._manager.client()
        self._connect()

    def _connect(self):
        self._client.start_channels()
        self._client.wait_for_ready(60)

    def call(self, code):
        output = []

        def on_output(message):
            content = message["content"]
            if message["msg_type"] == "stream":
                output.append(content["text"])
            elif message["msg_type"] in ("execute_result", "display_data"):
                output.append(content["data"].get("image/png") or content["data"].get("text/plain", ""))
            elif message["msg_type"] == "error":
                output.append("\n".join(content["traceback"]))

        self._client.execute_interactive(code, output_hook=on_output, timeout=170)
        return "".join(output)

    def install(self, name):
        return self.call(f"%pip install {name}")

    def reset(self):
        self._manager.restart_kernel(now=True)
        self._client.wait_for_ready(60)

    def stop(self):
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


class Container(Host):
    def start(self):
        self._container = start_container()
        address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        self._address = docker("inspect", "--format", address, self._container)
        self._begin()

    def _begin(self):
        connection = {
            "ip": "0.0.0.0",
            "transport": "tcp",
            "signature_scheme": "hmac-sha256",
            "key": secrets.token_hex(16),
            **{f"{name}_port": port for name, port in PORTS.items()},
        }
        write = f"import sys; open('/tmp/kernel.json', 'w').write({json.dumps(connection)!r})"
        docker("exec", self._container, "python3", "-c", write)
        kernel = ("python3", "-m", "ipykernel_launcher", "-f", "/tmp/kernel.json")
        docker("exec", "--detach", self._container, *kernel)
        self._wait_for_port()
        self._client = BlockingKernelClient()
        self._client.load_connection_info(connection | {"ip": self._address})
        self._connect()

    def _wait_for_port(self):
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection((self._address, PORTS["hb"])).close()
                return
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def reset(self):
        self._client.shutdown()
        self._client.stop_channels()
        while "ipykernel" in docker("top", self._container):
            time.sleep(0.02)
        self._begin()

    def stop(self):
        self._client.stop_channels()
        remove_container(self._container)


serve({"host": Host, "container": Container}[sys.argv[1]]())
