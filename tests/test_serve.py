"""The command ``segswap serve``: how it starts, warns and ends, as a process where that matters."""

from __future__ import annotations

import json
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from search_folders import make_model
from serving import draw_folder
from test_cli import run

from segswap.drawing import encode_picture
from segswap.models.checkpoint import save_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("served") / "my paintings")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.pt"
    save_checkpoint(path, make_model(), {"image_size": 96})
    return path


def test_a_port_in_use_is_found_out_before_anything_slow(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        words = str(run(monkeypatch, "serve", "--port", port, "--checkpoint", "none.pt", "--folder", "none"))
    assert words.startswith(f"error: --port {port}: already in use") and "--port 0" in words


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--port", 70000, "expected 0 (any free one) to 65535"),
        ("--host", "nowhere.invalid", "no such host"),
        ("--host", "192.0.2.1", "not an address of this machine"),
        ("--max-upload", 0, "expected MB"),
        ("--side", 100, "expected a positive multiple of 16"),
        ("--false-positives", 2, "expected a share"),
        ("--folder", "nowhere", "no such folder"),
        ("--negatives", "somewhere", "name the --folder to search"),
    ],
)
def test_wrong_values_are_refused(monkeypatch, checkpoint, flag, value, words):
    arguments = ("serve", "--port", 0, "--checkpoint", checkpoint, flag, value)
    found = str(run(monkeypatch, *arguments))
    assert found.startswith("error: ") and words in found and str(value) in found


def test_another_address_is_warned_of_and_links_are_named(monkeypatch, capsys, checkpoint, folder, tmp_path):
    monkeypatch.setattr("segswap.commands.serve.serve", lambda _: None)
    arguments = ("--host", "0.0.0.0", "--port", 0, "--folder", folder, "--store", tmp_path)
    assert run(monkeypatch, "serve", "--checkpoint", checkpoint, *arguments) == 0
    said = capsys.readouterr()
    assert "there is no password" in said.err and "1 not shown" in said.out and "z link.png" in said.out
    assert re.search(r"^http://127\.0\.0\.1:\d+$", said.out, re.MULTILINE)


def test_it_serves_uploads_from_memory_until_ctrl_c(checkpoint, tmp_path):
    """Uploads larger than what libraries spool to disk, in a process that may write small files only."""
    rng = np.random.default_rng(1)
    large = encode_picture(rng.integers(0, 255, (700, 700, 3), np.uint8), ".png")
    assert len(large) > 1_200_000
    command = [sys.executable, "-c", "from segswap.cli import main; main()"]
    process = subprocess.Popen(
        [*command, "serve", "--checkpoint", str(checkpoint), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    try:
        url = next(line.strip() for line in process.stdout if line.startswith("http://127.0.0.1:"))
        assert b"<h1>" in urllib.request.urlopen(url, timeout=60).read()
        body = b"".join(
            b'--x\r\nContent-Disposition: form-data; name="%s"; filename="n.png"\r\n\r\n%s\r\n' % (side, large)
            for side in (b"a", b"b")
        )
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        request = urllib.request.Request(f"{url}/api/match", body + b"--x--\r\n", headers)
        found = json.load(urllib.request.urlopen(request, timeout=60))
        assert found["masks"][0]["columns"] == 14  # 224 pixels: 7/3 of what the checkpoint was trained at
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and output.endswith("stopped\n") and "Traceback" not in errors


def test_ctrl_c_ends_a_computation_that_takes_long(folder, tmp_path):
    code = (
        "import sys; from pathlib import Path; from serving import equal_finder, make_app; "
        "from segswap.server.listening import listen, make_server, serve, url; "
        "model, place = equal_finder(), listen('127.0.0.1', 0); model.matcher.free.clear(); "
        f"app = make_app(Path({str(folder)!r}), Path({str(tmp_path)!r}), model); "
        "print(url(place), flush=True); serve(make_server(app, place))"
    )
    tests = Path(__file__).parent
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tests
    )
    try:
        address = next(line.strip() for line in process.stdout if line.startswith("http://127.0.0.1:"))
        asked = threading.Thread(target=ask_in_vain, args=(f"{address}/api/match",))
        asked.start()
        while json.load(urllib.request.urlopen(f"{address}/api/status?ticket=mine"))["ahead"] is None:
            pass
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        asked.join(60)
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in errors and "terminate" not in errors
    assert output.endswith("stopped in the middle of a computation\n")


def ask_in_vain(address: str) -> None:
    with pytest.raises(OSError):
        urllib.request.urlopen(address, b"a_number=0&b_number=1&ticket=mine")
