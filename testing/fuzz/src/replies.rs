//! Answers of a W&B server, and files beside a log. Both may come from anybody.

/// Runs the reader that the first byte chooses.
pub(crate) fn run(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(rest);
    match kind % 3 {
        0 => logcore_wandb::fuzzing::read_resumed(&text),
        1 => logcore_wandb::fuzzing::read_refusal(&text),
        _ => logcore_wandb::fuzzing::read_progress(&text),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let resumed = r#"{"model": {"entity": {"name": "me"}, "bucket": {"id": "x", "historyLineCount": 3,
        "eventsLineCount": 1, "logLineCount": 0, "historyTail": "[\"{\\\"_step\\\":2,\\\"_runtime\\\":1.5,\\\"loss\\\":NaN}\"]", "eventsTail": "[]",
        "summaryMetrics": "{\"_step\":2,\"loss\":-Infinity,\"a\":{\"b\":[1,2]}}", "tags": ["a"], "notes": "n",
        "config": "{\"lr\":{\"value\":0.1},\"_wandb\":{\"value\":{\"e\":{\"w\":{}},\"t\":{\"4\":\"0.1\"}}}}",
        "wandbConfig": "{\"t\":{}}"}}}"#;
    let refusals = [
        r#"{"errors": [{"message": "no such project"}], "data": null}"#,
        r#"{"error": {"message": "rate limit"}}"#,
        "<html><body>Bad gateway</body></html>",
        "Wed, 21 Oct 2065 07:28:00 GMT",
        "1.5",
    ];
    let standing = r#"{"entity":"me","project":"p","run_id":"r","storage_id":"s","history":{"start":3,"sent":5},
        "events":{"start":0,"sent":0},"output":{"start":0,"sent":9},"first_step":3,"first_row":1,"earlier_runtime":2.5,
        "earlier_writers":{"w":{}},"later":"w2","demand":"never","alerts":2,"complete":false}"#;
    let with_kind = |kind: u8, text: &str| [&[kind], text.as_bytes()].concat();
    let mut seeds = vec![with_kind(0, resumed), with_kind(2, standing)];
    seeds.extend(refusals.map(|refusal| with_kind(1, refusal)));
    seeds
}
