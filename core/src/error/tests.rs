use std::io;

use super::*;

/// An error whose text does not include the text of its source, as the API guidelines recommend.
#[derive(Debug)]
struct OuterError(io::Error);

impl Display for OuterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the upload failed")
    }
}

impl Error for OuterError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

fn chain(error: &dyn Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    texts
}

#[test]
fn error_chain_repeats_no_text() {
    let of_sink = |error: SinkError| LogError::Sink {
        sink: "file".to_owned(),
        error: error.doing("append to training.log"),
    };
    let full = || io::Error::from(io::ErrorKind::StorageFull);
    for (error, texts) in [
        (
            of_sink(full().into()),
            vec!["sink `file` failed: cannot append to training.log: no storage space"],
        ),
        (
            of_sink(SinkError::caused_by(OuterError(full()))),
            vec![
                "sink `file` failed: cannot append to training.log: the upload failed",
                "no storage space",
            ],
        ),
        (
            of_sink(io::Error::other(OuterError(full())).into()),
            vec![
                "sink `file` failed: cannot append to training.log: the upload failed",
                "no storage space",
            ],
        ),
        (
            of_sink(SinkError::new("x")),
            vec!["sink `file` failed: cannot append to training.log: x"],
        ),
        (ConfigError::new("a", 1, "use 2").into(), vec!["invalid a = 1: use 2"]),
    ] {
        assert_eq!(chain(&error), texts);
    }
}

#[test]
fn error_texts_escape_control_characters() {
    let evil = "\u{1b}[2J\n\u{202e}\u{200b}";
    let errors: [Box<dyn Error>; 6] = [
        Box::new(ConfigError::new(evil, evil, evil)),
        Box::new(SinkError::new(evil).doing(evil)),
        Box::new(ProbeError::Transient(evil.to_owned())),
        Box::new(ProbeError::Unavailable(evil.to_owned())),
        Box::new(LogError::Closed {
            logger: evil.to_owned(),
        }),
        Box::new(LogError::Timeout {
            call: "flush",
            sink: Some(evil.to_owned()),
        }),
    ];
    for error in errors {
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(!text.contains(crate::escape::needs_escape), "{text:?}");
        }
    }
}

#[test]
fn config_error_of_a_secret_field_hides_the_value() {
    let error = ConfigError::new("api_key", "s3cr3t", "`s3cr3t` is too short");
    assert_eq!(error.to_string(), "invalid api_key = ***: `***` is too short");
    let error = ConfigError::new("hook", "https://u:s3cr3t@host/?token=s3cr3t", "no");
    assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error}");
}

#[test]
fn debug_prints_the_text_of_the_error() {
    let error = LogError::Sink {
        sink: "file".to_owned(),
        error: SinkError::new("no"),
    };
    assert_eq!(format!("{error:?}"), "sink `file` failed: no");
    let errors: [&dyn Error; 3] = [
        &ConfigError::new("a", 1, "use 2"),
        &SinkError::new("no"),
        &ProbeError::Unavailable("no GPU".to_owned()),
    ];
    for error in errors {
        assert_eq!(format!("{error:?}"), error.to_string());
    }
}

#[test]
fn io_errors_have_the_kind_that_callers_ask_for() {
    for (io_kind, kind, reason) in [
        (io::ErrorKind::StorageFull, SinkErrorKind::DiskFull, "disk full"),
        (io::ErrorKind::QuotaExceeded, SinkErrorKind::DiskFull, "disk full"),
        (io::ErrorKind::BrokenPipe, SinkErrorKind::ReaderGone, "reader gone"),
        (
            io::ErrorKind::ReadOnlyFilesystem,
            SinkErrorKind::PermissionDenied,
            "no permission",
        ),
        (io::ErrorKind::NotFound, SinkErrorKind::NotFound, "not found"),
        (io::ErrorKind::TimedOut, SinkErrorKind::TimedOut, "timed out"),
        (io::ErrorKind::InvalidData, SinkErrorKind::Io, "i/o error"),
    ] {
        let error = SinkError::from(io::Error::from(io_kind));
        assert_eq!((error.kind(), error.reason()), (kind, reason));
        assert_eq!(error.kind().is_disk_full(), kind == SinkErrorKind::DiskFull);
    }
}
