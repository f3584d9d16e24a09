"""Where webhooks may go: rows of addresses and URLs, allowed and refused."""

from __future__ import annotations

import pytest

from service.problems import Problem
from service.webhook.addresses import is_public, literal
from service.webhook.receivers import URL_LENGTH, Receivers

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.0.1",
    "172.32.0.1",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]
REFUSED = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",  # noqa: S104  no address to listen on
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "161.26.0.10",
    "166.8.0.1",
    "166.11.255.255",
    "168.63.129.16",
    "::ffff:168.63.129.16",
    "64:ff9b::a83f:8110",
    "199.36.153.4",
    "199.36.153.11",
    "192.0.0.8",
    "192.0.0.9",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:224.0.0.1",
    "::ffff:100.64.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%lo",
    "2606:4700::1%lo",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "not an address",
    "",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address):
    assert is_public(address)


@pytest.mark.parametrize("address", REFUSED)
def test_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("localhost", "127.0.0.1"),
        ("localhost.", "127.0.0.1"),
        ("a.localhost", "127.0.0.1"),
        ("example.com", None),
        ("notlocalhost", None),
        ("1.2.3.4.example", None),
    ],
)
def test_what_needs_no_look_up(host, address):
    assert literal(host) == address


@pytest.fixture(scope="module")
def receivers() -> Receivers:
    return Receivers()


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/",
        "https://hooks.example.com",
        "HTTPS://Hooks.Example.COM/a/b?token=1&x=%20",
        "http://hooks.example.com:8080/x",
        "https://hooks.example.com:443/x",
        "https://xn--bcher-kva.example/",
        "https://a_b.example.com./x",
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]:8443/x",
        "https://example.com/?next=https://a@b",
    ],
)
def test_urls_that_are_taken(receivers, url):
    assert receivers.checked(url) == url


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "webhook must be a URL"),
        ("hooks.example.com/x", "webhook must be a URL"),
        ("//hooks.example.com/x", "webhook must be a URL"),
        ("ftp://hooks.example.com/", "https:// or http://"),
        ("file:///etc/passwd", "https:// or http://"),
        ("gopher://127.0.0.1:25/", "https:// or http://"),
        ("https:///x", "a host"),
        ("https://user@hooks.example.com/", "no user"),
        ("https://user:pass@hooks.example.com/", "no user"),
        ("https://example.com@127.0.0.1/", "no user"),
        ("https://example.com\\@127.0.0.1/", "webhook must be a URL"),
        ("https://hooks.example.com/#part", "no fragment"),
        ("https://hooks.example.com/#", "no fragment"),
        ("https://hooks.example.com:0/", "perhaps a port"),
        ("https://hooks.example.com:65536/", "perhaps a port"),
        ("https://hooks.example.com:x/", "perhaps a port"),
        ("https://hooks example.com/", "webhook must be a URL"),
        ("https://hooks.example.com/a b", "ASCII characters"),
        ("https://hooks.example.com/\r\nX: y", "ASCII characters"),
        ("https://b\u00fccher.example/", "ASCII characters"),
        ("https://%31%32%37.0.0.1/", "a host"),
        ("https://a..b/", "a host"),
        (f"https://{'a' * 64}.example/", "a host"),
        (f"https://{'a.' * 130}example/", "a host"),
        (f"https://example.com/{'a' * URL_LENGTH}", f"at most {URL_LENGTH}"),
        ("http://127.0.0.1:8000/", "127.0.0.1 is no address of the public internet"),
        ("http://127.1/", "no address of the public internet"),
        ("http://2130706433/", "no address of the public internet"),
        ("http://0x7f000001/", "no address of the public internet"),
        ("http://localhost:8000/", "no address of the public internet"),
        ("http://169.254.169.254/latest/meta-data/", "no address of the public internet"),
        ("http://10.1.2.3/", "no address of the public internet"),
        ("http://[::1]/", "no address of the public internet"),
        ("http://[::ffff:127.0.0.1]/", "no address of the public internet"),
        ("http://[64:ff9b::7f00:1]/", "no address of the public internet"),
        ("http://[fe80::1%25eth0]/", "webhook must be a URL"),
    ],
)
def test_urls_that_are_refused(receivers, url, says):
    with pytest.raises(Problem) as caught:
        receivers.checked(url)
    assert caught.value.slug == "invalid-option"
    assert says in caught.value.detail
