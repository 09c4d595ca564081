"""Content Credentials: a C2PA manifest in a picture or video, signed with the user's certificate.

It says what XMP says, and in a way that can be checked: a reader of C2PA notices when a byte of the picture or of the
record was changed since, and who signed. The photograph is its parent ingredient: by its name and, where it has
Content Credentials itself, with them. Nothing is fetched, and no time stamp is asked for.
"""

from __future__ import annotations

import io
import json
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image

from eggan.errors import EgganError
from eggan.provenance import SOURCE_TYPE, Provenance

__all__ = ["Credentials"]

CURVES = {"secp256r1": b"es256", "secp384r1": b"es384", "secp521r1": b"es512"}


class Credentials:
    """A certificate with its chain and its private key, both PEM, tried out on a tiny picture.

    Raises:
        EgganError: c2pa-python is not there; a file cannot be read or is no certificate or key; they do not belong
            together; or C2PA does not accept the certificate.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._c2pa = _c2pa()
        self.certificate, self.chain = certificate, _read(certificate)
        self.algorithm, self.key = _signer(certificate, self.chain, key)
        tiny = io.BytesIO()
        Image.new("RGB", (8, 8)).save(tiny, "PNG")
        self._sign(tiny.getvalue(), "image/png", {}, "pictures", "image/png", tiny)

    def sign(self, picture: bytes, mime: str, provenance: Provenance, original: Path) -> bytes:
        """An encoded picture or video with a signed manifest of the edit that made it from the original.

        Raises:
            EgganError: C2PA refuses.
        """
        record = {"eggan.edit": json.loads(provenance.to_json())}
        with Image.open(original) as opened:
            kind = opened.get_format_mimetype() or "application/octet-stream"
        with original.open("rb") as file:
            return self._sign(picture, mime, record, original.name, kind, file)

    def _sign(self, picture: bytes, mime: str, record: dict[str, Any], name: str, kind: str, original: Any) -> bytes:  # noqa: ANN401
        from eggan import __version__

        agent = {"name": "eggan", "version": __version__}
        edited = {"action": "c2pa.edited", "digitalSourceType": SOURCE_TYPE, "softwareAgent": agent}
        manifest = {
            "claim_generator_info": [agent],
            "title": name,
            "assertions": [{"label": "c2pa.actions", "data": {"actions": [edited | {"parameters": record}]}}],
        }
        c2pa = self._c2pa
        signed = io.BytesIO()
        try:
            signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(self.algorithm, self.chain, self.key, None))
            settings = c2pa.Settings.from_dict({"builder": {"thumbnail": {"enabled": False}}})
            builder = c2pa.Builder.from_json(json.dumps(manifest), c2pa.Context(settings))
            builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
            builder.add_ingredient({"title": name, "relationship": "parentOf"}, kind, original)
            builder.sign(signer, mime, io.BytesIO(picture), signed)
        except c2pa.C2paError as error:
            reason = " ".join(str(error).split())
            raise EgganError(f"{self.certificate} cannot sign {name} ({reason}).") from None
        return signed.getvalue()


def _c2pa() -> Any:  # noqa: ANN401
    try:
        return import_module("c2pa")
    except ImportError:
        raise EgganError('Signing needs the package c2pa-python: pip install "eggan[c2pa]".') from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EgganError(f"{path} cannot be read ({error.strerror or error}).") from None


def _signer(certificate: Path, chain: bytes, key: Path) -> tuple[bytes, bytes]:
    """C2PA's name of the signature that a key makes, and the key in PKCS 8."""
    from cryptography import x509  # comes with c2pa-python
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

    try:
        first = x509.load_pem_x509_certificates(chain)[0].public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise EgganError(f"{certificate} is no certificate in PEM: give the signer's, then its chain.") from None
    try:
        own = load_pem_private_key(_read(key), None)
    except TypeError:
        raise EgganError(f"{key} is protected by a password: write it without (openssl pkey -in {key}).") from None
    except (ValueError, UnsupportedAlgorithm):
        raise EgganError(f"{key} is no private key in PEM.") from None
    if own.public_key() != first:
        raise EgganError(f"{key} is not the key of the first certificate in {certificate}.")
    match own:
        case ec.EllipticCurvePrivateKey(curve=curve) if curve.name in CURVES:
            algorithm = CURVES[curve.name]
        case ed25519.Ed25519PrivateKey():
            algorithm = b"ed25519"
        case rsa.RSAPrivateKey():
            algorithm = b"ps256"
        case _:
            raise EgganError(f"{key} is of a kind that C2PA does not know: take P-256, P-384, P-521, Ed25519 or RSA.")
    return algorithm, own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
