"""Certificates for tests: real ones, signed by themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def make_certificate(folder: Path, *names: str, days: int = 2) -> tuple[str, str]:
    """PEM files (certificate, key) for these names and addresses, valid from three days ago until in so many days."""
    key = ec.generate_private_key(ec.SECP256R1())
    # Of two authorities of one name only the first is tried.
    owner = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"test of {names[0]}")])
    now = datetime.now(UTC)
    valid = (now - timedelta(days=3), now + timedelta(days=days))
    shown = x509.SubjectAlternativeName([_name(one) for one in names])
    made = (
        x509.CertificateBuilder(owner, owner, key.public_key(), x509.random_serial_number(), *valid)
        .add_extension(shown, critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
