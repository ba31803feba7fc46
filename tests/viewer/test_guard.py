"""The guard between the network and viser, with real sockets. No avatar is needed."""

from __future__ import annotations

import math
import socket
import threading
import time
from contextlib import suppress
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from stavatar.errors import InputError
from stavatar.viewer.address import Address, listen

pytest.importorskip("viser", reason="the extra `viewer` is not installed")

import websockets.asyncio.server
from viser._messages import Message
from websockets.exceptions import ConnectionClosed, InvalidStatus

from scripted_browser import PROTOCOL, camera, open_page, pack, setting, unpack
from stavatar.viewer import guard as guarding
from stavatar.viewer.guard import Allowance, Guard, start_server
from stavatar.viewer.messages import MOST_BYTES, accepted


def anything(uuid, value):
    return True


@pytest.fixture(scope="module")
def site():
    """A guarded server with one slider; ``greeted`` holds who was let in."""
    guard = Guard(listen("127.0.0.1", 0))
    server = start_server(guard, "test")
    slider = server.gui.add_slider("slider", 0.0, 1.0, 0.1, 0.5)
    guard.offered = anything
    greeted = []
    server.on_client_connect(greeted.append)
    yield SimpleNamespace(guard=guard, server=server, slider=slider, greeted=greeted, url=guard.url)
    server.stop()


def ask(url, *, path=None, **headers):
    """Status, headers and body of the answer to a plain request; a header that is None is left out."""
    parts = urlsplit(url)
    sent = {"Host": parts.netloc, **headers}
    lines = [f"GET {parts.path if path is None else path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in sent.items() if value is not None]
    answer = tell(parts, "\r\n".join([*lines, "", ""]).encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *others = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in others), body


def tell(parts, request):
    """All that is answered to bytes."""
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        connection.sendall(request)
        answer = b""
        try:
            while part := connection.recv(1 << 16):
                answer += part
        except ConnectionResetError:
            pass
    return answer


def wait_until(true, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def test_whoever_knows_the_token_gets_the_page_and_a_connection(site):
    status, headers, body = ask(site.url)
    assert status == 200
    assert b"<title>Viser</title>" in body
    assert headers["Referrer-Policy"] == "no-referrer", "the address, which holds the token, goes to nobody else"
    assert headers["X-Frame-Options"] == "DENY"
    before = len(site.greeted)
    with open_page(site.url) as page:
        page.send(pack(camera()))
        assert unpack(page.recv(timeout=20))
        wait_until(lambda: len(site.greeted) == before + 1)
    wait_until(lambda: not site.guard.connections)


@pytest.mark.parametrize(
    "token", ["", "/", "/wrong/", "/{}x/", "/{}/../x", "//", "/?token={}", "/%2e%2e/", "/{}/index.html"]
)
def test_nobody_gets_in_without_the_token(site, token):
    path = token.format(site.guard.token) or "/"
    status, _, body = ask(site.url, path=path)
    assert status == 403
    assert b"the whole address" in body
    with pytest.raises(InvalidStatus, match="403"), open_page(site.guard.address.url + path):
        pass


def test_every_server_has_a_token_of_its_own():
    address = Address("127.0.0.1", socket.socket())
    tokens = {Guard(address).token for _ in range(20)}
    assert len(tokens) == 20
    assert min(map(len, tokens)) >= 24, "18 random bytes"
    address.listening.close()


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1", "file://"]
)
def test_pages_from_elsewhere_are_refused(site, origin):
    assert ask(site.url, Origin=origin)[0] == 403
    with pytest.raises(InvalidStatus, match="403"), open_page(site.url, origin=origin):
        pass


def test_programs_without_an_origin_and_encrypting_proxies_are_let_in(site):
    netloc = urlsplit(site.url).netloc
    for origin in (None, f"https://{netloc}"):
        with open_page(site.url, origin=origin) as page:
            assert unpack(page.recv(timeout=20))


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost@evil", "", None]
)
def test_a_name_that_is_not_ours_is_refused(site, host):
    """What a browser would send after a stranger's name was made to lead here."""
    status, _, body = ask(site.url, Host=host, Origin=host and f"http://{host}")
    assert status == 403
    assert b"not the server's name" in body


def test_a_forwarded_port_is_no_stranger(site):
    for host in ("localhost:9000", "127.0.0.1:9000", "[::1]:9000"):
        assert ask(site.url, Host=host, Origin=f"http://{host}")[0] == 200, host


