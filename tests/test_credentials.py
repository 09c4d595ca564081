"""Content Credentials: what C2PA's own reader says of a signed edit, and of one that was changed afterwards."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import c2pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image

from eggan import animation
from eggan.credentials import Credentials
from eggan.errors import EgganError
from eggan.provenance import SOURCE_TYPE, FaceEdit, Provenance, explain, save_picture

RECORD = Provenance("small", (FaceEdit(0, {"AU12_r": 0.0}, {"AU12_r": 4.0}),))
ROOT_KEY = ec.generate_private_key(ec.SECP256R1())
MIME = {".png": "image/png", ".jpg": "image/jpeg"} | animation.MIME


def certificate(name: str, key: Any, *, authority: bool = False, days: int = 9) -> x509.Certificate:
    """A certificate that the root's key signs, as C2PA wants a signer's or, with `authority`, the root's own."""

    def named(text: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, text),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests of eggan"),
            ]
        )

    now, usage = datetime.now(UTC), dict.fromkeys(("digital_signature", "key_cert_sign", "crl_sign"), authority)
    usage |= {"digital_signature": not authority}
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named("root"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(authority, None), True)
        .add_extension(
            x509.KeyUsage(**usage, **dict.fromkeys(others, False), encipher_only=False, decipher_only=False), True
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ROOT_KEY.public_key()), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )
    if not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
    return builder.sign(ROOT_KEY, hashes.SHA256())


def pem(part: Any, password: bytes | None = None) -> bytes:
    if isinstance(part, x509.Certificate):
        return part.public_bytes(serialization.Encoding.PEM)
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    if isinstance(part, rsa.RSAPrivateKey):
        form = serialization.PrivateFormat.TraditionalOpenSSL  # the older form must do too
    return part.private_bytes(serialization.Encoding.PEM, form, locked)


@pytest.fixture
def root() -> x509.Certificate:
    return certificate("root", ROOT_KEY, authority=True)


@pytest.fixture
def make_signer(tmp_path: Path, root: x509.Certificate) -> Callable[..., tuple[Path, Path]]:
    def make(key: Any = None, **options: Any) -> tuple[Path, Path]:
        key = key or ec.generate_private_key(ec.SECP256R1())
        (tmp_path / "chain.pem").write_bytes(pem(certificate("signer", key, **options)) + pem(root))
        (tmp_path / "key.pem").write_bytes(pem(key))
        return tmp_path / "chain.pem", tmp_path / "key.pem"

    return make


@pytest.fixture
def face(photograph: Image.Image, tmp_path: Path) -> Path:
    photograph.save(tmp_path / "me.png")
    return tmp_path / "me.png"


def read(path: Path, data: bytes | None = None, anchor: x509.Certificate | None = None) -> c2pa.Reader:
    trust = {"trust": {"trust_anchors": pem(anchor).decode()}} if anchor else {}
    context = c2pa.Context(c2pa.Settings.from_dict(trust))
    return c2pa.Reader(MIME[path.suffix], io.BytesIO(data or path.read_bytes()), context=context)


def flipped(data: bytes, where: int) -> bytes:
    return data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]


# --- A signed edit ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_a_signed_edit_is_verified_and_one_flipped_byte_is_noticed(
    ending: str,
    face: Path,
    root: x509.Certificate,
    make_signer: Callable[..., tuple[Path, Path]],
    eggan: Callable[..., tuple[int, str, str]],
) -> None:
    out = face.with_name(f"smile{ending}")
    assert eggan("edit", face, "-o", out, "--au", "12=4", "--sign", *make_signer()) == (0, f"{out}\n", "")
    assert read(out).get_validation_state() == "Valid"
    assert read(out, anchor=root).get_validation_state() == "Trusted"
    whole = out.read_bytes()
    where = len(whole) // 2 if ending != ".png" else whole.index(b"IDAT") + 200
    reader = read(out, flipped(whole, where), root)
    assert reader.get_validation_state() == "Invalid"
    assert "assertion.dataHash.mismatch" in reader.json()


@pytest.mark.parametrize("ending", [".png", ".gif", ".webp", ".mp4"])
def test_a_signed_animation_is_verified_and_one_flipped_byte_is_noticed(
    ending: str,
    face: Path,
    root: x509.Certificate,
    make_signer: Callable[..., tuple[Path, Path]],
    eggan: Callable[..., tuple[int, str, str]],
) -> None:
    out = face.with_name(f"moving{ending}")
    code, said, _ = eggan("interpolate", face, "-o", out, "--au", "12=4", "--steps", 3, "--sign", *make_signer())
    assert (code, said) == (0, f"{out}\n")
    assert read(out, anchor=root).get_validation_state() == "Trusted"
    assert explain(out)["made"].endswith(("to target", "and back"))
    whole = out.read_bytes()
    where = whole.index(b"ANMF") + 60 if ending == ".webp" else len(whole) - 300  # WebP ends with the manifest
    assert read(out, flipped(whole, where), root).get_validation_state() == "Invalid"


