"""Keys and authenticated encryption of a session between two processes, from the primitives of `cryptography`.

Both ends hold one key file of 32 random bytes (PSK). Each session: both send a fresh X25519 public key [RFC7748]; then

    keys = HKDF-SHA256(salt = PSK, secret = X25519(own, peer's), info = "secmoe wire 1" | both hellos)   [RFC5869]

gives one ChaCha20-Poly1305 key per direction and a session id [RFC8439]. The nonce is the place of the record in its
direction, the associated data its header. So: without the PSK nobody can take part; who learns it later cannot read
what was sent before; a record opens once, in its place, in its direction, in its session only. It is the pattern
NNpsk0 of the Noise framework, with HKDF over the whole exchange in place of its running hash.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sim.remote.records import AlteredRecord
from sim.role import CLIENT, Role

KEY_BYTES = 32
POINT_BYTES = 32
LABEL = b"secmoe wire 1"


class KeyFileError(ValueError):
    """A key file is missing, of the wrong size, or open to others."""


class WeakPoint(ValueError):
    """A public key that makes the shared secret a constant."""


class PresharedKey:
    """The 32 bytes that both ends hold. Never shown: neither by `repr` nor in an error."""

    def __init__(self, content: bytes) -> None:
        if len(content) != KEY_BYTES:
            raise KeyFileError(
                f"expected a key of {KEY_BYTES} bytes, got {len(content)}; make one with secmoe key FILE"
            )
        self._content = content

    @classmethod
    def read(cls, path: Path) -> PresharedKey:
        """From a file that its owner alone can read. Raises KeyFileError."""
        if path.exists() and not path.is_file():
            raise KeyFileError(f"{path}: expected a key file, got something that is not a regular file")
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                content = file.read(KEY_BYTES + 1)
        except OSError as error:
            raise KeyFileError(
                f"{path}: expected a key file ({error.strerror}); make one with secmoe key FILE"
            ) from error
        if stat.S_IMODE(mode) & 0o077:
            raise KeyFileError(
                f"{path}: others can read this key (mode {stat.S_IMODE(mode):o}); chmod 600 it, or renew it"
            )
        if len(content) != KEY_BYTES:
            raise KeyFileError(f"{path}: expected {KEY_BYTES} bytes, got another size; make one with secmoe key FILE")
        return cls(content)

    @classmethod
    def create(cls, path: Path) -> PresharedKey:
        """A fresh key in a new file of mode 0600. Raises KeyFileError."""
        content = os.urandom(KEY_BYTES)
        try:
            with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                file.write(content)
        except FileExistsError as error:
            raise KeyFileError(
                f"{path}: the file exists and a key is never overwritten; choose another name"
            ) from error
        except OSError as error:
            raise KeyFileError(f"{path}: cannot be made ({error.strerror}); choose another place") from error
        return cls(content)

    def agree(self, role: Role, own: Ephemeral, peer: bytes, hellos: bytes) -> Sealed:
        """The session's codec, from this end's ephemeral key, the peer's public one and both hellos, the client's
        first. Raises WeakPoint.
        """
        try:
            shared = own.key.exchange(X25519PublicKey.from_public_bytes(peer))
        except ValueError as error:
            raise WeakPoint(
                "expected a public key of full order, got one of small order; the peer is not ours"
            ) from error
        info = LABEL + hashlib.sha256(hellos).digest()
        keys = HKDF(SHA256(), 3 * KEY_BYTES, self._content, info).derive(shared)
        to_server, to_client, session = (keys[i : i + KEY_BYTES] for i in range(0, len(keys), KEY_BYTES))
        return Sealed(session, *((to_server, to_client) if role is CLIENT else (to_client, to_server)))


class Ephemeral:
    """One end's X25519 key of one session."""

    def __init__(self) -> None:
        self.key = X25519PrivateKey.generate()

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes_raw()


class Sealed:
    """ChaCha20-Poly1305 records of one session: a `sim.remote.records.Codec`."""

    overhead = 16

    def __init__(self, session: bytes, outgoing: bytes, incoming: bytes) -> None:
        self.session = session
        self._outgoing, self._incoming = ChaCha20Poly1305(outgoing), ChaCha20Poly1305(incoming)

    def seal(self, header: bytes, seq: int, body: bytes) -> bytes:
        return self._outgoing.encrypt(_nonce(seq), body, header)

    def unseal(self, header: bytes, seq: int, sealed: bytes) -> bytes:
        try:
            return self._incoming.decrypt(_nonce(seq), sealed, header)
        except InvalidTag as error:
            raise AlteredRecord(
                f"record {seq} is not what the peer sealed: another key file, or altered on the way; start again"
            ) from error


def _nonce(seq: int) -> bytes:
    return bytes(4) + seq.to_bytes(8, "little")
