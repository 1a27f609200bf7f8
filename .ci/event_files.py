"""TensorBoard's readers show the points, hyper-parameters and texts that were logged."""

import json
import logging
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

import tbparse
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util.tensor_util import make_tensor_proto

# Each attempt of a run makes the reader say that it forgets the later points of the one before.
logging.getLogger("tensorboard").setLevel(logging.ERROR)


def single(value):
    """Returns a number in single precision, by its bits; all NaN are one."""
    value = float(value)
    if value != value:
        return "NaN"
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", float("inf") if value > 0 else float("-inf"))


def expected(attempts):
    """Returns the points of each tag, by TensorBoard's own rule: a value deletes what is behind its step."""
    points = {}
    for attempt in attempts:
        newest = {}
        for call in attempt["calls"]:
            for tag, value in call["values"]:
                step = call["step"]
                # The sink leaves late values out.
                if step >= newest.get(tag, 0):
                    newest[tag] = step
                    kept = [point for point in points.get(tag, []) if point[0] < step]
                    points[tag] = [*kept, (step, single(value))]
    return points


def last_of_each_step(points):
    return list(dict(points).items())


def accumulated(folder):
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    reader.Reload()
    scalars = {tag: reader.Scalars(tag) for tag in reader.Tags()["scalars"]}
    return {
        tag: last_of_each_step([(event.step, single(event.value)) for event in events])
        for tag, events in scalars.items()
    }


def parsed(folder):
    rows = tbparse.SummaryReader(str(folder)).scalars
    points = {}
    for step, tag, value in zip(rows["step"], rows["tag"], rows["value"]):
        points.setdefault(tag, []).append((step, single(value)))
    return {tag: last_of_each_step(of_tag) for tag, of_tag in points.items()}


