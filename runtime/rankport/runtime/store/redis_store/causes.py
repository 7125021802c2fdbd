"""Causes behind errors of Redis, in words with a way out."""

from redis import exceptions

from rankport.protos.errors import StoreError

UNREACHABLE = (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ClusterDownError)
"""Errors after which another try may succeed: a server that is down, starting, or failing over."""

# Behind the command, with its bytes, that the client library puts first.
_IN_PIPELINE = " of pipeline caused error: "
_NOT_IN_SCRIPTS = "The user executing the script can't"
_CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"  # OpenSSL's word


def failure(told: str, error: exceptions.RedisError) -> StoreError:
    """Explains why a command failed at what `told` names."""
    return StoreError(f"{told}: {_cause(error)}")


def is_login(error: BaseException) -> bool:
    """Says whether the server refused the login; the client library tells it as a broken connection."""
    return isinstance(error, exceptions.AuthenticationError) or "invalid username-password" in str(error)


def is_final(error: BaseException) -> bool:
    """Says whether another try fails alike: the server refused the login, or the client its certificate."""
    return is_login(error) or _CERTIFICATE in str(error)


def _cause(error: exceptions.RedisError) -> str:
    text = str(error).rpartition(_IN_PIPELINE)[2]
    if is_login(error):
        return f"Redis refuses the login ({text}): give redis://USER:PASSWORD@HOST"
    if _CERTIFICATE in text:
        return f"the certificate of Redis is not to be trusted ({text}): name its authority with ssl_ca_certs=FILE"
    if isinstance(error, exceptions.NoPermissionError) or _NOT_IN_SCRIPTS in text:
        rights = "+@read +@write +@transaction +info on its keys, and nearline's also +@scripting +time"
        return f"the user of Redis may not do that ({text}): allow it {rights}"
    if isinstance(error, exceptions.OutOfMemoryError) or text.startswith("OOM"):
        return f"Redis is at its maxmemory ({text}): raise it, or drop tokens; what was stored before stays"
    if isinstance(error, exceptions.ReadOnlyError) or "READONLY" in text:
        return f"this Redis is a replica that is only read ({text}): name its primary"
    if text.startswith("MISCONF"):
        return f"Redis cannot save its data, and takes no writes ({text}): look at its disk"
    if isinstance(error, exceptions.BusyLoadingError):
        return f"Redis still loads its data ({text}): try again when it has"
    if isinstance(error, UNREACHABLE):
        return f"no answer of Redis ({text}): is it running, and is that its address?"
    return f"Redis failed: {text}"
