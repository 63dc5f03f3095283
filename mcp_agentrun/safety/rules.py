"""The rules: what each is called, what to do instead, and which names it is about."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["NETWORK_MODULES", "RULES", "Rule", "module_rule", "reference_rule"]


class Rule(NamedTuple):
    """What an operator can switch off."""

    id: str
    title: str
    remedy: str


_ALL = (
    Rule("process-spawn", "starting other programs", "Do it in Python itself; there is no shell to be had here."),
    Rule("native-code", "native code", "Use Python, or a package that install_package provides."),
    Rule(
        "installer",
        "modules that install packages or start another interpreter",
        "Install packages with install_package; call functions directly instead of running code as text.",
    ),
    Rule("system-call", "system calls on other processes, users and descriptors", "Leave the system as it is."),
    Rule(
        "dynamic-code",
        "executing text that is decoded, received or not known",
        "Write the code out; to read a value from text use ast.literal_eval or json.loads.",
    ),
    Rule("dunder-escape", "the way from an object to the interpreter", "Use the objects' public attributes."),
    Rule("introspection", "looking into the interpreter", "Pass values as arguments, and import modules by name."),
    Rule("sensitive-path", "the system's files, and secrets", "Work on files in the current folder or in /tmp."),
    Rule("raw-socket", "raw sockets and services of the cloud", "Leave it out; it is never available here."),
    Rule(
        "deserialization",
        "deserialisation that can execute code",
        "Use json, yaml.safe_load, or pickle for what this session itself has written.",
    ),
    Rule("tampering", "changing the environment, built-ins or imports", "Define names of your own instead."),
    Rule("bomb", "more than a sandbox can hold", "Use smaller numbers, or an end to the loop."),
    Rule(
        "network",
        "the network, which this sandbox does not have",
        "Put the data into the code or a file; packages come with install_package.",
    ),
    Rule(
        "strict", "what the profile `strict` leaves out", "Do without, or ask the operator for the profile `standard`."
    ),
    Rule("unreviewed", "syntax that nobody has reviewed", "Write it in older syntax."),
    Rule("complexity", "code too tangled to be judged", "Write it more simply."),
)

RULES = {rule.id: rule for rule in _ALL}

# Regular expressions over canonical dotted names. `()` marks the result of a call.
_REFERENCES: tuple[tuple[str, str], ...] = (
    (
        "process-spawn",
        r"multiprocessing(\..+)?\.(set_executable|set_forkserver_preload)"
        r"|(importlib\.import_module|builtins\.__import__)\(\)\.(system|popen|exec[lv]\w*|spawn[lv]\w*|fork\w*|posix_spawnp?"
        r"|Popen|run|call|check_\w+|getoutput|getstatusoutput|CDLL|dlopen)"
        r"|os\.(system|popen\d?|exec[lv]p?e?|spawn[lv]p?e?|posix_spawnp?|fork|forkpty|startfile)"
        r"|subprocess\.(?!PIPE$|STDOUT$|DEVNULL$|SubprocessError|CalledProcessError|TimeoutExpired|CompletedProcess)[^.]*"
        r"|pty\..*|asyncio(\.subprocess)?\.create_subprocess_(exec|shell)|asyncio\.subprocess\.create.*"
        r"|(.*\.)?subprocess_(exec|shell)|_posixsubprocess\..*|_winapi\..*|webbrowser\..*|commands\..*|popen2\..*"
        r"|(pexpect|plumbum|fabric|invoke|sh|delegator|pwntools|pwn)\..*|distutils\.spawn\..*|pydoc\.(pipepager|tempfilepager)"
        r"|platform\.popen|psutil\.Popen|test\.support.*|numpy\.distutils\..*|numpy\.f2py\.compile"
        r"|IPython\.(?!(core\.)?display\b|get_ipython(\(\))?$|get_ipython\(\)\.run_(line|cell)_magic|__version__$).*|antigravity"
        r"|platform\._syscmd_\w+|uuid\._(get_command_stdout|find_mac\w*|popen)|mailcap\.(findmatch|test|show)|pipes\.Template.*"
        r"|os\._(spawnvef|execvpe)|_osx_support\._read_output|pydoc\.(pipe_pager|_pipepager|tempfile_pager)|imaplib\.IMAP4_stream"
        r"|multiprocessing\.(popen_\w+|forkserver|resource_tracker|spawn)\.\w+|sysconfig\._init_\w+"
        r"|(uvloop|gevent|eventlet|tornado\.process|twisted\.internet\.(utils|process)|distributed|dask\.distributed"
        r"|luigi|nox|tox|doit|envoy|sarge|executor|easyprocess|pyautogui|pynput|winrm|wmi|pycapnp)(\.\w+)*\.(subprocess\w*"
        r"|Popen|Subprocess|getProcess\w+|spawnProcess|run_process|system|call|check_output)|git\.(Git|cmd)\b.*"
        r"|psutil\.test|joblib\.externals\.loky\.backend\..*|setproctitle\..*|daemon\.DaemonContext.*|multiprocessing\.util\.spawnv_passfds|anyio\.(run_process|open_process)|trio\.(run_process|lowlevel\.open_process)",
    ),
    (
        "native-code",
        r"_?ctypes(\..*)?|_?cffi(_backend)?(\..*)?|numpy\.ctypeslib\..*|faulthandler\._.*|types\.CodeType|_testcapi(\..*)?"
        r"|_?xxsubinterpreters(\..*)?|_interpreters(\..*)?|sys\.setdlopenflags|(.*\.)?ctypes\.CDLL.*|llvmlite\..*"
        r"|mmap\.PROT_EXEC|sqlite3\.(connect|Connection)\(\)\.(enable_)?load_extension"
        r"|(torch|tensorflow)(\.\w+)*\.load_(library|op_library)|tensorflow\.load_\w*library|cppyy(\..*)?|pyximport(\..*)?"
        r"|pycparser\.preprocess_file|numba\.core\.typing\.cffi_utils.*|llvmlite\..*|pyopencl(\..*)?|weave\.inline"
        r"|onnxruntime\.SessionOptions\(\)\.register_custom_ops_library|_imp\.create_dynamic|imp\.load_dynamic|importlib\.machinery\.ExtensionFileLoader|mmap\.mmap\(\)\.ctypes",
    ),
    (
        "installer",
        r"(pip|_?ensurepip|venv|virtualenv|runpy|code|codeop|pdb|bdb|ptpython|bpython|idlelib|setuptools|distutils|zipapp)"
        r"(\..*)?|site\.(main|addsitedir|addpackage)|concurrent\.interpreters.*"
        r"|torch\.utils\.cpp_extension.*|[Cc]ython\.(inline|Build\..*)|site\.exec\w+|(rpy2|oct2py|execjs|js2py|lupa|julia|juliacall"
        r"|jpype|py4j|matlab|py_mini_racer|dukpy|quickjs|pyduktape|wolframclient|sagemath|metakernel|jupyter_client|nbclient"
        r"|nbconvert|papermill|ipykernel|xonsh|hy|micropipenv|poetry|conda|uv|easy_install|pkg_resources\.run_script)(\..*)?"
        r"|pkg_resources\.(run_script|require_install)",
    ),
    (
        "system-call",
        r"os\.(setuid|setgid|seteuid|setegid|setreuid|setregid|setresuid|setresgid|setgroups|initgroups|setns|unshare"
        r"|chroot|mknod|mkfifo_|pidfd_open|killpg|dup|dup2|dup3|pivot_root|ptrace|sched_set\w+|setpriority|nice|plock"
        r"|lchown|fchown|setsid|setpgid|tcsetpgrp|closerange|login_tty|openpty|ioctl|reboot|eventfd|fchdir|open_by_handle_at)"
        r"|fcntl\.(ioctl|F_SETOWN|F_SETSIG)|termios\..*|psutil\.(Process|process_iter)\(\).*\.(kill|terminate|suspend|resume|send_signal)"
        r"|psutil\.wait_procs|resource\.prlimit|signal\.pidfd_send_signal|stat\.S_ISUID|stat\.S_ISGID|_signal\..*|spwd\..*|pwd\.getpwall",
    ),
    (
        "introspection",
        r"sys\.(_getframe\w*|_current_frames|_current_exceptions|settrace|setprofile|_settraceallthreads"
        r"|breakpointhook|addaudithook|meta_path|path_hooks|path_importer_cache|modules|call_tracing|activate_stack_trampoline"
        r"|monitoring\..*)"
        r"|unittest\.mock\.patch(\.object)?\(\)\.(get_original|getter|temp_original)(\(|\[|\.|$).*"
        r"|gc\.(get_objects|get_referrers|get_referents)|threading\.(settrace|setprofile)\w*|builtins\.breakpoint"
        r"|(runner|mcp_agentrun)\.(worker|workers|supervisor|checkers?|zygote|session|linux|frames|sockets|protocol)(\..*)?"
        r"|inspect\.getclosurevars\(\)(\.(globals|builtins)\b.*|\[\].*)|sys\._(clear_type_cache|debugmallocstats)"
        r"|importlib\._bootstrap.*|_frozen_importlib.*|inspect\.(getinnerframes|getouterframes|trace)",
    ),
    (
        "raw-socket",
        r"socket\.(AF_PACKET|SOCK_RAW|AF_NETLINK|AF_VSOCK|AF_ALG|PF_PACKET|IPPROTO_RAW)|scapy\..*|pcapy?\..*",
    ),
    (
        "deserialization",
        r"yaml\.(unsafe_load\w*|UnsafeLoader|CUnsafeLoader|full_load_\w+)|marshal\.loads?|pickle\.Unpickler\(\)\.find_class"
        r"|pickletools\.\w+_exec|copyreg\._reconstructor|jsonpickle\.set_decoder_options|klepto\..*load|ruamel\.yaml\.(unsafe|YAML\(\)\.unsafe).*|jsonpickle\.(unpickler.*|decode|loads)|dill\.loads|cloudpickle\.loads",
    ),
    ("tampering", r"importlib\.machinery\.Source\w*Loader|imp\.load_\w+|zipimport\..*|pkgutil\.ImpLoader.*"),
)

_STRICT_MODULES = (
    r"os|sys|subprocess|shutil|socket|_socket|multiprocessing|signal|resource|gc|inspect|importlib|pickle|shelve|marshal"
    r"|tempfile|glob|pathlib|io|_io|fcntl|mmap|ssl|select|selectors|urllib\.request|http|ftplib|smtplib|pwd|grp|atexit|site"
    r"|sysconfig|posix|nt|_thread|codecs|linecache|fileinput|tarfile|zipfile|sqlite3|dbm"
)
_STRICT = (
    rf"({_STRICT_MODULES})(\..*)?"
    r"|builtins(\.(exec|eval|compile|open|input|__import__|globals|locals|vars|breakpoint|memoryview|setattr|delattr))?"
)

_NETWORK = (
    r"socket\.(socket|create_connection|create_server|gethostbyname\w*|gethostbyaddr|getaddrinfo|getfqdn|fromfd|SocketType)"
    r"|urllib\.request\.(?!Request\b|pathname2url|url2pathname).*|urllib\.robotparser\.RobotFileParser\(\)\.read|logging\.config\.listen"
    r"|pydoc\.browse|http\.(client|server)\.HTTPS?(Connection|Server).*"
    r"|http\.server\..*Server.*|(ftplib|smtplib|poplib|imaplib|nntplib|telnetlib|socketserver|smtpd|asyncore|asynchat)\..+"
    r"|xmlrpc\.(client|server)\..+|wsgiref\.simple_server\..+|asyncio\.(open_connection|start_server|open_unix_connection)"
    r"|(requests|httpx|aiohttp|urllib3|httplib2|pycurl|websockets?|paramiko|ftputil|pysftp|asyncssh|boto3|botocore|grpc"
    r"|kubernetes|docker|slack_sdk|telegram|discord|tweepy|yfinance|wget|pytube|dns|zmq|pika|redis|pymongo|psycopg2?|pymysql"
    r"|mysql|nmap|shodan|selenium|playwright|scrapy|mechanize|google\.cloud|azure|huggingface_hub|openai|anthropic"
    r"|webbrowser|whois|twisted|tornado\.httpclient|flask\.Flask\(\)\.run|uvicorn\.run|socks|stem|ssl\.get_server_certificate)"
    r"(\.(?!exceptions?\b|errors?\b|[\w.]*(Error|Exception|Timeout)\b|Response$|Session$|models?\b|utils\b|structures\b"
    r"|__version__|status_codes|codes\b|Mock|Request\b(?!s)|Headers$|URL$).*)"
    r"|(gensim\.downloader|spacy\.cli)\.(load|download).*|keras(\.\w+)*\.get_file|tensorflow_datasets\.load|torchtext\.utils\.download_from_url"
    r"|sklearn\.datasets\.fetch_\w+|seaborn\.load_dataset|nltk\.download|torch\.hub\..*|datasets\.load_dataset"
    r"|multiprocessing\.connection\.(Client|Listener)|multiprocessing\.managers\..*Manager|logging\.handlers\.(HTTP|Socket"
    r"|Datagram|SMTP|SysLog)Handler|tensorflow\.keras\.datasets\..*load_data|keras\.datasets\..*load_data"
)

_MODULES: tuple[tuple[str, str], ...] = (
    ("native-code", r"_?ctypes|_?cffi(_backend)?|_testcapi|_xxsubinterpreters|_interpreters|llvmlite"),
    (
        "installer",
        r"pip|ensurepip|venv|virtualenv|runpy|code|codeop|pdb|bdb|idlelib|distutils|zipapp|ptpython|bpython|pyximport"
        r"|rpy2|oct2py|execjs|js2py|lupa|julia|juliacall|jpype|py4j|matlab|py_mini_racer|dukpy|quickjs|papermill",
    ),
    ("process-spawn", r"pty|_posixsubprocess|pexpect|plumbum|pwn|test\.support.*|popen2|commands"),
    ("raw-socket", r"scapy"),
    ("system-call", r"spwd"),
)


def _compiled(table: tuple[tuple[str, str], ...]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((rule, re.compile(pattern)) for rule, pattern in table)


_REFERENCE_PATTERNS = _compiled(_REFERENCES)
_MODULE_PATTERNS = _compiled(_MODULES)
_STRICT_IMPORT_PATTERN = re.compile(rf"({_STRICT_MODULES}|builtins)")
_STRICT_PATTERN = re.compile(_STRICT)
_NETWORK_PATTERN = re.compile(_NETWORK)
NETWORK_MODULES = frozenset(
    ("requests", "httpx", "aiohttp", "urllib3", "paramiko", "ftplib", "smtplib", "telnetlib", "socketserver", "boto3")
)
_known: dict[tuple[str, bool, bool], str | None] = {}


def reference_rule(name: str, *, strict: bool, network: bool) -> str | None:
    """Which rule the canonical dotted *name* is against, by being mentioned at all."""
    key = name, strict, network
    if key in _known:
        return _known[key]
    found = next((rule for rule, pattern in _REFERENCE_PATTERNS if pattern.fullmatch(name)), None)
    if found is None and not network and _NETWORK_PATTERN.fullmatch(name):
        found = "network"
    if found is None and strict and _STRICT_PATTERN.fullmatch(name):
        found = "strict"
    if len(_known) < 4096:
        _known[key] = found
    return found


def module_rule(name: str, *, strict: bool) -> str | None:
    """Which rule the import of module *name* is against."""
    root = name.partition(".")[0]
    for rule, pattern in _MODULE_PATTERNS:
        if pattern.fullmatch(root) or pattern.fullmatch(name):
            return rule
    if strict and (_STRICT_IMPORT_PATTERN.fullmatch(root) or _STRICT_IMPORT_PATTERN.fullmatch(name)):
        return "strict"
    return None
