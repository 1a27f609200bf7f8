"""pandas, polars and DuckDB read metrics.jsonl without help, and every column is numeric."""

import json
import sys

import duckdb
import pandas
import polars

path = sys.argv[1]
with open(path) as lines:
    written = [json.loads(line) for line in lines]
metrics = sorted({name for row in written for name in row if "/" in name})
numbers = {name: [row.get(name) for row in written] for name in metrics}
not_finite = [json.loads(row.get("nonfinite") or "{}") for row in written]
assert any(not_finite), "the rows have a value that is no finite number"


def same(reader, name, values):
    """Compares a column with the numbers of the file; what is missing is None or NaN."""
    values = [None if value is None or value != value else float(value) for value in values]
    expected = [None if number is None else float(number) for number in numbers[name]]
    assert values == expected, f"{reader}: {name}"


rows = pandas.read_json(path, lines=True)
for name in metrics:
    assert pandas.api.types.is_numeric_dtype(rows[name]), f"pandas: {name} is {rows[name].dtype}"
# The parser that pandas takes by default keeps 15 to 16 digits of a number; this one keeps all.
rows = pandas.read_json(path, lines=True, precise_float=True)
for name in metrics:
    same("pandas", name, rows[name])
parsed = rows["nonfinite"].fillna("").map(lambda text: json.loads(text or "{}"))
assert list(parsed) == not_finite

rows = polars.read_ndjson(path)
for name in metrics:
    assert rows[name].dtype.is_numeric(), f"polars: {name} is {rows[name].dtype}"
    same("polars", name, rows[name])
assert [json.loads(text or "{}") for text in rows["nonfinite"]] == not_finite

table = duckdb.sql(f"select * from '{path}'")
types = dict(zip(table.columns, map(str, table.types)))
for name in metrics:
    assert types[name] in ("DOUBLE", "BIGINT"), f"DuckDB: {name} is {types[name]}"
    same("DuckDB", name, [value for (value,) in duckdb.sql(f"""select "{name}" from '{path}'""").fetchall()])
assert types["nonfinite"] == "VARCHAR" and types["attempt"] == "BIGINT", types

print(f"pandas, polars, DuckDB: {len(written)} rows, {len(metrics)} metrics, all numeric")
