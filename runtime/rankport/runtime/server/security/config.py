"""Knobs of who may call a server."""

from dataclasses import dataclass, field

from rankport.protos.flags import flag
from rankport.runtime.options import check_partners, check_ranges


@dataclass(frozen=True, slots=True)
class SecurityConfig:
    """Knobs of TLS, tokens and admin calls. Raises `InvalidRequest` for one out of range, or without another."""

    tls_cert: str | None = field(
        default=None,
        metadata=flag(
            "Certificate chain in PEM: calls come over TLS. Read again when it changes.",
            metavar="FILE",
            needs="tls_key",
        ),
    )
    tls_key: str | None = field(
        default=None, metadata=flag("Its private key in PEM.", metavar="FILE", needs="tls_cert")
    )
    tls_client_ca: str | None = field(
        default=None,
        metadata=flag(
            "Authorities in PEM: clients need a certificate of one of them.", metavar="FILE", needs="tls_cert"
        ),
    )
    token_file: str | None = field(
        default=None,
        metadata=flag(
            "Clients, their rights and quotas (`rankport token`): calls need a token. Read again when it changes.",
            metavar="FILE",
        ),
    )
    admin_port: int | None = field(
        default=None,
        metadata=flag(
            "Port for ModelAdmin alone, which --port then does not have; 0 takes a free one. [default: none]",
            least=0,
            most=65535,
        ),
    )
    admin_host: str = field(
        default="127.0.0.1", metadata=flag("Address of --admin-port.", needs="admin_port")
    )
    insecure_public: bool = field(
        default=False,
        metadata=flag(
            "Listen on an address that others reach without TLS, or without tokens or --tls-client-ca.",
            name="--insecure-public",
        ),
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        check_partners(self)

    @property
    def encrypts(self) -> bool:
        """Says whether calls come over TLS."""
        return self.tls_cert is not None

    @property
    def knows_clients(self) -> bool:
        """Says whether a caller has to show who it is."""
        return self.token_file is not None or self.tls_client_ca is not None


DEFAULTS = SecurityConfig()
