"""A real receiver of OpenTelemetry prints what the example `alerts` sends, and a webhook gets its messages."""

import http.server
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

import rotel


def free_port():
    """Returns a port that nobody has."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, holds):
    """Waits until something holds."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def is_open(port):
    """Tells whether somebody listens."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


messages = []


class Hook(http.server.BaseHTTPRequestHandler):
    """A webhook that keeps its messages."""

    def do_POST(self):
        messages.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


program = sys.argv[1]
hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
threading.Thread(target=hook.serve_forever, daemon=True).start()
grpc, port = free_port(), free_port()
agent = pathlib.Path(rotel.__file__).with_name("rotel-agent")
with tempfile.TemporaryDirectory() as folder:
    output = pathlib.Path(folder, "received.txt")
    arguments = [
        agent, "start", "--otlp-http-endpoint", f"127.0.0.1:{port}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}",
        "--debug-log", "logs", "--debug-log", "metrics", "--debug-log-verbosity", "detailed", "--exporter", "blackhole",
    ]
    with output.open("wb") as stream:
        receiver = subprocess.Popen(arguments, stdout=stream, stderr=stream)
    try:
        wait_for("the receiver", lambda: is_open(port))
        addresses = [f"http://127.0.0.1:{hook.server_port}", f"http://127.0.0.1:{port}"]
        subprocess.run([program, *addresses, f"{folder}/logs"], check=True, capture_output=True)
        expected = [
            "the loss is NaN", "SEVERITY_NUMBER_WARN(13)", "logcore.step", "metrics/loss", "throughput/samples_per_sec",
            "service.instance.id", "logcore.rank",
        ]
        missing = lambda: [text for text in expected if text not in output.read_text(errors="replace")]
        try:
            wait_for("records and metrics", lambda: not missing())
        except AssertionError:
            print(output.read_text(errors="replace")[-4000:])
            raise AssertionError(f"the receiver did not print {missing()}") from None
    finally:
        receiver.terminate()
        receiver.wait()
titles = [message["title"] for message in messages]
assert titles == ["the loss is NaN", "trainer finished"], titles
assert messages[0]["step"] == 40 and messages[1]["status"] == "finished", messages
print(f"receiver: {len(expected)} texts; webhook: {len(titles)} messages")