def test_the_manifest_says_what_was_done_to_which_photograph_by_what(
    face: Path, make_signer: Callable[..., tuple[Path, Path]], eggan: Callable[..., tuple[int, str, str]]
) -> None:
    out = face.with_name("smile.png")
    eggan("edit", face, "-o", out, "--au", "12=4", "--sign", *make_signer())
    manifests = json.loads(read(out).json())
    manifest = manifests["manifests"][manifests["active_manifest"]]
    (parent,) = manifest["ingredients"]
    assert (parent["title"], parent["format"], parent["relationship"]) == ("me.png", "image/png", "parentOf")
    (actions,) = (part["data"]["actions"] for part in manifest["assertions"] if "actions" in part["label"])
    assert [action["action"] for action in actions] == ["c2pa.opened", "c2pa.edited"]
    assert actions[1]["digitalSourceType"] == SOURCE_TYPE
    assert actions[1]["softwareAgent"]["name"] == "eggan"
    assert actions[1]["parameters"]["eggan.edit"] == explain(out)


def test_the_credentials_of_the_photograph_stay_in_the_edits(
    face: Path, make_signer: Callable[..., tuple[Path, Path]], eggan: Callable[..., tuple[int, str, str]]
) -> None:
    first, second = face.with_name("first.png"), face.with_name("second.jpg")
    signer = make_signer()
    eggan("edit", face, "-o", first, "--au", "12=4", "--sign", *signer)
    eggan("edit", first, "-o", second, "--au", "4=2", "--sign", *signer)
    assert len(json.loads(read(second).json())["manifests"]) == 2
    assert read(second).get_validation_state() == "Valid"


@pytest.mark.parametrize("kind", ["p384", "p521", "ed25519", "rsa"])
def test_every_kind_of_key_signs(
    kind: str, face: Path, make_signer: Callable[..., tuple[Path, Path]], root: x509.Certificate
) -> None:
    key = {
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
    }[kind]()
    signed = Credentials(*make_signer(key)).sign(face.read_bytes(), "image/png", RECORD, face)
    assert read(face, signed, root).get_validation_state() == "Trusted"


def test_a_refused_signature_leaves_the_old_picture_and_no_other_file(tmp_path: Path) -> None:
    path, picture = tmp_path / "a.png", Image.new("RGB", (16, 16))
    save_picture(picture, path, RECORD)
    before = path.read_bytes()

    def refuse(*_: object) -> bytes:
        raise EgganError("No.")

    with pytest.raises(EgganError, match=r"^No\.$"):
        save_picture(picture, path, RECORD, refuse)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# --- Mistakes, found before a face is looked for ---------------------------------------------------------------------


def test_what_is_no_signer_is_one_sentence_that_names_the_file(
    tmp_path: Path, make_signer: Callable[..., tuple[Path, Path]]
) -> None:
    chain, key = make_signer()
    (tmp_path / "other.pem").write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    (tmp_path / "locked.pem").write_bytes(pem(ec.generate_private_key(ec.SECP256R1()), b"secret"))
    (tmp_path / "text.pem").write_text("no key")
    for given, sentence in (
        ((tmp_path / "absent.pem", key), r"absent\.pem cannot be read \(No such file or directory\)\.$"),
        ((tmp_path / "text.pem", key), r"text\.pem is no certificate in PEM"),
        ((key, chain), r"key\.pem is no certificate in PEM"),
        ((chain, tmp_path / "text.pem"), r"text\.pem is no private key in PEM\.$"),
        ((chain, tmp_path / "locked.pem"), r"locked\.pem is protected by a password"),
        ((chain, tmp_path / "other.pem"), r"other\.pem is not the key of the first certificate in .*chain\.pem\.$"),
    ):
        with pytest.raises(EgganError, match=sentence):
            Credentials(*given)


@pytest.mark.parametrize("what", ["expired", "authority", "dsa"])
def test_a_certificate_that_c2pa_refuses_is_one_sentence(
    what: str, make_signer: Callable[..., tuple[Path, Path]]
) -> None:
    options: dict[str, dict[str, Any]] = {
        "expired": {"days": -1},
        "authority": {"authority": True},
        "dsa": {"key": dsa.generate_private_key(2048)},
    }
    with pytest.raises(EgganError, match=r"^[^\n]+\.$") as error:
        Credentials(*make_signer(**options[what]))
    assert ("key.pem is of a kind" if what == "dsa" else "chain.pem cannot sign pictures (") in str(error.value)


def test_a_bad_certificate_ends_the_command_with_one_sentence_and_no_picture(
    face: Path, tmp_path: Path, eggan: Callable[..., tuple[int, str, str]]
) -> None:
    out = tmp_path / "smile.png"
    code, said, err = eggan("edit", face, "-o", out, "--au", "12=4", "--sign", tmp_path / "a", tmp_path / "b")
    assert (code, said, err.count("\n"), out.exists()) == (1, "", 1, False)
    assert f"{tmp_path / 'a'} cannot be read" in err


def test_without_c2pa_python_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(EgganError, match=r'pip install "eggan\[c2pa\]"\.$'):
        Credentials(tmp_path / "a", tmp_path / "b")