class Server:
    """TensorBoard over a folder of runs."""

    def __init__(self, logdir, *arguments):
        self.errors = tempfile.TemporaryFile("w+")
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1"]
        command += ["--port", "0", "--samples_per_plugin", "scalars=200000", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.errors)
        deadline = time.monotonic() + 60
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", self.said())):
            assert self.process.poll() is None and time.monotonic() < deadline, self.said()
            time.sleep(0.1)
        self.address = found.group(0)

    def said(self):
        self.errors.seek(0)
        return self.errors.read()

    def get(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)

    def wait_for(self, runs):
        """Waits until all runs are loaded, which happens beside the answers."""
        deadline, last = time.monotonic() + 60, None
        while True:
            tags = self.get("/data/plugin/scalars/tags")
            found = {run: {tag: self.scalars(run, tag) for tag in tags[run]} for run in tags}
            if found == last and runs <= set(found):
                return found
            assert time.monotonic() < deadline, f"{runs - set(found)} are missing"
            last = found
            time.sleep(1)

    def scalars(self, run, tag):
        query = urllib.parse.urlencode({"run": run, "tag": tag})
        points = self.get(f"/data/plugin/scalars/scalars?{query}")
        return last_of_each_step([(step, single(value)) for _, step, value in points])

    def texts(self, run, tag):
        query = urllib.parse.urlencode({"run": run, "tag": tag})
        return [(text["step"], text["text"]) for text in self.get(f"/data/plugin/text/text?{query}")]

    def images(self, run, tag):
        """Returns the steps and files of a tag's images."""
        query = urllib.parse.urlencode({"run": run, "tag": tag})
        found = []
        for image in self.get(f"/data/plugin/images/images?{query}"):
            address = f"{self.address}/data/plugin/images/individualImage?{image['query']}"
            with urllib.request.urlopen(address, timeout=60) as reply:
                found.append((image["step"], reply.read()))
        return found

    def histograms(self, run, tag):
        """Returns the steps and ranges of a tag's histograms."""
        query = urllib.parse.urlencode({"run": run, "tag": tag})
        return [(step, ranges) for _, step, ranges in self.get(f"/data/plugin/histograms/histograms?{query}")]

    def sessions(self):
        """Returns status and hyper-parameters of each run."""
        statuses = [f"STATUS_{name}" for name in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")]
        body = {"startIndex": 0, "sliceSize": 100, "allowedStatuses": statuses, "colParams": []}
        groups = self.get("/data/plugin/hparams/session_groups", body)["sessionGroups"]
        return {
            session["name"]: (session["status"], group["hparams"])
            for group in groups
            for session in group["sessions"]
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def check_sequences(logdir):
    """All readers have the same points of random calls."""
    runs = {path.parent.name: json.loads(path.read_text()) for path in logdir.glob("*/calls.json")}
    assert runs, f"{logdir} has no runs"
    points = 0
    for run, attempts in runs.items():
        folder = logdir / run / "tensorboard"
        wanted = expected(attempts)
        points += sum(map(len, wanted.values()))
        assert accumulated(folder) == wanted, f"EventAccumulator: {run}"
        # tbparse reads each file for itself, so it has what a later attempt deletes.
        if len(attempts) == 1:
            assert parsed(folder) == wanted, f"tbparse: {run}"
    for arguments in SERVERS:
        with Server(logdir, *arguments) as server:
            found = server.wait_for({f"{run}/tensorboard" for run in runs})
            sessions = server.sessions()
            for run, attempts in runs.items():
                name = f"{run}/tensorboard"
                assert found[name] == expected(attempts), f"tensorboard {arguments}: {run}"
                # The last attempt says how the run has ended, if it has.
                status = "STATUS_SUCCESS" if attempts[-1]["ends"] else "STATUS_UNKNOWN"
                assert sessions[name] == (status, {"seed": int(run[-2:])}), f"{run}: {sessions[name]}"
    print(f"TensorBoard, its two servers, tbparse: {len(runs)} runs, {points} points, all the same")


def check_runs(logdir):
    """Both servers show the rows, hyper-parameters, statuses and texts of the example's runs."""
    rows = {}
    for path in logdir.glob("*-*/metrics.jsonl"):
        with open(path) as lines:
            rows[f"{path.parent.name}/tensorboard"] = [json.loads(line) for line in lines]
    assert len(rows) == 2, f"{logdir} has {len(rows)} runs"
    for arguments in SERVERS:
        with Server(logdir, *arguments) as server:
            found = server.wait_for(set(rows))
            sessions = server.sessions()
            for run, of_run in rows.items():
                for tag in ("metrics/loss/train", "metrics/loss/val", "throughput/samples_per_sec"):
                    wanted = [(row["step"], single(row[tag])) for row in of_run if tag in row]
                    assert found[run][tag] == wanted, f"tensorboard {arguments}: {run} {tag}"
                rate = of_run[0]["metrics/lr"]
                wanted = {"lr": rate, "model.width": 256, "model.activation": "gelu"}
                assert sessions[run] == ("STATUS_SUCCESS", wanted), sessions[run]
                ((step, text),) = server.texts(run, "text/config")
                assert step == 0 and "<td>model.width</td>" in text and f"<td>{rate}</td>" in text, text
                ((step, text),) = server.texts(run, "text/log")
                assert step == 120 and "the gradient is large" in text, (step, text)
                check_media(server, logdir, run)
    print("TensorBoard: curves, hyper-parameters, statuses, texts, images and histograms of two runs")


def check_media(server, logdir, run):
    """The server has the media that the index of the run names."""
    folder = logdir / pathlib.Path(run).parent
    with open(folder / "media.jsonl") as lines:
        media = [json.loads(line) for line in lines]
    images = [(row["step"], (folder / row["path"]).read_bytes()) for row in media if row["kind"] == "image"]
    assert len(images) == 4 and server.images(run, "images/sample") == images, run
    wanted = [row for row in media if row["kind"] == "histogram"]
    found = server.histograms(run, "histograms/weights")
    assert [step for step, _ in found] == [row["step"] for row in wanted], found
    for (_, ranges), row in zip(found, wanted):
        # The server may merge ranges, and keeps their limits and the sum.
        assert sum(count for _, _, count in ranges) == sum(row["counts"]), (ranges, row)
        assert (ranges[0][0], ranges[-1][1]) == (row["edges"][0], row["edges"][-1]), (ranges, row)
    texts = [(row["step"], (folder / row["path"]).read_text()) for row in media if row["kind"] == "text"]
    shown = server.texts(run, "text/answer")
    assert [step for step, _ in shown] == [step for step, _ in texts], shown
    for (_, html), (_, text) in zip(shown, texts):
        assert text.split("**")[1] in html and "<strong>" in html, html


def check_program(program, logdir):
    """The program writes the points of the sink, and reads the files of TensorBoard's own writer."""
    folder = pathlib.Path(tempfile.mkdtemp())

    def logcore(*arguments):
        command = [program, "--log-dir", str(folder / "imported"), *arguments, "--json"]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)

    for path in logdir.glob("*-*/metrics.jsonl"):
        exported = folder / path.parent.name
        logcore("export", str(path.parent), "--to", "tensorboard", "-o", str(exported))
        assert accumulated(exported) == accumulated(path.parent / "tensorboard"), f"export: {path.parent}"

    # Numbers in each form in which libraries write them.
    writer = EventFileWriter(str(folder / "foreign"))
    metadata = {"plugin_data": {"plugin_name": "scalars"}}
    for step in range(20):
        values = [
            Summary.Value(tag="simple", simple_value=step / 8),
            Summary.Value(tag="float", metadata=metadata, tensor=make_tensor_proto(step / 4, dtype="float32")),
            Summary.Value(tag="double", metadata=metadata, tensor=make_tensor_proto(step / 3, dtype="float64")),
            Summary.Value(tag="text", metadata={"plugin_data": {"plugin_name": "text"}}, tensor=make_tensor_proto("x")),
        ]
        for value in values:
            writer.add_event(Event(wall_time=1000 + step, step=step, summary=Summary(value=[value])))
    writer.close()
    (run,) = logcore("import", str(folder / "foreign"))["imported"]
    with open(f"{run['dir']}/metrics.jsonl") as lines:
        rows = [json.loads(line) for line in lines]
    for step, row in enumerate(rows):
        found = [row["step"], row["time"], *(row[f"metrics/{tag}"] for tag in ("simple", "float", "double"))]
        assert found == [step, 1000 + step, step / 8, step / 4, step / 3], row
    assert len(rows) == 20 and "metrics/text" not in rows[0], rows[0]
    shutil.rmtree(folder)
    print("logcore: exports the points of the sink, and imports those of TensorBoard's writer")


SERVERS = ([], ["--load_fast=false"])
check_sequences(pathlib.Path(sys.argv[1]))
check_runs(pathlib.Path(sys.argv[2]))
check_program(sys.argv[3], pathlib.Path(sys.argv[2]))
