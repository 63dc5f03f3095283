"""The seccomp profile: what it says, and what user code meets when it tries."""

from __future__ import annotations

import json

import pytest

from mcp_agentrun.sandbox import AsyncSandbox
from tests.support.syscalls import SYSCALLS

ATTACKS = (
    SYSCALLS
    + r"""
def family(n):
    try: socket.socket(n, socket.SOCK_DGRAM).close()
    except OSError as error: return errno.errorcode[error.errno]
    return "ok"
child = os.fork()
if child == 0:
    signal.pause()
buffer = ctypes.create_string_buffer(64)
limit = ctypes.addressof(buffer)
found = {
    "io_uring_setup": call(425, 1, limit), "bpf": call(number(321, 280)), "perf_event_open": call(number(298, 241)),
    "userfaultfd": call(number(323, 282)), "keyctl": call(number(250, 219)), "add_key": call(number(248, 217)),
    "unshare(NEWUSER)": call(number(272, 97), 0x10000000), "clone(NEWUSER)": call(number(56, 220), 0x10000000 | 17),
    "clone3": call(435), "setns": call(number(308, 268)), "mount": call(number(165, 40)),
    "pivot_root": call(number(155, 41)), "chroot": call(number(161, 51)), "fsopen": call(430), "open_tree": call(428),
    "ptrace(child)": call(number(101, 117), 16, child), "process_vm_readv(1)": call(number(310, 270), 1),
    "pidfd_getfd": call(438), "kcmp": call(number(312, 272), 1, os.getpid()), "shmget": call(number(29, 194), 0, 4096),
    "msgget": call(number(68, 186)), "semget": call(number(64, 190)), "mq_open": call(number(240, 180)),
    "syslog": call(number(103, 116), 10), "personality(READ_IMPLIES_EXEC)": call(number(135, 92), 0x0400000),
    "prlimit64(1)": call(number(302, 261), 1, 7, 0, limit),
    "prlimit64(child)": call(number(302, 261), child, 7, 0, limit),
    "prlimit64(1 << 32 | 1)": call(number(302, 261), 1 << 32 | 1, 7, 0, limit),
    "sched_setaffinity(1)": call(number(203, 122), 1, 8, limit),
    "sched_setaffinity(1 << 32 | 1)": call(number(203, 122), 1 << 32 | 1, 8, limit),
    "sched_setaffinity(-1 << 32 | 1)": call(number(203, 122), -1 << 32 | 1, 8, limit),
    "sched_setaffinity(1 << 31 | 1)": call(number(203, 122), 1 << 31 | 1, 8, limit),
    "sched_setscheduler(1)": call(number(144, 119), 1, 0, limit),
    "setpriority(user)": call(number(141, 140), 2, 0, 5), "setpriority(1)": call(number(141, 140), 0, 1, 5),
    "setpriority(group)": call(number(141, 140), 1, 0, 5), "ioprio_set(user)": call(number(251, 30), 3, 0, 0),
    "io_setup": call(number(206, 0)), "kexec_load": call(number(246, 104)), "init_module": call(number(175, 105)),
    "reboot": call(number(169, 142)), "swapon": call(number(167, 224)), "settimeofday": call(number(170, 170)),
    "open_by_handle_at": call(number(304, 265)), "fanotify_init": call(number(300, 262)),
    "memfd_secret": call(447), "acct": call(number(163, 89)),
}
for name, n in {"netlink": 16, "packet": 17, "bluetooth": 31, "alg": 38, "vsock": 40, "xdp": 44, "tipc": 30}.items():
    found["socket(" + name + ")"] = family(n)
if AMD64:
    found["modify_ldt"] = call(154)
    found["iopl"] = call(172, 3)
os.kill(child, signal.SIGKILL); os.waitpid(child, 0)
allowed = {
    "prlimit64(0)": call(number(302, 261), 0, 7, 0, limit), "setpriority(0)": call(number(141, 140), 0, 0, 1),
    "personality(-1)": call(number(135, 92), 0xFFFFFFFF), "memfd_create": call(number(319, 279), limit, 0),
    "sched_setaffinity(0)": "ok" if os.sched_setaffinity(0, os.sched_getaffinity(0)) is None else "?",
    "sched_setaffinity(self)": "ok" if os.sched_setaffinity(os.getpid(), os.sched_getaffinity(0)) is None else "?",
    "unix": family(1), "inet": family(2), "inet6": family(10),
}
print(json.dumps([found, allowed]))
"""
)

INT_80 = r"""
import ctypes, mmap, os
# mov eax, 20 (getpid of the 32-bit table); int 0x80; ret
code = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(code)
function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
child = os.fork()
if child == 0:
    os._exit(0 if function() == os.getpid() else 1)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]
child = os.fork()
if child == 0:
    os._exit(0 if ctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 | 39)) == os.getpid() else 1)  # getpid of x32
codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(codes)
"""

