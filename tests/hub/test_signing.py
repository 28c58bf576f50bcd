"""Signed texts hold for what and as long as they say, and for no text that was changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vaults import open_local

from weightvault.api.hub.signing import InvalidSignature, Signer, open_signer

KEY = bytes(range(32))
CLAIMS = ["org/model", "0" * 32, True]


def test_claims_come_back_until_they_expire():
    now = [1000.0]
    signer = Signer(KEY, now=lambda: now[0])
    text = signer.sign("xet", CLAIMS, 1010)
    assert signer.verify("xet", text) == CLAIMS
    with pytest.raises(InvalidSignature, match="not for 'lfs'"):
        signer.verify("lfs", text)
    now[0] = 1010.0
    with pytest.raises(InvalidSignature, match="expired"):
        signer.verify("xet", text)


@given(st.data())
def test_no_changed_text_holds(data: st.DataObject):
    signer = Signer(KEY, now=lambda: 0)
    text = signer.sign("xet", CLAIMS, 10)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda c: c != text[at]))
    try:
        # The last character of unpadded base64 has bits that mean nothing.
        assert signer.verify("xet", text[:at] + other + text[at + 1 :]) == CLAIMS
        assert text[at + 1 : at + 2] in ("", ".")
    except InvalidSignature:
        pass


@pytest.mark.parametrize("text", ["", ".", "a.b.c", "hf_token", "\xff.\xff", "A" * 5000])
def test_anything_else_is_refused(text: str):
    with pytest.raises(InvalidSignature):
        Signer(KEY).verify("xet", text)


def test_servers_on_one_catalogue_share_the_key(tmp_path):
    vault, other = open_local(tmp_path / "a"), open_local(tmp_path / "b")
    text = open_signer(vault.catalogue).sign("xet", CLAIMS, 1e12)
    assert open_signer(vault.catalogue).verify("xet", text) == CLAIMS
    with pytest.raises(InvalidSignature, match="wrong"):
        open_signer(other.catalogue).verify("xet", text)
