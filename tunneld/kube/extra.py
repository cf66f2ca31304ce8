"""The packages of the optional extra ``kubernetes``, which are imported only when needed."""

import importlib

from tunneld.configfile import ConfigError
from tunneld.schema import Problem


def require(module: str, source: str) -> None:
    """See that ``module`` can be imported.

    Args:
      source: what the error names as the origin of the need.
    Raises:
      ConfigError: it is not installed; says how to install it.
    """
    try:
        importlib.import_module(module)
    except ImportError as exc:
        how = f"needs {module}, which is not installed: pip install 'tunneld[kubernetes]'"
        raise ConfigError(source, [Problem("", how)]) from exc