ORDINARY_LIFE = r"""
import asyncio, concurrent.futures, fcntl, mmap, multiprocessing, os, resource, select, shutil, signal, socket
import subprocess, sys, tempfile, threading
# The guard keeps the processes that import this file anew from starting it all again.
if __name__ == "__main__":
    results = []
    results.append(subprocess.check_output([sys.executable, "-c", "print(6 * 7)"]) == b"42\n")
    results.append(os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1]) == 0)
    with concurrent.futures.ThreadPoolExecutor(4) as pool: results.append(list(pool.map(abs, [-1, 2])) == [1, 2])
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool: results.append(pool.map(abs, [-1, 2]) == [1, 2])
    async def main():
        process = await asyncio.create_subprocess_exec("echo", "hi", stdout=subprocess.PIPE)
        return (await process.communicate())[0]
    results.append(asyncio.run(main()) == b"hi\n")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a")
        open(path, "wb").write(b"x" * 100_000)
        results.append(os.path.getsize(shutil.copy(path, path + "b")) == 100_000)
        os.mkfifo(path + "fifo"); os.link(path, path + "link"); os.symlink(path, path + "symlink"); os.utime(path)
        with open(path, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with mmap.mmap(file.fileno(), 0) as view: results.append(view[:1] == b"x")
        server = socket.socket(socket.AF_UNIX); server.bind(os.path.join(folder, "s")); server.listen()
        client = socket.socket(socket.AF_UNIX)
        client.connect(os.path.join(folder, "s")); results.append(server.accept()[0] is not None)
    listener = socket.create_server(("127.0.0.1", 0))
    results.append(socket.create_connection(listener.getsockname()) is not None)
    poller = select.epoll(); poller.register(listener, select.EPOLLIN); results.append(bool(poller.poll(1)))
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200)); results.append(os.nice(1) >= 1)
    signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    signal.pause(); signal.setitimer(signal.ITIMER_REAL, 0)
    results.append(os.pidfd_open(os.getpid()) > 2); results.append(os.memfd_create("x") > 2)
    print(all(results), len(results))
"""


@pytest.mark.anyio
async def test_attacks_are_refused(shared: AsyncSandbox) -> None:
    result = await shared.run(ATTACKS)
    assert result.outcome == "ok", result.output.text()
    refused, allowed = json.loads(result.output.text())
    assert {name: error for name, error in refused.items() if error not in ("EPERM", "ENOSYS")} == {}
    assert refused["clone3"] == refused["io_uring_setup"] == "ENOSYS"
    assert {name: error for name, error in allowed.items() if error != "ok"} == {}
    await shared.reset()


AFFINITY = """
import ctypes, os, threading
libc, ready, go = ctypes.CDLL(None, use_errno=True), threading.Event(), threading.Event()
thread = threading.Thread(target=lambda: (ready.set(), go.wait()))
thread.start()
ready.wait()
cpus = sorted(os.sched_getaffinity(0))
one = cpus[-1]
mask = (ctypes.c_ulong * 16)()
mask[one // 64] = 1 << one % 64
pinned = libc.pthread_setaffinity_np(ctypes.c_void_p(thread.ident), ctypes.sizeof(mask), mask)
found = [pinned, os.sched_getaffinity(thread.native_id) == {one}, os.sched_getaffinity(0) == set(cpus)]
os.sched_setaffinity(thread.native_id, cpus)
found.append(os.sched_getaffinity(thread.native_id) == set(cpus))
go.set()
print(found)
"""


@pytest.mark.anyio
async def test_code_may_pin_its_own_threads(shared: AsyncSandbox) -> None:
    assert (await shared.run(AFFINITY)).output.text() == "[0, True, True, True]\n"


@pytest.mark.anyio
async def test_what_code_has_pinned_of_the_runner_s_lets_go_of_it(shared: AsyncSandbox) -> None:
    await shared.reset()
    pin = """
import os
all_of_them = os.sched_getaffinity(0)
for name in os.listdir("/proc"):
    if name.isdigit() and name != "1":
        try:
            os.sched_setaffinity(int(name), {min(all_of_them)})
        except ProcessLookupError:  # it has ended
            pass
print(len(os.sched_getaffinity(1)) == len(all_of_them))
"""
    assert (await shared.run(pin)).output.text() == "True\n"
    await shared.run("1")  # and the copy of what has been pinned is as it is
    for _ in range(3):  # the spare, which has been pinned itself, and the zygote's that come after it
        await shared.reset()
        look = "import os; print(len(os.sched_getaffinity(0)) == len(os.sched_getaffinity(1)))"
        assert (await shared.run(look)).output.text() == "True\n"


@pytest.mark.anyio
async def test_other_system_call_tables_are_closed(shared: AsyncSandbox) -> None:
    import platform

    if platform.machine() != "x86_64":
        pytest.skip("int 0x80 is amd64's")
    result = await shared.run(INT_80)
    assert result.output.text() == "[-31, -31]\n", "a call by another table must be killed by SIGSYS"


@pytest.mark.anyio
async def test_ordinary_python_is_not_hindered(shared: AsyncSandbox) -> None:
    result = await shared.run(ORDINARY_LIFE)
    assert result.outcome == "ok", result.output.text()
    assert result.output.text() == "True 15\n"
    await shared.reset()
