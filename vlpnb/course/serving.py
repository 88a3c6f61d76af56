"""The web server of the explorer: Voilà, made fit to be left running.

Voilà by itself starts a kernel for every request and keeps it, and answers to whatever name it is called by, so that a
page of anywhere can read from it (DNS rebinding). Here kernels are few, unused ones are ended, and a request must name
this machine. The server is the command's own process: nothing is left when that ends, whatever ended it.
"""

import asyncio
import ipaddress
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jupyter_server.services.kernels.kernelmanager as jupyter
import tornado.web
from tornado.httputil import HTTPServerRequest
from traitlets import default
from voila.app import Voila

MOST = 4  # visitors at a time: a kernel of the real explorer holds some 1.2 GB
UNUSED_SECONDS = 30  # a page connects to its kernel as soon as it is loaded
CULL_SECONDS = 300  # a telephone that was put away comes back to its kernel


class Kernels(jupyter.AsyncMappingKernelManager):
    """At most `most` kernels; who comes when all are in use is told so."""

    most = MOST

    @default("cull_idle_timeout")
    def _cull_idle_timeout(self) -> int:
        return CULL_SECONDS

    @default("cull_interval")
    def _cull_interval(self) -> int:
        return UNUSED_SECONDS

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._door = asyncio.Lock()

    async def start_kernel(self, **arguments: Any) -> str:
        """Start a kernel, in place of one that nobody uses when there are enough.

        Raises:
            HTTPError: 503, all kernels are in use.
        """
        async with self._door:  # one after the other, so that two do not take the last place
            if len(self.list_kernel_ids()) >= self.most:
                unused = self.unused()
                if not unused:
                    full = f"{self.most} visitors are here already; try again in a minute"
                    raise tornado.web.HTTPError(503, reason=full)
                await self.shutdown_kernel(unused[0], now=True)
            return await super().start_kernel(**arguments)

    def unused(self) -> list[str]:
        """Kernels that no page is connected to and that compute nothing, the longest unused first."""
        found, now = [], datetime.now(UTC)
        for name in self.list_kernel_ids():
            kernel = self.get_kernel(name)
            idle = (
                now - getattr(kernel, "last_activity", now)
            ).total_seconds()  # one that only starts has none
            used = self._kernel_connections.get(name, 0) or kernel.execution_state == "busy"
            if not used and idle > UNUSED_SECONDS:
                found.append((idle, name))
        return [name for _, name in sorted(found, reverse=True)]


class Explorer(Voila):
    """Voilà with these kernels, for requests that name this machine."""

    @default("config_file_paths")
    def _config_file_paths(self) -> list[str]:
        return []  # a `voila.py` of the folder that the command is given in would be run

    def listen(self) -> None:
        """Serve requests to the right name; refuse all others, whatever they ask for."""
        found, names = self.app.find_handler, own_names(self.ip)

        def find_handler(request: HTTPServerRequest, **arguments: Any) -> Any:
            if is_own(request.host_name, names, anywhere=not is_loopback(self.ip)):
                return found(request, **arguments)
            return self.app.get_handler_delegate(request, tornado.web.ErrorHandler, {"status_code": 403})

        self.app.find_handler = find_handler
        super().listen()


def is_loopback(host: str) -> bool:
    """Whether it is an address of this machine that no other reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def own_names(address: str) -> frozenset[str]:
    """What this machine is called by those who reach it at an address."""
    names = {"localhost", address}
    if not is_loopback(address):
        own = socket.gethostname()
        names |= {own, f"{own}.local", socket.getfqdn()}
    return frozenset(name.lower() for name in names)


def is_own(host: str, names: frozenset[str], anywhere: bool) -> bool:
    """Whether the host that a request names is this machine.

    Args:
        host: without its port. A number in place of a name cannot be made to mean another machine.
        names: this machine's.
        anywhere: other machines may ask, by any of the numbers that this one has.
    """
    host = host.strip("[]").lower()
    if host in names or is_loopback(host):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return anywhere


def serve(
    notebook: Path, address: str, port: int, browser: bool, environment: dict[str, str], visitors: int = MOST
) -> None:
    """Serve a notebook as a web app, results without code and a kernel per visitor, until this process is ended.

    Args:
        notebook: of which every visitor gets an execution.
        address: that is listened on.
        browser: open a window.
        environment: of this process and the kernels.
        visitors: at a time; each takes a kernel.
    """
    os.environ.update(environment)
    Kernels.most = visitors
    manager = f"{Kernels.__module__}.{Kernels.__name__}"
    Explorer.launch_instance(
        [
            *(str(notebook), f"--Voila.ip={address}", f"--port={port}"),
            *("--strip_sources=True", "--template=explorer"),
            f"--VoilaConfiguration.multi_kernel_manager_class={manager}",
            *([] if browser else ["--no-browser"]),
        ]
    )
