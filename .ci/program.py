"""What the program `logcore` prints for other programs is what they read."""

import json
import subprocess
import sys

import duckdb
import jsonschema
import pandas
import polars

program, log_dir = sys.argv[1], sys.argv[2]
with open("cli/schema/output.json") as text:
    schema = json.load(text)


def logcore(*arguments):
    """Runs a command that must succeed, and returns its output."""
    command = [program, "--log-dir", log_dir, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


for arguments in (
    ["ls"],
    ["show"],
    ["compare", "latest", "latest"],
    ["plot", "latest", "loss/train"],
    ["report", "-o", f"{log_dir}/report.html"],
    ["export", "latest", "--to", "jsonl", "-o", f"{log_dir}/exported.jsonl"],
    ["export", "latest", "--to", "csv", "-o", f"{log_dir}/exported.csv"],
    ["export", "latest", "--to", "parquet", "-o", f"{log_dir}/exported.parquet"],
    ["merge", "latest", "--out", f"{log_dir}/merged"],
    ["watch", "latest"],
    ["repair"],
    ["import", f"{log_dir}/exported.csv", "--log-dir", f"{log_dir}/imported"],
    ["man", "-o", f"{log_dir}/man"],
    ["doctor", "--offline"],
    ["prune", "--keep", "0", "--dry-run"],
):
    jsonschema.validate(json.loads(logcore(*arguments, "--json")), schema)
# These two print an object a line.
lines = logcore("tail", "latest", "--json").splitlines()
server = subprocess.Popen(
    [program, "--log-dir", log_dir, "serve", "--port", "0", "--json"], stdout=subprocess.PIPE, text=True
)
lines.append(server.stdout.readline())
server.terminate()
assert server.wait() == 0
for line in lines:
    jsonschema.validate(json.loads(line), schema)

with open(f"{log_dir}/exported.jsonl") as lines:
    rows = [json.loads(line) for line in lines]
names = [name for name in rows[0] if "/" in name]
infinite = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def value_of(row, name):
    """Returns the value as repr writes it, which tells every bit but the sign of NaN."""
    other = json.loads(row["nonfinite"] or "{}").get(name)
    value = row.get(name) if other is None else infinite[other]
    return repr(None if value is None else float(value))


def same(reader, name, values):
    expected = [value_of(row, name) for row in rows]
    # In a column of numbers, pandas has NaN for what is missing.
    missing = "nan" if reader == "pandas" else "None"
    expected = [missing if value == "None" else value for value in expected]
    values = [repr(None if value is None else float(value)) for value in values]
    assert values == expected, f"{reader}: {name}"


csv, parquet = f"{log_dir}/exported.csv", f"{log_dir}/exported.parquet"
for name in names:
    same("pandas", name, pandas.read_csv(csv)[name])
    same("pandas", name, pandas.read_parquet(parquet)[name])
    same("polars", name, polars.read_csv(csv, infer_schema_length=None)[name])
    same("polars", name, polars.read_parquet(parquet)[name])
    for path in (csv, parquet):
        same("DuckDB", name, [value for (value,) in duckdb.sql(f"""select "{name}" from '{path}'""").fetchall()])
frame = polars.read_parquet(parquet)
for name in ("step", "time", "logger", "attempt"):
    assert frame[name].to_list() == [row[name] for row in rows], name
print(f"logcore: {len(rows)} rows, {len(names)} metrics as CSV and Parquet, and every object fits its schema")
