"""The Ray engine on a cluster of two nodes of this machine: shares, a killed worker, a video that is none."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from batch_settings import TINY

from stavatar.batch import Settings, run_batch
from stavatar.batch.status import Status
from stavatar.errors import BackendError


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 << 20}
    started = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    started.add_node(**node)
    yield started
    started.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_worker_is_replaced_and_goes_on(cluster, talk, tmp_path: Path, monkeypatch) -> None:
    """The process of a job is killed after its first checkpoint; it goes on from there, others notice nothing."""
    monkeypatch.setenv("STAVATAR_CACHE", str(tmp_path / "cache"))
    (tmp_path / "broken.mp4").write_bytes(bytes(1000))
    settings = "; ".join((*TINY[:-1], "training.steps=60", "training.checkpoint_seconds=0"))
    rows = [f'{name},train,{talk},cpu,"{settings}"' for name in ("anna", "bob")]
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(["name,task,input,preset,set", *rows, "cleo,reconstruct,broken.mp4,cpu,"]) + "\n")
    out = tmp_path / "out"

    def kill(process: int) -> None:
        while not (out / "bob" / "checkpoint.safetensors").exists():
            time.sleep(0.01)
        os.kill(process, signal.SIGKILL)

    def started(status: Status, news) -> None:
        if (news.name, news.attempt) == ("bob", 1):
            threading.Thread(target=kill, args=(news.process,)).start()

    monkeypatch.setattr(Status, "started", started)
    _, outcomes = run_batch(manifest, str(out), Settings(engine="ray", address=cluster.address))
    assert {name: (o.state, o.attempts) for name, o in outcomes.items()} == {
        "anna": ("finished", 1),
        "bob": ("finished", 2),
        "cleo": ("failed", 1),
    }
    assert "broken.mp4" in outcomes["cleo"].reason
    assert "continuing at step" in (out / "bob.log").read_text()
    assert json.loads((out / "batch.json").read_text())["counts"] == {"failed": 1, "finished": 2}
    written = (out / "bob" / "results.json").stat().st_mtime_ns
    _, again = run_batch(manifest, str(out), Settings(engine="ray", address=cluster.address, resume=True))
    assert [again[name].state for name in ("anna", "bob", "cleo")] == ["kept", "kept", "failed"]
    assert (out / "bob" / "results.json").stat().st_mtime_ns == written


@pytest.mark.slow
def test_an_address_where_nothing_answers() -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from stavatar.batch.on_ray import RayEngine

    with pytest.raises(BackendError, match=r"--address ray://127\.0\.0\.1:1: no Ray cluster answers there"):
        RayEngine("ray://127.0.0.1:1")


def test_without_ray_the_engine_says_what_to_install(monkeypatch) -> None:
    import sys

    from stavatar.batch.on_ray import RayEngine

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendError, match=r"pip install 'stavatar\[ray\]'"):
        RayEngine(None)
