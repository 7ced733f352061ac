"""Seals, pseudonyms, receipts: bound to their place, one error for every failure, readable after a rotation."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.keyring import BadKeyring, CannotOpen, Keyring, normal_receipt, read_keyring, write_keyring
from streams.ports import Sealed

KEYRING = Keyring.create(os.urandom)
TIP = "00000000-0000-4000-8000-000000000001"


def sealed() -> Sealed:
    return KEYRING.seal(TIP, [("phone", "[phone:00000000]", "13812345678")], os.urandom)[0]


def test_opens_what_it_sealed() -> None:
    items = [("phone", "[phone:1]", "13812345678"), ("reporter.name", "v-1", "张某")]
    rows = KEYRING.seal(TIP, items, os.urandom)
    assert [KEYRING.open_sealed(TIP, row) for row in rows] == ["13812345678", "张某"]
    assert len({row.wrapped_key for row in rows}) == 1, "a data key a tip"
    assert len({row.nonce for row in rows}) == 2
    assert KEYRING.seal(TIP, [], os.urandom) == ()


@pytest.mark.parametrize("field", ["token", "kind", "key_id"])
def test_a_row_moved_elsewhere_does_not_open(field: str) -> None:
    with pytest.raises(CannotOpen):
        KEYRING.open_sealed(TIP, msgspec.structs.replace(sealed(), **{field: "other"}))
    with pytest.raises(CannotOpen):
        KEYRING.open_sealed(TIP[:-1] + "2", sealed())


def test_parts_cannot_slide_into_each_other() -> None:
    (row,) = KEYRING.seal(TIP, [("a", "bc", "x")], os.urandom)
    with pytest.raises(CannotOpen):
        KEYRING.open_sealed(TIP, msgspec.structs.replace(row, kind="ab", token="c"))


@given(st.sampled_from(["wrapped_key", "nonce", "ciphertext"]), st.data())
def test_every_flipped_bit_and_every_cut_is_seen(field: str, data: st.DataObject) -> None:
    row = sealed()
    raw = bytearray(getattr(row, field))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    cut = bytes(raw[: data.draw(st.integers(0, len(raw) - 1))])
    for bad in (bytes(raw), cut):
        with pytest.raises(CannotOpen) as caught:
            KEYRING.open_sealed(TIP, msgspec.structs.replace(row, **{field: bad}))
        assert str(caught.value) == "the sealed identity does not open"


def test_rotation() -> None:
    old = sealed()
    rotated = KEYRING.rotate(os.urandom)
    assert rotated.active != KEYRING.active
    assert rotated.open_sealed(TIP, old) == "13812345678"
    (new,) = rotated.reseal(TIP, [old], os.urandom)
    assert new.key_id == rotated.active
    assert rotated.token("phone", "1") == KEYRING.token("phone", "1")
    assert rotated.receipt(TIP) == KEYRING.receipt(TIP)
    last = rotated.without(KEYRING.active)
    assert last.open_sealed(TIP, new) == "13812345678"
    with pytest.raises(CannotOpen):
        last.open_sealed(TIP, old)
    with pytest.raises(BadKeyring):
        last.without(last.active)


def test_file_round_trip() -> None:
    again = Keyring.load(KEYRING.rotate(os.urandom).dump())
    assert again.open_sealed(TIP, sealed()) == "13812345678"
    assert again.ids[0] == KEYRING.active
    assert KEYRING.active in repr(KEYRING)
    assert KEYRING.dump().split(b'"pseudonym": "')[1][:20].decode() not in repr(KEYRING)


BAD_FILES = {
    "nothing": b"",
    "no object": b"[]",
    "cut": KEYRING.dump()[:-9],
    "other version": KEYRING.dump().replace(b'"version": 1', b'"version": 2'),
    "active gone": KEYRING.dump().replace(b'"active": "k-', b'"active": "x-'),
    "no base64": re.sub(rb'"receipt": "..', b'"receipt": "!!', KEYRING.dump()),
    "short key": re.sub(rb'"receipt": "[^"]*"', b'"receipt": "QUJD"', KEYRING.dump()),
    "extra field": KEYRING.dump().replace(b"{", b'{"more": 1,', 1),
}


@pytest.mark.parametrize("data", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_files(data: bytes) -> None:
    with pytest.raises(BadKeyring):
        Keyring.load(data)


def test_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    with pytest.raises(BadKeyring, match="missing"):
        read_keyring(path)
    write_keyring(path, KEYRING)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(BadKeyring, match="exists"):
        write_keyring(path, KEYRING)
    write_keyring(path, KEYRING.rotate(os.urandom), replace=True)
    assert len(read_keyring(path).ids) == 2
    path.chmod(0o640)
    with pytest.raises(BadKeyring, match="chmod 600"):
        read_keyring(path)


def test_receipts_are_read_as_people_type_them() -> None:
    receipts = [KEYRING.receipt(f"tip-{number}") for number in range(300)]
    assert len(set(receipts)) == 300
    for receipt in receipts:
        assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){3}", receipt)
        for typed in (
            receipt.lower(),
            receipt.replace("-", ""),
            receipt.replace("-", " "),
            f" {receipt}",
            receipt.replace("0", "O").replace("1", "l"),
        ):
            assert normal_receipt(typed) == receipt
    for typed in ("", "ABCD", "U" * 16, "x" * 10_000, "０" * 16, "-" * 16):
        assert normal_receipt(typed) is None
    assert Keyring.create(os.urandom).receipt("tip-1") != receipts[1]


def test_nonces_never_repeat() -> None:
    """With a counting entropy every request is seen to ask for bytes of its own."""
    counter = itertools.count()
    rows = [
        KEYRING.seal(TIP, [("phone", str(n), "x")] * 2, lambda size: next(counter).to_bytes(size, "big"))
        for n in range(500)
    ]
    nonces = [row.nonce for group in rows for row in group]
    assert len(set(nonces)) == len(nonces)


def test_purposes_are_apart() -> None:
    assert KEYRING.token("a", "x") != KEYRING.token("b", "x")
    assert KEYRING.token("a", "x") == KEYRING.token("a", "x")
    assert KEYRING.digest("a", "x")[:4].hex() == KEYRING.token("a", "x")
