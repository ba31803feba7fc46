"""Being asked to end: an exception wherever it comes, and never in the middle of what must be whole."""

import os
import signal
import threading

import pytest

from stavatar import interruption
from stavatar.interruption import Interrupted, held_back

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no signals there")


@pytest.fixture
def listening():
    """This process listens, and afterwards is as it was."""
    before = {number: signal.getsignal(number) for number in interruption._SIGNALS}
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    interruption.listen()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number):
    """A signal to this process; Python looks at it before the next line."""
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_become_exceptions_that_clean_up_as_after_ctrl_c(listening, number):
    with pytest.raises(KeyboardInterrupt) as stop:
        send(number)
    assert interruption.exit_code(stop.value) == 128 + number


def test_ctrl_c_has_its_usual_code(listening):
    with pytest.raises(KeyboardInterrupt) as stop:
        send(signal.SIGINT)
    assert interruption.exit_code(stop.value) == 130


def test_what_is_ignored_stays_ignored(listening):
    """As nohup asks for."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interruption.listen()
    send(signal.SIGHUP)
    with held_back():
        send(signal.SIGHUP)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_block_that_must_be_whole_is(listening, number):
    done = []
    with pytest.raises(KeyboardInterrupt), held_back():
        send(number)
        done.append("first")
        send(number)
        done.append("second")
    assert done == ["first", "second"]
    with pytest.raises(KeyboardInterrupt):
        send(number)  # as before again


def test_an_error_in_such_a_block_gives_way_to_the_interruption(listening):
    with pytest.raises(Interrupted), held_back():
        send(signal.SIGTERM)
        raise ZeroDivisionError


def test_other_threads_are_left_alone(listening):
    results = []

    def work():
        interruption.listen()
        with held_back():
            results.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [signal.getsignal(signal.SIGTERM)]
