"""Bearer tokens of an OpenID Connect issuer: which are taken, what they may do, and what they leave."""

from __future__ import annotations

import base64
import hmac
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service import state
from service.auth import tokens
from service.auth.tokens import DISCOVERY, Tokens
from service.command.checks import require_startable
from service.settings import Settings
from tests.support.service.server import Running, held, model_bytes, submit
from tests.support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

jose = pytest.importorskip("joserfc.jwt", reason="the tests of tokens need joserfc, of the extra `oidc`")
jwk = pytest.importorskip("joserfc.jwk")

ISSUER = "https://id.example.org"
SCOPE = "openid bnfold:fold bnfold:read"
HOUR = 3600


class Issuer:
    """An issuer, and the network that leads to it."""

    def __init__(self) -> None:
        self.keys = [jwk.RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})]
        self.asked: list[str] = []
        self.discovery: dict[str, Any] = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}
        self.is_down = False

    async def fetch(self, url: str) -> Any:
        self.asked.append(url)
        if self.is_down:
            raise httpx.ConnectError("down")
        if url == ISSUER + DISCOVERY:
            return self.discovery
        assert url == f"{ISSUER}/keys"
        return {"keys": [key.as_dict(private=False) for key in self.keys] + [{"kty": "oct", "k": "AAAA"}]}

    def token(self, key: Any = None, algorithm: str = "RS256", **claims: Any) -> str:
        key = key or self.keys[-1]
        said = {"iss": ISSUER, "aud": "bnfold", "sub": "alice", "exp": int(time.time()) + HOUR, "scope": SCOPE} | claims
        head = {"alg": algorithm, "kid": key.kid} if key.kid else {"alg": algorithm}
        given = {name: value for name, value in said.items() if value is not None}
        text: str = jose.encode(head, given, key, algorithms=[algorithm])
        return text


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def server(issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(state, "Tokens", lambda *given: Tokens(*given, issuer.fetch))
    with Running(tmp_path / "data", require_keys=True, oidc_issuer=ISSUER) as running:
        yield running


def ask(server: Running, text: str, path: str = "/v1/jobs/x", method: str = "GET", **more: Any) -> httpx.Response:
    return server.client.request(method, path, headers={"Authorization": f"Bearer {text}"}, **more)


def test_a_token_is_as_good_as_a_key_for_what_it_names(server, issuer):
    text = issuer.token()
    folded = ask(server, text, "/v1/fold", "POST", content=model_bytes())
    assert folded.status_code == 200
    job = f"/v1/jobs/{folded.headers['Bnfold-Job']}"
    assert ask(server, issuer.token(), job).status_code == 200  # the next token of the same subject
    assert ask(server, issuer.token(sub="bob"), job).status_code == 404
    assert ask(server, text, "/metrics").status_code == 403
    assert ask(server, text, job, "DELETE").status_code == 403
    assert ask(server, issuer.token(scope="bnfold:metrics"), "/metrics").status_code == 200
    assert ask(server, issuer.token(scope=None)).json()["detail"] == "this key may not read; it may do nothing"
    assert len(issuer.asked) == 2


def confused(token: str, secret: bytes) -> str:
    """The token, signed with what everybody knows as if it were a secret."""
    said = token.split(".")[1]
    parts = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"first"}').rstrip(b"=") + b"." + said.encode()
    signature = base64.urlsafe_b64encode(hmac.digest(secret, parts, "sha256")).rstrip(b"=")
    return (parts + b"." + signature).decode()


def test_a_token_that_is_not_good_is_refused(server, issuer):
    now = int(time.time())
    stranger = jwk.RSAKey.generate_key(2048, {"kid": "first"})
    good = issuer.token()
    for text in (
        issuer.token(exp=now - HOUR),
        issuer.token(exp=None),
        issuer.token(nbf=now + HOUR),
        issuer.token(aud="another"),
        issuer.token(aud=None),
        issuer.token(iss="https://evil.example"),
        issuer.token(sub=None),
        issuer.token(key=stranger),
        confused(good, issuer.keys[0].as_pem(private=False)),
        confused(good, b"\0\0\0"),  # the secret that the issuer publishes among its keys
        good[:-4] + "AAAA",
        f"{good.partition('.')[0]}..",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.",
        "a.b.c",
        "..",
        good.partition(".")[0] + "." + "A" * 20000 + ".x",
    ):
        answer = ask(server, text)
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (401, "unauthorized"), text[:200]
        assert "this token is not accepted: " in answer.json()["detail"]
    assert ask(server, good).status_code == 404


def test_a_new_key_of_the_issuer_is_looked_up_and_made_up_ones_do_not_flood_it(server, issuer, monkeypatch):
    assert ask(server, issuer.token()).status_code == 404
    for number in range(5):
        made_up = jwk.RSAKey.generate_key(2048, {"kid": f"made-up-{number}"})
        assert ask(server, issuer.token(key=made_up)).status_code == 401
    assert len(issuer.asked) == 2
    issuer.keys.append(jwk.ECKey.generate_key("P-256", {"kid": "second"}))
    monkeypatch.setattr(tokens, "LOOK_EVERY", -1.0)
    assert ask(server, issuer.token(algorithm="ES256")).status_code == 404
    assert len(issuer.asked) == 4


@pytest.mark.parametrize("discovery", [None, {"issuer": "https://evil.example", "jwks_uri": f"{ISSUER}/keys"}, {}, []])
def test_an_issuer_that_cannot_be_asked_lets_nobody_in(server, issuer, discovery):
    issuer.is_down, issuer.discovery = discovery is None, discovery
    answer = ask(server, issuer.token())
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert ask(server, "bnf_x_y").status_code == 401
    asked = len(issuer.asked)
    assert ask(server, issuer.token()).status_code == 503
    assert len(issuer.asked) == asked


def test_keys_are_kept_while_the_issuer_is_away(server, issuer, monkeypatch):
    assert ask(server, issuer.token()).status_code == 404
    issuer.is_down = True
    monkeypatch.setattr(tokens, "KEPT", -1.0)
    monkeypatch.setattr(tokens, "LOOK_EVERY", -1.0)
    assert ask(server, issuer.token()).status_code == 404


def test_what_a_token_has_open_ends_with_it_and_its_job_goes_on(server, issuer, tmp_path, monkeypatch):
    client = httpx.Client(base_url=server.url, timeout=PATIENCE)
    client.headers["Authorization"] = f"Bearer {issuer.token()}"
    job = submit(client, held(tmp_path / "gate"))
    monkeypatch.setattr(tokens, "LEEWAY", HOUR)
    over = issuer.token(exp=int(time.time()) - 1)
    answer = ask(server, over, f"/v1/jobs/{job}", params={"wait": PATIENCE})
    assert answer.status_code == 401
    (tmp_path / "gate").touch()
    until(lambda: client.get(f"/v1/jobs/{job}").json()["status"] == "done")
    client.close()


@pytest.mark.parametrize("issuer_url", ["http://id.example.org", "id.example.org", "file:///etc/passwd"])
def test_an_issuer_is_asked_over_tls_only(issuer_url):
    with pytest.raises(ValueError, match="must be a URL that begins with https://"):
        Settings(oidc_issuer=issuer_url)


def test_a_server_that_takes_tokens_needs_no_key_of_its_own_and_the_package(tmp_path, monkeypatch):
    settings = Settings(data=tmp_path, port=0, require_keys=True, oidc_issuer=ISSUER)
    require_startable(settings)
    monkeypatch.setitem(sys.modules, "joserfc", None)
    with pytest.raises(RuntimeError, match="install the extra `oidc`"):
        require_startable(settings)
