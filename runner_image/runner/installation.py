"""One installation: resolved, approved by the server, fetched by uv, and published for the session."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import queue
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mcp_agentrun.packages.pins import Pins, requirement_line, validated
from mcp_agentrun.wire import messages
from runner import accounts
from runner.accounts import Account, Workplace, measure
from runner.install_context import IMAGE_METADATA, PYTHON, InstallContext
from runner.publish import Publisher
from runner.resolution import NO_WHEEL, UNSOLVED, InstallError, NoWheelError, RefusedError, Resolution, Resolver

UV = "/usr/local/bin/uv"

_ERROR_KEPT = 2000
_MODULES_KEPT = 100
_MEASURE_SHARE = 0.02  # of a processor, for measuring what uv has written: uv must share it
_MEASURE_SECONDS = 1.0  # the longest time without measuring
_NO_SPACE = "(os error 28)"
FULL = (
    "The package volume is full. The operator of this server can free space on the engine's disk, or run "
    "`mcp-agentrun cache clear`."
)
_ONLY_WHEELS = (
    " Only wheels are installed here. The operator of this server can allow builds from source (packages_build) "
    "or add a wheel to the wheelhouse. Otherwise, use another package."
)


class Installation:
    """A request to install something for a sandbox, carried out in a thread of its own."""

    def __init__(
        self, context: InstallContext, send: Callable[[messages.Message], None], asked: messages.Install
    ) -> None:
        self.request = asked.request
        self.sandbox = asked.sandbox
        self._context = context
        self._send = send
        self._requirements = asked.requirements
        self._constraints = asked.constraints
        self._before = validated(asked.before)
        self._sources = asked.sources
        self._is_open = asked.is_open and " @ " not in "".join(self._requirements)
        self._approvals: queue.SimpleQueue[messages.Approved] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped_by: InstallError | None = None
        self._reported = 0
        self._measure_at = 0.0

    def approve(self, answer: messages.Approved) -> None:
        self._approvals.put(answer)

    def cancel(self) -> None:
        self._cancelled.set()
        refusal = "The installation was cancelled."
        self._approvals.put(messages.Approved(request=self.request, refusal=refusal, hashes={}))
        process = self._process
        if process is not None:
            process.kill()

    def carry_out(self) -> messages.InstallDone:
        """Install; returns the answer.

        :raises InstallError: it failed.
        """
        try:
            return self._in_account(accounts.ORDINARY, self._sources)
        except NoWheelError:
            if not self._context.limits.build:
                raise
        # Code of packages may run from here on, and must not find credentials.
        urls = [self._sources.index_url or "", *self._sources.extra_index_urls]
        with accounts.relayed(urls, self._sources.proxies, self._context.certificates) as relayed:
            proxies = {name: _without_credentials(url) for name, url in self._sources.proxies.items()}
            proxies["NO_PROXY"] = ",".join(filter(None, (proxies.get("NO_PROXY"), "127.0.0.1")))
            sources = messages.Sources(index_url=relayed[0], extra_index_urls=tuple(relayed[1:]), proxies=proxies)
            return self._in_account((accounts.BUILDER,), sources)

    def _in_account(self, candidates: Sequence[Account], sources: messages.Sources) -> messages.InstallDone:
        with accounts.acquired(candidates, self._cancelled.is_set) as account:
            if account is None:
                raise InstallError("The installation was cancelled.")
            if account.is_builder:  # nothing of what builds leave is used again
                accounts.remove(account, account.cache)
            with Workplace(account) as workplace, self._context.meter.counting(self):
                call = Call(self, account, workplace, self._context.environment(sources))
                try:
                    return self._carry_out(call)
                except BaseException:
                    call.discard()
                    raise
                finally:
                    if account.is_builder:
                        accounts.remove(account, account.cache)

    def _carry_out(self, call: Call) -> messages.InstallDone:
        context = self._context
        digest = self._digest(call)
        known = None if call.account.is_builder else context.resolution(digest)
        # Usually, whatever is resolved may be fetched, and one call of uv that does both is faster than two.
        fetched: Resolution | None = None
        if known is None and self._is_open and not self._before and not call.account.is_builder:
            fetched = self._resolve_and_fetch(call)
        resolution = known or fetched or self._resolver(call).resolve()
        pins, image = resolution.pins, context.image
        missing = {name: version for name, version in pins.items() if image.get(name) != version}
        folder, replaced, modules = "", (), {}
        if missing:
            hashes = self._approval(missing)
            if fetched is None:
                self._fetch(call, missing, hashes, is_known=known is not None)
            site = call.workplace.made / "site"
            publisher = Publisher(call.account, site, without=context.image_metadata, check=self._check_size)
            for name in sorted(missing, key=self._before.__contains__, reverse=True):  # new ones count as used last
                used = call.account.used / name
                used.touch()
                os.utime(used, (now := time.time(), now))  # more precise than the kernel's time
            folder = context.publish(publisher, self.sandbox)
            replaced = tuple(sorted(image.keys() & missing.keys()))
            changed = [name for name, version in self._before.items() if missing.get(name, version) != version]
            modules = {name: tuple(publisher.modules_of(name))[:_MODULES_KEPT] for name in (*changed, *replaced)}
        if not call.account.is_builder:
            context.remember(digest, resolution)
        return messages.InstallDone(
            request=self.request,
            sandbox=self.sandbox,
            folder=folder,
            packages=tuple(sorted(missing.items())),
            satisfied=tuple(sorted(item for item in pins.items() if item[0] not in missing)),
            replaced=replaced,
            modules=modules,
            notes=tuple(resolution.notes),
        )

    def _digest(self, call: Call) -> str:
        """Digest of everything that the resolver's result depends on."""
        given = [self._requirements, self._constraints, self._before, self._context.image, call.environment]
        return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()

    def _resolver(self, call: Call) -> Resolver:
        self.progress("resolving " + ", ".join(self._requirements)[:200])
        given = self._requirements, self._constraints
        image, needs = self._context.image, self._context.image_needs
        return Resolver(call, PYTHON, *given, before=self._before, image=image, needs=needs)

    def _resolve_and_fetch(self, call: Call) -> Resolution | None:
        """Resolve and install on top of the image in one call of uv; None if that is not enough."""
        resolver = self._resolver(call)
        site = call.workplace.made / "site"
        call.program("/bin/cp", "-r", IMAGE_METADATA, str(site))  # which shows uv what is installed
        requirements = call.workplace.give("requirements.in", self._requirements)
        options = ("--output-format", "json", "--target", str(site), *resolver.options, "--requirement", requirements)
        try:
            changes = json.loads(call.uv("pip", "install", "--quiet", *options))["changes"]
            image = self._context.image
            names = {canonicalize_name(Requirement(text).name) for text in self._requirements}
            installed = {change["name"]: change["version"] for change in changes if change["action"] == "installed"}
            pins = validated({**{name: image[name] for name in names & image.keys()}, **installed})
            if not resolver.broken(pins):
                return resolver.explained(pins)
        except RefusedError as error:
            if UNSOLVED not in str(error):  # that, the resolver explains
                raise
        call.program("/bin/rm", "-rf", str(site))
        return None

    def _approval(self, pins: Pins) -> Mapping[str, Sequence[str]]:
        """Ask the server whether *pins* may be fetched; returns the hashes that their files must have.

        :raises InstallError: they may not.
        """
        self._send(messages.Resolved(request=self.request, pins=pins))
        answer = self._approvals.get()
        if answer.refusal is not None:
            raise InstallError(answer.refusal)
        return answer.hashes

    def _fetch(self, call: Call, pins: Pins, hashes: Mapping[str, Sequence[str]], *, is_known: bool) -> None:
        self.progress("downloading and installing " + ", ".join(f"{name} {pins[name]}" for name in sorted(pins))[:300])
        lines = [requirement_line(*pin) for pin in pins.items()]
        hashed = [" ".join((line, *(f"--hash={each}" for each in hashes.get(line, ())))) for line in lines]
        site = call.workplace.made / "site"
        requirements = call.workplace.give("missing.txt", hashed)
        command = ("pip", "install", "--quiet", "--no-deps", "--python", PYTHON, "--target", str(site))
        command = (*command, "--requirement", requirements)
        try:
            # What was resolved recently is usually in the cache, and then the index need not be asked.
            call.uv(*command, *(("--offline",) if is_known else ()))
        except InstallError:
            if not is_known or self._cancelled.is_set() or self._stopped_by is not None:
                raise
            call.program("/bin/rm", "-rf", str(site))
            call.uv(*command)

    def _check_size(self, size: int, entries: int) -> None:
        """:raises InstallError: the packages are too large or too many."""
        limits = self._context.limits
        if size > limits.size:
            raise InstallError(f"The packages take more than {_mib(limits.size)}, this server's limit.")
        if entries > limits.files:
            raise InstallError(f"The packages have more than {limits.files} files, this server's limit.")

    def watch(self, written: Callable[[], Iterable[str]]) -> bool:
        """Report the progress; false if the download or what uv has *written* exceeds a limit, or this is cancelled."""
        try:
            received = self._check_download()
            if time.monotonic() >= self._measure_at:
                begun = time.thread_time()
                self._check_size(*measure(*written()))
                pause = min(_MEASURE_SECONDS, (time.thread_time() - begun) / _MEASURE_SHARE)
                self._measure_at = time.monotonic() + pause
        except InstallError as error:
            self._stopped_by = error
            return False
        if received - self._reported > 1 << 20:
            self._reported = received
            self.progress(f"downloading and installing: {_mib(received)} received")
        return not self._cancelled.is_set()

    def _check_download(self) -> int:
        """Bytes that have been downloaded.

        :raises InstallError: too many.
        """
        limit = self._context.limits.download
        received = self._context.meter.received(self)
        if received > limit:
            raise InstallError(f"The download is larger than {_mib(limit)}, this server's limit.")
        return received

    def started(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        if self._cancelled.is_set():
            process.kill()

    def judge(self, exit_: accounts.Exit) -> None:
        """:raises InstallError: uv failed or was stopped."""
        if self._cancelled.is_set():
            raise InstallError("The installation was cancelled.")
        if self._stopped_by is not None:
            raise self._stopped_by
        self._check_download()
        if exit_.status == -signal.SIGXFSZ:
            raise InstallError(f"It has a file of more than {_mib(self._context.limits.size)}, this server's limit.")
        if exit_.status == -signal.SIGKILL:
            raise InstallError("The installer ran out of memory.")
        if exit_.status != 0:
            text = self._explained(_explanation(exit_.errors))
            raise NoWheelError(text) if NO_WHEEL.search(text) else RefusedError(text)

    def _explained(self, text: str) -> str:
        """uv's explanation, with what it does not know: this server's settings, and who can change them."""
        if _NO_SPACE in text:
            return FULL
        limit = self._context.limits.exclude_newer
        if limit and "no version" in text:
            age = f"newer than {limit}" if limit[:4].isdigit() else f"younger than {limit}"
            text += f" This server ignores releases {age}."
        if not self._context.limits.build and NO_WHEEL.search(text):
            text += _ONLY_WHEELS
        return text

    def progress(self, text: str) -> None:
        self._send(messages.InstallProgress(request=self.request, text=text))


class Call:
    """Calls programs for an installation, in its account and with its environment."""

    def __init__(
        self, owner: Installation, account: Account, workplace: Workplace, environment: dict[str, str]
    ) -> None:
        self._owner = owner
        self.account = account
        self.workplace = workplace
        self.environment = environment
        self._before = accounts.unpacked(account)
        self._began = time.time()

    def uv(self, *arguments: str) -> str:
        """Run uv; returns its output.

        :raises InstallError: it failed or was stopped.
        """
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.workplace.made),
            "TMPDIR": str(self.workplace.made),
            "UV_CACHE_DIR": str(self.account.cache),
            "UV_LINK_MODE": "symlink",
            "UV_NO_CONFIG": "1",
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_CONCURRENT_INSTALLS": "4",
            **self.environment,
        }
        options = () if self.account.is_builder else ("--only-binary", ":all:")

        command = (UV, *arguments, *options)
        watch = partial(self._owner.watch, self._written)
        exit_ = accounts.run(self.account, command, environment, self._owner.started, watch)
        self._owner.judge(exit_)
        return exit_.output

    def _written(self) -> Iterable[str]:
        """The folders that uv has written to its cache."""
        if self.account.is_builder:  # it was empty, and a build may write anywhere in it
            return [str(self.account.cache)]
        return accounts.unpacked(self.account) - self._before

    def discard(self) -> None:
        """Remove what has been unpacked since this was made, complete or not."""
        accounts.remove(self.account, *(accounts.unpacked(self.account) - self._before))
        # For wheels of a wheelhouse, uv does not check whether what its pointers point to exists.
        pointers = ("-name", "*.rev", "-newermt", f"@{self._began}")
        accounts.run(self.account, ["/usr/bin/find", str(self.account.cache), *pointers, "-delete"], {})

    def program(self, *command: str) -> None:
        """Run another program.

        :raises OSError: it failed.
        """
        if accounts.run(self.account, command, {}).status != 0:
            raise OSError(errno.EIO, f"{command[0]} failed")


def _explanation(said: str) -> str:
    """Return uv's message without frames, option hints and internal paths."""
    text = re.sub(rf"{tempfile.gettempdir()}/tmp\w+/(made/)?|/packages/(lanes|wheelhouses)/\S*", "", said)
    text = re.sub("(?m)^\\s*[\u00d7\u2500-\u257f\u25b6]+ ?", "", text)
    text = re.split(r"(?m)^\s*hint:", text)[0]
    lines = [line.strip() for line in text.splitlines()]
    kept = [
        line
        for line in lines
        if line and not line.startswith(("Using Python", "Using CPython", "Resolved", "Prepared", "warning:"))
    ]
    said = re.sub(r"^(.{,80}?):? cause: ", r"\1: ", " ".join(kept).removeprefix("error: "))
    return said[:_ERROR_KEPT] or "uv failed without an error message."


def _without_credentials(proxy: str) -> str:
    """The address of *proxy*, with or without a scheme, and no user name or password."""
    return re.sub(r"^(\w+://)?.*@", r"\1", proxy)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.4g} MiB"
