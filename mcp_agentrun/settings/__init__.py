"""Every setting, its default, and where its value came from.

A setting can be given as a flag (``--max-timeout 60``), in the environment (``AGENTRUN_MAX_TIMEOUT=60``), in one TOML
file (``max_timeout = 60``) and as a keyword argument (``Settings(max_timeout=60)``). Its name is the same everywhere.
"""

from .fields import parse_size
from .limits import SandboxLimits
from .loading import CONFIG_VARIABLE, load_settings, settings_file
from .model import GROUPS, SETTINGS, Setting, Settings

__all__ = [
    "CONFIG_VARIABLE",
    "GROUPS",
    "SETTINGS",
    "SandboxLimits",
    "Setting",
    "Settings",
    "load_settings",
    "parse_size",
    "settings_file",
]
