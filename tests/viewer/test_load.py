"""Many browsers at once: all are shown pictures, and nothing of them stays when they are gone."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from pathlib import Path

import pytest

from stavatar.viewer.app import Viewer
from stavatar.viewer.scene import Scene

pytest.importorskip("viser", reason="the extra `viewer` is not installed")

from scripted_browser import camera, messages, open_page, open_page_async, pack, pictures, unpack

BROWSERS = 32


@pytest.fixture
def viewer(small_avatar_folder, tmp_path):
    """A viewer that draws small pictures, in a thread of its own; ``failures`` holds what ended that early."""
    viewer = Viewer(Scene([small_avatar_folder]), host="127.0.0.1", port=0, pictures=tmp_path)
    viewer.controls.height.value = 128
    viewer.failures = []

    def draw():
        try:
            viewer.run()
        except Exception as error:
            viewer.failures.append(error)

    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    yield viewer
    viewer.close()
    thread.join(timeout=30)
    assert viewer.failures == []


def wait_until(true, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def open_handles():
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


async def next_picture(stream):
    async for message in stream:
        if shown := pictures([message]):
            return shown[0]
    raise AssertionError("the server ended the connection")


async def visit(url, number, everybody):
    """Look from one side, wait until all others look as well, and look from another side: two pictures."""
    async with open_page_async(url) as page:
        stream = messages(page)
        await page.send(pack(camera(number)))
        first = await next_picture(stream)
        await everybody.wait()
        await page.send(pack(camera(number + 90)))
        return first, await next_picture(stream)


async def crowd(url, count, meanwhile):
    everybody = asyncio.Barrier(count + 1)
    visits = [asyncio.create_task(visit(url, number, everybody)) for number in range(count)]
    gate = asyncio.create_task(everybody.wait())
    async with asyncio.timeout(120):
        await asyncio.wait([gate, *visits], return_when=asyncio.FIRST_COMPLETED)
        meanwhile()
        return await asyncio.gather(*visits)


def test_every_browser_of_many_gets_pictures_and_leaves_nothing_behind(viewer):
    asyncio.run(crowd(viewer.url, 2, lambda: None))  # whatever is made once is made now
    wait_until(lambda: not viewer._clients)
    threads, handles = threading.active_count(), open_handles()
    during, clients = [], []

    def count():
        during.append(threading.active_count())
        clients.extend(weakref.ref(client) for client in viewer._clients.values())

    shown = asyncio.run(crowd(viewer.url, BROWSERS, count))
    assert len(shown) == BROWSERS
    for first, second in shown:
        assert first.height <= 128 and first.size == second.size
        assert first.tobytes() != second.tobytes(), "the other side looks different"
    assert during == [threads], "no thread is started for a browser"
    assert len(clients) == BROWSERS
    wait_until(lambda: not viewer._clients and not viewer.guard.connections)
    wait_until(lambda: open_handles() <= handles)
    assert threading.active_count() <= threads
    assert viewer._server.get_clients() == {}
    assert viewer._server._websock_server._client_state_from_id == {}
    viewer._wake.set()  # the loop lets go of the last one it drew for
    wait_until(lambda: gc.collect() >= 0 and not any(client() for client in clients))


def test_one_that_does_not_read_holds_one_picture_and_stops_nobody(viewer):
    with open_page(viewer.url, max_queue=1, close_timeout=0.1) as deaf, open_page(viewer.url) as page:
        for connection in (deaf, page):
            connection.send(pack(camera()))
        wait_until(lambda: len(viewer._clients) == 2)
        for turn in range(40):
            for connection in (deaf, page):
                connection.send(pack(camera(turn + 1)))
            while not pictures(unpack(page.recv(timeout=30))):
                pass
        buffers = [state.message_buffer for state in viewer._server._websock_server._client_state_from_id.values()]
        assert max(len(buffer.message_from_id) for buffer in buffers) <= 2


def test_a_browser_that_leaves_at_once_is_forgotten(viewer):
    for _ in range(20):
        with open_page(viewer.url) as page:
            page.send(pack(camera()))
    wait_until(lambda: not viewer.guard.connections and not viewer._clients)
    time.sleep(0.2)
    assert viewer._clients == {}, "nobody is greeted after having left"
