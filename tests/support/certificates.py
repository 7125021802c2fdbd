"""Certificates for tests of TLS, of an authority made for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import trustme

from rankport.sdk.transport.access import Tls


@cache
def authority(name: str = "tests") -> trustme.CA:
    """Makes an authority, one a name."""
    return trustme.CA(organization_name=name, key_type=trustme.KeyType.ECDSA)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Files of a server in a folder."""

    cert: Path
    key: Path
    ca: Path

    @classmethod
    def written(
        cls,
        folder: Path,
        *,
        by: str = "tests",
        names: Sequence[str] = ("localhost", "127.0.0.1"),
        days: tuple[int, int] | None = None,
    ) -> "CertificateFiles":
        """Issues a certificate, for localhost if nothing else is said, and writes it over what is there.

        `days`: from today on, those at which it begins and ends to be valid.
        """
        folder.mkdir(exist_ok=True)
        files = cls(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
        issued = authority(by).issue_cert(
            *names,
            common_name=names[0],
            not_before=None if days is None else datetime.now(UTC) + timedelta(days[0]),
            not_after=None if days is None else datetime.now(UTC) + timedelta(days[1]),
        )
        files.cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        files.key.write_bytes(issued.private_key_pem.bytes())
        files.ca.write_bytes(authority(by).cert_pem.bytes())
        return files

    @property
    def tls(self) -> Tls:
        """Files that a client of the server needs."""
        return Tls(ca=str(self.ca))

    @property
    def mutual(self) -> Tls:
        """Files of a client that has a certificate of its own."""
        return Tls(ca=str(self.ca), cert=str(self.cert), key=str(self.key))