def test_names_of_an_exposed_server(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu01")
    with socket.create_server(("0.0.0.0", 0)) as listening:
        address = Address("0.0.0.0", listening)
        assert address.exposed
        assert address.url == f"http://127.0.0.1:{address.port}"
        assert address.url_elsewhere == f"http://gpu01:{address.port}"
        ours = (
            "gpu01",
            "GPU01:80",
            "gpu01.lab.example:8080",
            "gpu01.local",
            "192.168.1.7:8080",
            "[fe80::1]:80",
            "localhost",
        )
        assert [name for name in ours if not address.goes_by(name)] == []
        assert [name for name in ("evil.example", "x.gpu01", "gpu01:x", "gpu01/", "") if address.goes_by(name)] == []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = Address("localhost", listening)
        assert not address.exposed
        assert [name for name in ("192.168.1.7", "gpu01", "[fe80::1]") if address.goes_by(name)] == []


def test_no_path_reaches_the_file_system(site, monkeypatch):
    """Whatever is asked for, viser looks up its one page and nothing else."""
    asked = []
    page = guarding.Response(200, "OK", guarding.websockets.Headers(), b"page")
    answer = site.guard.before(lambda _, request: asked.append(request.path) or page)
    refusing = SimpleNamespace(respond=lambda status, text: None)
    headers = guarding.websockets.Headers({"Host": f"127.0.0.1:{site.guard.address.port}"})
    for tail in (
        "/",
        "",
        "/?file=../../etc/passwd",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/C:/secret",
        "//etc",
    ):
        answer(refusing, guarding.Request(f"/{site.guard.token}{tail}", headers))
    assert asked == ["/"] * 3
    for path in ("/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..\\..\\etc\\passwd"):
        for url in (site.url[:-1] + path, site.guard.address.url + path):
            assert ask(url)[0] == 403


def test_messages_above_the_limit_end_the_connection(site):
    with open_page(site.url) as page:
        page.send(b"\xc4" + b"x" * MOST_BYTES)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                page.recv(timeout=20)
    assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5000 + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\n" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nOrigin: a\r\nOrigin: b\r\nUpgrade: x\r\nUpgrade: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
        b"\r\n\r\n",
    ],
    ids=["tls", "headers", "line", "body", "twice", "bytes", "nothing"],
)
def test_malformed_requests_are_answered_with_nothing_of_use(site, request_, capfd):
    answer = tell(urlsplit(site.url), request_)
    assert answer == b"" or answer.split()[1] in (b"400", b"403")
    assert ask(site.url)[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_only_viser_is_spoken(site):
    for protocols in (None, ["other"], [PROTOCOL, "other"]):
        with pytest.raises(InvalidStatus, match="400"), open_page(site.url, subprotocols=protocols):
            pass


def test_malformed_messages_are_passed_over_and_the_next_good_one_counts(site, capfd):
    site.slider.value = 0.5
    uuid = site.slider._impl.uuid
    attack = setting(uuid, 0.25)
    attack["updates"] |= {"removed": True, "update_cb": [1], "min": 9.0, "visible": False}
    with open_page(site.url) as page:
        for rubbish in (b"", b"\xc1", b"\x81" * 5000, b"\xdd\xff\xff\xff\xff", "text", pack([]), pack({"type": 3})):
            page.send(rubbish)
        page.send(pack(camera()))
        page.send(pack(attack))
        wait_until(lambda: site.slider.value == 0.25)
    assert not site.slider._impl.removed
    assert site.slider._impl.update_cb == []
    assert site.slider.min == 0.0
    assert "Traceback" not in capfd.readouterr().err


def test_nothing_else_of_the_protocol_passes():
    kinds = {kind.__name__ for kind in Message.get_subclasses()}
    assert {"ShareUrlRequest", "FileTransferStartUpload", "FileTransferPart", "GuiFormDirtyMessage"} < kinds
    everything = camera() | setting("a", 1.0) | {"filename": "../x", "part_count": 9, "source_component_uuid": "a"}
    passed = {kind for kind in kinds if accepted(pack(everything | {"type": kind}), anything) is not None}
    assert passed == {"ViewerCameraMessage", "GuiUpdateMessage"}


def test_numbers_of_a_camera_are_in_their_ranges():
    assert accepted(pack(camera(30.0)), anything) == accepted(accepted(pack(camera(30.0)), anything), anything)
    wrong = {
        "fov": [0.0, -1.0, 3.2, math.nan, "1", None],
        "image_height": [0, -5, 1 << 20, 2.5],
        "image_width": [0, math.inf],
        "position": [[0.0, math.nan, 0.0], [0.0, 0.0], [1e9, 0.0, 0.0], 7, [0.0] * 4000],
        "wxyz": [[0.0, 0.0, 0.0, 0.0], [9.0, 0.0, 0.0, 0.0], [math.inf, 0.0, 0.0, 0.0]],
    }
    for name, values in wrong.items():
        for value in values:
            assert accepted(pack(camera(**{name: value})), anything) is None, (name, value)


def test_a_widget_is_given_small_values_only():
    for value in (True, 0.5, 3, "rest", [255, 0, 0]):
        assert accepted(pack(setting("a", value)), anything) is not None, value
    for value in (math.nan, math.inf, 1e300, 2**63, "x" * 101, [1.0] * 5, [math.nan], [[1]], {"a": 1}, b"raw", None):
        assert accepted(pack(setting("a", value)), anything) is None, value
    assert accepted(pack(setting("a", 0.5)), lambda uuid, value: (uuid, value) != ("a", 0.5)) is None
    assert accepted(pack({**setting("a", 1.0), "updates": {"props": 1}}), anything) is None


def test_an_allowance_is_a_burst_and_then_a_rate():
    allowance = Allowance(rate=10.0, burst=5)
    assert [allowance.wait(100.0) for _ in range(5)] == [0.0] * 5
    assert allowance.wait(100.0) == pytest.approx(0.1)
    assert allowance.wait(100.1) == pytest.approx(0.1), "the one before has used up the time that passed"
    assert allowance.wait(200.0) == 0.0
    assert sum(allowance.wait(200.0) == 0.0 for _ in range(50)) == 4, "waiting long saves no more than a burst"


def test_a_flood_is_slowed_down_and_others_are_served_meanwhile(site, monkeypatch):
    monkeypatch.setattr(guarding, "_BURST", 20)
    handled = []
    site.server._websock_server.register_handler(
        viser_message("GuiUpdateMessage"), lambda client, message: handled.append(client)
    )
    flood = pack(setting(site.slider._impl.uuid, 0.75))
    stop = threading.Event()

    def pour():
        with suppress(ConnectionClosed), open_page(site.url) as page:
            page.send(pack(camera()))
            while not stop.is_set():
                page.send(flood)

    threads = [threading.Thread(target=pour, daemon=True) for _ in range(2)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(set(handled)) == 2)
        with open_page(site.url) as page:
            page.send(pack(camera()))
            assert unpack(page.recv(timeout=20))
        time.sleep(0.3)
        count, seconds = len(handled), time.monotonic() - begin
    finally:
        stop.set()
        for connection in list(site.guard.connections):
            connection.loop.call_soon_threadsafe(connection.transport.abort)
        for thread in threads:
            thread.join(timeout=20)
    assert count <= 2 * (20 + guarding.MESSAGES_PER_SECOND * seconds) + 2


def viser_message(name):
    return next(kind for kind in Message.get_subclasses() if kind.__name__ == name)


def test_more_connections_than_can_be_kept_are_dropped(site, monkeypatch):
    monkeypatch.setattr(guarding, "MOST_CONNECTIONS", 3)
    parts = urlsplit(site.url)
    idle = [socket.create_connection((parts.hostname, parts.port), timeout=20) for _ in range(3)]
    wait_until(lambda: len(site.guard.connections) == 3)
    assert tell(parts, b"GET / HTTP/1.1\r\n\r\n") == b""
    for connection in idle:
        connection.close()
    wait_until(lambda: not site.guard.connections)
    assert ask(site.url)[0] == 200


def test_more_browsers_than_can_be_drawn_for_are_refused(site, monkeypatch):
    monkeypatch.setattr(guarding, "MOST_BROWSERS", 1)
    with open_page(site.url) as page:
        page.recv(timeout=20)
        with pytest.raises(InvalidStatus, match="503"), open_page(site.url):
            pass


def test_a_viser_that_does_not_take_the_guard_is_not_served(monkeypatch):
    """As if another version of viser got at its server in another way."""
    guard = Guard(listen("127.0.0.1", 0))
    plain = websockets.asyncio.server.serve
    monkeypatch.setattr(
        guarding, "websockets", SimpleNamespace(asyncio=SimpleNamespace(server=SimpleNamespace(serve=plain)))
    )
    with pytest.raises(InputError, match="cannot be guarded"):
        start_server(guard, "test")
    guard.address.listening.close()


def test_the_next_free_port_is_taken():
    first = listen("127.0.0.1", 0)
    second = listen("127.0.0.1", first.port)
    assert second.port > first.port
    for address in (first, second):
        address.listening.close()


@pytest.mark.parametrize(
    ("host", "complaint"),
    [
        ("203.0.113.9", "nothing can be served at 203.0.113.9"),
        ("no.such.name.invalid", "served at no.such"),
        ("", "empty"),
    ],
)
def test_an_address_that_is_not_this_machines_is_told(host, complaint):
    with pytest.raises(InputError, match=complaint):
        listen(host, 8080)
