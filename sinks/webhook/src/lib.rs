//! The sink `webhook`: alerts and the end of a run as messages to Slack, Discord, or any endpoint
//! that takes JSON.
//!
//! ```toml
//! [sinks.webhook]
//! url_env = "SLACK_WEBHOOK_URL"
//! ```
//!
//! - **Messages** are the alerts of every rank, the end of the run from rank 0, and on request
//!   records of the level ERROR. The end of a killed run comes with the next start in the same
//!   `log_dir`.
//! - **The address is a secret**, because it is all that a sender needs. Notices, errors and
//!   `Debug` do not show it, and a redirect is not followed.
//! - **Nobody is notified by foreign text**: `<!channel>`, `<@user>` and `@everyone` in a message
//!   are text.
//! - **The run never waits.** A thread sends; a request that fails is repeated with growing waits,
//!   or after the time that the server names. At most 100 messages wait, and a line says so once
//!   for each kind of trouble.
//! - **Few messages**: at most `per_minute`. Further ones are one later message that counts
//!   and lists the titles.
//! - **After a kill**, the next start in the same `log_dir` sends what was not sent, if its config
//!   has the same address. A message whose reply was lost may come twice, and none is lost.
//!   Messages that an ended run could not send are in `<run>/webhook/`, and are sent when the run
//!   is resumed.
//!
//! # Options
//!
//! Under `sinks.webhook` in the config:
//!
//! | name | type | default | meaning |
//! |---|---|---|---|
//! | `url` | text | | the address |
//! | `url_env` | text | | name of the environment variable that holds the address |
//! | `url_file` | path | | file that holds the address |
//! | `kind` | `"slack"`, `"discord"`, `"json"` | by the host | form of the messages |
//! | `template` | text | | JSON with placeholders, in place of the usual form |
//! | `records` | `"off"`, `"error"`, `"warn"` | `"off"` | least severe records that are messages |
//! | `end` | bool | `true` | send the end of the run |
//! | `per_minute` | 1 to 60 | 10 | most messages in a minute |
//! | `timeout` | number | 20 | seconds after which a request without progress fails |
//!
//! # Templates
//!
//! A template is JSON with placeholders: `{kind}` (`alert`, `record`, `end`, `digest`), `{title}`,
//! `{text}`, `{level}` (`INFO`, `WARN`, `ERROR`), `{run}`, `{run_id}`, `{logger}`, `{rank}`,
//! `{step}`, `{status}` (`finished`, `failed`, `interrupted`, `killed`), `{duration}` (seconds),
//! and `{time}` (seconds since 1970). In a string a placeholder is replaced by text, elsewhere by a
//! value: `{step}` by a number or `null`, `{title}` by a string with its quotes. In a string, `{{`
//! and `}}` are braces.
//!
//! ```toml
//! [sinks.webhook]
//! url_file = "/run/secrets/pager"
//! template = '''{"summary": "{level} in {run}: {title}", "details": {"text": {text}, "step": {step}}}'''
//! ```
//!
//! # Example
//!
//! ```
//! # use std::io::{Read as _, Write as _};
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
//! # let url = format!("http://{}/hook/s3cr3t", listener.local_addr().unwrap());
//! # let server = std::thread::spawn(move || {
//! #     let (mut stream, _) = listener.accept().unwrap();
//! #     let (mut request, mut part) = (String::new(), [0; 4096]);
//! #     while !request.contains("at step 120") {
//! #         let count = stream.read(&mut part).unwrap();
//! #         request += std::str::from_utf8(&part[..count]).unwrap();
//! #     }
//! #     stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
//! #     request
//! # });
//! # let folder = tempfile::tempdir().unwrap();
//! use std::time::Duration;
//!
//! use logcore::{Alert, AlertLevel, BuildContext, Deadline, LogConfig, Notices, StopFlag, registry, serde_json::json};
//! use logcore_webhook as _;
//!
//! let config = LogConfig { log_dir: folder.path().into(), ..LogConfig::default() };
//! let stop = StopFlag::default();
//! let context = BuildContext::new(&config, &stop);
//! let mut sink = registry::build_sink("webhook", &json!({"url": url}), &context).unwrap();
//! sink.start(&Notices::new(|_, line| eprintln!("{line}"))).unwrap();
//! sink.alert(&Alert::new("loss is NaN", "at step 120", AlertLevel::Error)).unwrap();
//!
//! let deadline = Deadline::after(Duration::from_secs(30));
//! sink.finish(deadline).unwrap();
//! let (books, result) = sink.pending_delivery().unwrap()(deadline);
//! assert_eq!((books.delivered, result.is_ok()), (1, true));
//! # assert!(server.join().unwrap().contains(r#""title":"loss is NaN""#));
//! ```

mod message;
mod options;
mod outbox;
mod payload;
mod sender;
mod sink;
mod state_file;
mod template;

pub use self::sink::WebhookSink;
